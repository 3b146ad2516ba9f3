# SPDX-License-Identifier: MIT
"""apt in a distribution, with a repository that this host serves at its own localhost."""
import hashlib
import http.server
import subprocess
import threading

from conftest import real_only

pytestmark = real_only


def make_package(folder, name, version):
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: Nobody <nobody@wslx.example>\nDescription: says hello\n")
    # larger than one read
    (tree / "usr/bin" / name).write_text("#!/bin/sh\necho hello from a package\nexit 0\n" + "#" * 3000000 + "\n")
    (tree / "usr/bin" / name).chmod(0o755)
    deb = folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, deb], check=True, stdout=subprocess.DEVNULL, timeout=60)
    return deb


def make_repository(folder, name, version):
    deb = make_package(folder, name, version)
    data = deb.read_bytes()
    control = subprocess.run(["dpkg-deb", "--field", deb], check=True, capture_output=True, text=True, timeout=60).stdout
    packages = f"{control}Filename: ./{deb.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n\n".encode()
    (folder / "Packages").write_bytes(packages)
    (folder / "Release").write_text(f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n")


def test_apt_installs_from_a_repository_at_the_hosts_localhost(wslx):
    folder = wslx.tmp / "repository"
    folder.mkdir()
    make_repository(folder, "wslx-hello", "1.2")
    asked = []

    class Files(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # apt asks for all over one connection

        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        wslx.sh("rm -rf /etc/apt/sources.list /etc/apt/sources.list.d && "
                f"echo 'deb [trusted=yes] http://host.wslx.internal:{server.server_address[1]} ./' >/etc/apt/sources.list")
        wslx.sh("apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y wslx-hello", timeout=300)
    finally:
        server.shutdown()
        server.server_close()
    assert wslx.sh("wslx-hello") == "hello from a package\n"
    assert "1.2" in wslx.sh("dpkg-query -W wslx-hello")
    assert {"/./Packages", "/./wslx-hello_1.2_all.deb"} <= set(asked), asked
