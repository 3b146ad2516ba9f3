# SPDX-License-Identifier: MIT
"""Files of the host in a distribution: /mnt/host, [automount] of wsl.conf, mount.drvfs, and what happens when the server dies."""
import contextlib
import ctypes
import mmap
import os
import pathlib
import resource
import select
import signal
import subprocess
import tempfile

import pytest
from conftest import BUILD, ENGINE, FS_CASES, SCALE, cases_failed, imported, real_only, wait_for
from less import LESS

pytestmark = real_only


@pytest.fixture
def folder(wslx, tmp_path):
    """A folder of this host, and what it is called in the distribution."""
    return tmp_path, f"/mnt/host{tmp_path}"


def test_a_file_of_the_host_is_read_and_written(wslx, folder):
    here, there = folder
    (here / "from-host").write_text("hello\n")
    assert wslx.sh(f"cat {there}/from-host; echo back >{there}/from-guest; mkdir {there}/d; ln -s d {there}/l; ls -1 {there}") == \
        "hello\nd\nfrom-guest\nfrom-host\nl\n"
    assert (here / "from-guest").read_text() == "back\n"
    assert os.readlink(here / "l") == "d"


def conf(w, text):
    w.ok("-d", "deb", "-u", "root", "--", "cat >/etc/wsl.conf", input=text)
    w.ok("--terminate", "deb")


@pytest.fixture
def deb(wslx):
    yield wslx
    wslx.ok("-d", "deb", "-u", "root", "--", "rm -f /etc/wsl.conf")
    wslx.ok("--terminate", "deb")


def test_automount_by_wsl_conf(deb, tmp_path):
    (tmp_path / "f").write_text("1")
    (tmp_path / "f").chmod(0o666)
    conf(deb, '[automount]\nroot=/h\noptions="metadata,fmask=111,umask=22,case=dir"\n')
    assert deb.sh(f"stat -c %a /h/host{tmp_path}/f; ls -A /mnt/host 2>/dev/null | wc -l") == "644\n0\n"
    conf(deb, "[automount]\nenabled=false\n")
    assert deb.sh("grep -c ' /mnt/host ' /proc/mounts || true") == "0\n"
    conf(deb, "[automount]\noptions=colour=red\n")
    p = deb.run("-d", "deb", "--", "true")
    assert p.returncode == 0 and 'there is no share "host" with options "colour=red' in p.stderr


def test_mount_drvfs(wslx, folder):
    here, _ = folder
    (here / "d").mkdir()
    (here / "d/f").write_text("x\n")
    wslx.ok("-d", "deb", "-u", "root", "--", f"mkdir -p /opt/x && mount -t drvfs {here}/d /opt/x -o ro,fmask=077")
    assert wslx.ok("-d", "deb", "-u", "root", "--", "stat -c %a /opt/x/f; touch /opt/x/g 2>&1; umount /opt/x").splitlines() == \
        ["600", "touch: cannot touch '/opt/x/g': Read-only file system"]
    p = wslx.run("-d", "deb", "-u", "root", "--", "mount -t drvfs C: /opt/x")
    assert p.returncode == 32 and "a folder of the host by its full path is needed" in p.stderr


def test_files_come_back_when_their_server_dies(wslx, folder):
    here, there = folder
    (here / "f").write_text("1\n")
    assert wslx.sh(f"cat {there}/f") == "1\n"
    old = wslx.fsd_pids()
    assert len(old) == 1
    wslx.kill(old[0], signal.SIGKILL)
    wait_for("another server", lambda: wslx.fsd_pids() not in ([], old))
    (here / "f").write_text("22\n")
    assert wslx.sh(f"cat {there}/f; echo new >{there}/g; cat {there}/g") == "22\nnew\n"


def test_another_server_cannot_be_started_at_once(empty, tmp_path):
    """As when there is no memory for one, or while it is being installed."""
    w, fsd = empty, tmp_path / "fsd"
    fsd.symlink_to(BUILD / "fsd/wslx-fsd")
    w.env["WSLX_FSD"] = str(fsd)
    imported(w)
    (tmp_path / "f").write_text("1\n")
    assert w.sh(f"cat /mnt/host{tmp_path}/f") == "1\n"
    fsd.unlink()
    old = w.fsd_pids()
    w.kill(old[0])
    wait_for("a try", lambda: "the host's files" in (w.data / "wslxd.log").read_text())
    fsd.symlink_to(BUILD / "fsd/wslx-fsd")
    wait_for("another server", lambda: w.fsd_pids() not in ([], old))
    assert w.sh(f"cat /mnt/host{tmp_path}/f") == "1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_the_host_can_unmount_what_a_distribution_has_looked_at(wslx, folder):
    here, there = folder
    (here / "stick").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "stick", here / "stick"], check=True)
    try:
        assert wslx.sh(f"mkdir -p {there}/stick/a/b; echo x >{there}/stick/a/b/f; ls -R {there}/stick >/dev/null; cat {there}/stick/a/b/f") == "x\n"
        wait_for("an unmount", lambda: subprocess.run(["umount", here / "stick"], capture_output=True, check=False).returncode == 0)
    finally:
        subprocess.run(["umount", "-l", here / "stick"], capture_output=True, check=False)
    assert wslx.sh(f"ls {there}/stick") == ""


@pytest.fixture
def hung(tmp_path):
    """A file system of the host whose server never answers, as that of a network that is down; until it is called."""
    (tmp_path / "hung").mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"hung", os.fsencode(tmp_path / "hung"), b"fuse", 0, f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()) < 0:
        raise OSError(ctypes.get_errno(), "mount")
    end = contextlib.ExitStack()
    end.callback(subprocess.run, ["umount", "-l", tmp_path / "hung"], check=True)
    end.callback(os.close, fd)
    with end:
        yield end.close


def waits_in_fuse(pid):
    """How many of its threads."""
    return sum("fuse" in (t / "wchan").read_text() or "request_wait" in (t / "wchan").read_text()
               for t in pathlib.Path(f"/proc/{pid}/task").iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_file_system_of_the_host_that_hangs_stops_no_other(wslx, folder, hung):
    here, there = folder
    (here / "d").mkdir()
    (here / "d/f").write_text("1\n")
    wslx.sh("true")
    stuck = [wslx.popen("-d", "deb", "--", f"ls {there}/hung") for _ in range(3)]
    wait_for("the server to hang", lambda: waits_in_fuse(wslx.fsd_pids()[0]) >= 1)
    assert wslx.sh(f"cat {there}/d/f; echo 2 >{there}/d/g; sync {there}/d/g; cat {there}/d/g; ls {there}/d", timeout=60) == "1\n2\nf\ng\n"
    assert all(p.poll() is None for p in stuck)
    hung()
    # with an error, or with what is there without it
    for p in stuck:
        p.communicate(timeout=60)
    assert wslx.sh(f"ls {there}/hung; cat {there}/d/f") == "1\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_machine_ends_though_a_file_system_of_the_host_hangs(wslx, folder, hung):
    there = folder[1]
    wslx.sh("true")
    fsd = wslx.fsd_pids()[0]
    stuck = wslx.popen("-d", "deb", "--", f"ls {there}/hung")
    wait_for("the server to hang", lambda: waits_in_fuse(fsd) >= 1)
    # not after the minute and a half that a machine has that does not answer any more
    wslx.ok("--shutdown", timeout=85)
    wait_for("the server to end", lambda: fsd not in wslx.fsd_pids(), 30)
    stuck.communicate(timeout=60)
    assert wslx.sh(f"ls -d {there}") == f"{there}\n"


def test_the_hosts_kernel_is_not_reached_through_its_files(wslx):
    """As root on the host, /mnt/host/proc/PID/mem of the server itself could be written."""
    assert wslx.ok("-d", "deb", "-u", "root", "--", "ls -ld /mnt/host/proc /mnt/host/sys | wc -l") == "2\n"
    for touch in ("cat /mnt/host/proc/self/mem", "cat /mnt/host/proc/sys/kernel/core_pattern", "ls /mnt/host/proc", "ls /mnt/host/sys"):
        p = wslx.run("-d", "deb", "-u", "root", "--", touch)
        assert p.returncode != 0 and p.stdout == "" and "Permission denied" in p.stderr, (touch, p)


def test_the_server_outlives_the_service(wslx, folder):
    here, there = folder
    wslx.sh("true")
    old = wslx.fsd_pids()
    wslx.kill(wslx.service_pid())
    assert wslx.sh(f"echo 1 >{there}/f; cat {there}/f") == "1\n"
    assert wslx.fsd_pids() == old
    wslx.kill(old[0], signal.SIGKILL)
    wait_for("another server", lambda: wslx.fsd_pids() not in ([], old))
    assert wslx.sh(f"echo 2 >{there}/f; cat {there}/f") == "2\n"


def test_a_file_that_is_larger_than_the_user_may_have(wslx, folder):
    """ulimit -f, of the shell that started the service."""
    here, there = folder
    wslx.sh("true")
    fsd = wslx.fsd_pids()
    soft, hard = resource.prlimit(fsd[0], resource.RLIMIT_FSIZE)
    resource.prlimit(fsd[0], resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        out = wslx.sh(f"cd {there}; exec 2>&1; head -c 2M /dev/zero >big; truncate -s 2M sparse; fallocate -l 2M room; echo 1 >f; cat f")
        assert out.count("File too large") == 3 and out.endswith("\n1\n"), out
        assert wslx.fsd_pids() == fsd and (here / "big").stat().st_size <= 1 << 20
    finally:
        resource.prlimit(fsd[0], resource.RLIMIT_FSIZE, (soft, hard))


def test_the_server_can_open_nothing_else(wslx, tmp_path):
    """Its sandbox, as the kernel sees it."""
    wslx.sh("true")
    status = pathlib.Path(f"/proc/{wslx.fsd_pids()[0]}/status").read_text()
    assert "Seccomp:\t2\n" in status and "NoNewPrivs:\t1\n" in status


def test_nothing_is_shared_when_the_host_says_so(fresh, tmp_path):
    fresh.configure(wsl2_hostFileSystemAccess="false")
    assert fresh.sh("grep -c virtiofs /proc/mounts; ls /mnt; true") == "0\nwsl\n"
    assert fresh.fsd_pids() == []
    p = fresh.run("-d", "deb", "-u", "root", "--", "mkdir -p /opt/x && mount -t drvfs /tmp /opt/x")
    assert p.returncode == 32 and "hostFileSystemAccess" in p.stderr


def test_only_a_folder_is_shared(fresh, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/f").write_text("1")
    (tmp_path / "out").write_text("secret")
    os.symlink("../out", tmp_path / "in/l")
    os.symlink(tmp_path / "out", tmp_path / "in/abs")
    fresh.configure(wslx_hostFolder=tmp_path / "in", wslx_hostFolderOptions="ro")
    assert fresh.sh("cd /mnt/host && ls; cat l abs ../out 2>&1 | grep -c secret; touch f 2>&1; true").splitlines()[:4] == \
        ["abs", "f", "l", "0"]


def test_two_distributions_see_the_same_files(fresh, tmp_path):
    """A second mount of one virtio-fs device can get one of its shares for its root."""
    fresh.import_deb("other")
    (tmp_path / "f").write_text("1")
    there = f"/mnt/host{tmp_path}"
    sleeper = fresh.popen("-d", "deb", "--", f"echo 2 >{there}/f; sleep 100")
    wait_for("the first distribution", lambda: (tmp_path / "f").read_text() == "2\n")
    assert fresh.ok("-d", "other", "--", f"cat {there}/f; echo 3 >{there}/g") == "2\n"
    assert fresh.sh(f"cat {there}/g") == "3\n"
    sleeper.kill()
    sleeper.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_what_posix_promises(work, tmp_path):
    """As root on the host, with real owners; without root, tests/fs has the squashed ones."""
    p = work.run("-d", "deb", "-u", "root", "--", f"WSLX_ONLY_USER_XATTRS=1 python3 /mnt/host{FS_CASES}/posix.py /mnt/host{tmp_path}", timeout=200)
    assert cases_failed(p) == set(LESS["virtiofs"])


# In the guest: gives a user the right to read each file, and says what the file's ACL is then, or why not.
SET_ACL = """
import os, struct, sys
none, user = 0xffffffff, int(sys.argv[1])
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in ((1, 6, none), (2, 4, user), (4, 0, none), (16, 4, none), (32, 0, none)))
for f in sys.argv[2:]:
    try:
        os.setxattr(f, "system.posix_acl_access", acl)
        print(struct.unpack("<HHI", os.getxattr(f, "system.posix_acl_access")[12:20])[2])
    except OSError as e:
        print(os.strerror(e.errno))
"""
AS_4711 = "import os; os.setgroups([]); os.setgid(4711); os.setuid(4711); print(open('{}').read())"


def acl_user(path):
    """Whom the file's ACL names, on the host."""
    return int.from_bytes(os.getxattr(path, "system.posix_acl_access")[16:20], "little")


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_access_control_lists_are_refused(work, tmp_path):
    d = f"/mnt/host{tmp_path}"
    (tmp_path / "f").write_text("text")
    (tmp_path / "f").chmod(0o600)
    for p in tmp_path, *tmp_path.parents[:3]:
        p.chmod(p.stat().st_mode | 0o11)
    root = ("-d", "deb", "-u", "root", "--")
    p = work.run(*root, "python3", "-c", AS_4711.format(f"{d}/f"))
    assert p.returncode and "PermissionError" in p.stderr, p
    assert work.ok(*root, "python3", "-c", SET_ACL, "4711", f"{d}/f") == "4711\n"
    assert acl_user(tmp_path / "f") == 4711
    assert work.ok(*root, "python3", "-c", AS_4711.format(f"{d}/f")) == "text\n"
    # another server knows it too
    old = work.fsd_pids()
    work.kill(old[0], signal.SIGKILL)
    wait_for("another server", lambda: work.fsd_pids() not in ([], old))
    assert work.ok(*root, "python3", "-c", AS_4711.format(f"{d}/f")) == "text\n"
    # the server's user is the view's, in ACLs as everywhere
    work.ok(*root, f"mkdir -p /opt/v && mount -t drvfs {tmp_path} /opt/v -o uid=4711,gid=4711")
    assert work.ok(*root, "python3", "-c", SET_ACL, "4711", "/opt/v/f") == "4711\n"
    assert acl_user(tmp_path / "f") == 0
    assert work.ok(*root, "python3", "-c", SET_ACL, "0", "/opt/v/f") == "Invalid argument\n"
    work.ok(*root, "umount /opt/v; mount -t drvfs {} /opt/v -o metadata".format(tmp_path))
    assert work.ok(*root, "python3", "-c", SET_ACL, "4711", "/opt/v/f") == "Operation not supported\n"
    work.ok(*root, "umount /opt/v")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_what_is_one_file_system(work, tmp_path):
    """All shares and views are, as far as the guest's kernel is asked; what the host mounted below them is not."""
    d = f"/mnt/host{tmp_path}"
    root = ("-d", "deb", "-u", "root", "--")
    (tmp_path / "in").mkdir()
    (tmp_path / "f").write_text("text")
    subprocess.run(["mount", "-t", "tmpfs", "in", tmp_path / "in"], check=True)
    try:
        (tmp_path / "in/g").write_text("1")
        work.ok(*root, f"mkdir -p /opt/v && mount -t drvfs {tmp_path} /opt/v -o uid=4711")
        above, below, f, view = (x.split() for x in work.ok(*root, f"stat -c '%d %i' {d} {d}/in/. {d}/f /opt/v/f").splitlines())
        assert above[0] != below[0] and above[0] == f[0] and f == view and int(f[1]) == os.stat(tmp_path / "f").st_ino
        assert sorted(work.ok(*root, f"cd {d} && find . -xdev").split()) == [".", "./f", "./in"]
        assert work.ok(*root, "python3", "-c", SET_ACL, "4711", f"{d}/in/g") == "Operation not supported\n"
        # it is full or not by itself
        assert work.ok(*root, f"stat -f -c %b {d}/in").strip() == str(os.statvfs(tmp_path / "in").f_blocks)
        assert work.ok(*root, f"stat -f -c %b {d}").strip() == str(os.statvfs(tmp_path).f_blocks)
        df = work.run(*root, "python3", "-c", "import os; os.setgroups([]); os.setuid(4711); os.execvp('df', ['df'])")
        assert [line.split()[1] for line in df.stdout.splitlines() if line.startswith("wslx ") and "/in" not in line] == \
            [str(os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize // 1024)], df
        # nothing goes from one to the other by its name alone, not even where both are reached by one mount
        work.ok(*root, "sync")
        both = "import os, errno\nfor op in os.rename, os.link:\n try: op('/run/wslx/hostfs/host{0}/f', '/run/wslx/hostfs/host:uid=4711{0}/h')\n except OSError as e: print(errno.errorcode[e.errno])"
        assert work.ok(*root, "python3", "-c", both.format(tmp_path)) == "EXDEV\nEXDEV\n"
        work.ok(*root, "umount /opt/v")
        assert sorted(os.listdir(tmp_path)) == ["f", "in"]
    finally:
        subprocess.run(["umount", "-l", tmp_path / "in"], check=False)


@pytest.mark.parametrize("load", ["fsx.py", "tree.py"])
def test_random_load_is_as_a_model_says(work, tmp_path, load):
    assert "no difference" in work.ok("-d", "deb", "--", f"python3 /mnt/host{FS_CASES}/{load} /mnt/host{tmp_path} 600 5", timeout=200)


# In the guest: maps the file, says so, and does what it is told, each line a command whose answer is a line.
MAPPER = """
import mmap, os, sys
f = open(sys.argv[1], "r+b")
m = mmap.mmap(f.fileno(), int(sys.argv[2]))
print("mapped", flush=True)
for line in sys.stdin:
    what, at, *data = line.split()
    at = int(at)
    if what == "put":
        m[at:at + len(data[0])] = data[0].encode()
        print("put", flush=True)
    else:
        print(m[at:at + int(data[0])].hex(), flush=True)
"""


class Mapper:
    """A file as a program in the guest maps it, shared."""

    def __init__(self, w, path, size):
        program = os.path.dirname(path) + "/mapper.py"
        pathlib.Path(program.removeprefix("/mnt/host")).write_text(MAPPER, encoding="ascii")
        self.p = w.popen("-d", "deb", "--", f"python3 {program} {path} {size}", stdin=subprocess.PIPE, stderr=None, text=True)
        assert self.line() == "mapped"

    def line(self):
        assert select.select([self.p.stdout], [], [], 60 * SCALE)[0], "the guest does not answer"
        return self.p.stdout.readline().strip()

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        return self.line()

    def put(self, at, text):
        assert self.ask(f"put {at} {text}") == "put"

    def get(self, at, n):
        return bytes.fromhex(self.ask(f"get {at} {n}"))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.p.stdin.close()
        try:
            self.p.wait(timeout=30)
        finally:
            self.p.kill()
            self.p.stdout.close()


@pytest.fixture
def shared(work):
    """A file that this process maps, and the guest's name for it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as d:
        path = pathlib.Path(d) / "shared"
        pathlib.Path(d).chmod(0o777)
        path.write_bytes(bytes(SHARED))
        path.chmod(0o666)
        yield path, f"/mnt/host{path}"


SHARED = 5 << 20  # more than one piece of the window


def test_a_host_mmap_and_a_guest_mmap_of_one_file_agree(work, shared):
    here, there = shared
    with open(here, "r+b") as f, mmap.mmap(f.fileno(), SHARED) as m, Mapper(work, there, SHARED) as guest:
        for n, at in enumerate((0, 4093, 2 << 20, (4 << 20) + 100, SHARED - 8)):
            m[at:at + 4] = b"h%03d" % n
            assert guest.get(at, 4) == b"h%03d" % n, "what the host wrote"
            guest.put(at, f"g{n:03}")
            assert m[at:at + 4] == b"g%03d" % n, "what the guest wrote"
        # a page that both have been in before
        m[0:4] = b"last"
        assert guest.get(0, 4) == b"last"


def test_a_mapped_file_that_the_host_truncates_harms_only_who_looks_there(work, shared):
    """On the software CPU it reads as zeroes; with KVM, who looks waits. It comes back."""
    here, there = shared
    with Mapper(work, there, SHARED) as guest:
        guest.put(SHARED - 8, "end")
        os.truncate(here, 4096)
        guest.put(8, "kept")
        assert here.read_bytes()[8:12] == b"kept" and here.stat().st_size == 4096
        if ENGINE != "kvm":
            assert guest.get(SHARED - 8, 3) == bytes(3)
            guest.put(SHARED - 8, "lost")
        guest.p.stdin.write(f"get {SHARED - 8} 1\n")
        guest.p.stdin.flush()
        assert work.sh("echo well") == "well\n"
        with open(here, "r+b") as f:
            f.truncate(SHARED)
            f.seek(SHARED - 8)
            f.write(b"anew")
        guest.line()
        wait_for("the file in the guest's mapping", lambda: guest.get(SHARED - 8, 4) == b"anew")
    # the machine is well
    assert work.sh(f"tail -c 8 {there}") == "anew\0\0\0\0"


def test_a_mapping_outlives_the_server_and_a_new_one_can_be_made(work, shared):
    here, there = shared
    with open(here, "r+b") as f, mmap.mmap(f.fileno(), SHARED) as m, Mapper(work, there, SHARED) as guest:
        guest.put(0, "one")
        old = work.fsd_pids()
        work.kill(old[0], signal.SIGKILL)
        wait_for("another server", lambda: work.fsd_pids() not in ([], old))
        assert guest.get(0, 3) == b"one"
        guest.put(3, "two")
        assert m[0:6] == b"onetwo"
        wait_for("the share", lambda: work.run("-d", "deb", "--", f"test -s {there}").returncode == 0)
        with Mapper(work, there, SHARED) as another:
            another.put(4 << 20, "three")
            assert m[4 << 20:(4 << 20) + 5] == b"three"


def test_mapped_files_are_read_and_written_by_other_devices(work, shared):
    """Direct I/O of a disk and of the share, from and to the pages of a file of the host."""
    here, there = shared
    here.write_bytes(os.urandom(SHARED))
    before = here.read_bytes()
    (here.parent / "direct.py").write_text("""
import mmap, os, sys
size = int(sys.argv[2])
with open(sys.argv[1], "r+b") as f:
    m = mmap.mmap(f.fileno(), size)
for other in sys.argv[3:]:
    fd = os.open(other, os.O_RDWR | os.O_CREAT | os.O_DIRECT, 0o666)
    view = memoryview(m)
    done = 0
    while done < size:
        done += os.pwritev(fd, [view[done:]], done)
    head = bytes(view[:1 << 20])
    view[:1 << 20] = bytes(1 << 20)
    assert os.preadv(fd, [view[:1 << 20]], 0) == 1 << 20
    assert view[:1 << 20] == head
    os.close(fd)
""", encoding="ascii")
    folder = os.path.dirname(there)
    work.ok("-d", "deb", "--", f"python3 {folder}/direct.py {there} {SHARED} ~/own {folder}/other && cmp ~/own {there} && rm ~/own", timeout=60)
    assert here.read_bytes() == before
    assert (here.parent / "other").read_bytes() == before


def test_a_program_on_the_share_is_the_one_that_the_host_wrote_last(work, shared):
    """Executed from the very pages of the file."""
    folder = shared[0].parent
    program = folder / "program"
    work.ok("-d", "deb", "-u", "root", "--", f"mkdir -p /opt/mapped && mount -t drvfs {folder} /opt/mapped -o dax=always")
    for text in ("first", "other"):
        (folder / "p.c").write_text('#include <stdio.h>\nint main(void) { puts("%s"); return 0; }\n' % text, encoding="ascii")
        subprocess.run(["cc", "-O1", "-static", "-o", folder / "new", folder / "p.c"], check=True)
        program.touch(mode=0o777)
        program.write_bytes((folder / "new").read_bytes())  # in its place, as cp(1) does
        assert work.sh("for i in 1 2 3; do /opt/mapped/program; done") == 3 * f"{text}\n"
    work.ok("-d", "deb", "-u", "root", "--", "umount /opt/mapped")
