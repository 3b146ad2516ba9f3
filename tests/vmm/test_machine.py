# SPDX-License-Identifier: MIT
"""wslx-vmm by itself: a stock kernel to its first process, disks, ends, snapshots."""
import hashlib
import os
import re

import pytest

CPUS = int(os.environ.get("WSLX_TEST_CPUS", "1"))


def test_boots_and_powers_off(start):
    vm = start("echo cpus $(grep -c ^processor /proc/cpuinfo)")
    assert vm.wait() == 0, vm.tail()
    assert f"cpus {CPUS}".encode() in vm.out
    assert b"WARNING" not in vm.out and b"BUG" not in vm.out


def test_status(start):
    vm = start("echo up; sleep 1000")
    vm.wait_for(rb"up\r?\n")
    s = vm.call("status")
    assert s["state"] == "running" and s["engine"] == os.environ.get("WSLX_TEST_ENGINE", "soft")
    assert s["cpus"] == CPUS and s["memory_mib"] == 256
    vm.call("stop")
    assert vm.wait() == 5


def test_reset_and_crash_are_told_apart(start):
    assert start("reboot -f").wait() == 3
    vm = start("echo c >/proc/sysrq-trigger; sleep 1000", name="crash")
    assert vm.wait() in (3, 4)
    assert b"sysrq triggered crash" in vm.out


def test_disk(start, folder):
    data = os.urandom(1 << 20)
    with open(f"{folder}/disk", "wb") as f:
        f.write(data + b"\0" * (3 << 20))
    vm = start("dd if=/dev/sda bs=64k count=16 2>/dev/null | sha256sum\n"
               "dd if=/dev/sda of=/dev/sda bs=64k count=16 seek=32 conv=fsync 2>/dev/null\n"
               "cat /sys/block/sda/size", "--disk", f"{folder}/disk")
    assert vm.wait() == 0, vm.tail()
    assert hashlib.sha256(data).hexdigest().encode() in vm.out
    assert b"8192" in vm.out
    with open(f"{folder}/disk", "rb") as f:
        f.seek(2 << 20)
        assert f.read(1 << 20) == data


def test_disk_comes_and_goes(start, folder):
    with open(f"{folder}/disk", "wb") as f:
        f.write(b"hello from a disk".ljust(1 << 20, b"\0"))
    vm = start("echo ready; while [ ! -e /dev/sda ]; do sleep 0.1; done; head -c 17 /dev/sda; echo\n"
               "while [ -e /sys/block/sda ]; do sleep 0.1; done; echo gone")
    vm.wait_for(rb"ready\r?\n")
    fd = os.open(f"{folder}/disk", os.O_RDWR)
    lun = vm.call("disk-attach", fd)["lun"]
    os.close(fd)
    vm.wait_for(rb"hello from a disk")
    vm.call("disk-detach", lun=lun)
    vm.wait_for(rb"gone\r?\n")
    assert vm.wait() == 0


def test_paused_guest_is_still(start):
    vm = start("i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo tick $i; sleep 0.1; done")
    vm.wait_for(rb"tick 3\r?\n")
    vm.call("pause")
    while vm.pump():
        pass
    before = vm.out
    for _ in range(10):
        vm.pump()
    assert vm.out == before
    vm.call("resume")
    vm.wait_for(rb"tick 40\r?\n")
    assert vm.wait() == 0


def test_snapshot_goes_on_where_it_was(start, folder):
    """Killed after a save, and restored: memory, time and the sequence of what it says are whole."""
    vm = start("i=0; x=seed; while [ $i -lt 60 ]; do i=$((i+1)); x=$(echo $x | sha256sum | cut -c1-16); echo tick $i $x; "
               "sleep 0.1; done")
    vm.wait_for(rb"tick 5 \w+\r?\n")
    vm.call("pause")
    while vm.pump():
        pass
    fd = os.open(f"{folder}/snap", os.O_RDWR | os.O_CREAT, 0o600)
    vm.call("save", fd)
    os.close(fd)
    vm.proc.kill()
    vm.proc.wait()
    again = start(None, "--restore", f"{folder}/snap", name="again")
    again.wait_for(rb"tick 60 \w+\r?\n")
    assert again.wait() == 0, again.tail()
    ticks = re.findall(rb"tick (\d+) (\w+)", vm.out + again.out)
    assert [int(n) for n, _ in ticks] == list(range(1, 61))
    x = "seed"
    for _, got in ticks:
        x = hashlib.sha256(f"{x}\n".encode()).hexdigest()[:16]
        assert got.decode() == x


@pytest.mark.skipif(os.environ.get("WSLX_TEST_ENGINE", "soft") != "soft", reason="it is the software CPU's translator")
def test_translator_and_interpreter_in_lockstep(start):
    """--translate check ends the monitor when they differ. With one vCPU: another one's stores would look like differences."""
    vm = start("find / -xdev | sort | sha256sum; echo done", "--cpus", "1", "--translate", "check")
    vm.wait_for(rb"done\r?\n")
    assert vm.wait() == 0, vm.tail()
