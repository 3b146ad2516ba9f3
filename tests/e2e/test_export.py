# SPDX-License-Identifier: MIT
"""Export: what comes out is what is in, by the judgement of GNU tar, Python and e2fsck; interrupted, nothing is lost."""
import hashlib
import io
import os
import pathlib
import random
import signal
import stat
import subprocess
import tarfile
import threading
import time
from fractions import Fraction

import pytest
from conftest import FAKE, SCALE, fake_only, real_only, wait_for

INTERRUPTIONS = int(os.environ.get("WSLX_TEST_INTERRUPTIONS", "6"))
FILES = int(os.environ.get("WSLX_TEST_FILES", "1000000"))
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="makes device nodes and other users' files")

EVERYTHING = r"""
mkdir -p etc bin dev d/deep/er t; cd t
printf 'ID=odd\nVERSION_ID="1.2 3"\n' >../etc/os-release; printf '#!' >../bin/sh
echo hi >file; chmod 4751 file; ln file hard; ln hard ../d/deep/hard; ln -s file soft; ln -s /etc/os-release abs
ln -s "$(head -c 3000 /dev/zero | tr '\0' x)" long; ln -P soft soft2
: >empty; chmod 0 empty; head -c 4095 /dev/urandom >4095; head -c 4096 /dev/urandom >4096; head -c 3000001 /dev/urandom >big
touch -d '2001-02-03T04:05:06.123456789' old; touch -d '2106-02-08T00:00:00.5' future; touch -d 1960-01-01 ancient
chown 70001:2000000000 old; mkdir -m 1777 sticky; mkdir -m 2755 setgid
printf x >'ümläut and space'; printf y >"$(printf 'latin1-\344')"; printf z >"$(printf 'new\nline')"
printf n >"$(head -c 255 /dev/zero | tr '\0' n)"
truncate -s 10M hole; truncate -s 10M holes; printf end >>holes; printf middle | dd of=holes bs=1 seek=5000000 conv=notrunc status=none
truncate -s 3T huge; printf here | dd of=huge bs=1 seek=2T conv=notrunc status=none
i=0; while [ $i -lt 300 ]; do printf $i | dd of=comb bs=1 seek=$((i * 16384)) conv=notrunc status=none; i=$((i+1)); done
setfattr -n user.note -v text file; setfattr -n user.binary -v 0x0001ff0a file; setfattr -n trusted.t -v secret sticky
setfattr -n user.long -v "$(head -c 2000 /dev/zero | tr '\0' v)" big
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 4095
setfacl -m u:54321:r--,g:54322:rwx,m::r-x 4096; setfacl -d -m u:54323:rwx setgid
mkfifo -m 640 fifo; mknod ../dev/null c 1 3; mknod ../dev/big b 259 70000
mkdir many; seq 1 3000 | split -l 1 -a 4 - many/
"""


def tree(path):
    """Everything that can be known of a tree, by path; hard links by the first of their names."""
    found = {}
    base = os.fsencode(path)
    for folder, dirs, files in os.walk(base):
        for name in [b"."] * (folder == base) + dirs + files:
            full = os.path.join(folder, name)
            st = os.lstat(full)
            kind = stat.S_IFMT(st.st_mode)
            what = [oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns]
            what.append({n: os.getxattr(full, n, follow_symlinks=False) for n in os.listxattr(full, follow_symlinks=False)
                         if not n.startswith("security.selinux")})
            if kind == stat.S_IFREG:
                what += [st.st_size, content(full)]
            elif kind == stat.S_IFLNK:
                what.append(os.readlink(full))
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                what.append(st.st_rdev)
            if kind != stat.S_IFDIR:
                what.append(st.st_nlink)
            found[os.path.relpath(full, base)] = what
    by_ino = {}
    for rel in sorted(found):
        st = os.lstat(os.path.join(base, rel))
        if not stat.S_ISDIR(st.st_mode):
            found[rel].append(by_ino.setdefault(st.st_ino, rel))
    return found


def content(path):
    """The data and where it is, holes left out."""
    h, size = hashlib.sha256(), os.stat(path).st_size
    fd = os.open(path, os.O_RDONLY)
    try:
        at = 0
        while at < size:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(fd, at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(fd, min(4096 - at % 4096, end - at), at)
                if data.strip(b"\0"):
                    h.update(b"%d:" % at + data)
                at += len(data)
    finally:
        os.close(fd)
    return h.hexdigest()


def same(a, b):
    assert set(a) == set(b), sorted(set(a) ^ set(b))[:5]
    for path in a:
        assert a[path] == b[path], (path, a[path], b[path])


def gnu_tar(*args):
    subprocess.run(["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", *map(str, args)], check=True)


def make(script, path):
    path.mkdir()
    subprocess.run(["sh", "-ec", script], cwd=path, check=True)


def unpack(archive, path):
    path.mkdir()
    gnu_tar("-C", path, "-xpf", archive)
    times = path.stat()
    (path / "lost+found").rmdir()
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def fsck(disk):
    p = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


@root_only
def test_a_tree_of_every_kind_goes_round(empty):
    w, before = empty, empty.tmp / "before"
    make(EVERYTHING, before)
    gnu_tar("-C", before, "--format=posix", "--sparse", "-cf", w.tmp / "in.tar", ".")
    w.ok("--import", "odd", w.tmp / "odd", w.tmp / "in.tar", timeout=120)
    assert (w.list()["odd"]["flavor"], w.list()["odd"]["os_version"]) == ("odd", "1.2 3")
    want = tree(before)
    w.ok("--export", "odd", w.tmp / "out.tar", timeout=120)
    assert (w.tmp / "out.tar").stat().st_size < 20 << 20  # holes are left out
    unpack(w.tmp / "out.tar", w.tmp / "after")
    same(want, tree(w.tmp / "after"))
    holes = (w.tmp / "after/t/huge").stat()
    assert holes.st_blocks * 512 < 1 << 20
    # Once more, by our own importer.
    w.ok("--import", "again", w.tmp / "again", w.tmp / "out.tar", timeout=120)
    w.ok("--export", "again", w.tmp / "again.tar", timeout=120)
    unpack(w.tmp / "again.tar", w.tmp / "twice")
    same(want, tree(w.tmp / "twice"))
    for name in "odd", "again":
        fsck(w.tmp / name / "ext4.img")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tar.xz", "tar.zst", "wsl", "tgz"])
def test_formats_by_name(fresh, suffix):
    out = fresh.tmp / f"out.{suffix}"
    small(fresh)
    fresh.ok("--export", "small", out)
    magic = {"tar": b"PaxHeader/", "tar.gz": b"\x1f\x8b", "wsl": b"\x1f\x8b", "tgz": b"\x1f\x8b", "tar.xz": b"\xfd7zXZ", "tar.zst": b"\x28\xb5\x2f\xfd"}
    assert out.read_bytes().startswith(magic[suffix])
    names = subprocess.run(["tar", "-tf", out], capture_output=True, text=True, check=True).stdout.split()
    assert "./etc/os-release" in names and names[0] == "./"
    fresh.ok("--import", "new", fresh.tmp / "new", out)
    assert fresh.list()["new"]["flavor"] == "small"


def small(w, name="small", size=0, disk=()):
    """A distribution with little in it."""
    d = w.tmp / f"{name}-tree"
    make("mkdir etc bin; echo ID=small >etc/os-release; printf '#!' >bin/sh", d)
    if size:
        (d / "big").write_bytes(random.randbytes(size))
    subprocess.run(["tar", "-C", d, "-cf", w.tmp / f"{name}.tar", "."], check=True)
    w.ok("--import", name, w.tmp / name, w.tmp / f"{name}.tar", *disk)


def test_pipes_devices_and_raw_disks(empty):
    w = empty
    small(w)
    p = w.run("--export", "small", "-", text=False)
    assert p.returncode == 0 and p.stderr == b""  # no progress where there is no terminal
    (w.tmp / "piped.tar").write_bytes(p.stdout)
    with tarfile.open(w.tmp / "piped.tar") as t:
        assert t.extractfile("./etc/os-release").read() == b"ID=small\n"
    assert w.ok("--export", "small", "/dev/null") == ""
    w.ok("--export", "small", w.tmp / "disk.img")
    disk = w.tmp / "small/ext4.img"
    st = (w.tmp / "disk.img").stat()
    assert st.st_size == disk.stat().st_size and st.st_blocks <= disk.stat().st_blocks + 64
    fsck(w.tmp / "disk.img")
    w.ok("--import", "copy", w.tmp / "copy", w.tmp / "disk.img")
    assert w.list()["copy"]["flavor"] == "small"
    w.ok("--export", "copy", w.tmp / "copy.tar")
    assert (w.tmp / "copy.tar").read_bytes() == p.stdout
    w.fails(125, "--import", "x", w.tmp / "x", w.tmp / "disk.img", "--size", "2GB", says="keeps its size")


def test_progress_on_a_terminal(empty):
    small(empty, size=1 << 20)
    ours, theirs = os.openpty()
    p = empty.popen("--export", "small", empty.tmp / "out.tar", stderr=theirs)
    os.close(theirs)
    assert p.wait(60 * SCALE) == 0
    said = b""
    while True:
        try:
            piece = os.read(ours, 4096)
        except OSError:
            break
        said += piece
    os.close(ours)
    assert b"\rexporting: " in said and b" %" in said and said.endswith(b"exporting: done\x1b[K\r\n")


def test_a_reader_that_goes_away(empty):
    small(empty, size=1 << 20)
    p = empty.popen("--export", "small", "-")
    p.stdout.read(1)
    p.stdout.close()
    assert p.wait(60 * SCALE) == 125
    assert p.stderr.read().decode().endswith("Broken pipe\n")
    assert empty.list()["small"]["state"] == "Stopped"


def test_refusals(empty):
    w = empty
    small(w)
    taken = w.tmp / "taken.tar"
    taken.write_text("mine")
    w.fails(125, "--export", "small", taken, says="exists already")
    assert taken.read_text() == "mine"
    w.fails(125, "--export", "small", w.tmp, says="is a folder")
    w.fails(125, "--export", "small", w.tmp / "no/where.tar", says="No such file")
    w.fails(125, "--export", "nope", w.tmp / "x.tar", says="no such distribution")
    w.fails(125, "--export", "small", w.tmp / "x.tar", "--format", "zip", says="unknown format 'zip'")
    w.fails(125, "--export", "small", w.tmp / "x.tar", "--vhd", "--format", "tar.gz", says="exclude each other")
    w.fails(125, "--export", "small", "-", "--format", "raw", says="only be written to a file")
    w.fails(125, "--export", "small", says="needs the name")
    w.fails(125, "--import", "x", w.tmp / "x", w.tmp / "x.vhdx", says="--vhd")
    assert sorted(p.name for p in w.tmp.iterdir() if p.name.startswith("x")) == []


def same_bytes(a, b):
    assert os.stat(a).st_size == os.stat(b).st_size
    return subprocess.run(["cmp", a, b], check=False).returncode == 0


def test_a_virtual_disk_goes_round(empty):
    """Out as VHDX, by the judgement of qemu-img, and in again: the same disk, byte for byte."""
    w = empty
    small(w, disk=["--size", "200MB"])  # what cmp can read through
    disk = os.path.join(w.list()["small"]["dir"], "ext4.img")
    for args, file in ((["--vhd"], "x.disk"), ([], "x.vhdx"), (["--format", "vhd"], "y.disk")):
        w.ok("--export", "small", w.tmp / file, *args, timeout=60)
        subprocess.run(["qemu-img", "check", "-f", "vhdx", w.tmp / file], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["qemu-img", "convert", "-f", "vhdx", "-O", "raw", w.tmp / file, w.tmp / "raw"], check=True)
        assert same_bytes(w.tmp / "raw", disk)
    assert os.stat(w.tmp / "x.vhdx").st_blocks * 512 < 64 << 20
    w.ok("--import", "back", w.tmp / "back", w.tmp / "x.vhdx", "--vhd", timeout=60)
    assert same_bytes(w.tmp / "back/ext4.img", disk)
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", w.tmp / "empty.vhdx", "64M"], check=True)
    w.fails(125, "--import", "none", w.tmp / "none", w.tmp / "empty.vhdx", "--vhd", says="the virtual disk")
    with open(w.tmp / "x.vhdx", "r+b") as f:
        f.truncate(200000)
    w.fails(125, "--import", "none", w.tmp / "none", w.tmp / "x.vhdx", "--vhd", says="import none")
    assert not (w.tmp / "none").exists()


def test_damaged_disks(empty):
    w = empty
    small(w)
    disk = w.tmp / "small/ext4.img"
    with open(disk, "r+b") as f:
        good = f.read(1 << 16)
        f.seek(1024 + 200)
        f.write(b"\xff" * 300)
    w.fails(125, "--export", "small", w.tmp / "out.tar", says="export small")
    assert not (w.tmp / "out.tar").exists()
    with open(disk, "r+b") as f:
        f.write(good)
    w.ok("--export", "small", w.tmp / "out.tar")


def slow_export(w, name="small"):
    """An export that waits for its reader."""
    p = w.popen("--export", name, "-")
    assert p.stdout.read(10)
    return p


def test_meanwhile_nothing_else_touches_the_disk(empty):
    w = empty
    small(w, size=4 << 20)
    p = slow_export(w)
    assert w.list()["small"]["state"] == "Exporting"
    assert "Exporting" in w.ok("-l", "-v")
    w.fails(125, "-d", "small", "--", "true", says="busy (Exporting)")
    w.fails(125, "--unregister", "small", says="busy (Exporting)")
    w.fails(125, "--export", "small", w.tmp / "two.tar", says="busy (Exporting)")
    p.kill()
    p.wait()
    wait_for("the export to be given up", lambda: w.list()["small"]["state"] == "Stopped")
    w.ok("--export", "small", w.tmp / "two.tar")
    w.ok("--unregister", "small")


def test_interrupted_at_any_moment(empty):
    """wslx or wslxd is killed, or the client interrupted: no part of a file, nothing half registered, the source whole."""
    w = empty
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}")
    small(w, size=24 << 20)
    long, done = [], 0
    for verb in ("--export", "small", w.tmp / "whole.tar"), ("--import", "new", w.tmp / "new", w.tmp / "whole.tar"):
        begin = time.monotonic()
        w.ok(*verb, timeout=120)
        long.append(time.monotonic() - begin)
    w.ok("--unregister", "new")
    whole = hashlib.sha256((w.tmp / "whole.tar").read_bytes()).digest()
    for n in range(INTERRUPTIONS):
        importing = n % 2
        out = w.tmp / ("new" if importing else "out.tar")
        verb = ("--import", "new", out, w.tmp / "whole.tar") if importing else ("--export", "small", out)
        p = w.popen(*verb)
        time.sleep(rng.uniform(0, 1.2 * long[importing]))
        how = rng.choice(["kill wslx", "interrupt", "kill wslxd"])
        if how == "kill wslxd" and w.service_pid():
            w.kill(w.service_pid())
        elif p.poll() is None:
            p.send_signal(signal.SIGINT if how == "interrupt" else signal.SIGKILL)
        p.communicate(timeout=60 * SCALE)
        done += p.returncode == 0

        def settled():
            listed = w.list()
            return listed["small"]["state"] == "Stopped" and not list((w.data / "pending").iterdir()) and \
                ("new" in listed) == (out.exists() if importing else False)
        wait_for(f"nothing half done after {how}", settled)
        if importing and "new" in w.list():
            w.ok("--export", "new", w.tmp / "check.tar", timeout=120)
            assert hashlib.sha256((w.tmp / "check.tar").read_bytes()).digest() == whole
            (w.tmp / "check.tar").unlink()
            w.ok("--unregister", "new")
        elif not importing and out.exists():
            assert hashlib.sha256(out.read_bytes()).digest() == whole
            out.unlink()
        assert not out.exists() and not list(w.tmp.glob("*.part"))
    w.ok("--export", "small", w.tmp / "end.tar", timeout=120)
    assert hashlib.sha256((w.tmp / "end.tar").read_bytes()).digest() == whole
    fsck(w.tmp / "small/ext4.img")
    print(f"{INTERRUPTIONS} interruptions, {done} came too late")


def test_full_target_disk(empty):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    target = empty.tmp / "target"
    target.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", target], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("may not mount")
    try:
        small(empty, size=4 << 20)
        empty.fails(125, "--export", "small", target / "out.tar", says="No space left")
        assert list(target.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", target], check=True)


@fake_only
def test_a_freeze_that_did_not_last(empty):
    empty.env["FAKE_THAWS"] = "1"
    empty.import_deb()
    empty.ok("-d", "deb", "--", "true")
    empty.fails(125, "--export", "deb", empty.tmp / "out.tar", says=["changed while it was copied", "frozen for too long"])
    assert not (empty.tmp / "out.tar").exists()


def test_while_it_runs(fresh):
    """Programs go on, before and after; what they had written is in the archive; no copy is left behind."""
    w = fresh
    if FAKE:
        w.ok("-d", "deb", "--", "true")
    else:
        w.sh("mkdir /x; seq 1 100000 >/x/numbers; while :; do date >>/x/ticks; done >/dev/null 2>&1 & sleep 0.1; echo $! >/x/pid")
    w.ok("--export", "deb", w.tmp / "out.tar", timeout=300)
    assert w.list()["deb"]["state"] == "Running"
    assert sorted(p.name for p in (w.tmp / "disk-deb").iterdir()) == ["ext4.img"]
    with tarfile.open(w.tmp / "out.tar") as t:
        if not FAKE:
            assert t.extractfile("./x/numbers").read().split() == [b"%d" % i for i in range(1, 100001)]
        assert "./etc/os-release" in t.getnames()
    w.ok("--export", "deb", w.tmp / "out.img", timeout=300)
    if not FAKE:
        fsck(w.tmp / "out.img")
        # The file system takes writes again, and the program that writes was not disturbed.
        assert w.sh("sync; test -e /x/ticks && kill $(cat /x/pid) && echo alive") == "alive\n"


@real_only
def test_a_freeze_ends_when_the_service_dies(fresh):
    w = fresh
    w.sh("head -c 200M /dev/urandom >/big; sync")
    p = w.popen("--export", "deb", w.tmp / "out.tar")
    time.sleep(0.3)
    w.kill(w.service_pid())
    p.communicate(timeout=60 * SCALE)
    assert p.returncode == 125 and not (w.tmp / "out.tar").exists()
    assert w.sh("echo written >/after; sync; cat /after", timeout=120) == "written\n"


@real_only
def test_a_disk_that_was_not_unmounted(fresh):
    """The journal is replayed by a start; then the archive has what was synced before the power failed."""
    w = fresh
    w.sh("echo kept >/kept; sync")
    w.kill(w.vmm_pids()[0])
    wait_for("its end to be noticed", lambda: w.list()["deb"]["state"] == "Stopped")
    w.ok("--export", "deb", w.tmp / "out.tar", timeout=300)
    with tarfile.open(w.tmp / "out.tar") as t:
        assert t.extractfile("./kept").read() == b"kept\n"
    w.ok("--shutdown", timeout=60)
    fsck(w.tmp / "disk-deb/ext4.img")


def kinds(n):
    """n members of an archive, of every kind by turns; their content, times, owners and attributes say which they are."""
    for i in range(n):
        device = i % 16 in (13, 14)  # taken below /dev only
        folder = f"./{'dev/' if device else ''}d{i % 997}/" + ("deep/" * (i % 5) if i % 3 else "")
        m = tarfile.TarInfo(f"{folder}{i}-" + ("ü" if i % 7 == 0 else "") + "x" * (i % 211))
        m.uid, m.gid, m.mode = i % 70001, 2000000000 + i % 13, i % 0o10000
        m.pax_headers = {"mtime": f"{i - 500000}.{i % 1000:03}"}  # before 1970 too
        data, kind = b"", i % 16
        if kind < 8:
            data = b"%d\n" % i * (kind * kind * 9)
            if kind == 1:
                m.pax_headers |= {"SCHILY.xattr.user.n": f"{i}", "SCHILY.xattr.trusted.long": "v" * (i % 300)}
        elif kind < 10:
            # To the file eight members before: those of one kind are not all of one folder.
            m.type, m.linkname = tarfile.LNKTYPE, None
        elif kind < 12:
            m.type, m.mode, m.linkname = tarfile.SYMTYPE, 0o777, "../" * (i % 40) + f"to/{i}"
        elif kind < 13:
            m.type = tarfile.FIFOTYPE
        elif device:
            m.type, m.devmajor, m.devminor = (tarfile.CHRTYPE, tarfile.BLKTYPE)[kind % 2], i % 4096, i % 70000
        else:
            m.type = tarfile.DIRTYPE
        yield i, m, data


def million(path, n):
    """Writes them; what is to be found again, by name, as a digest."""
    want, names = {}, []
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as t:
        for name in "./etc", "./bin":
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            t.addfile(info)
        for i, m, data in kinds(n):
            names = names[-7:] + [m.name]
            if m.type == tarfile.LNKTYPE:
                m.linkname = names[0]
                want[m.name] = ("same as", m.linkname)
            else:
                want[m.name] = digest(m, data)
            m.size = len(data)
            t.addfile(m, io.BytesIO(data))
            t.members = []
    return want


def digest(m, data):
    attributes = sorted((k, v) for k, v in m.pax_headers.items() if k.startswith("SCHILY.xattr."))
    mtime = Fraction(m.pax_headers.get("mtime", m.mtime))
    what = (m.type, m.mode, m.uid, m.gid, mtime, attributes, m.linkname,
            (m.devmajor, m.devminor) if m.ischr() or m.isblk() else None, data)
    return hashlib.md5(repr(what).encode()).digest()


def compare(path, want):
    """What Python's tarfile finds in the archive is all that was wanted, and no more than folders beside."""
    found, first = set(), {}
    with tarfile.open(path) as t:
        for m in t:
            t.members = []
            name = m.name if m.name.startswith("./") else "./" + m.name
            if name not in want:
                assert m.isdir(), name
                continue
            # Of a file's several names, any can come first in an archive.
            if m.type == tarfile.LNKTYPE:
                ours = first["./" + m.linkname.removeprefix("./")]
            else:
                ours = first[name] = digest(m, t.extractfile(m).read() if m.isreg() else b"")
            wanted = want[name]
            assert ours == (want[wanted[1]] if isinstance(wanted, tuple) else wanted), (name, m.get_info())
            found.add(name)
    assert len(found) == len(want), sorted(set(want) - found)[:5]


class Peak(threading.Thread):
    """The most memory any one process of the service's had, KiB, looked up while it runs."""

    def __init__(self, w):
        super().__init__(daemon=True)
        self.w, self.kib, self.stop = w, 0, threading.Event()

    def run(self):
        while not self.stop.wait(0.05):
            pid = self.w.service_pid()
            try:
                below = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
                for p in [pid, *below]:
                    status = pathlib.Path(f"/proc/{p}/status").read_text()
                    self.kib = max(self.kib, int(status.partition("VmHWM:")[2].split()[0]))
            except (OSError, IndexError, ValueError):
                pass  # it has ended meanwhile

    def __exit__(self, *exc):
        self.stop.set()
        self.join()

    def __enter__(self):
        self.start()
        return self


def round_trip(w, files, *size):
    want = million(w.tmp / "in.tar", files)
    with Peak(w) as peak:
        for name, archive, out in ("one", "in.tar", "out.tar"), ("two", "out.tar", "again.tar"):
            begin = time.monotonic()
            w.ok("--import", name, w.tmp / name, w.tmp / archive, *size, timeout=1800)
            between = time.monotonic()
            w.ok("--export", name, w.tmp / out, timeout=1800)
            print(f"{files} files: import {between - begin:.1f} s, export {time.monotonic() - between:.1f} s, "
                  f"at most {peak.kib >> 10} MiB")
            fsck(w.tmp / name / "ext4.img")
            (w.tmp / archive).unlink()
            compare(w.tmp / out, want)


def test_thousands_of_files_of_every_kind(empty):
    round_trip(empty, 20000, "--size", "4GB")


@pytest.mark.slow
def test_a_million_files(empty):
    """Of every kind, out and in and out again, in bounded memory, which the sandboxed process has."""
    round_trip(empty, FILES)
