# SPDX-License-Identifier: MIT
"""What cannot be done: one clear line, the right status, and nothing changed."""
import errno
import fcntl
import os
import pathlib
import shutil
import struct
import subprocess

import pytest
from conftest import BUILD, ENGINE, FAKE, SCALE, fake_only, real_only, wait_for


@pytest.mark.parametrize("args, says", [
    (["--no-such-option"], "--no-such-option"),
    (["-d"], "-d needs an argument"),
    (["-d", ""], "empty"),
    (["-u", "", "true"], "empty"),
    (["-e"], "-e needs a command"),
    (["--shell-type", "weird", "true"], "weird"),
    (["--cd", "", "true"], "--cd"),
    (["--list", "--bogus"], "--bogus"),
    (["--list", "-q", "-v"], "exclude"),
    (["--terminate"], "name"),
    (["--terminate", "a", "b"], "name"),
    (["--set-default"], "name"),
    (["--unregister"], "name"),
    (["--shutdown", "now"], "now"),
    (["--status", "x"], "x"),
    (["--version", "x"], "x"),
    (["--import", "only-a-name"], "folder"),
    (["--import", "x", "y"], "archive"),
    (["--import", "x", "y", "z", "--size"], "--size"),
    (["--import", "x", "y", "z", "--size", "much"], "bad size 'much'"),
    (["--import", "x", "y", "z", "--what"], "--what"),
    (["--import-in-place", "x"], "disk image"),
    (["--export", "x"], "file"),
    (["--export", "x", "y", "--format", "rar"], "unknown format 'rar'"),
    (["--export", "x", "y", "--vhd", "--format", "raw"], "exclude"),
    (["--export", "x", "y", "z"], "'z'"),
    (["--manage", "x"], "what to do"),
    (["--manage", "x", "--resize", "-1"], "bad size '-1'"),
    (["--manage", "x", "--set-sparse", "perhaps"], "'perhaps'"),
    (["--manage", "x", "--grow"], "--grow"),
    (["--install", "--vhd-size", "huge"], "bad size 'huge'"),
    (["--install", "--fixed-vhd"], "--vhd-size"),
    (["--install", "a", "b"], "one distribution"),
    (["--install", "--bogus"], "--bogus"),
    (["--list", "--all", "--running"], "exclude"),
    (["--list", "--online", "--verbose"], "--online"),
    (["--shell-type", "none"], "command"),
    (["diag"], "subcommand"),
    (["diag", "dance"], "'dance'"),
    (["diag", "dump"], "file"),
    (["diag", "registers", "--vcpu", "first"], "number"),
    (["diag", "list", "--colour"], "--colour"),
    (["--set-version", "x"], "version"),
    (["--set-default-version"], "version"),
    (["--uninstall", "now"], "no arguments"),
])
def test_wrong_arguments(empty, args, says):
    empty.fails(125, *args, says=[says, "--help"])
    assert not empty.service_pid()  # no need to start anything for that


def test_help_and_version_go_to_standard_output(empty):
    assert "--import NAME DIR FILE" in empty.ok("--help")
    assert empty.ok("--version").startswith("wslx version: ")
    with open("/dev/full", "w") as full:
        p = subprocess.run(empty.cmd("--help"), env=empty.env, stdout=full, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 125 and "No space left" in p.stderr


def test_unknown_distribution(wslx):
    for args in (["-d", "nope", "--", "true"], ["--terminate", "nope"], ["--unregister", "nope"],
                 ["--set-default", "nope"]):
        wslx.fails(125, *args, says=["'nope'", "--list"])
    assert list(wslx.list()) == ["deb"]


def test_no_distribution_at_all(empty):
    empty.fails(125, "--", "true", says="no distribution is installed")


def test_output_that_cannot_be_written(wslx):
    with open("/dev/full", "w") as full:
        p = subprocess.run(wslx.cmd("-d", "deb", "-e", "echo", "x"), env=wslx.env, stdin=subprocess.DEVNULL, stdout=full,
                           stderr=subprocess.PIPE, text=True, timeout=30 * SCALE)
    assert p.returncode == 125 and p.stderr.count("\n") == 1 and "No space left" in p.stderr


# Configuration

def test_warnings_name_file_and_line_and_change_nothing_else(fresh):
    fresh.configure()
    fresh.conf.write_text(fresh.conf.read_text() + "[wsl2]\nbogusKey=1\nvmIdleTimeout=soon\nautoProxy=1000\nvmSwitch=x\n")
    lines = len(fresh.conf.read_text().splitlines())
    p = fresh.run("-d", "deb", "--", "echo", "hi")
    assert (p.returncode, p.stdout) == (0, "hi\n")
    err = p.stderr.splitlines()
    assert len(err) == 3 and all(e.startswith(f"wslx: warning: {fresh.conf}:") for e in err), p.stderr
    assert f":{lines - 3}: unknown key 'wsl2.bogusKey'" in err[0]
    assert f":{lines - 2}: bad value for wsl2.vmIdleTimeout: 'soon'" in err[1]
    assert f":{lines - 1}: bad value for wsl2.autoProxy: '1000'" in err[2]
    assert fresh.run("-d", "deb", "--", "true").stderr == ""  # said once, when it took effect


# One bad value for every key of wslx.conf(5) that can have one.
BAD = {
    "wsl2": {"memory": "lots", "processors": "0", "swap": "-1", "swapFile": "relative/path", "loadDefaultKernelModules": "2x",
             "kernelModules": "modules.img", "isolateDistroCgroup": "perhaps", "safeMode": "on fire", "debugConsole": "loud",
             "debugConsoleLogFile": "log", "earlyBootLogging": "early", "defaultVhdSize": "1PB", "crashDumpFolder": "C:/dumps",
             "maxCrashDumpCount": "-2", "vmIdleTimeout": "1h", "kernelBootTimeout": "0", "distributionStartTimeout": "0",
             "mountDeviceTimeout": "-1", "networkingMode": "wireless", "localhostForwarding": "maybe",
             "hostFileSystemAccess": "some", "virtio9p": "9", "dhcp": "later", "dhcpTimeout": "0", "ipv6": "6", "autoProxy": "manual"},
    "general": {"distributionInstallPath": "here", "instanceIdleTimeout": "-2"},
    "experimental": {"autoMemoryReclaim": "sometimes", "autoProxy": "manual"},
    "wslx": {"engine": "diesel", "hostFolder": "relative", "hostMappingWindow": "wide", "serviceIdleTimeout": "never", "clockCheckInterval": "1.5"},
    "interop": {"enabled": "maybe", "wslCompatibility": "11"},
    "distribution.deb": {"isolation": "splendid", "keepAlive": "forever", "autostart": "later", "memory": "half", "swap": "some",
                         "processors": "0.001", "tasks": "0", "ioReadBytes": "fast", "ioWriteBytes": "-5", "ioReadOps": "0",
                         "ioWriteOps": "9999999999", "interop": "ask"},
}


MALFORMED = [("[nonsense]", None), ("key = 1", "unknown key 'nonsense.key'"), ("no value", "'=' expected"),
             ("path = C:\\dumps", "unknown escape"), ('text = "open', "quote not closed"), ("[wsl2", "']' expected"),
             ("[distribution.deb]", None), ("colour = red", "unknown key 'distribution.deb.colour'"), ("[wsl2]", None),
             ("colour = red", "unknown key 'wsl2.colour'")]


@pytest.mark.parametrize("what", ["bad values", "malformed"])
def test_everything_wrong_in_the_configuration_is_told_with_its_line(fresh, what):
    fresh.configure()
    lines = fresh.conf.read_text().splitlines()
    first, rows = len(lines) + 1, MALFORMED if what == "malformed" else [
        row for section, keys in BAD.items() for row in [(f"[{section}]", None)] + [
            (f"{key} = {value}", f"bad value for {section}.{key}: '{value}'") for key, value in keys.items()]]
    fresh.conf.write_text("\n".join(lines + [text for text, _ in rows]) + "\n")
    p = fresh.run("-d", "deb", "--", "echo", "hi")
    assert (p.returncode, p.stdout) == (0, "hi\n")
    told = {}
    for line in p.stderr.splitlines():
        begin = f"wslx: warning: {fresh.conf}:"
        assert line.startswith(begin), line
        n, _, text = line[len(begin):].partition(": ")
        assert int(n) not in told, line
        told[int(n)] = text
    for n, (line, says) in enumerate(rows, first):
        assert (says is None) == (n not in told), (line, told.get(n))
        assert says is None or says in told[n], (line, told[n])


def test_that_there_is_more_wrong_is_told(fresh):
    fresh.configure()
    fresh.conf.write_text(fresh.conf.read_text() + "".join(f"key{i} = 1\n" for i in range(60)))
    err = fresh.run("-d", "deb", "--", "true").stderr.splitlines()
    assert len(err) == 51 and "key49'" in err[49]
    assert err[50] == f"wslx: warning: {fresh.conf}: and more of that kind"


def test_too_much_memory(fresh):
    fresh.configure(wsl2_memory="500TB")
    fresh.fails(125, "-d", "deb", "--", "true", says=["memory", "this host has"])
    fresh.configure()
    assert fresh.sh("echo fine") == "fine\n"


def test_missing_kernel(fresh):
    good = fresh.env["WSLX_KERNEL"]
    fresh.kill(fresh.service_pid())
    fresh.env["WSLX_KERNEL"] = "/no/such/kernel"
    fresh.fails(125, "-d", "deb", "--", "true", says=["/no/such/kernel", "No such file"])
    fresh.kill(fresh.service_pid())
    fresh.env["WSLX_KERNEL"] = good
    assert fresh.sh("echo fine") == "fine\n"


@pytest.mark.parametrize("content", [b"", b"not a kernel\n" * 1000, b"\x7fELF" + b"\0" * 100], ids=["empty", "text", "elf"])
def test_wrong_kernel(fresh, content):
    bad = fresh.tmp / "bad-kernel"
    bad.write_bytes(content)
    fresh.kill(fresh.service_pid())
    fresh.env["WSLX_KERNEL"] = str(bad)
    fresh.fails(125, "-d", "deb", "--", "true", says=[str(bad), "virtual machine"])
    assert not fresh.vmm_pids() and not list(fresh.run_dir.glob("wslx/vm-*"))


def test_missing_initramfs(fresh):
    fresh.kill(fresh.service_pid())
    fresh.env["WSLX_INITRD"] = "/no/such/initrd"
    fresh.fails(125, "-d", "deb", "--", "true", says=["/no/such/initrd", "No such file"])


def test_guest_that_never_comes_up(fresh):
    """Whatever the reason: the boot is given up, said, and the process is gone."""
    if FAKE:
        fresh.env["FAKE_NO_HELLO"] = "1"
    else:
        empty = fresh.tmp / "empty.cpio"
        name = b"TRAILER!!!\0"
        empty.write_bytes(b"070701" + b"%08X" * 13 % (*[0] * 4, 1, *[0] * 6, len(name), 0) + name + bytes(3))
        fresh.env["WSLX_INITRD"] = str(empty)
    fresh.kill(fresh.service_pid())
    fresh.configure(wsl2_kernelBootTimeout=1000 if FAKE else 30000)
    line = fresh.fails(125, "-d", "deb", "--", "true", timeout=60)
    assert "virtual machine" in line
    assert not fresh.vmm_pids()


@real_only
@pytest.mark.skipif(ENGINE != "soft", reason="once is enough")
def test_no_working_kvm(fresh):
    """Where KVM cannot be used: asked for, it is an error; else the other engine is chosen, with the reason."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        p = subprocess.run([BUILD / "vmm/wslx-vmm", "--probe", "--engine", "kvm"], capture_output=True, text=True)
        if p.returncode == 0:
            pytest.skip("KVM works here")
    fresh.configure(wslx_engine="kvm")
    line = fresh.fails(125, "-d", "deb", "--", "true", says="KVM" if os.path.exists("/dev/kvm") else "kvm")
    assert "virtual machine" in line
    fresh.configure(wslx_engine="auto")
    assert fresh.sh("echo fine") == "fine\n"
    s = fresh.status()
    assert s["engine"]["name"] == "soft" and "kvm" in s["engine"]["reason"].lower()


# Disks

def corrupt(disk, offset, data):
    with open(disk, "r+b") as f:
        f.seek(offset)
        f.write(data)


@pytest.mark.parametrize("how, says", [
    ("superblock", "it holds nothing that is known"), ("groups", "the file system is damaged"), ("truncated", "whose end is missing"),
    ("gone", "No such file"), ("foreign", "it holds a squashfs file system"), ("another", "it holds an xfs file system, and not ext4"), ("empty", "nothing but zeroes")])
def test_bad_disk(fresh, how, says):
    disk = fresh.tmp / "disk-deb/ext4.img"
    if how == "superblock":
        corrupt(disk, 1024, os.urandom(1024))
    elif how == "groups":
        if FAKE:
            pytest.skip("the fake does not read them")
        corrupt(disk, 4096, os.urandom(1 << 20))
    elif how == "truncated":
        os.truncate(disk, 1 << 20)
    elif how == "gone":
        disk.unlink()
    elif how == "foreign":
        corrupt(disk, 0, b"hsqs" + bytes(4096))
    elif how == "another":
        corrupt(disk, 0, struct.pack(">4sIQ", b"XFSB", 4096, 1000) + bytes(4096))
    elif how == "empty":
        os.truncate(disk, 0)
    before = disk.read_bytes() if how in ("truncated", "empty") else b""
    fresh.fails(125, "-d", "deb", "--", "true", says=["start deb", says])
    if before:
        assert disk.read_bytes() == before
    wait_for("its disk to leave the virtual machine", lambda: fresh.list()["deb"]["state"] == "Stopped")
    # Its neighbour is not harmed, nor is the virtual machine.
    fresh.import_deb("other")
    assert fresh.ok("-d", "other", "--", "echo", "fine") == "fine\n"
    fresh.ok("--unregister", "deb")


def test_disk_in_use(fresh):
    """By anybody who locks it, such as a service of another login."""
    disk = fresh.tmp / "disk-deb/ext4.img"
    with open(disk, "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        fresh.fails(125, "-d", "deb", "--", "true", says="in use")
    assert fresh.sh("echo fine") == "fine\n"


# The service

def test_damaged_registry(fresh):
    fresh.ok("-l")
    fresh.kill(fresh.service_pid())
    registry = fresh.data / "registry.json"
    text = registry.read_text()
    registry.write_text(text[:50])
    fresh.fails(125, "-l", says=["registry.json", "damaged"])
    assert registry.read_text() == text[:50]
    registry.write_text(text)
    assert "deb" in fresh.list()


def fill(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(fd, b"x" * 4096)
    except OSError as e:
        assert e.errno == errno.ENOSPC
    finally:
        os.close(fd)


def test_no_room_for_the_registry(fresh):
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    fresh.kill(fresh.service_pid())
    small = fresh.tmp / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small], stderr=subprocess.DEVNULL).returncode:
        pytest.skip("may not mount")
    try:
        shutil.copytree(fresh.data, small / "wslx")
        fresh.env["XDG_DATA_HOME"] = str(small)
        fresh.data = small / "wslx"
        before = fresh.list()
        fill(small / "filler")
        fresh.fails(125, "--import", "two", fresh.tmp / "two", os.devnull, says="No space left")
        fresh.fails(125, "--unregister", "deb", says="No space left")
        assert fresh.list() == before
        (small / "filler").unlink()
        assert (fresh.tmp / "disk-deb/ext4.img").exists()
        fresh.kill(fresh.service_pid())
        assert fresh.list() == before
    finally:
        if fresh.service_pid():
            fresh.kill(fresh.service_pid())
        subprocess.run(["umount", "-l", small], check=True)


def test_folders_that_are_not_private(empty):
    """Without XDG_RUNTIME_DIR the folder is in /tmp, where others can make one first."""
    d = empty.run_dir / "wslx"
    d.symlink_to(empty.tmp)
    empty.fails(125, "-l", says="not a folder")
    d.unlink()
    if os.geteuid() == 0:
        d.mkdir()
        os.chown(d, 65534, 65534)
        empty.fails(125, "-l", says="belongs to user 65534")
        d.rmdir()
    pathlib.Path(empty.env["XDG_RUNTIME_DIR"]).chmod(0o700)
    empty.ok("-l")


def test_an_argument_that_is_no_utf8_is_said_to_be_that(empty):
    for args in ["-d", b"\xff", "--", "true"], ["--terminate", b"\xff"]:
        p = subprocess.run([*empty.cmd(), *args], env=empty.env, capture_output=True, text=True, errors="replace", timeout=60, stdin=subprocess.DEVNULL)
        assert p.returncode == 125 and "an argument is no UTF-8" in p.stderr


@pytest.mark.parametrize("key, value, guest", [
    ("network", "10.9.0.0/24x", "10.255.255.2/24"), ("network", "10.9.0.0/24 # ours", "10.255.255.2/24"),
    ("network6", "fd00:9::/640", "fd77:736c:7800::2/64"), ("network6", "fd00:9::/64/64", "fd77:736c:7800::2/64")])
def test_a_network_that_wslx_netd_would_not_take_is_none(fresh, key, value, guest):
    fresh.configure(**{f"wslx_{key}": f'"{value}"'})
    p = fresh.run("-d", "deb", "--", "true")
    assert p.returncode == 0 and f"bad value for wslx.{key}: '{value}'" in p.stderr, p.stderr
    assert guest in fresh.ok("network")
