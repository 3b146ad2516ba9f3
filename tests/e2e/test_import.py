# SPDX-License-Identifier: MIT
"""Importing: archives good and bad. A refused one leaves nothing behind."""
import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
import threading
import time

import pytest
from conftest import SCALE, real_only, rootfs, wait_for


def add(tar, name, data=None, **kw):
    info = tarfile.TarInfo(name)
    info.type = kw.pop("type", tarfile.REGTYPE if data is not None else tarfile.DIRTYPE)
    info.mode = kw.pop("mode", 0o755)
    info.size = len(data or b"")
    for k, v in kw.items():
        setattr(info, k, v)
    tar.addfile(info, io.BytesIO(data or b""))


def archive(path, extra=lambda tar: None, root=True, fmt=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=fmt) as tar:
        if root:
            add(tar, "./etc")
            add(tar, "./etc/os-release", b"ID=test\n", mode=0o644)
            add(tar, "./bin")
            add(tar, "./bin/sh", b"#!")
        extra(tar)
    return path


def refused(w, file, *says):
    target = w.tmp / "new"
    before = sorted(str(p) for p in w.tmp.rglob("*") if "wslxd" not in p.name)
    line = w.fails(125, "--import", "new", target, file, says=list(says))
    assert "new" not in w.list()
    assert sorted(str(p) for p in w.tmp.rglob("*") if "wslxd" not in p.name and p.name != "pending") == \
        [p for p in before if not p.endswith("/pending")]
    return line


def test_truncated(empty):
    good = archive(empty.tmp / "good.tar", lambda t: add(t, "./big", os.urandom(1 << 20)))
    (empty.tmp / "cut.tar").write_bytes(good.read_bytes()[:700000])
    empty.ok("-l")
    refused(empty, empty.tmp / "cut.tar")
    subprocess.run(["xz", "-k", "-0", good], check=True)
    data = (empty.tmp / "good.tar.xz").read_bytes()
    (empty.tmp / "cut.tar.xz").write_bytes(data[:len(data) // 2])
    refused(empty, empty.tmp / "cut.tar.xz")


def test_not_a_root_file_system(empty):
    empty.ok("-l")
    (empty.tmp / "text").write_text("hello\n" * 1000)
    refused(empty, empty.tmp / "text")
    (empty.tmp / "nothing").write_bytes(b"")
    refused(empty, empty.tmp / "nothing")
    refused(empty, archive(empty.tmp / "other.tar", lambda t: add(t, "./letters/mum", b"dear"), root=False), "root")


@pytest.mark.parametrize("name", ["../escape", "./a/../../escape", "a/b/../../../escape"])
def test_paths_that_climb_out(empty, name):
    empty.ok("-l")
    refused(empty, archive(empty.tmp / "bad.tar", lambda t: add(t, name, b"x")))
    assert not (empty.tmp.parent / "escape").exists()


def test_absolute_links_stay_inside(empty):
    """An absolute symbolic link is normal in a root file system, and must not lead the importer out of it."""
    victim = empty.tmp / "victim"
    victim.mkdir()
    empty.ok("-l")

    def extra(t):
        add(t, "./out", type=tarfile.SYMTYPE, linkname=str(victim))
        add(t, "./out/planted", b"x")
    file = archive(empty.tmp / "links.tar", extra)
    p = empty.run("--import", "new", empty.tmp / "new", file)
    assert list(victim.iterdir()) == []
    assert p.returncode in (0, 125)
    if p.returncode:
        assert not (empty.tmp / "new").exists() and p.stderr.count("\n") == 1

    def hard(t):
        add(t, "./link", type=tarfile.LNKTYPE, linkname="/etc/passwd")
    p = empty.run("--import", "hard", empty.tmp / "hard", archive(empty.tmp / "hard.tar", hard))
    assert p.returncode in (0, 125)


def test_device_nodes(empty):
    """Refused or left out, never made on the host, nor in the distribution."""
    def extra(t):
        add(t, "./dev")
        add(t, "./dev/sda", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
        add(t, "./home/sneaky", type=tarfile.BLKTYPE, devmajor=8, devminor=0)
    p = empty.run("--import", "new", empty.tmp / "new", archive(empty.tmp / "dev.tar", extra))
    if p.returncode == 0:
        out = subprocess.run(["debugfs", "-R", "stat /home/sneaky", empty.tmp / "new/ext4.img"], capture_output=True, text=True)
        assert "Type: block" not in out.stdout
    else:
        assert p.returncode == 125 and p.stderr.count("\n") == 1 and not (empty.tmp / "new").exists()


def test_names_and_folders(fresh):
    def bad(*args, says):
        fresh.fails(125, "--import", *args, says=says)
    bad("", fresh.tmp / "x", rootfs(), says="name")
    bad("a/b", fresh.tmp / "x", rootfs(), says="'a/b'")
    bad("-x", fresh.tmp / "x", rootfs(), says="'-x'")
    bad("x" * 65, fresh.tmp / "x", rootfs(), says="name")
    bad("deb", fresh.tmp / "x", rootfs(), says="exists already")
    bad("DEB", fresh.tmp / "x", rootfs(), says="exists already")
    bad("new", fresh.tmp / "disk-deb", rootfs(), says="holds a disk already")
    bad("new", fresh.tmp / "x", fresh.tmp / "missing.tar", says="No such file")
    bad("new", fresh.tmp / "x", fresh.tmp, says="folder")
    bad("new", "/proc/nowhere", rootfs(), says="/proc/nowhere")
    (fresh.tmp / "file").write_text("x")
    bad("new", fresh.tmp / "file", rootfs(), says="not a folder")
    bad("new", fresh.tmp / "file/below", rootfs(), says="Not a directory")
    assert list(fresh.list()) == ["deb"] and not (fresh.tmp / "x").exists()


def test_the_disk_is_clean_and_sparse(empty):
    empty.import_deb()
    disk = empty.tmp / "disk-deb/ext4.img"
    assert sorted(p.name for p in disk.parent.iterdir()) == ["ext4.img"]
    p = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout
    st = disk.stat()
    assert st.st_blocks * 512 < st.st_size / 10
    assert st.st_mode & 0o777 == 0o600


def test_size_and_standard_input(empty):
    with open(rootfs(), "rb") as f:
        p = empty.popen("--import", "deb", empty.tmp / "d", "-", "--size", "2GB", stdin=f)
        assert p.wait(300 * SCALE) == 0
    assert (empty.tmp / "d/ext4.img").stat().st_size == 2 << 30
    empty.fails(125, "--import", "x", empty.tmp / "x", rootfs(), "--size", "lots", says="lots")


def test_a_pipe_that_is_fed_slowly(empty):
    file = archive(empty.tmp / "good.tar", lambda t: add(t, "./big", os.urandom(1 << 18)))
    p = empty.popen("--import", "slow", empty.tmp / "slow", "-", stdin=subprocess.PIPE)
    data = file.read_bytes()

    def feed():
        for i in range(0, len(data), 50000):
            p.stdin.write(data[i:i + 50000])
            p.stdin.flush()
            time.sleep(0.05)
        p.stdin.close()
    t = threading.Thread(target=feed)
    t.start()
    assert empty.list() == {}  # others are served meanwhile
    t.join()
    assert p.wait(60 * SCALE) == 0
    assert "slow" in empty.list()


def test_an_import_whose_client_dies_is_undone(empty):
    empty.ok("-l")
    p = empty.popen("--import", "new", empty.tmp / "new", "-", stdin=subprocess.PIPE)
    p.stdin.write(b"\0" * 512)
    p.stdin.flush()
    wait_for("the import to begin", lambda: (empty.tmp / "new").exists())
    p.kill()
    p.wait()
    p.stdin.close()
    wait_for("the import to be undone", lambda: not (empty.tmp / "new").exists())
    assert empty.list() == {}
    assert list((empty.data / "pending").iterdir()) == []


def test_full_disk(empty):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    small = empty.tmp / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", small], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("may not mount")
    try:
        file = archive(empty.tmp / "big.tar", lambda t: add(t, "./big", os.urandom(16 << 20)))
        empty.fails(125, "--import", "new", small / "d", file, says="No space left")
        assert list(small.iterdir()) == [] and empty.list() == {}
    finally:
        subprocess.run(["umount", "-l", small], check=True)


@real_only
def test_what_is_imported_is_what_was_packed(empty):
    """Modes, owners, links, times, extended attributes, names that are not ASCII, holes."""
    d = empty.tmp / "tree"
    subprocess.run(["sh", "-ec", f"""
        mkdir -p {d}/etc {d}/t/sub; cd {d}/t
        echo hi > file; chmod 4751 file; ln file hard; ln -s file soft; ln -s /etc/os-release abs
        touch -d 2001-02-03T04:05:06 old; chown 1234:2345 old; printf x > 'ümläut and space'
        truncate -s 10M holes; printf end >> holes; setfattr -n user.k -v val file 2>/dev/null || true
        mkfifo fifo; chmod 1777 sub; seq 1 2000 | split -l 1 -a 4 - sub/
        echo 'ID=x' > ../etc/os-release"""], check=True)
    base = empty.tmp / "base.tar"
    subprocess.run(["cp", rootfs(), base], check=True)
    # Appending with -r would keep the first archive's format, which may have no fractions of seconds.
    subprocess.run(["tar", "-C", d, "--xattrs", "--format=posix", "--numeric-owner", "-cf", empty.tmp / "t.tar", "./t"],
                   check=True)
    subprocess.run(["tar", "-Af", base, empty.tmp / "t.tar"], check=True)
    empty.ok("--import", "deb", empty.tmp / "d", base, timeout=300)
    script = ("cd /t && find . -printf '%P %m %U:%G %s %n %y %l %T@\\n' | grep -v '^ ' | LC_ALL=C sort && "
              "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum")
    inside = empty.sh(script, timeout=120)
    host = subprocess.run(["sh", "-c", script.replace("/t ", f"{d}/t ", 1)], capture_output=True, text=True, check=True).stdout
    # A folder's size depends on its file system.
    strip = lambda text: [line for line in text.splitlines() if " d " not in line]
    assert strip(inside) == strip(host)


def layout(w, name="layout"):
    """An OCI image layout in a folder: two layers, the second takes a file of the first away."""
    def put(data):
        digest = hashlib.sha256(data).hexdigest()
        (d / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": len(data)}

    d = w.tmp / name
    (d / "blobs/sha256").mkdir(parents=True)
    one = archive(w.tmp / "one.tar", lambda t: (add(t, "./etc/gone", b"x"), add(t, "./etc/stays", b"x"))).read_bytes()
    two = archive(w.tmp / "two.tar", lambda t: (add(t, "etc/.wh.gone", b""), add(t, "etc/new", b"x")), root=False).read_bytes()
    layers = [put(gzip.compress(one)), put(two)]
    config = put(json.dumps({"os": "linux", "architecture": "amd64"}).encode())
    manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode())
    (d / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (d / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return d


def etc_of(disk):
    p = subprocess.run(["debugfs", "-R", "ls -p /etc", disk], capture_output=True, text=True, check=True)
    return {line.split("/")[5] for line in p.stdout.splitlines() if line.count("/") > 5} - {".", ".."}


def test_container_images(empty):
    """An OCI layout: the folder, an archive of it, and that in a pipe."""
    w, d = empty, layout(empty)
    subprocess.run(["tar", "-C", d, "-cf", w.tmp / "layout.tar", "."], check=True)
    w.ok("--import", "folder", w.tmp / "folder", d)
    w.ok("--import", "archive", w.tmp / "archive", w.tmp / "layout.tar")
    with open(w.tmp / "layout.tar", "rb") as f:
        p = w.popen("--import", "pipe", w.tmp / "pipe", "-", stdin=subprocess.PIPE)
        assert p.communicate(f.read(), timeout=60 * SCALE)[1] == b"" and p.returncode == 0
    for name in "folder", "archive", "pipe":
        assert etc_of(w.tmp / name / "ext4.img") == {"os-release", "stays", "new"}
        assert sorted(p.name for p in (w.tmp / name).iterdir()) == ["ext4.img"]
        assert w.list()[name]["flavor"] == "test"
    blob = max((d / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    refused(w, d, "layer")
    (d / "oci-layout").unlink()
    refused(w, d, "folder")


def test_disks_that_cannot_be_imported(empty):
    w = empty
    w.ok("-l")
    for what, at, magic in (("VHDX", 0, b"vhdxfile"), ("partition table", 512, b"EFI PART"), ("xfs", 0, b"XFSB")):
        (w.tmp / "disk").write_bytes((bytes(at) + magic).ljust(1 << 20, b"\0"))
        refused(w, w.tmp / "disk", what)
    subprocess.run(["mke2fs", "-q", "-F", w.tmp / "disk", "8M"], check=True)
    refused(w, w.tmp / "disk", "not a root file system")


def test_in_place(empty):
    """A disk is a distribution where it lies, and lies there still when the distribution is gone."""
    w = empty
    w.import_deb()
    w.ok("--export", "deb", w.tmp / "my.img")
    w.ok("--import-in-place", "mine", w.tmp / "my.img")
    assert w.list()["mine"]["disk"] == str(w.tmp / "my.img")
    w.fails(125, "--import-in-place", "again", w.tmp / "my.img", says="is a distribution's disk already")
    w.fails(125, "--import-in-place", "again", w.tmp / "disk-deb/ext4.img", says="is a distribution's disk already")
    w.fails(125, "--import-in-place", "again", w.tmp / "no.img", says="No such file")
    w.fails(125, "--import-in-place", "deb", w.tmp / "my.img", says="exists already")
    w.ok("-d", "mine", "--", "true")
    w.ok("--terminate", "mine")
    w.kill(w.service_pid())  # it is in the registry's file, too
    assert w.list()["mine"]["disk"] == str(w.tmp / "my.img")
    # Copies of it are the service's own.
    w.ok("--manage", "mine", "--clone", "copy", "--location", w.tmp / "clone")
    w.ok("--unregister", "copy")
    assert not (w.tmp / "clone").exists() and (w.tmp / "my.img").exists()
    w.ok("--unregister", "mine")
    assert (w.tmp / "my.img").exists() and "mine" not in w.list()
    w.ok("--import-in-place", "mine", w.tmp / "my.img")
    w.ok("--manage", "mine", "--move", w.tmp / "moved")
    assert w.list()["mine"]["disk"] == str(w.tmp / "moved/ext4.img") and (w.tmp / "my.img").exists()
    w.ok("--unregister", "mine")
    assert not (w.tmp / "moved").exists()
    w.ok("--import-in-place", "again", w.tmp / "my.img")


def test_what_a_distribution_says_of_itself(empty):
    def extra(t):
        add(t, "./usr/lib/os-release", b"ID=odd\nVERSION_ID='9'\n", mode=0o644)
        add(t, "./etc/wsl-distribution.conf", b"[oobe]\ndefaultUid=1234\n", mode=0o644)
    w, file = empty, archive(empty.tmp / "a.tar", extra)
    w.ok("--import", "a", w.tmp / "a", file)
    assert (w.list()["a"]["flavor"], w.list()["a"]["uid"]) == ("test", 1234)
    entry = json.loads((w.data / "registry.json").read_text())["distributions"][0]
    assert entry["flavor"] == "test" and "run_oobe" not in entry
    # A first run that makes its user says so itself.
    file = archive(w.tmp / "b.tar", lambda t: add(t, "./etc/wsl-distribution.conf",
                                                  b"[oobe]\ncommand=/bin/setup\ndefaultUid=1000\n", mode=0o644))
    w.ok("--import", "b", w.tmp / "b", file)
    assert w.list()["b"]["uid"] == 0
    assert json.loads((w.data / "registry.json").read_text())["distributions"][1]["run_oobe"] is True
