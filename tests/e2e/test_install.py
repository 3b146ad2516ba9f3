# SPDX-License-Identifier: MIT
"""wslx --install and --list --online; verbs of WSL that have little to do here."""
import hashlib
import http.server
import json
import os
import subprocess
import threading

import pytest

from conftest import real_only


def modern(flavor, name, url, sha256, default=True):
    return {"ModernDistributions": {flavor: [{"Name": name, "FriendlyName": f"{name} for a test", "Default": default,
                                              "Amd64Url": {"Url": url, "Sha256": sha256}}]}, "Default": flavor}


@pytest.fixture
def catalogue(empty):
    """Writes a list and has wslx use it."""
    def use(content, **more):
        path = empty.tmp / "list.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        empty.configure(wslx_distributionList=str(path), **more)
        return path
    return use


def archive(w):
    """A small archive, with the name it calls itself by; its path and SHA-256."""
    d = w.tmp / "own"
    (d / "etc").mkdir(parents=True)
    (d / "bin").mkdir()
    (d / "bin/sh").write_text("")
    (d / "etc/os-release").write_text("ID=own\nVERSION_ID=7\n")
    (d / "etc/wsl-distribution.conf").write_text("[oobe]\ndefaultName = OwnName\n")
    path = w.tmp / "some.wsl"
    subprocess.run(["tar", "-C", d, "-czf", path, "."], check=True)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_list(empty, catalogue):
    w = empty
    names = w.ok("--list", "--online", "-q").split()
    assert "Debian" in names and "Ubuntu" in names
    catalogue(modern("Flavor", "Flavor-1", "https://example.invalid/f.wsl", "0x" + "a" * 64))
    assert w.ok("-l", "-o", "-q") == "Flavor-1\n"
    assert "* Flavor-1    Flavor-1 for a test\n" in w.ok("--list", "--online")
    assert json.loads(w.ok("--list", "--online", "--json")) == [
        {"name": "Flavor-1", "friendly_name": "Flavor-1 for a test", "flavor": "Flavor", "default": True,
         "source": "https://example.invalid/f.wsl"}]
    for other in ("-v", "--all", "--running"):
        w.fails(125, "--list", "--online", other, says="--online goes with")


def test_lists_that_are_none(empty, catalogue):
    w = empty
    for text in ("", "[]", "{", "\0", "3"):
        catalogue(text)
        w.fails(125, "--list", "--online", says="it is no list of distributions")
    bad = modern("F", "-x", "https://example.invalid", "a" * 64)
    bad["ModernDistributions"]["F"] += [3, {"Name": "short", "Amd64Url": {"Url": "https://x", "Sha256": "12"}}]
    catalogue(bad)
    assert w.ok("--list", "--online", "-q") == ""
    w.fails(125, "--install", says="there is no distribution")
    w.configure(wslx_distributionList="/nowhere/list.json")
    w.fails(125, "--list", "--online", says=["/nowhere/list.json", "No such file"])


def test_install_from_a_list_by_url(empty, catalogue):
    w = empty
    path, sha256 = archive(w)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a):
            super().__init__(*a, directory=str(w.tmp))

        def log_message(self, *a):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        env = {"no_proxy": "127.0.0.1"}
        catalogue(modern("Flavor", "Flavor-1", f"{url}/{path.name}", sha256))
        p = w.run("--install", "-n", env=env)
        assert p.returncode == 0 and "wslx -d Flavor-1" in p.stderr, p.stderr
        assert list(w.list()) == ["Flavor-1"]
        # Its folder is one of ours, named by nobody.
        assert w.list()["Flavor-1"]["dir"].startswith(f"{w.data}/distributions/")
        p = w.run("--install", "flavor", "--name", "Second", "--location", w.tmp / "there", "--no-launch", env=env)
        assert p.returncode == 0, p.stderr
        assert w.list()["Second"]["dir"] == str(w.tmp / "there")
        w.configure(wslx_distributionList=f"{url}/list.json")
        assert w.ok("--list", "--online", "-q", env=env) == "Flavor-1\n"
        catalogue(modern("Flavor", "Flavor-1", f"{url}/{path.name}", "b" * 64))
        p = w.run("--install", "--name", "Third", env=env)
        assert p.returncode == 125 and "SHA-256 is " + sha256 in p.stderr
        catalogue(modern("Flavor", "Flavor-1", f"{url}/missing", sha256))
        p = w.run("--install", "--name", "Third", env=env)
        assert p.returncode == 125 and "404" in p.stderr
        # Nothing is fetched for a name that is taken.
        p = w.run("--install", "--name", "second", env=env)
        assert p.returncode == 125 and "exists already" in p.stderr and "404" not in p.stderr
        server.shutdown()
    assert sorted(w.list()) == ["Flavor-1", "Second"]


def test_install_from_a_file(empty):
    w = empty
    path, _ = archive(w)
    # The name it calls itself by, unless one is given or it is taken.
    w.ok("--install", "--from-file", path, "-n")
    assert w.list()["OwnName"]["uid"] == 0
    w.ok("--install", "-f", path, "--name", "mine", "-n", "--vhd-size", "2GB")
    w.ok("--install", "-f", path, "-n")
    assert sorted(w.list()) == ["OwnName", "mine", "some"]
    assert os.stat(os.path.join(w.list()["mine"]["dir"], "ext4.img")).st_size == 2 << 30
    w.fails(125, "--install", "-f", path, "--name", "mine", "-n", says="exists already")
    w.fails(125, "--install", "-f", w.tmp / "nowhere", "-n", says="No such file")
    with open(path, "rb") as f:
        p = w.run("--install", "-f", "-", "--name", "piped", "-n", stdin=f)
    assert p.returncode == 0, p.stderr
    w.configure(general_distributionInstallPath=str(w.tmp / "elsewhere"))
    w.ok("--install", "-f", path, "--name", "else", "-n")
    assert w.list()["else"]["dir"].startswith(f"{w.tmp}/elsewhere/")


def test_wrong_arguments(empty):
    w = empty
    for args, says in ((["a", "b"], "one distribution at a time"), (["a", "-f", "x"], "exclude each other"),
                       (["--vhd-size"], "needs an argument"), (["--vhd-size", "big"], "bad size"),
                       (["--fixed-vhd"], "needs --vhd-size"), (["--version", "1"], "version '1' is not supported"),
                       (["--colour", "red"], "unknown option"), (["Nonesuch"], "'wslx --list --online' shows all")):
        w.fails(125, "--install", *args, says=says)
    w.ok("--install", "--no-distribution", "--web-download", "--version", "2")


@real_only
def test_made_by_mmdebstrap(empty, catalogue):
    """A suite from a mirror, which is a folder here: what mmdebstrap says of it reaches the user."""
    w = empty
    catalogue({"MadeDistributions": {"Debian": [{"Name": "Mine", "Default": True, "FriendlyName": "My own", "Suite": "nosuite",
                                                 "Mirror": f"copy:{w.tmp}/nowhere"}]}})
    p = w.run("--install", "-n", timeout=120)
    assert p.returncode == 125 and "make Mine" in p.stderr and len(p.stderr.splitlines()) == 2, p.stderr
    assert not w.list()


def test_the_other_verbs(fresh):
    w = fresh
    w.ok("--set-version", "deb", "2")
    w.fails(125, "--set-version", "deb", "1", says="there is only version 2")
    w.fails(125, "--set-version", "none", "2", says="no distribution 'none'")
    w.ok("--set-default-version", "2")
    w.fails(125, "--set-default-version", "1", says="there is only version 2")
    w.fails(125, "--update", says="apt upgrade")
    w.fails(125, "--uninstall", says="apt remove")
    w.fails(125, "--uninstall", "x", says="takes no arguments")
    assert "wslx" in json.loads(w.ok("--version", "--json"))
