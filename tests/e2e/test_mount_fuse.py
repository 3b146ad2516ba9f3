# SPDX-License-Identifier: MIT
"""wslx-mount: distributions' files in a folder of the host."""
import ctypes
import errno
import fcntl
import hashlib
import json
import mmap
import os
import pathlib
import random
import resource
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
from conftest import BUILD, FS_CASES, SCALE, cases_failed, end, imported, real_only, wait_for, world
from less import LESS

pytestmark = real_only


class Mount:
    """wslx-mount on a folder of its own, as the user of a world."""

    def __init__(self, w, *options, stack=None):
        def less_stack():
            if stack:
                resource.setrlimit(resource.RLIMIT_STACK, (stack, stack))

        self.w = w
        self.folder = w.tmp / "mnt"
        self.p = subprocess.Popen([BUILD / "mount/wslx-mount", "--verbose", *options, self.folder], env=w.env, preexec_fn=less_stack)
        wait_for("the mount", lambda: os.path.ismount(self.folder) or self.p.poll() is not None)
        assert self.p.poll() is None

    def close(self):
        if self.p.poll() is None:
            self.p.terminate()
        self.p.wait(10 * SCALE)
        if f" {self.folder} " in pathlib.Path("/proc/mounts").read_text():
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)


@pytest.fixture(scope="module")
def m():
    w = world()
    mount = None
    try:
        imported(w)
        mount = Mount(w, "--user", "root")
        yield mount
    finally:
        if mount:
            mount.close()
        end(w, True)


def test_a_folder_for_each_distribution(m):
    assert os.listdir(m.folder) == ["deb"]
    assert os.stat(m.folder / "deb").st_uid == os.getuid()
    assert m.w.vmm_pids() == [], "looking started it"
    with pytest.raises(FileNotFoundError):
        os.stat(m.folder / "nosuch")


def test_opening_one_starts_it(m):
    assert "etc" in os.listdir(m.folder / "deb")
    assert m.w.vmm_pids()
    assert (m.folder / "deb/etc/os-release").read_text() == m.w.sh("cat /etc/os-release")


def test_a_search_that_comes_back_to_where_it_started_hangs_every_distribution(m, tmp_path):
    """The host asks the distribution for its files, of which some are the host's own, while it is asked for that by the distribution."""
    (tmp_path / "f").write_text("text\n")
    there = f"/mnt/host{m.folder}/deb"

    def guest(command):
        p = m.w.run("-d", "deb", "-u", "root", "--", f"timeout -k 1 {10 * SCALE:.0f} {command} 2>&1", timeout=60 * SCALE)
        assert p.returncode not in (124, 137), f"{command} hangs"
        return p.stdout

    def host(*command):
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30 * SCALE)

    assert "host" in guest(f"ls {there}/mnt")
    assert "Permission denied" in guest(f"ls {there}/mnt/host")
    assert "/mnt/host" in guest(f"find {there}/mnt -ls")
    p = host("ls", "-l", m.folder / "deb/mnt")
    assert p.returncode == 0 and "d---------" in p.stdout, p
    p = host("find", m.folder / "deb/mnt", "-ls")
    assert "Permission denied" in p.stderr, p
    assert "Permission denied" in host("ls", f"{m.folder}/deb/mnt/host{tmp_path}").stderr
    # wherever they are mounted, and whatever was known of the place before
    m.w.sh("mkdir -p /root/b && touch /root/bf")
    assert host("ls", m.folder / "deb/root/b").returncode == 0
    assert host("cat", m.folder / "deb/root/bf").returncode == 0
    m.w.sh(f"mount --bind /mnt/host{tmp_path} /root/b && mount --bind /mnt/host{tmp_path}/f /root/bf && cat /root/bf")
    wait_for("the mounts to show", lambda: host("cat", m.folder / "deb/root/bf").returncode)
    assert "Permission denied" in host("ls", m.folder / "deb/root/b").stderr
    assert "Permission denied" in host("cat", m.folder / "deb/root/bf").stderr
    p = host("cp", "/dev/null", m.folder / "deb/root/bf")
    assert p.returncode and (tmp_path / "f").read_text() == "text\n", p
    guest(f"du -s {there}/root")
    m.w.sh("umount /root/b /root/bf")
    # others' file systems are entered as before
    m.w.sh("mount -t tmpfs t /root/b && echo in >/root/b/g")
    wait_for("the other mount", lambda: host("cat", m.folder / "deb/root/b/g").stdout == "in\n")
    m.w.sh("umount -l /root/b && rm -r /root/b /root/bf")
    assert m.w.sh(f"cat /mnt/host{tmp_path}/f") == "text\n"


@pytest.fixture
def t(m, request):
    """A folder in the distribution, as the host sees it."""
    name = f"t-{random.getrandbits(32):08x}"
    m.w.sh(f"mkdir -m 777 /root/{name}")
    m.there = f"/root/{name}"
    return m.folder / f"deb{m.there}"


class Errno:
    """This system call fails with this error and no other."""

    def __init__(self, number):
        self.number = number

    def __enter__(self):
        return self

    def __exit__(self, kind, e, tb):
        assert isinstance(e, OSError), "it succeeded"
        assert e.errno == self.number, f"{errno.errorcode[e.errno]} instead of {errno.errorcode[self.number]}"
        return True


# --- what POSIX says, after the pattern of pjdfstest ---

def test_names_with_every_byte(t):
    names = [bytes([c]) for c in range(1, 256) if c not in b"/."] + [b"x" * 255, b"\xff\xfe\n\t \\\"'"]
    for n in names:
        with open(os.fsencode(t) + b"/" + n, "wb") as f:
            f.write(n)
    assert sorted(os.listdir(os.fsencode(t))) == sorted(names)
    for n in names:
        with open(os.fsencode(t) + b"/" + n, "rb") as f:
            assert f.read() == n
        os.unlink(os.fsencode(t) + b"/" + n)
    assert os.listdir(t) == []
    with Errno(errno.ENAMETOOLONG):
        (t / ("x" * 256)).touch()


def test_open_and_create(t):
    fd = os.open(t / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)
    assert os.fstat(fd).st_mode == stat.S_IFREG | 0o640
    os.close(fd)
    with Errno(errno.EEXIST):
        os.open(t / "f", os.O_CREAT | os.O_EXCL | os.O_RDWR)
    with Errno(errno.ENOENT):
        os.open(t / "g", os.O_RDWR)
    with Errno(errno.ENOTDIR):
        os.open(t / "f/x", os.O_RDWR)
    with Errno(errno.EISDIR):
        os.open(t, os.O_RDWR)
    os.symlink("f", t / "l")
    with Errno(errno.ELOOP):
        os.open(t / "l", os.O_RDWR | os.O_NOFOLLOW)
    (t / "f").write_bytes(b"1234567890")
    fd = os.open(t / "f", os.O_RDWR | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.close(fd)


def test_append_goes_to_the_end_wherever_it_is(t, m):
    fd = os.open(t / "f", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"a\n")
    m.w.sh(f"echo b >> {m.there}/f")
    os.write(fd, b"c\n")
    os.close(fd)
    assert m.w.sh(f"cat {m.there}/f") == "a\nb\nc\n"


def test_mkdir_rmdir(t):
    os.mkdir(t / "d", 0o751)
    assert os.stat(t / "d").st_mode == stat.S_IFDIR | 0o751
    assert os.stat(t).st_nlink == 3
    with Errno(errno.EEXIST):
        os.mkdir(t / "d")
    with Errno(errno.ENOENT):
        os.mkdir(t / "n/d")
    (t / "d/f").touch()
    with Errno(errno.ENOTEMPTY):
        os.rmdir(t / "d")
    with Errno(errno.ENOTDIR):
        os.rmdir(t / "d/f")
    with Errno(errno.EISDIR):
        os.unlink(t / "d")
    os.unlink(t / "d/f")
    os.rmdir(t / "d")
    with Errno(errno.ENOENT):
        os.rmdir(t / "d")
    with Errno(errno.ENOENT):
        os.unlink(t / "d")


def test_rename(t, m):
    (t / "a").write_text("a")
    (t / "b").write_text("b")
    ino = os.stat(t / "a").st_ino
    os.rename(t / "a", t / "b")
    assert (t / "b").read_text() == "a" and os.stat(t / "b").st_ino == ino and os.listdir(t) == ["b"]
    os.mkdir(t / "d")
    os.mkdir(t / "e")
    (t / "e/x").write_text("x")
    with Errno(errno.EISDIR):
        os.rename(t / "b", t / "d")
    with Errno(errno.ENOTDIR):
        os.rename(t / "d", t / "b")
    with Errno(errno.ENOTEMPTY):
        os.rename(t / "d", t / "e")
    with Errno(errno.EINVAL):
        os.rename(t / "e", t / "e/f")
    os.rename(t / "e", t / "d")
    assert (t / "d/x").read_text() == "x"
    os.rename(t / "d/x", t / "y")
    assert (t / "y").read_text() == "x"
    with Errno(errno.ENOENT):
        os.rename(t / "nosuch", t / "z")
    with Errno(errno.EXDEV):
        os.rename(t / "y", m.w.tmp / "y")


def test_rename_exchange_and_noreplace(t):
    libc = ctypes.CDLL(None, use_errno=True)

    def renameat2(a, b, flags):
        if libc.renameat2(-100, os.fsencode(t / a), -100, os.fsencode(t / b), flags):
            raise OSError(ctypes.get_errno(), "renameat2")

    (t / "a").write_text("a")
    (t / "b").write_text("b")
    with Errno(errno.EEXIST):
        renameat2("a", "b", 1)
    renameat2("a", "b", 2)
    assert (t / "a").read_text() == "b" and (t / "b").read_text() == "a"
    renameat2("a", "c", 1)
    assert sorted(os.listdir(t)) == ["b", "c"]


def test_links(t):
    (t / "a").write_text("x")
    os.link(t / "a", t / "b")
    assert os.stat(t / "a").st_nlink == 2 and os.path.samefile(t / "a", t / "b")
    os.unlink(t / "a")
    assert (t / "b").read_text() == "x" and os.stat(t / "b").st_nlink == 1
    with Errno(errno.EEXIST):
        os.link(t / "b", t / "b")
    os.mkdir(t / "d")
    with Errno(errno.EPERM):
        os.link(t / "d", t / "e")
    os.symlink("x" * 4000, t / "long")
    assert os.readlink(t / "long") == "x" * 4000
    with Errno(errno.EEXIST):
        os.symlink("y", t / "long")
    with Errno(errno.EINVAL):
        os.readlink(t / "b")


def test_modes_owners_times(t, m):
    (t / "f").touch()
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1600, 0o644):
        os.chmod(t / "f", mode)
        assert stat.S_IMODE(os.stat(t / "f").st_mode) == mode
    os.chown(t / "f", 12345, 54321)
    assert m.w.sh(f"stat -c '%u %g' {m.there}/f") == "12345 54321\n"
    os.utime(t / "f", ns=(1_234_567_890_123_456_789, 987_654_321_000_000_001))
    st = os.stat(t / "f")
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_234_567_890_123_456_789, 987_654_321_000_000_001)
    os.truncate(t / "f", 12345)
    st2 = os.stat(t / "f")
    assert st2.st_size == 12345 and st2.st_mtime_ns > st.st_mtime_ns and st2.st_ctime_ns >= st.st_ctime_ns
    os.symlink("f", t / "l")
    os.utime(t / "l", ns=(1, 2), follow_symlinks=False)
    assert os.lstat(t / "l").st_mtime_ns == 2 and os.stat(t / "f").st_mtime_ns == st2.st_mtime_ns


def test_special_files(t):
    os.mkfifo(t / "p", 0o600)
    assert stat.S_ISFIFO(os.stat(t / "p").st_mode)
    os.mknod(t / "n", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    assert os.stat(t / "n").st_rdev == os.makedev(1, 3)
    s = socket.socket(socket.AF_UNIX)
    cwd = os.getcwd()
    os.chdir(t)
    try:
        s.bind("s")
    finally:
        os.chdir(cwd)
    assert stat.S_ISSOCK(os.stat(t / "s").st_mode)
    r = os.open(t / "p", os.O_RDONLY | os.O_NONBLOCK)
    w = os.open(t / "p", os.O_WRONLY)
    os.write(w, b"x")
    assert os.read(r, 1) == b"x"
    os.close(r)
    os.close(w)


def test_a_file_without_a_name_is_still_there(t):
    f = open(t / "f", "w+b")
    f.write(b"hello")
    f.flush()
    os.unlink(t / "f")
    assert os.fstat(f.fileno()).st_size == 5 and os.fstat(f.fileno()).st_nlink == 0
    (t / "f").write_text("other")
    f.seek(0)
    assert f.read() == b"hello"
    os.ftruncate(f.fileno(), 2)
    assert os.fstat(f.fileno()).st_size == 2
    os.fchmod(f.fileno(), 0o600)
    f.close()
    assert (t / "f").read_text() == "other"


def test_xattrs(t, m):
    (t / "f").touch()
    os.setxattr(t / "f", "user.a", b"")
    os.setxattr(t / "f", "user.b", bytes(range(256)))
    assert sorted(os.listxattr(t / "f")) == ["user.a", "user.b"]
    assert os.getxattr(t / "f", "user.b") == bytes(range(256)) and os.getxattr(t / "f", "user.a") == b""
    with Errno(errno.EEXIST):
        os.setxattr(t / "f", "user.a", b"x", os.XATTR_CREATE)
    with Errno(errno.ENODATA):
        os.setxattr(t / "f", "user.c", b"x", os.XATTR_REPLACE)
    os.removexattr(t / "f", "user.a")
    with Errno(errno.ENODATA):
        os.getxattr(t / "f", "user.a")
    assert os.listxattr(t / "f") == ["user.b"]


def test_holes(t):
    with open(t / "f", "wb") as f:
        f.truncate(100 << 20)
        f.seek(50 << 20)
        f.write(b"x")
        fd = f.fileno()
        f.flush()
        assert os.lseek(fd, 0, os.SEEK_DATA) == 50 << 20
        with Errno(errno.ENXIO):
            os.lseek(fd, 60 << 20, os.SEEK_DATA)
        assert os.fstat(fd).st_blocks < 1000
        os.posix_fallocate(fd, 0, 1 << 20)
        assert os.fstat(fd).st_blocks >= 2048
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.fallocate64(fd, 3, ctypes.c_int64(0), ctypes.c_int64(1 << 20)) == 0  # punch a hole, keep the size
        assert os.fstat(fd).st_blocks < 1000 and os.fstat(fd).st_size == 100 << 20


def test_statvfs_is_the_distributions(t, m):
    st = os.statvfs(t)
    blocks = int(m.w.sh(f"stat -f -c %b {m.there}"))
    assert st.f_blocks == blocks and st.f_namemax == 255


def test_changes_on_either_side_are_seen_on_the_other(t, m):
    (t / "f").write_text("from the host")
    assert m.w.sh(f"cat {m.there}/f") == "from the host"
    m.w.sh(f"echo -n from the guest, and longer > {m.there}/f")
    wait_for("the host to see it", lambda: (t / "f").read_text() == "from the guest, and longer", 5)
    m.w.sh(f"rm {m.there}/f")
    wait_for("the host to see it gone", lambda: not (t / "f").exists(), 5)


def test_content_whose_time_was_set_back(t, m):
    old = "touch -d @1000000000"
    m.w.sh(f"cd {m.there} && echo -n one > f && {old} f")
    assert (t / "f").read_text() == "one"
    m.w.sh(f"cd {m.there} && echo -n two > f && {old} f")
    assert (t / "f").read_text() == "two"
    # looked at first
    m.w.sh(f"cd {m.there} && echo -n six > f && {old} f")
    time.sleep(1.1)
    assert (t / "f").stat().st_size == 3
    assert (t / "f").read_text() == "six"


def test_a_folder_that_is_changed_while_it_is_listed(t, m):
    m.w.sh(f"cd {m.there} && seq 2000 | xargs touch")
    order = os.listdir(t)
    with os.scandir(t) as it:
        seen = [next(it)]
        seen[0].stat()
        # what the server has said already, and the kernel has not asked for
        for i in range(300, 500):
            (t / order[i]).write_text("more")
            os.unlink(t / order[i + 200])
        for e in it:
            seen.append(e)
            try:
                st = os.stat(e.path)
            except FileNotFoundError:
                continue
            i = order.index(e.name)
            assert st.st_size == (4 if 300 <= i < 500 else 0), i
            assert not 500 <= i < 700, i
    assert (t / order[400]).read_text() == "more"
    assert {e.name for e in seen} >= set(order[:500] + order[700:])


def test_mmap(t, m):
    (t / "f").write_bytes(bytes(1 << 20))
    with open(t / "f", "r+b") as f:
        with mmap.mmap(f.fileno(), 0) as mem:
            mem[5000:5005] = b"hello"
            mem.flush()
    assert m.w.sh(f"tail -c +5001 {m.there}/f | head -c 5") == "hello"


def test_a_folder_of_10000_files(t, m):
    m.w.sh(f"cd {m.there} && seq 10000 | xargs touch")
    with os.scandir(t) as it:
        entries = list(it)
    assert len(entries) == 10000
    for e in entries:
        assert e.stat(follow_symlinks=False).st_mode & 0o777 == 0o644
    assert len({e.inode() for e in entries}) == 10000
    for e in entries[:500]:
        os.unlink(e.path)
    assert len(os.listdir(t)) == 9500


def test_fsx(t):
    """Random reads, writes, truncations and mappings of a file, compared with a model in memory."""
    rng = random.Random(4711)
    model = bytearray()
    top = 1 << 20
    fd = os.open(t / "f", os.O_CREAT | os.O_RDWR)
    try:
        for step in range(1500):
            op = rng.choice("rrrwwwwtmpRdz")
            off = rng.randrange(top)
            n = rng.choice([1, 100, 4096, 65536, 300000])
            n = min(rng.randrange(1, n + 1), top - off)
            if op == "r":
                assert os.pread(fd, n, off) == bytes(model[off:off + n]), step
            elif op == "w":
                data = rng.randbytes(n)
                assert os.pwrite(fd, data, off) == n
                if len(model) < off + n:
                    model.extend(bytes(off + n - len(model)))
                model[off:off + n] = data
            elif op == "t":
                os.ftruncate(fd, off)
                del model[off:]
                model.extend(bytes(off - len(model)))
            elif op == "m" and len(model) > 0:
                with mmap.mmap(fd, len(model)) as mem:
                    end = min(off + n, len(model))
                    if off < end:
                        data = rng.randbytes(end - off)
                        mem[off:end] = data
                        model[off:end] = data
            elif op == "p" and off + n <= len(model):
                libc = ctypes.CDLL(None, use_errno=True)
                assert libc.fallocate64(fd, 3, ctypes.c_int64(off), ctypes.c_int64(n)) == 0
                model[off:off + n] = bytes(n)
            elif op == "R":
                os.close(fd)
                fd = os.open(t / "f", os.O_RDWR)
            elif op == "d":
                os.fsync(fd)
            elif op == "z":
                assert os.fstat(fd).st_size == len(model), step
        assert os.pread(fd, top + 1, 0) == bytes(model)
    finally:
        os.close(fd)


@pytest.mark.parametrize("load", ["fsx.py", "tree.py"])
def test_random_load_is_as_a_model_says(t, load):
    p = subprocess.run([sys.executable, FS_CASES / load, t, "1500", "42"], capture_output=True, text=True, timeout=120 * SCALE, check=False)
    assert p.returncode == 0 and "no difference" in p.stdout, (p.stdout, p.stderr)


def test_what_posix_promises(t, m):
    """Root has all numbers; another user is called root in a user namespace and has one."""
    root = os.geteuid() == 0
    argv = [*([] if root else ["unshare", "--map-root-user"]), sys.executable, FS_CASES / "posix.py", t]
    p = subprocess.run(argv, capture_output=True, text=True, timeout=300 * SCALE, check=False, env={**os.environ, "WSLX_ONLY_USER_XATTRS": "1"})
    assert cases_failed(p) == set(LESS["mount" if root else "mount-user"])


def test_big_files(t, m):
    data = random.Random(3).randbytes(64 << 20)
    with open(t / "f", "wb") as f:
        f.write(data)
    assert m.w.sh(f"sha256sum < {m.there}/f").split()[0] == hashlib.sha256(data).hexdigest()
    assert (t / "f").read_bytes() == data
    with open(t / "g", "wb") as f:
        f.seek((5 << 30) - 1)
        f.write(b"x")
    assert os.stat(t / "g").st_size == 5 << 30
    with open(t / "g", "rb") as f:
        f.seek((5 << 30) - 1)
        assert f.read() == b"x"


# --- locks ---

def locked_there(m, path, kind="x"):
    """A program in the distribution that holds a lock until its input ends."""
    p = m.w.popen("-d", "deb", "--", f"flock -{kind} {path} sh -c 'echo; cat'", stdin=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "\n"
    return p


def test_flock_excludes_programs_of_the_distribution(t, m):
    (t / "f").touch()
    p = locked_there(m, f"{m.there}/f")
    with open(t / "f") as f:
        with Errno(errno.EAGAIN):
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        p.communicate()
        fcntl.flock(f, fcntl.LOCK_EX)
        with open(t / "f") as g, Errno(errno.EAGAIN):
            fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert m.w.run("-d", "deb", "--", f"flock -n {m.there}/f true").returncode == 1
    assert m.w.run("-d", "deb", "--", f"flock -n {m.there}/f true").returncode == 0


def test_a_lock_is_waited_for(t, m):
    (t / "f").touch()
    p = locked_there(m, f"{m.there}/f")
    w = subprocess.Popen(["flock", t / "f", "echo", "got it"], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        w.wait(0.5)
    p.communicate()
    assert w.communicate(timeout=20 * SCALE)[0] == "got it\n"
    # and given up when interrupted
    p = locked_there(m, f"{m.there}/f")
    w = subprocess.Popen(["flock", t / "f", "true"])
    with pytest.raises(subprocess.TimeoutExpired):
        w.wait(0.5)
    w.terminate()
    assert w.wait(20 * SCALE) == -signal.SIGTERM
    p.communicate()


def test_posix_locks_belong_to_processes(t):
    (t / "f").write_text("x" * 100)
    script = ("import fcntl, sys\nf = open(sys.argv[1], 'r+')\ntry:\n    fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, int(sys.argv[2]))\n"
              "except OSError as e:\n    sys.exit(e.errno)\n")

    def other(start):
        return subprocess.run([sys.executable, "-c", script, t / "f", str(start)], timeout=30 * SCALE, check=False).returncode

    with open(t / "f", "r+") as f, open(t / "f", "r+") as g:
        fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
        fcntl.lockf(g, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)
        assert other(15) == errno.EAGAIN and other(30) == 0
        fcntl.lockf(f, fcntl.LOCK_UN, 5, 20)
        assert other(15) == 0 and other(20) == errno.EAGAIN
        g.close()
        assert other(20) == 0, "closing any descriptor gives the locks up"


# --- ends ---

@pytest.fixture
def own():
    w = world()
    mount = None
    try:
        imported(w)
        w.configure(general_instanceIdleTimeout=1000)
        mount = Mount(w)
        yield mount
    finally:
        if mount:
            mount.close()
        end(w, True)


def test_the_end_of_the_virtual_machine_is_an_error_and_no_hang(own):
    etc = own.folder / "deb/etc"
    assert "passwd" in os.listdir(etc)
    f = open(etc / "passwd", "rb", buffering=0)
    reader = subprocess.Popen(["sh", "-c", f"while cat {own.folder}/deb/usr/bin/* > /dev/null; do :; done"], stderr=subprocess.DEVNULL)
    own.w.kill(own.w.vmm_pids()[0])
    reader.wait(30 * SCALE)
    with Errno(errno.EIO):
        os.pread(f.fileno(), 10, 0)
    with Errno(errno.EIO):
        f.close()
    # What is asked by name starts it again, from where one was.
    assert "passwd" in os.listdir(etc)
    assert (etc / "hostname").exists()


def test_the_end_of_wslx_mount_is_an_error_and_no_hang(own):
    assert "passwd" in os.listdir(own.folder / "deb/etc")
    f = open(own.folder / "deb/etc/passwd", "rb", buffering=0)
    own.p.kill()
    own.p.wait()
    with Errno(errno.ENOTCONN):
        os.listdir(own.folder)
    with Errno(errno.ENOTCONN):
        f.read()
    with Errno(errno.ENOTCONN):
        f.close()
    again = Mount(own.w)
    try:
        assert "passwd" in os.listdir(own.folder / "deb/etc"), "a new one takes the place of what was left"
    finally:
        again.close()


def test_a_mount_that_nobody_uses_lets_a_distribution_stop(own):
    assert "passwd" in os.listdir(own.folder / "deb/etc")
    here = os.open(own.folder / "deb/etc", os.O_PATH)
    wait_for("the distribution to stop", lambda: own.w.list()["deb"]["state"] == "Stopped", 40)
    os.stat("passwd", dir_fd=here)
    os.close(here)
    assert own.w.list()["deb"]["state"] == "Running"


def test_open_files_keep_a_distribution_running(own):
    with open(own.folder / "deb/etc/passwd") as f:
        time.sleep(14)
        assert own.w.list()["deb"]["state"] == "Running"
        assert f.readline().startswith("root:")


def asked(what, *args, **kw):
    """The error of a call, 0 for none, once the connection's end has been noticed."""
    end_at = time.monotonic() + 60 * SCALE
    while True:
        try:
            what(*args, **kw)
            return 0
        except OSError as e:
            if e.errno != errno.EIO or time.monotonic() > end_at:
                return e.errno
        time.sleep(0.2)


def test_a_folder_that_was_replaced_is_not_taken_for_the_new_one(own):
    w, root = own.w, own.folder / "deb/root"
    w.sh("cd /root && mkdir -p app/sub app.new/sub kept && echo old | tee app/config app/sub/c && echo new | tee app.new/config app.new/sub/c && echo x > kept/f")
    app, sub, kept = (os.open(root / d, os.O_PATH) for d in ("app", "app/sub", "kept"))
    try:
        os.stat("config", dir_fd=app)
        os.stat("c", dir_fd=sub)
        w.sh("cd /root && mv app app.old && mv app.new app && sync")
        w.ok("--shutdown")
        assert asked(os.unlink, "config", dir_fd=app) == errno.ESTALE
        for _ in range(2):
            assert asked(os.unlink, "c", dir_fd=sub) == errno.ESTALE
            assert asked(os.mkdir, "made", dir_fd=app) == errno.ESTALE
            assert asked(os.rename, "f", "f", src_dir_fd=kept, dst_dir_fd=app) == errno.ESTALE
        assert w.sh("cd /root && cat app/config app/sub/c app.old/config app.old/sub/c kept/f; ls app") == "new\nnew\nold\nold\nx\nconfig\nsub\n"
        # Those that are still there are, and the path leads to the new one.
        os.stat("f", dir_fd=kept)
        assert (root / "app/config").read_text() == "new\n"
    finally:
        for fd in (app, sub, kept):
            os.close(fd)


def test_folders_that_changed_places_with_what_is_in_them(own):
    w, root = own.w, own.folder / "deb/root"
    w.sh("mkdir -p /root/A/B/C /root/x && mount --bind / /root/x")
    b, x = (os.open(root / d, os.O_PATH) for d in ("A/B", "x"))
    try:
        os.stat("C", dir_fd=b)
        os.listdir(root / "x")
        asked(os.stat, "root", dir_fd=x)
        w.sh("cd /root && mv A/B B && mv A B/A && sync")
        asked(os.stat, "A", dir_fd=b)
        w.ok("--shutdown")
        assert asked(os.stat, "unseen", dir_fd=b) == errno.ESTALE
        asked(os.stat, "unseen", dir_fd=x)
        assert own.p.poll() is None, "wslx-mount has ended"
        assert os.listdir(root / "B/A") == [] and sorted(os.listdir(root / "B")) == ["A", "C"]
        assert own.p.poll() is None, "wslx-mount has ended"
    finally:
        os.close(b)
        os.close(x)


def test_a_way_of_2000_folders_is_walked_again(own):
    # A smaller stack, so that fewer folders would do to overflow it.
    own.close()
    own.p = Mount(own.w, stack=256 << 10).p
    own.w.sh("cd /root && perl -e 'for (1..2000) { mkdir q(d) or die $!; chdir q(d) or die $! }'", timeout=120)
    at = os.open(own.folder / "deb/root", os.O_PATH)
    try:
        for _ in range(2000):
            below = os.open("d", os.O_PATH, dir_fd=at)
            os.close(at)
            at = below
        own.w.ok("--shutdown")
        assert asked(os.stat, "unseen", dir_fd=at) == errno.ENOENT
        assert asked(os.mkdir, "made", dir_fd=at) == 0
    finally:
        os.close(at)
    own.close()
    assert own.p.returncode == 0


# --- from the disk ---

@pytest.fixture
def offline():
    w = world()
    mount = None
    try:
        imported(w)
        w.sh("cd /root && mkdir o && cd o && echo hello > f && ln -s f l && ln f h && seq 5000 | xargs touch && mkdir d && "
             "mkdir m && perl -e 'for (1..4000) { open F, q(>), qq(m/$_) . ($_ % 3 ? q() : q(x) x 240) }' && "
             "head -c 300000 /dev/urandom > d/r && truncate -s 50M d/s && echo end >> d/s && chown 1234:55 d/r && chmod 4751 d/r")
        w.sums = w.sh("cd /root/o && sha256sum d/r d/s f")
        w.ok("--shutdown")
        mount = Mount(w, "--no-start")
        yield mount
    finally:
        if mount:
            mount.close()
        end(w, True)


def test_a_stopped_distribution_is_read_from_its_disk(offline):
    w, o = offline.w, offline.folder / "deb/root/o"
    for line in w.sums.splitlines():
        digest, name = line.split()
        assert hashlib.sha256((o / name).read_bytes()).hexdigest() == digest
    assert w.vmm_pids() == []
    st = os.stat(o / "d/r")
    assert (stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_size) == (0o4751, 1234, 55, 300000)
    assert os.readlink(o / "l") == "f" and os.stat(o / "h").st_nlink == 2 and os.path.samefile(o / "f", o / "h")
    assert len(os.listdir(o)) == 5000 + 5
    with Errno(errno.EROFS):
        (o / "f").write_text("x")
    with Errno(errno.EROFS):
        (o / "new").touch()
    with Errno(errno.EROFS):
        os.unlink(o / "f")
    with open(o / "d/s", "rb") as f:
        assert os.lseek(f.fileno(), 0, os.SEEK_DATA) == 50 << 20
    # When it runs, its files are those that its programs see.
    w.sh("echo changed > /root/o/f; echo more > /root/o/new")
    wait_for("the files of the running one", lambda: (o / "f").read_text() == "changed\n", 10)
    assert (o / "new").read_text() == "more\n"
    (o / "f").write_text("written")
    assert w.sh("cat /root/o/f") == "written"


def test_no_name_of_a_stopped_distribution_is_lost_when_long_and_short_ones_are_mixed(offline):
    names = os.listdir(offline.folder / "deb/root/o/m")
    assert sorted(names) == sorted(str(i) + ("" if i % 3 else "x" * 240) for i in range(1, 4001))
    assert offline.w.vmm_pids() == []


# --- wslx mount ---

def test_enable_status_disable():
    w = world()
    try:
        imported(w)
        assert "in no folder" in w.ok("mount", "--status")
        assert w.ok("mount", "--enable") == f"{w.home}/wslx\n"
        status = json.loads(w.ok("mount", "--status", "--json"))
        assert status == {"mounted": True, "unit": False, "folder": f"{w.home}/wslx"}
        assert os.listdir(w.home / "wslx") == ["deb"]
        assert "passwd" in os.listdir(w.home / "wslx/deb/etc")
        assert (w.run_dir / "wslx/mnt/deb/etc/passwd").exists(), "as wslpath calls it"
        w.fails(125, "mount", "--enable", says="is served already")
        w.ok("mount", "--disable")
        assert "in no folder" in w.ok("mount", "--status")
        w.ok("mount", "--disable")
        w.fails(125, "mount", "--enable", "--nonsense", says="unexpected argument")
    finally:
        w.run("mount", "--disable")
        end(w, True)
