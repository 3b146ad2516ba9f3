# SPDX-License-Identifier: MIT
"""wslx-vmm by itself: a stock kernel to its first process, disks, ends, snapshots."""
import hashlib
import os
import re
import struct
import subprocess

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
    # the name is there a moment before the disk can be opened
    vm = start("echo ready; until head -c 17 /dev/sda 2>/dev/null; do sleep 0.1; done; echo\n"
               "while [ -e /sys/block/sda ]; do sleep 0.1; done; echo gone")
    vm.wait_for(rb"ready\r?\n")
    fd = os.open(f"{folder}/disk", os.O_RDWR)
    lun = vm.call("disk-attach", fd)["lun"]
    os.close(fd)
    vm.wait_for(rb"hello from a disk")
    vm.call("disk-detach", lun=lun)
    vm.wait_for(rb"gone\r?\n")
    assert vm.wait() == 0


def test_power_cut_with_ext4_in_a_vhdx_file(start, folder):
    """Attached to a locked-in machine, made and checked by others: what was fsynced is there after the machine was killed."""
    raw, vhdx, after = f"{folder}/raw", f"{folder}/disk.vhdx", f"{folder}/after"

    def run(*args, ok=(0,)):
        p = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        assert p.returncode in ok, p.stdout
        return p.stdout

    with open(raw, "wb") as f:
        f.truncate(256 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0", raw)
    run("qemu-img", "convert", "-f", "raw", "-O", "vhdx", "-o", "subformat=dynamic,block_size=1M", raw, vhdx)
    size = os.stat(vhdx).st_size
    vm = start("echo ready; until head -c 1 /dev/sda >/dev/null 2>&1; do sleep 0.1; done; mkdir /mnt; mount -t ext4 -o discard /dev/sda /mnt || reboot -f\n"
               "dd if=/dev/urandom of=/mnt/old bs=1M count=16 conv=fsync 2>/dev/null; rm /mnt/old; sync\n"
               "dd if=/dev/urandom of=/mnt/kept bs=1M count=8 conv=fsync 2>/dev/null; sync; sha256sum /mnt/kept; echo synced\n"
               "i=0; while :; do i=$((i+1)); dd if=/dev/urandom of=/mnt/more$i bs=64k count=16 2>/dev/null; echo wrote $i; done",
               modules=["crc32c_generic", "ext4"])
    vm.wait_for(rb"ready\r?\n")
    fd = os.open(vhdx, os.O_RDWR)
    vm.call("disk-attach", fd, format="vhdx")
    os.close(fd)
    vm.wait_for(rb"synced\r?\n")
    want = vm.wait_for(rb"(\w{64})  /mnt/kept")[1]
    vm.wait_for(rb"wrote 8\r?\n")
    vm.proc.kill()
    vm.proc.wait()
    assert os.stat(vhdx).st_size > size
    run("qemu-img", "check", "-f", "vhdx", "-r", "all", vhdx)
    run("qemu-img", "convert", "-f", "vhdx", "-O", "raw", vhdx, after)
    run("e2fsck", "-fy", after, ok=(0, 1))
    run("debugfs", "-R", f"dump /kept {folder}/kept", after)
    with open(f"{folder}/kept", "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest().encode() == want


def test_what_a_disk_holds_does_not_say_its_format(start, folder):
    """A guest can write a VHDX header into its raw disk: that stays a raw disk. And a raw one is no VHDX file."""
    vhdx, raw = f"{folder}/disk.vhdx", f"{folder}/raw"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vhdx", vhdx, "1G"], check=True)
    with open(raw, "wb") as f:
        f.truncate(8 << 20)
    vm = start("echo ready; until head -c 8 /dev/sda 2>/dev/null; do sleep 0.1; done; echo; cat /sys/block/sda/size")
    vm.wait_for(rb"ready\r?\n")
    for path, format, why in ((raw, "vhdx", "not a VHDX file"), (vhdx, "qcow2", "raw or vhdx is needed"), (vhdx, "raw", None)):
        fd = os.open(path, os.O_RDWR)
        if why:
            with pytest.raises(AssertionError, match=why):
                vm.call("disk-attach", fd, format=format)
        else:
            vm.call("disk-attach", fd, format=format)
        os.close(fd)
    vm.wait_for(rb"vhdxfile\r?\n%d\r?\n" % (os.stat(vhdx).st_size // 512))
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


def elf_core(path):
    """Program headers by type, and the notes as (name, type, bytes)."""
    with open(path, "rb") as f:
        data = f.read(1 << 20)
    assert data[:6] == b"\x7fELF\2\1" and struct.unpack_from("<HH", data, 16) == (4, 62)
    phoff, = struct.unpack_from("<Q", data, 32)
    phentsize, phnum = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<IIQQQQQQ", data, phoff + i * phentsize) for i in range(phnum)]
    note = next(h for h in headers if h[0] == 4)
    pos, end, notes = note[2], note[2] + note[5], []
    while pos < end:
        namesz, descsz, kind = struct.unpack_from("<III", data, pos)
        name = data[pos + 12:pos + 12 + namesz].rstrip(b"\0").decode()
        pos += 12 + namesz + -namesz % 4
        notes.append((name, kind, data[pos:pos + descsz]))
        pos += descsz + -descsz % 4
    return [h for h in headers if h[0] == 1], notes


def test_registers_and_dump(start, folder):
    """Of a running machine, which goes on, and of a paused one, which stays so: then both tell the same."""
    vm = start("x=needle-$((40 + 2)); echo up; while :; do echo tick; sleep 0.1; done")
    vm.wait_for(rb"up\r?\n")
    vcpus = vm.call("registers")["vcpus"]
    assert len(vcpus) == CPUS and vm.call("status")["state"] == "running"
    vm.call("pause")
    vcpus = vm.call("registers")["vcpus"]
    fd = os.open(f"{folder}/core", os.O_RDWR | os.O_CREAT, 0o600)
    vm.call("dump", fd)
    os.close(fd)
    assert vm.call("status")["state"] == "paused"
    loads, notes = elf_core(f"{folder}/core")
    assert sum(h[5] for h in loads) == 256 << 20 and [h[4] for h in loads] == [0]
    assert [(n, t) for n, t, _ in notes] == [("CORE", 1), ("QEMU", 0)] * CPUS
    for v, (_, _, prstatus), (_, _, qemu) in zip(vcpus, notes[::2], notes[1::2]):
        regs = {k: int(x, 16) for k, x in v["registers"].items()}
        rip, _, _, rsp = struct.unpack_from("<QQQQ", prstatus, 112 + 16 * 8)
        assert (rip, rsp) == (regs["rip"], regs["rsp"])
        assert struct.unpack_from("<II", qemu) == (1, len(qemu))
        assert struct.unpack_from("<Q", qemu, 8 + 16 * 8)[0] == regs["rip"]
        assert struct.unpack_from("<Q", qemu, 8 + 18 * 8 + 10 * 24 + 3 * 8)[0] == regs["cr3"]
    with open(f"{folder}/core", "rb") as f:
        assert b"needle-42" in f.read()
    msrs = vm.call("registers", vcpu=0)["vcpus"][0]["msrs"]
    assert int(msrs["0xc0000082"], 16)
    vm.call("resume")
    n = vm.out.count(b"tick")
    vm.wait_for(rb"(?s)(tick.*?){%d}" % (n + 3))
    vm.call("stop")
    assert vm.wait() == 5


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
