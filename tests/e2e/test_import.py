# SPDX-License-Identifier: MIT
"""Importing: archives good and bad. A refused one leaves nothing behind."""
import io
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
