# SPDX-License-Identifier: MIT
"""What belongs to the VM as a whole: swap, clock, core dumps, panics, console, limits, kernel modules."""
import glob
import os
import re
import shutil
import signal
import subprocess
import time

from conftest import real_only, wait_for

pytestmark = real_only


def swaps(w):
    """Sizes in KiB."""
    return [int(line.split()[2]) for line in w.sh("cat /proc/swaps").splitlines()[1:]]


def test_swap(fresh):
    fresh.configure(wsl2_swap="256MB", wsl2_swapFile=fresh.tmp / "swap")
    p = fresh.popen("-d", "deb", "--", "sleep 1000")
    wait_for("swap", lambda: swaps(fresh) == [256 * 1024 - 4], 20)
    assert not (fresh.tmp / "swap").exists()  # it goes with the VM
    # A service that comes later leaves it as it is.
    fresh.kill(fresh.service_pid())
    assert swaps(fresh) == [256 * 1024 - 4]
    fresh.ok("--shutdown", "--force")
    p.wait(60)
    # A file that is there is used, and stays.
    (fresh.tmp / "swap").write_bytes(b"")
    os.truncate(fresh.tmp / "swap", 64 << 20)
    p = fresh.popen("-d", "deb", "--", "sleep 1000")
    wait_for("swap", lambda: swaps(fresh) == [64 * 1024 - 4], 20)
    fresh.ok("--shutdown")
    p.wait(60)
    with open(fresh.tmp / "swap", "rb") as f:
        assert f.read(4096).endswith(b"SWAPSPACE2")


def test_a_file_that_is_no_swap_stays_what_it_is(fresh):
    (fresh.tmp / "thesis").write_text("all my work " * 1000)
    fresh.configure(wsl2_swap="256MB", wsl2_swapFile=fresh.tmp / "thesis")
    p = fresh.run("-d", "deb", "--", "true")
    assert p.stderr == f"wslx: warning: the guest gets no swap: {fresh.tmp}/thesis exists and holds something other than swap\n"
    fresh.ok("--shutdown")
    assert (fresh.tmp / "thesis").read_text() == "all my work " * 1000


def offset(w):
    """How far the guest's clock is from ours, seconds: of several tries the one that was answered fastest."""
    p = w.popen("-d", "deb", "--", "while read x; do date +%s.%N; done", stdin=subprocess.PIPE)
    tries = []
    for _ in range(8):
        before = time.time()
        p.stdin.write(b"\n")
        p.stdin.flush()
        guest = float(p.stdout.readline())
        after = time.time()
        tries.append((after - before, guest - (before + after) / 2))
    p.stdin.close()
    p.wait(60)
    return min(tries)[1]


def test_the_clock_is_put_right(fresh):
    fresh.configure(wslx_clockCheckInterval=300)
    fresh.sh("date -s '2001-02-03 04:05:06' > /dev/null")
    wait_for("the clock", lambda: abs(offset(fresh)) < 0.1, 30)
    # A VM that stood still, as in a laptop that slept.
    pid = fresh.vmm_pids()[0]
    os.kill(pid, signal.SIGSTOP)
    time.sleep(3)
    os.kill(pid, signal.SIGCONT)
    wait_for("the clock", lambda: abs(offset(fresh)) < 0.1, 30)


def dumps(w, folder=None):
    return sorted(f.name for f in (folder or w.data / "crashes").glob("*.dmp"))


def test_core_dumps_come_to_the_host(fresh):
    fresh.configure(wsl2_crashDumpFolder=fresh.tmp / "dumps", wsl2_maxCrashDumpCount=2)
    folder = fresh.tmp / "dumps"
    assert fresh.run("-d", "deb", "--", "sh -c 'kill -SEGV $$'").returncode == 128 + signal.SIGSEGV
    wait_for("the dump", lambda: len(dumps(fresh, folder)) == 1)
    name, = dumps(fresh, folder)
    assert re.fullmatch(r"wslx-crash-\d+-\d+-(dash|sh|bash)-11\.dmp", name), name
    gdb = subprocess.run(["gdb", "-batch", "-c", folder / name], capture_output=True, text=True, timeout=60)
    assert "Program terminated with signal SIGSEGV" in gdb.stdout, gdb.stdout + gdb.stderr
    # The newest two stay, and nothing that is half done.
    for sig in ("ABRT", "QUIT"):
        fresh.run("-d", "deb", "--", f"sh -c 'kill -{sig} $$'")
        wait_for("the dump", lambda n=int(signal.Signals["SIG" + sig]): any(d.endswith(f"-{n}.dmp")
                                                                            for d in dumps(fresh, folder)))
    wait_for("the oldest to go", lambda: len(dumps(fresh, folder)) == 2)
    assert name not in dumps(fresh, folder) and len(list(folder.iterdir())) == 2


def test_no_core_dumps_where_none_are_wanted(fresh):
    fresh.configure(wsl2_maxCrashDumpCount=-1)
    assert fresh.run("-d", "deb", "--", "sh -c 'kill -SEGV $$'").returncode == 128 + signal.SIGSEGV
    assert "wslx" not in fresh.sh("cat /proc/sys/kernel/core_pattern")
    assert not (fresh.data / "crashes").exists()


def test_a_kernel_panic_is_shown(fresh):
    log = fresh.tmp / "console.txt"
    fresh.configure(wsl2_debugConsoleLogFile=log)
    fresh.sh("true")
    line = fresh.fails(125, "-d", "deb", "--", "echo c > /proc/sysrq-trigger; sleep 100",
                       says=["run a command in deb", "virtual machine ended", "kernel panic: sysrq triggered crash", str(log)])
    assert "sysrq triggered crash" in log.read_text(), line
    assert fresh.sh("echo new") == "new\n"
    assert "panic" not in log.read_text() and "panic" in (fresh.tmp / "console.txt.old").read_text()


def test_distributions_together_leave_some_memory_to_the_vm(fresh):
    """One that takes all there is meets their common limit, not the end of the machine's memory."""
    fresh.configure(wsl2_memory="256MB", wsl2_swap=0)
    assert fresh.sh("cat /proc/self/cgroup") == "0::/wslx/sessions\n"
    assert fresh.run("-d", "deb", "--", "tail /dev/zero", timeout=120).returncode == 128 + signal.SIGKILL
    log = fresh.sh("dmesg")
    assert "Memory cgroup out of memory" in log and "] Out of memory" not in log


def test_kernel_modules(fresh):
    """A disk made of the modules of the kernel that runs."""
    release = fresh.sh("uname -r").strip()
    cache = os.environ.get("WSLX_CACHE") or os.path.expanduser("~/.cache/wslx")
    found = {os.path.basename(f): f for f in glob.glob(f"{cache}/kernel-*/lib/modules/{release}/**/*.ko", recursive=True)}
    assert found, f"no modules of {release} in {cache}"
    tree = fresh.tmp / "modules"
    (tree / "kernel").mkdir(parents=True)
    for name in ("dummy.ko", "br_netfilter.ko", "bridge.ko", "stp.ko", "llc.ko"):
        shutil.copy(found[name], tree / "kernel")
    (tree / "modules.dep").write_text(
        "kernel/dummy.ko:\nkernel/llc.ko:\nkernel/stp.ko: kernel/llc.ko\n"
        "kernel/bridge.ko: kernel/stp.ko kernel/llc.ko\n"
        "kernel/br_netfilter.ko: kernel/bridge.ko kernel/stp.ko kernel/llc.ko\n")
    disk = fresh.tmp / "modules.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk, "32M"], check=True)
    fresh.ok("--shutdown")
    fresh.configure(wsl2_kernelModules=disk, wsl2_loadKernelModules="dummy")
    loaded = {line.split()[0] for line in fresh.sh("cat /proc/modules").splitlines()}
    assert {"dummy", "br_netfilter", "bridge"} <= loaded
    # It is no distribution's disk: a service that comes later does not stop it.
    fresh.kill(fresh.service_pid())
    assert fresh.sh("echo still") == "still\n"
    fresh.configure(wsl2_kernelModules=tree)
    fresh.ok("--shutdown")
    fresh.fails(125, "-d", "deb", "--", "true", says="a disk image is needed")


def test_safe_mode(fresh):
    fresh.configure(wsl2_safeMode="true", wsl2_kernel="/nowhere", wsl2_kernelCommandLine="init=/nowhere", wslx_initrd="/nowhere")
    fresh.env.pop("WSLX_KERNEL")  # would win
    kernel = fresh.data / "kernel"
    kernel.mkdir(parents=True)
    os.symlink(os.path.realpath(os.environ.get("WSLX_TEST_KERNEL") or os.path.expanduser("~/.local/share/wslx/kernel/vmlinuz")),
               kernel / "vmlinuz")
    assert "init=/nowhere" not in fresh.sh("cat /proc/cmdline")
