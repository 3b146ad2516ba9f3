# SPDX-License-Identifier: MIT
"""Several distributions, several machines, limits: what wslx.conf's [distribution.NAME] says."""
import subprocess
import time

import pytest

from conftest import real_only, rootfs, wait_for

pytestmark = real_only
BOOT = "cat /proc/sys/kernel/random/boot_id"


def second(w, name="two"):
    w.ok("--manage", "deb", "--clone", name, timeout=60)


def test_two_in_one_machine_see_only_their_own(fresh):
    w = fresh
    second(w)
    w.sh("echo one > /mark; (sleep 1000 &)")
    w.ok("-d", "two", "--", "echo two > /mark; (sleep 2000 &)")
    assert len(w.vmm_pids()) == 1
    assert w.sh("cat /mark; pgrep -a sleep | cut -d' ' -f2-") == "one\nsleep 1000\n"
    assert w.ok("-d", "two", "--", "cat /mark; pgrep -a sleep | cut -d' ' -f2-") == "two\nsleep 2000\n"
    for name in ("deb", "two"):
        assert w.ok("-d", name, "--", "ls /dev | grep -c '^sd' || true") == "0\n"


def test_isolation_vm_has_a_machine_of_its_own(fresh):
    w = fresh
    second(w)
    w.configure(**{"distribution.two_isolation": "vm\nmemory=300MB\nprocessors=1"})
    boot = "cat /proc/sys/kernel/random/boot_id"
    one, two = w.sh(boot), w.ok("-d", "two", "--", boot)
    assert one != two
    assert len(w.vmm_pids()) == 2
    assert w.ok("-d", "two", "--", "nproc") == "1\n"
    total = int(w.ok("-d", "two", "--", "awk '/MemTotal/{print $2}' /proc/meminfo"))
    assert 150 << 10 < total < 300 << 10
    # Its machine ends with it; the other one's goes on.
    w.ok("--terminate", "two", timeout=60)
    wait_for("its machine to end", lambda: len(w.vmm_pids()) == 1, 30)
    assert w.sh(boot) == one
    assert w.ok("-d", "two", "--", boot) != two
    w.ok("--shutdown", timeout=60)
    assert not w.vmm_pids()


def test_machines_are_found_again_by_a_new_service(fresh):
    w = fresh
    second(w)
    w.configure(**{"distribution.two_isolation": "vm"})
    boot = "cat /proc/sys/kernel/random/boot_id"
    before = [w.sh(boot), w.ok("-d", "two", "--", boot)]
    w.kill(w.service_pid())
    assert [w.sh(boot), w.ok("-d", "two", "--", boot)] == before
    w.ok("--shutdown", timeout=60)
    assert not w.vmm_pids()


def test_a_machine_that_dies_takes_only_its_own_distribution(fresh):
    w = fresh
    second(w)
    w.configure(**{"distribution.two_isolation": "vm"})
    w.sh("true")
    first = w.vmm_pids()
    p = w.popen("-d", "two", "--", "echo up; sleep 1000", text=True)
    assert p.stdout.readline() == "up\n"
    (other,) = set(w.vmm_pids()) - set(first)
    stay = w.popen("-d", "deb", "--", "echo up; read x; echo $x", text=True, stdin=-1)
    assert stay.stdout.readline() == "up\n"
    w.kill(other)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 125 and "its virtual machine ended" in err
    assert stay.communicate("still here\n", timeout=60)[0] == "still here\n"
    assert w.ok("-d", "two", "--", "echo again") == "again\n"


LIMITS = {"memory.max": "134217728", "memory.swap.max": "67108864", "cpu.max": "150000 100000", "pids.max": "150",
          "io.max": "rbps=10485760 wbps=5242880 riops=200 wiops=100"}


def test_limits_are_where_the_kernel_has_them_and_cannot_be_raised_from_inside(fresh):
    """bench/limits measures that they hold."""
    w = fresh
    w.configure(**{"distribution.deb_memory": "128MB\nswap=64MB\nprocessors=1.5\ntasks=150\nioReadBytes=10MB\nioWriteBytes=5MB\n"
                                             "ioReadOps=200\nioWriteOps=100"})
    # Another mount of the same tree is no way around them either.
    out = w.sh("""
        mkdir -p /mnt/c; mount -t cgroup2 none /mnt/c
        for d in /sys/fs/cgroup /mnt/c; do
            for f in memory.max memory.swap.max cpu.max pids.max; do
                { echo max >$d/$f; } 2>/dev/null && echo raised $d/$f
            done
            { echo "$(cut -d' ' -f1 $d/io.max) rbps=max wbps=max riops=max wiops=max" >$d/io.max; } 2>/dev/null && echo raised $d/io.max
        done
        cd /sys/fs/cgroup; for f in memory.max memory.swap.max cpu.max pids.max io.max; do echo $f $(cut -d: -f2- $f); done""")
    found = dict(line.split(" ", 1) for line in out.splitlines())
    found["io.max"] = found["io.max"].partition(" ")[2]  # without the disk's number
    assert found == LIMITS


def test_tasks_limit(fresh):
    """One more is refused with EAGAIN, and the number is what was asked for."""
    w = fresh
    w.configure(**{"distribution.deb_tasks": "150"})
    assert w.ok("-d", "deb", "-e", "perl", "-e", r"""
        while (defined($p = fork)) { if (!$p) { sleep 1000; exit } push @k, $p; last if @k > 1000 }
        $e = $!; @t = glob '/proc/[0-9]*/task/*'; kill 'KILL', @k; print scalar(@t), " $e\n" """) == \
        "150 Resource temporarily unavailable\n"


def test_memory_limit(fresh):
    w = fresh
    w.configure(**{"distribution.deb_memory": "128MB\nswap=0"})
    # dd takes a block's size at once; what runs beside it takes some MiB.
    assert w.run("-d", "deb", "--", "dd if=/dev/zero of=/dev/null bs=110M count=1", timeout=60).returncode == 0
    assert w.run("-d", "deb", "--", "dd if=/dev/zero of=/dev/null bs=134M count=1", timeout=60).returncode == 137
    assert w.sh("echo alive") == "alive\n"


def test_processor_limit(fresh):
    w = fresh
    w.configure(**{"distribution.deb_processors": "0.25"})
    # Two busy loops for some seconds; microseconds used, periods of the limit that passed, and seconds. The first two are of one moment;
    # the seconds are read some time later on a busy host.
    out = w.sh("""
        now() { awk '/usage_usec|nr_periods/{print $2}' /sys/fs/cgroup/cpu.stat; cut -d' ' -f1 /proc/uptime; }
        (while :; do :; done) & a=$!
        (while :; do :; done) & b=$!
        sleep 1
        now
        sleep 8
        now
        kill $a $b
        cut -d' ' -f2 /sys/fs/cgroup/cpu.max
        """, timeout=60)
    *read, period = map(float, out.split())
    used, periods, passed = (after - before for before, after in zip(read[:3], read[3:]))
    limited = periods * period
    assert 0.20 < used / limited < 0.25 * 1.05, (used, limited)
    assert 0.5 < limited / 1e6 / passed < 1.5, (limited, passed)


class Neighbour:
    """A session in the other distribution, which has to answer meanwhile, and new commands there."""

    def __init__(self, w, name="two"):
        self.w, self.name = w, name
        self.boot = w.ok("-d", name, "--", BOOT, timeout=60)
        self.p = w.popen("-d", name, "--", "while read x; do echo $x; done", text=True, stdin=-1)
        self.answers()

    def answers(self):
        self.p.stdin.write("hello\n")
        self.p.stdin.flush()
        assert self.p.stdout.readline() == "hello\n"
        assert self.w.ok("-d", self.name, "--", "echo fine >/fine && cat /fine", timeout=60) == "fine\n"

    def outlives(self, hostile="deb"):
        """The other one can be stopped, and starts again; this one noticed nothing."""
        self.answers()
        self.w.ok("--terminate", hostile, timeout=60)
        self.answers()
        assert self.w.ok("-d", hostile, "--", "echo back", timeout=60) == "back\n"
        self.p.stdin.close()
        assert self.p.wait(60) == 0
        assert self.w.ok("-d", self.name, "--", BOOT) == self.boot


@pytest.mark.parametrize("tasks", [200, None])
def test_fork_bomb_leaves_the_neighbour_alone_and_can_be_terminated(fresh, tasks):
    w = fresh
    second(w)
    w.configure(**({"distribution.deb_tasks": tasks} if tasks else {}))
    n = Neighbour(w)
    p = w.popen("-d", "deb", "-e", "bash", "-c", "f() { f | f & }; f; sleep 1000")
    try:
        for _ in range(10):
            n.answers()
        n.outlives()
    finally:
        p.kill()
        p.communicate()


# By programs, and in file systems whose memory no program's end frees.
@pytest.mark.parametrize("how", ["programs", "files"])
def test_full_memory_leaves_the_neighbour_alone(fresh, how):
    w = fresh
    second(w)
    w.configure(wsl2_swap=0)
    n = Neighbour(w)
    files = "for f in /dev/shm/x /run/x; do head -c 2G /dev/zero >$f; done; " if how == "files" else ""
    hog = w.popen("-d", "deb", "--", files + "while :; do tail /dev/zero; done 2>/dev/null", text=True)
    try:
        n.answers()
        if files:
            shared = "awk '/Shmem:/{print $2}' /proc/meminfo"
            wait_for("it to be full", lambda: int(w.ok("-d", "two", "--", shared, timeout=60)) > 600000, 30)
        for _ in range(10):
            n.answers()
        n.outlives()
    finally:
        hog.kill()
        hog.communicate()


def test_full_disk_leaves_the_neighbour_alone(fresh):
    w = fresh
    second(w)
    w.ok("--manage", "deb", "--resize", "1GB", timeout=120)
    n = Neighbour(w)
    p = w.popen("-d", "deb", "--", "cat /dev/zero >/fill 2>/dev/null; df --output=avail / | tail -1; while :; do "
                "mkdir /d$((i=i+1)) || cat /dev/zero >>/fill; done 2>/dev/null", text=True)
    try:
        n.answers()
        assert p.stdout.readline().strip() == "0"
        for _ in range(5):
            n.answers()
        n.outlives()
    finally:
        p.kill()
        p.communicate()
    assert w.sh("rm /fill; echo x >/f && cat /f") == "x\n"


def test_programs_that_ignore_everything_do_not_hold_up_the_others(fresh):
    w = fresh
    second(w)
    n = Neighbour(w)
    p = w.popen("-d", "deb", "--", "trap '' TERM HUP INT; echo up; while :; do :; done", text=True)
    assert p.stdout.readline() == "up\n"
    n.outlives()
    assert p.wait(60) != 0


# What makes pid 1 of a distribution with systemd deaf: it is stopped (which the kernel does not let its own root do), its
# cgroup is frozen, it hangs in a unit's start, or what serves its sessions is stopped.
@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.slow), "freeze",
                                 pytest.param("init", marks=pytest.mark.slow), pytest.param("stuck", marks=pytest.mark.slow)])
def test_systemd_that_hangs_does_not_hold_up_the_others(fresh, how):
    w = fresh
    second(w)
    w.import_deb("sysd", rootfs("WSLX_TEST_SYSTEMD_ROOTFS"))
    unit = "[Service]\\nType=oneshot\\nExecStart=sh -c \"trap : TERM; while :; do sleep 1; done\"\\nTimeoutStopSec=infinity\\n"
    w.ok("-d", "sysd", "--", "printf '[boot]\\nsystemd=true\\ninitTimeout=3000\\n' >/etc/wsl.conf; "
         f"printf '{unit}[Install]\\nWantedBy=multi-user.target\\n' >/etc/systemd/system/stuck.service")
    if how == "stuck":
        w.ok("-d", "sysd", "--", "mkdir -p /etc/systemd/system/multi-user.target.wants; "
             "ln -s ../stuck.service /etc/systemd/system/multi-user.target.wants/")
    w.ok("--terminate", "sysd", timeout=60)
    n = Neighbour(w)
    # Frozen, it cannot say so any more: it goes on when what it said before has arrived.
    script = {"stop": "kill -STOP 1 -1", "stuck": "systemctl start --no-block stuck.service", "init": "pkill -STOP wslx-init",
              "freeze": "for c in /sys/fs/cgroup/*/cgroup.freeze; do echo 1 >$c; done"}[how]
    p = w.popen("-d", "sysd", "--", f"echo up; read x; {script}; sleep 1000", stdin=subprocess.PIPE, text=True)
    try:
        assert p.stdout.readline() == "up\n"
        print(file=p.stdin, flush=True)
        for _ in range(3):
            n.answers()
        n.outlives("sysd")
    finally:
        p.kill()
        p.communicate()


def test_autostart(fresh):
    w = fresh
    w.configure(**{"distribution.DEB_autostart": "true\nkeepAlive=always"})
    if w.service_pid():
        w.kill(w.service_pid())
    assert "deb" in w.list()  # starts the service, nothing else
    wait_for("it to run", lambda: w.list()["deb"]["state"] == "Running", 30)


@pytest.mark.parametrize("policy", ["idle", "always"])
def test_keep_alive(fresh, policy):
    w = fresh
    w.configure(general_instanceIdleTimeout="500", **{"distribution.deb_keepAlive": policy})
    w.sh("true")
    if policy == "idle":
        wait_for("it to stop", lambda: w.list()["deb"]["state"] == "Stopped", 30)
        return
    # Nothing tells of an event that must not come: several times as long as it would take.
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert w.list()["deb"]["state"] == "Running"
        time.sleep(0.2)
