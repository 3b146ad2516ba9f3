# SPDX-License-Identifier: MIT
"""The same commands in two places: in a distribution on the software CPU, and natively in the same root file system.

    WSLX_TEST_WORK_ROOTFS   the root file system (tar), with gcc, make, Tcl, and python3 with its tests
    WSLX_TEST_ZLIB, WSLX_TEST_SQLITE   unpacked source packages

and what tests/e2e/conftest.py reads. The native place is a chroot: these tests run as root.
"""
import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

for name, default in (("ENGINE", "soft"), ("CPUS", "2"), ("MEMORY", "2GB")):
    os.environ.setdefault("WSLX_TEST_" + name, default)
CPUS = int(os.environ["WSLX_TEST_CPUS"])
_spec = importlib.util.spec_from_file_location("e2e", pathlib.Path(__file__).resolve().parents[1] / "e2e/conftest.py")
e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(e2e)

USER = "tester"
HOME = f"/home/{USER}"

# What a distribution has mounted, for the chroot; in a mount namespace, so that nothing is left to unmount.
MOUNTS = """
cd "$1"; shift
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=755 dev dev
mkdir dev/pts dev/shm
for d in null zero full random urandom tty; do touch dev/$d; mount --bind /dev/$d dev/$d; done
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for n in 0:stdin 1:stdout 2:stderr; do ln -s /proc/self/fd/${n%:*} dev/${n#*:}; done
"$@"
"""


class Place:
    """A machine with a user of its own to run things as."""

    def command(self, *args, user=USER):
        raise NotImplementedError

    def prepare(self):
        self.run_as("root", f"useradd -m {USER}")

    def run_as(self, user, script, limit=120, **kw):
        """Neither place hands its commands anything of ours: no environment, no terminal, no limits."""
        env = ["env", "-i", f"HOME={HOME}", f"USER={USER}", "PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG=C.UTF-8"]
        p = subprocess.run(self.command(*env, "setsid", "-w", "timeout", "-k", "10", str(limit * e2e.SCALE),
                                        "bash", "-c", "ulimit -c 0 -n 1024; umask 022; " + script, user=user),
                           env=self.env, timeout=limit * e2e.SCALE + 120, start_new_session=True, capture_output=True,
                           **({"stdin": subprocess.DEVNULL} | kw))
        p.ok = p.returncode == 0
        return p

    def run(self, script, limit):
        """The exit status and all that was printed."""
        p = self.run_as(USER, f"exec < /dev/null > ~/log 2>&1; {script}", limit)
        log = self.read("log")
        print(f"--- {self.name}: exit status {p.returncode}: {script}\n{log[-1500:]}", file=sys.stderr)
        assert p.returncode not in (124, 137), f"{self.name}: {script}: not done in {limit * e2e.SCALE:.0f} s"
        return p.returncode, log

    def read(self, path):
        p = self.run_as(USER, f"cd; cat {path}")
        assert p.ok, f"{self.name}: {path}: {p.stderr.decode(errors='replace')}"
        return p.stdout.decode(errors="replace")

    def checksum(self, path):
        return self.run_as(USER, f"cd; sha256sum {path}").stdout.decode().split()[0]

    def put(self, folder, name, *leave_out):
        """Copies a folder into the user's home."""
        tar = subprocess.Popen(["tar", "-C", folder, *(f"--exclude=./{x}" for x in leave_out), "-cf", "-", "."],
                               stdout=subprocess.PIPE)
        p = self.run_as(USER, f"rm -rf ~/{name} && mkdir ~/{name} && tar -C ~/{name} -xof -", 600, stdin=tar.stdout)
        tar.stdout.close()
        assert tar.wait() == 0 and p.ok, p.stderr


class Native(Place):
    name = "native"
    env = None

    def __init__(self, root):
        self.root = root
        self.cpus = sorted(os.sched_getaffinity(0))[:CPUS]
        subprocess.run(["tar", "-C", root, "--numeric-owner", "-xpf", e2e.rootfs("WSLX_TEST_WORK_ROOTFS")], check=True)
        os.chmod(root, 0o755)
        self.prepare()

    def command(self, *args, user=USER):
        # Not exec: the shell that mounts stays, as the first process, which reaps.
        return ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-ec", MOUNTS, "sh", self.root,
                "taskset", "-c", ",".join(map(str, self.cpus)),
                "chroot", f"--userspec={user}:{user}", "--groups=", ".", *args]

    def as_slow_as_a_guest(self, function):
        """Calls it while what runs here gets a tenth of each processor."""
        # Sessions of their own: a kernel that groups by session gives each of them as much as all of ours.
        loop = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]
        loops = [subprocess.Popen(["taskset", "-c", str(c), *loop], start_new_session=True) for c in self.cpus for _ in range(9)]
        try:
            return function()
        finally:
            for p in loops:
                p.kill()
                p.wait()


class Guest(Place):
    name = "guest"

    def __init__(self, wslx):
        self.wslx = wslx
        self.env = wslx.env
        self.prepare()

    def command(self, *args, user=USER):
        return self.wslx.cmd("-d", "deb", "-u", user, "--cd", "/", "-e", *args)


@pytest.fixture(scope="session")
def native():
    assert os.geteuid() == 0, "the native run is in a chroot, which needs root"
    # Not below /tmp: that may be kept in memory, where files behave otherwise.
    root = tempfile.mkdtemp(prefix="wslx-suites.", dir="/var/tmp")
    try:
        yield Native(root)
    finally:
        shutil.rmtree(root)


pytest_runtest_makereport = e2e.pytest_runtest_makereport


@pytest.fixture(scope="session")
def guest(request):
    w = e2e.world()
    try:
        w.import_deb(archive=e2e.rootfs("WSLX_TEST_WORK_ROOTFS"))
        assert w.run("-d", "deb", "--", "true", timeout=60).returncode == 0
        assert w.status()["engine"]["name"] == e2e.ENGINE
        yield Guest(w)
    finally:
        e2e.end(w, getattr(request.session, "wslx_failed", False))
