#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What POSIX and Linux promise of a file system, as root in a folder: posix.py FOLDER [WORDS...]. Prints TAP.

Each case has a fresh folder. Programs of other users are children that change their ids. Python's standard library only, so that it
runs in a distribution as well.
"""
import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import signal
import socket
import stat
import struct
import sys
import time

CASES = []
libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
AT_FDCWD = -100


def case(fn):
    CASES.append(fn)
    return fn


def fails(error, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == error, f"{errno.errorcode.get(e.errno)} instead of {errno.errorcode[error]}"
        return
    raise AssertionError(f"worked instead of {errno.errorcode[error]}")


def put(path, data=b"", mode=0o644):
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, mode)
    os.write(fd, data)
    os.close(fd)


def get(path):
    with open(path, "rb") as f:
        return f.read()


def perm(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def rename2(old, new, flags):
    if libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags) < 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def as_user(uid, gid, fn, groups=()):
    """Runs fn in a process of that user's; what it raises is raised here."""
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if (uid, gid) != (0, 0):
                os.setgroups(groups)
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
            fn()
            os._exit(0)
        except OSError as e:
            os.write(w, struct.pack("i", e.errno))
            os._exit(1)
        except BaseException as e:  # noqa: B902
            os.write(2, f"# {e!r}\n".encode())
            os._exit(2)
    os.close(w)
    got = os.read(r, 4)
    os.close(r)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if got:
        raise OSError(struct.unpack("i", got)[0], "in the child")
    assert status == 0, f"the child ended with {status}"


# --- names ---

@case
def open_makes_a_file_with_its_mode():
    os.umask(0o027)
    put("a", b"x", 0o666)
    os.mkdir("d", 0o777)
    os.umask(0)
    assert perm("a") == 0o640 and perm("d") == 0o750
    st = os.lstat("a")
    assert st.st_nlink == 1 and st.st_size == 1 and st.st_uid == 0


@case
def exclusive_creation_meets_what_is_there():
    put("a")
    os.symlink("nowhere", "l")
    fails(errno.EEXIST, os.open, "a", os.O_CREAT | os.O_EXCL)
    fails(errno.EEXIST, os.open, "l", os.O_CREAT | os.O_EXCL)
    fails(errno.EEXIST, os.mkdir, "a")


@case
def names_have_limits():
    put("x" * 255)
    fails(errno.ENAMETOOLONG, put, "x" * 256)
    fails(errno.ENAMETOOLONG, os.stat, "x" * 256)
    fails(errno.ENAMETOOLONG, os.mkdir, "y" * 256)
    assert os.listdir(".") == ["x" * 255]


@case
def names_are_any_bytes():
    names = {bytes([c]) for c in range(1, 256) if c not in b"/."} | {b"\xff\xfe", b" ", b"a\nb", "ü€".encode()}
    for n in names:
        put(n, n)
    assert set(os.listdir(b".")) == names
    for n in names:
        assert get(n) == n


@case
def not_a_folder_and_not_there():
    put("a")
    fails(errno.ENOTDIR, os.stat, "a/b")
    fails(errno.ENOENT, os.stat, "b/c")
    fails(errno.ENOENT, os.unlink, "b")
    fails(errno.ENOTDIR, os.rmdir, "a")
    os.mkdir("d")
    fails(errno.EISDIR, os.unlink, "d")
    fails(errno.EISDIR, os.open, "d", os.O_WRONLY)
    put("d/x")
    fails(errno.ENOTEMPTY, os.rmdir, "d")


@case
def a_deep_path_works():
    here = os.getcwd()
    for _ in range(300):
        os.mkdir("deep")
        os.chdir("deep")
    put("end", b"1")
    assert get("end") == b"1"
    os.chdir(here)
    p = "/".join(["deep"] * 300)
    assert get(p + "/end") == b"1"
    shutil.rmtree("deep")


@case
def hard_links_are_one_file():
    put("a", b"1")
    os.link("a", "b")
    assert os.stat("a").st_nlink == 2 and os.stat("a").st_ino == os.stat("b").st_ino
    with open("b", "ab") as f:
        f.write(b"2")
    assert get("a") == b"12"
    os.unlink("a")
    assert get("b") == b"12" and os.stat("b").st_nlink == 1
    os.link("b", "c")
    os.unlink("b")
    os.chmod("c", 0o600)
    assert get("c") == b"12" and perm("c") == 0o600
    os.mkdir("d")
    fails(errno.EPERM, os.link, "d", "e")
    fails(errno.EEXIST, os.link, "c", "d")


@case
def links_keep_their_text():
    long = "x/" * 2000
    os.symlink(long, "l")
    assert os.readlink("l") == long and os.lstat("l").st_size == 4000
    os.symlink("l2", "l1")
    os.symlink("l1", "l2")
    fails(errno.ELOOP, os.stat, "l1")
    fails(errno.EEXIST, os.symlink, "y", "l")
    put("a", b"z")
    os.symlink("a", "to-a")
    os.link("to-a", "to-a-2", follow_symlinks=False)
    assert os.path.islink("to-a-2") and get("to-a-2") == b"z"
    os.lchown("to-a", 7, 8)
    assert os.lstat("to-a").st_uid == 7 and os.stat("a").st_uid == 0
    os.utime("to-a", ns=(5, 6), follow_symlinks=False)
    assert os.lstat("to-a").st_mtime_ns == 6


@case
def special_files_of_all_kinds():
    os.mkfifo("p", 0o600)
    os.mknod("c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod("b", stat.S_IFBLK | 0o600, os.makedev(259, 1234567 & 0xfffff))
    s = socket.socket(socket.AF_UNIX)
    s.bind("s")
    assert stat.S_ISFIFO(os.lstat("p").st_mode) and stat.S_ISSOCK(os.lstat("s").st_mode)
    assert os.lstat("c").st_rdev == os.makedev(1, 3) and os.lstat("b").st_rdev == os.makedev(259, 1234567 & 0xfffff)
    r = os.open("p", os.O_RDWR)
    os.write(r, b"x")
    assert os.read(r, 1) == b"x"
    os.close(r)
    c = socket.socket(socket.AF_UNIX)
    fails(errno.ECONNREFUSED, c.connect, "s")
    s.listen()
    c.connect("s")


# --- rename ---

@case
def rename_replaces():
    put("a", b"a")
    put("b", b"b")
    fd = os.open("b", os.O_RDONLY)
    os.rename("a", "b")
    assert get("b") == b"a" and os.read(fd, 9) == b"b" and os.fstat(fd).st_nlink == 0
    fails(errno.ENOENT, os.stat, "a")
    os.mkdir("d")
    os.mkdir("e")
    put("e/x")
    fails(errno.ENOTEMPTY, os.rename, "d", "e")
    fails(errno.EISDIR, os.rename, "b", "d")
    fails(errno.ENOTDIR, os.rename, "d", "b")
    fails(errno.EINVAL, os.rename, "e", "e/f")
    os.rename("e", "d")
    assert os.listdir("d") == ["x"]


@case
def rename_moves_trees():
    os.makedirs("a/b/c")
    put("a/b/c/f", b"1")
    os.mkdir("z")
    fd = os.open("a/b", os.O_RDONLY)
    os.rename("a/b", "z/b")
    assert get("z/b/c/f") == b"1" and os.listdir(fd) == ["c"]
    put("z/b/g", b"2")
    os.rename("z", "y")
    assert get("y/b/g") == b"2" and get("y/b/c/f") == b"1"
    assert os.stat("y/b/..").st_ino == os.stat("y").st_ino
    d = os.open("g2", os.O_RDONLY | os.O_CREAT, dir_fd=fd)
    assert sorted(os.listdir("y/b")) == ["c", "g", "g2"]
    os.close(d)


@case
def rename_flags():
    put("a", b"a")
    put("b", b"b")
    rename2("a", "b", EXCHANGE)
    assert get("a") == b"b" and get("b") == b"a"
    fails(errno.EEXIST, rename2, "a", "b", NOREPLACE)
    rename2("a", "c", NOREPLACE)
    assert get("c") == b"b"
    os.makedirs("d/x")
    put("d/x/f", b"f")
    rename2("d/x", "c", EXCHANGE)
    assert get("c/f") == b"f" and get("d/x") == b"b"
    fails(errno.ENOENT, rename2, "c", "nothing", EXCHANGE)


@case
def rename_onto_the_same_file_changes_nothing():
    put("a", b"1")
    os.link("a", "b")
    os.rename("a", "b")
    assert get("a") == b"1" and get("b") == b"1" and os.stat("a").st_nlink == 2
    os.chmod("a", 0o600)
    os.chmod("b", 0o640)
    assert perm("a") == 0o640


@case
def a_lower_case_name_becomes_an_upper_case_one():
    put("a", b"1")
    os.rename("a", "A")
    assert os.listdir(".") == ["A"] and get("A") == b"1"


# --- what is open stays ---

@case
def an_open_file_outlives_its_name():
    fd = os.open("a", os.O_CREAT | os.O_RDWR, 0o600)
    os.write(fd, b"12345")
    os.unlink("a")
    assert os.fstat(fd).st_nlink == 0 and os.fstat(fd).st_size == 5
    os.ftruncate(fd, 3)
    os.fchmod(fd, 0o640)
    os.fchown(fd, 3, 4)
    os.utime(fd, ns=(10, 20))
    st = os.fstat(fd)
    assert (st.st_size, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns) == (3, 0o640, 3, 4, 20)
    os.setxattr(fd, "user.x", b"1")
    assert os.getxattr(fd, "user.x") == b"1"
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert os.read(again, 9) == b"123"
    put("a", b"other")
    assert os.pread(fd, 9, 0) == b"123" and get("a") == b"other"


@case
def a_folder_one_is_in_can_go():
    os.mkdir("d")
    fd = os.open("d", os.O_RDONLY)
    os.rmdir("d")
    assert os.listdir(fd) == []
    fails(errno.ENOENT, os.open, "x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)


@case
def a_file_without_a_name_gets_one():
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(fd, b"1")
    assert os.listdir(".") == [] and os.fstat(fd).st_nlink == 0
    assert libc.linkat(AT_FDCWD, f"/proc/self/fd/{fd}".encode(), AT_FDCWD, b"a", 0x400) == 0, ctypes.get_errno()
    assert get("a") == b"1" and perm("a") == 0o640
    os.close(fd)
    assert get("a") == b"1"


# --- content ---

@case
def append_goes_to_the_end():
    a = os.open("a", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    b = os.open("a", os.O_WRONLY | os.O_APPEND)
    for i in range(50):
        os.write(a, b"a%02d\n" % i)
        os.write(b, b"b%02d\n" % i)
    assert get("a") == b"".join(b"a%02d\nb%02d\n" % (i, i) for i in range(50))


@case
def truncate_both_ways():
    put("a", b"x" * 10000)
    os.truncate("a", 5)
    os.truncate("a", 8192)
    assert get("a") == b"xxxxx" + bytes(8187)
    put("a", b"new")
    assert get("a") == b"new"
    fails(errno.EINVAL, os.truncate, "a", -1)


@case
def holes_are_holes():
    fd = os.open("a", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(fd, b"x" * 4096, 0)
    os.pwrite(fd, b"y" * 4096, 1 << 20)
    os.fsync(fd)
    assert os.fstat(fd).st_size == (1 << 20) + 4096
    assert os.lseek(fd, 0, os.SEEK_HOLE) <= 65536
    assert os.lseek(fd, 65536 * 2, os.SEEK_DATA) > 65536 * 2
    fails(errno.ENXIO, os.lseek, fd, 1 << 30, os.SEEK_DATA)
    assert os.pread(fd, 10, 500000) == bytes(10)
    assert os.fstat(fd).st_blocks * 512 < 1 << 19


@case
def fallocate_makes_and_punches():
    fd = os.open("a", os.O_CREAT | os.O_RDWR, 0o600)
    os.posix_fallocate(fd, 0, 100000)
    assert os.fstat(fd).st_size == 100000 and os.fstat(fd).st_blocks >= 190
    os.pwrite(fd, b"x" * 100000, 0)
    os.fsync(fd)
    assert libc.fallocate(fd, 3, ctypes.c_long(8192), ctypes.c_long(65536)) == 0  # PUNCH_HOLE | KEEP_SIZE
    assert os.pread(fd, 4, 8192) == bytes(4) and os.pread(fd, 4, 8188) == b"xxxx" and os.fstat(fd).st_size == 100000


@case
def copies_within_the_file_system():
    data = os.urandom(300000)
    put("a", data)
    i, o = os.open("a", os.O_RDONLY), os.open("b", os.O_CREAT | os.O_WRONLY, 0o600)
    done = 0
    while done < len(data):
        n = os.copy_file_range(i, o, len(data) - done)
        assert n > 0
        done += n
    assert get("b") == data


@case
def mmap_and_write_agree():
    put("a", b"a" * 8192)
    with open("a", "r+b") as f:
        m = mmap.mmap(f.fileno(), 8192)
        m[0:4] = b"mmap"
        assert os.pread(f.fileno(), 4, 0) == b"mmap"
        os.pwrite(f.fileno(), b"write", 4096)
        assert m[4096:4101] == b"write"
        m.flush()
        m.close()
    assert get("a")[:4] == b"mmap"


@case
def large_offsets():
    fd = os.open("a", os.O_CREAT | os.O_RDWR, 0o600)
    os.pwrite(fd, b"end", (1 << 40) - 3)
    assert os.fstat(fd).st_size == 1 << 40 and os.pread(fd, 9, (1 << 40) - 3) == b"end"


@case
def large_reads_and_writes():
    data = os.urandom(3 << 20)
    put("a", data)
    assert get("a") == data
    fd = os.open("a", os.O_RDWR | os.O_DIRECT)
    m = mmap.mmap(-1, 1 << 20)
    assert os.preadv(fd, [m], 1 << 20) == 1 << 20 and m[:] == data[1 << 20:2 << 20]
    m[:] = bytes(1 << 20)
    assert os.pwritev(fd, [m], 0) == 1 << 20
    assert get("a")[:1 << 20] == bytes(1 << 20)


@case
def modes_of_open_are_kept():
    put("a", b"1")
    r, w = os.open("a", os.O_RDONLY), os.open("a", os.O_WRONLY)
    fails(errno.EBADF, os.write, r, b"x")
    fails(errno.EBADF, os.read, w, 1)
    fails(errno.EINVAL, os.ftruncate, r, 0)
    os.chmod("a", 0)
    assert os.read(r, 1) == b"1" and os.write(w, b"2") == 1


# --- times ---

@case
def times_change_when_they_should():
    put("a", b"1")
    os.utime("a", ns=(1_000_000_007, 2_000_000_009))
    st = os.stat("a")
    assert (st.st_atime_ns, st.st_mtime_ns) == (1_000_000_007, 2_000_000_009)
    time.sleep(0.05)
    with open("a", "ab") as f:
        f.write(b"2")
    assert os.stat("a").st_mtime_ns > 3_000_000_000
    ctime = os.stat("a").st_ctime_ns
    time.sleep(0.05)
    os.chmod("a", 0o600)
    assert os.stat("a").st_ctime_ns > ctime
    os.utime("a", ns=(0, -5_000_000_000))
    assert os.stat("a").st_mtime == -5
    os.mkdir("d")
    os.utime("d", ns=(0, 0))
    put("d/x")
    assert os.stat("d").st_mtime_ns > 0
    ctime = os.stat("d/x").st_ctime_ns
    time.sleep(0.05)
    os.link("d/x", "d/y")
    assert os.stat("d/x").st_ctime_ns > ctime


# --- permissions ---

@case
def the_umask_and_modes_of_other_users():
    os.chmod(".", 0o777)

    def work():
        os.umask(0o022)
        put("mine", b"1", 0o666)
        os.mkdir("dir", 0o777)
        os.symlink("x", "link")
        os.mkfifo("fifo")
        fails(errno.EPERM, os.chown, "mine", 0, -1)
        fails(errno.EPERM, os.mknod, "dev", stat.S_IFCHR, os.makedev(1, 3))
    as_user(4711, 4712, work)
    for name in ("mine", "dir", "link", "fifo"):
        st = os.lstat(name)
        assert (st.st_uid, st.st_gid) == (4711, 4712), name
    assert perm("mine") == 0o644 and perm("dir") == 0o755


@case
def what_a_user_may_not():
    os.chmod(".", 0o755)
    put("secret", b"1", 0o600)
    put("public", b"1", 0o644)
    os.mkdir("closed", 0o700)
    put("closed/x")

    def work():
        assert get("public") == b"1"
        for e, fn, *args in [(errno.EACCES, os.open, "secret", os.O_RDONLY), (errno.EACCES, os.open, "public", os.O_WRONLY),
                             (errno.EACCES, os.stat, "closed/x"), (errno.EACCES, os.listdir, "closed"),
                             (errno.EACCES, put, "new"), (errno.EACCES, os.unlink, "public"), (errno.EPERM, os.chmod, "public", 0),
                             (errno.EACCES, os.rename, "public", "p2"), (errno.EACCES, os.mkdir, "n"),
                             (errno.EACCES, os.truncate, "public", 0), (errno.EPERM, os.utime, "public", (1, 1))]:
            fails(e, fn, *args)
    as_user(4711, 4712, work)


@case
def groups_count():
    put("a", b"1", 0o640)
    os.chown("a", 0, 555)
    as_user(4711, 4712, lambda: fails(errno.EACCES, get, "a"))
    as_user(4711, 4712, lambda: get("a"), groups=[555])
    os.mkdir("d")
    os.chown("d", 0, 555)
    os.chmod("d", 0o2775)
    as_user(4711, 4712, lambda: put("d/x"), groups=[555])
    as_user(4711, 4712, lambda: os.mkdir("d/s"), groups=[555])
    assert os.stat("d/x").st_gid == 555 and os.stat("d/s").st_gid == 555 and os.stat("d/s").st_mode & stat.S_ISGID


@case
def the_sticky_bit():
    os.mkdir("t")
    os.chmod("t", 0o1777)
    as_user(4711, 4711, lambda: put("t/a"))
    as_user(4712, 4712, lambda: fails(errno.EPERM, os.unlink, "t/a"))
    as_user(4712, 4712, lambda: fails(errno.EPERM, os.rename, "t/a", "t/b"))
    as_user(4711, 4711, lambda: os.unlink("t/a"))


@case
def writing_takes_set_uid_away():
    for how in ("write", "truncate", "open"):
        put("a", b"1")
        os.chown("a", 4711, 4712)
        os.chmod("a", 0o6777)
        assert perm("a") == 0o6777

        def work():
            if how == "write":
                fd = os.open("a", os.O_WRONLY)
                os.write(fd, b"2")
                os.close(fd)
            elif how == "truncate":
                os.truncate("a", 0)
            else:
                os.close(os.open("a", os.O_WRONLY | os.O_TRUNC))
        os.chmod(".", 0o777)
        as_user(5000, 5000, work)
        assert perm("a") == 0o777, (how, oct(perm("a")))
        os.unlink("a")


@case
def chown_takes_set_uid_away():
    put("a")
    os.chmod("a", 0o6755)
    os.chown("a", 1, 1)
    assert perm("a") == 0o755
    os.mkdir("d")
    os.chmod("d", 0o2755)
    os.chown("d", 1, 1)
    assert perm("d") == 0o2755


@case
def chmod_by_who_is_not_in_the_group_loses_set_gid():
    put("a")
    os.chown("a", 4711, 999)
    os.chmod(".", 0o777)
    as_user(4711, 4712, lambda: os.chmod("a", 0o2755))
    assert perm("a") == 0o755
    as_user(4711, 4712, lambda: os.chmod("a", 0o2755), groups=[999])
    assert perm("a") == 0o2755


# --- attributes, ACLs ---

@case
def extended_attributes():
    put("a")
    assert os.listxattr("a") == []
    fails(errno.ENODATA, os.getxattr, "a", "user.x")
    os.setxattr("a", "user.x", b"1", os.XATTR_CREATE)
    fails(errno.EEXIST, os.setxattr, "a", "user.x", b"1", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "a", "user.y", b"1", os.XATTR_REPLACE)
    os.setxattr("a", "user.empty", b"")
    big = os.urandom(3000)
    os.setxattr("a", "user.big", big)
    assert os.getxattr("a", "user.big") == big and os.getxattr("a", "user.empty") == b""
    assert sorted(os.listxattr("a")) == ["user.big", "user.empty", "user.x"]
    os.removexattr("a", "user.big")
    fails(errno.ENODATA, os.removexattr, "a", "user.big")
    os.mkdir("d")
    os.setxattr("d", "user.d", b"1")
    assert os.listxattr("d") == ["user.d"]
    os.setxattr("a", "trusted.t", b"1") if not ONLY_USER_XATTRS else None


def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)


@case
def access_control_lists():
    none = 0xffffffff
    put("a", b"1", 0o600)
    rule = acl((1, 6, none), (2, 4, 4711), (4, 0, none), (0x10, 4, none), (0x20, 0, none))
    os.setxattr("a", "system.posix_acl_access", rule)
    assert os.getxattr("a", "system.posix_acl_access") == rule and perm("a") == 0o640
    as_user(4711, 1, lambda: get("a"))
    as_user(4713, 1, lambda: fails(errno.EACCES, get, "a"))
    os.mkdir("d")
    default = acl((1, 7, none), (2, 7, 4711), (4, 5, none), (0x10, 7, none), (0x20, 0, none))
    os.setxattr("d", "system.posix_acl_default", default)
    os.umask(0o077)
    put("d/x", b"", 0o666)
    os.umask(0)
    assert b"" != os.getxattr("d/x", "system.posix_acl_access")
    assert perm("d/x") == 0o660, oct(perm("d/x"))


# --- locks ---

@case
def locks_of_both_kinds():
    put("a", b"x" * 100)
    fd = os.open("a", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 0)

    def other():
        o = os.open("a", os.O_RDWR)
        fails(errno.EAGAIN, fcntl.lockf, o, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 5)
        fcntl.lockf(o, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 10)
    as_user(0, 0, other)
    g = os.open("a", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fails(errno.EAGAIN, fcntl.flock, g, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    fcntl.flock(g, fcntl.LOCK_SH | fcntl.LOCK_NB)
    os.close(fd)
    os.close(g)
    as_user(0, 0, lambda: fcntl.lockf(os.open("a", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 0))


@case
def a_lock_that_is_waited_for():
    put("a", b"x")
    fd = os.open("a", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        o = os.open("a", os.O_RDWR)
        os.write(w, b"1")
        fcntl.lockf(o, fcntl.LOCK_EX)
        os.write(w, b"2")
        os._exit(0)
    assert os.read(r, 1) == b"1"
    time.sleep(0.05)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    assert os.read(r, 1) == b"2"
    os.waitpid(pid, 0)


# --- folders ---

@case
def a_folder_of_many_is_listed_whole():
    names = {f"file-{i:05}-{'x' * (i % 50)}" for i in range(3000)}
    os.mkdir("d")
    for n in names:
        put(f"d/{n}")
    assert set(os.listdir("d")) == names
    with os.scandir("d") as it:
        assert {e.name for e in it if e.stat().st_size == 0} == names
    half = sorted(names)[::2]
    for n in half:
        os.unlink(f"d/{n}")
    assert set(os.listdir("d")) == names - set(half)
    shutil.rmtree("d")
    assert os.listdir(".") == []


@case
def a_folder_changes_while_it_is_read():
    os.mkdir("d")
    for i in range(500):
        put(f"d/{i}")
    seen = []
    with os.scandir("d") as it:
        for n, e in enumerate(it):
            seen.append(e.name)
            if n % 10 == 0:
                put(f"d/new{n}")
            if n % 3 == 0:
                os.unlink(e.path)
    assert {str(i) for i in range(500)} <= set(seen) and len(seen) == len(set(seen))


@case
def nlink_of_folders():
    os.mkdir("d")
    base = os.stat("d").st_nlink
    os.mkdir("d/e")
    assert os.stat("d").st_nlink in (base, base + 1)
    assert os.stat("d/e/..").st_ino == os.stat("d").st_ino


@case
def the_file_system_itself():
    st = os.statvfs(".")
    assert st.f_namemax == 255 and st.f_blocks > 0 and st.f_bsize >= 512
    fd = os.open(".", os.O_RDONLY)
    os.fsync(fd)
    assert libc.syncfs(fd) == 0


def too_long(_signal, _frame):
    raise TimeoutError("it takes too long")


def main():
    global ONLY_USER_XATTRS
    top = os.path.abspath(sys.argv[1])
    words = sys.argv[2:]
    ONLY_USER_XATTRS = "WSLX_ONLY_USER_XATTRS" in os.environ
    os.umask(0)
    seconds = int(os.environ.get("WSLX_CASE_SECONDS", "120"))
    signal.signal(signal.SIGALRM, too_long)
    bad = n = 0
    for fn in CASES:
        if words and not any(w in fn.__name__ for w in words):
            continue
        n += 1
        where = f"{top}/case-{fn.__name__[:60]}"
        os.mkdir(where)
        os.chdir(where)
        signal.alarm(seconds)
        try:
            fn()
            print(f"ok {n} - {fn.__name__}", flush=True)
        except BaseException as e:  # noqa: B902
            bad += 1
            tb = e.__traceback__
            while tb.tb_next and tb.tb_next.tb_frame.f_code.co_filename == __file__:
                tb = tb.tb_next
            print(f"not ok {n} - {fn.__name__}: line {tb.tb_lineno}: {type(e).__name__}: {e}", flush=True)
        signal.alarm(0)
        os.umask(0)
        os.chdir(top)
        shutil.rmtree(where, ignore_errors=True)
    print(f"1..{n}")
    return bad != 0


sys.exit(main())
