# SPDX-License-Identifier: MIT
"""Disks beside distributions: --mount and --unmount."""
import fcntl
import os
import signal
import subprocess

import pytest
from conftest import fake_only, real_only, rootfs, wait_for

def tool(*argv, **kw):
    env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
    subprocess.run([str(a) for a in argv], check=True, env=env, stdout=subprocess.DEVNULL, timeout=60, **kw)


def ext4(path, text="hello\n", size="16M"):
    """An image with one file, "file"."""
    tree = path.parent / (path.name + ".d")
    tree.mkdir()
    (tree / "file").write_text(text)
    tool("mke2fs", "-q", "-t", "ext4", "-d", tree, "-E", "root_owner=0:0", path, size)
    return path


def partitioned(path):
    """Two partitions: ext4, and FAT with the label of no file."""
    with open(path, "wb") as f:
        f.truncate(64 << 20)
    tool("sfdisk", "-q", path, input=b"label: gpt\nstart=2048, size=32768\nstart=40960, size=81920\n")
    one = ext4(path.parent / "one.img", "first\n")
    two = path.parent / "two.img"
    with open(two, "wb") as f:
        f.truncate(40 << 20)
    tool("mkfs.vfat", two)
    for part, start in ((one, 2048), (two, 40960)):
        tool("dd", f"if={part}", f"of={path}", "bs=512", f"seek={start}", "conv=notrunc,sparse", stderr=subprocess.DEVNULL)
    return path


def mounts(w):
    return {m["name"] for v in w.status()["mounts"] for m in v["mounts"]}


# --- what can be asked ---

@pytest.mark.parametrize("args, says", [
    (["--mount"], "needs a disk"),
    (["--mount", "a", "b"], "'b'"),
    (["--mount", "a", "--name"], "--name needs"),
    (["--mount", "a", "--partition", "0"], "'0'"),
    (["--mount", "a", "--partition", "x"], "'x'"),
    (["--mount", "a", "--bare", "--name", "x"], "--bare excludes"),
    (["--mount", "--what", "a"], "--what"),
    (["--unmount", "a", "b"], "'b'"),
    (["--unmount", "--all"], "--all"),
])
def test_wrong_arguments(empty, args, says):
    empty.fails(125, *args, says=[says, "--help"])


def test_what_cannot_be_mounted(empty):
    w = empty
    w.fails(125, "--mount", w.tmp / "nothing", says=["nothing", "No such file"])
    w.fails(125, "--mount", w.tmp, "--vhd", says=["is a folder", "--vhd"])
    w.fails(125, "--mount", "/dev/null", says=["neither a folder, a file nor a block device"])
    (w.tmp / "x.vhdx").write_bytes(b"vhdxfile" + bytes(8192))
    w.fails(125, "--mount", w.tmp / "x.vhdx", says="--vhd")
    (w.tmp / "y.vhd").write_bytes(bytes(8192))
    w.fails(125, "--mount", "--vhd", w.tmp / "y.vhd", says="is not a VHDX file")
    img = w.tmp / "a.img"
    img.write_bytes(bytes(1 << 20))
    for name in ("..", "a/b", "-x", "a b", "x" * 65):
        w.fails(125, "--mount", img, "--name", name, says=["is no name for a mount"])
    with open(img, "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        w.fails(125, "--mount", img, says=[str(img), "in use by another program"], timeout=60)
    w.fails(125, "--unmount", img, says=[str(img), "is not mounted"])
    w.ok("--unmount")


# --- the service ---

@fake_only
def test_the_list_of_mounts(fresh):
    w = fresh
    trouble, busy = w.tmp / "trouble", w.tmp / "busy"
    w.env.update(FAKE_MOUNT=str(trouble), FAKE_UNMOUNT=str(busy))
    w.kill(w.service_pid())  # the next one has this environment
    img, other = w.tmp / "My disk.img", w.tmp / "other.img"
    for i in (img, other):
        i.write_bytes(bytes(1 << 20))
    assert w.ok("--mount", img) == "/mnt/wsl/My_disk.img\n"
    assert w.ok("--mount", img, "-p", "3") == "/mnt/wsl/My_disk.imgp3\n"
    w.fails(125, "--mount", img, "-n", "x", says=["mounted already", "/mnt/wsl/My_disk.img"])
    w.fails(125, "--mount", img, "-p", "3", says=["mounted already"])
    w.fails(125, "--mount", img, "--bare", says=["attached already"])
    w.fails(125, "--mount", other, "-n", "My_disk.img", says=["My disk.img", "--name"])
    # By another name it is the same disk.
    (w.tmp / "link").symlink_to(img)
    os.link(img, w.tmp / "hard")
    for same in ("link", "hard"):
        w.fails(125, "--mount", w.tmp / same, says="mounted already")
    # One that cannot be mounted is let go of, and not noted.
    trouble.write_text("mount /dev/sdz (ext4): Structure needs cleaning")
    w.fails(125, "--mount", other, says=[f"mount {other}: mount /dev/sdz (ext4): Structure needs cleaning"])
    with open(other, "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert mounts(w) == {"My_disk.img", "My_disk.imgp3"}
    trouble.unlink()
    with open(img, "rb+") as f, pytest.raises(BlockingIOError):
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # A new service, the same machine; a new machine; both.
    w.kill(w.service_pid())
    assert mounts(w) == {"My_disk.img", "My_disk.imgp3"}
    w.ok("--shutdown")
    w.ok("-d", "deb", "--", "true")
    log = (w.data / "log/wslx-vmm.log").read_text()
    assert log.count("fake: MOUNT My_disk.img\n") == 1 and log.count("fake: MOUNT My_disk.imgp3\n") == 1, log
    w.kill(w.vmm_pids()[0])
    w.kill(w.service_pid())
    w.ok("-d", "deb", "--", "true")
    # Who uses it is told, and it stays.
    busy.write_text("My_disk.img is in use: sh (process 7 of deb)")
    w.fails(125, "--unmount", img, says=[str(img), "sh (process 7 of deb)"])
    assert mounts(w) == {"My_disk.img", "My_disk.imgp3"}
    busy.unlink()
    w.ok("--unmount", w.tmp / "link")
    assert mounts(w) == set()
    with open(img, "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    w.fails(125, "--unmount", img, says="is not mounted")


@fake_only
def test_all_that_can_be_is_unmounted(fresh):
    w = fresh
    w.env["FAKE_UNMOUNT"] = str(w.tmp / "busy")
    w.kill(w.service_pid())
    for n in "abc":
        (w.tmp / n).write_bytes(bytes(1 << 20))
        w.ok("--mount", w.tmp / n)
    (w.tmp / "busy").write_text("in use")
    w.fails(125, "--unmount", says=[str(w.tmp / "a"), "in use"])
    assert mounts(w) == set("abc")
    (w.tmp / "busy").unlink()
    w.ok("--unmount")
    assert mounts(w) == set()
    # Without a machine there is nothing to be waited for.
    w.ok("--mount", w.tmp / "a")
    w.ok("--shutdown", "--force")
    w.ok("--unmount")
    assert mounts(w) == set() and not w.vmm_pids()


@fake_only
def test_mounts_in_a_row_and_a_machine_that_does_not_start(fresh):
    w = fresh
    for n in range(6):
        (w.tmp / f"d{n}").write_bytes(bytes(1 << 20))
    ps = [w.popen("--mount", w.tmp / f"d{n}") for n in range(6)]
    assert all(p.wait(60) == 0 for p in ps)
    assert mounts(w) == {f"d{n}" for n in range(6)} and len(w.vmm_pids()) == 1
    w.ok("--unmount")
    w.ok("--shutdown")
    w.kill(w.service_pid())
    w.env["FAKE_FAIL"] = "no such machine"
    w.fails(125, "--mount", w.tmp / "d0", says=["mount", "start the virtual machine", "no such machine"])
    assert mounts(w) == set()


@fake_only
@pytest.mark.slow  # the patience is a minute
def test_a_mount_that_ended_after_its_time_could_not_be_unmounted(fresh):
    late = fresh.tmp / "late"
    late.touch()
    fresh.env["FAKE_MOUNT_LATE"] = str(late)
    fresh.ok("--shutdown")
    fresh.kill(fresh.service_pid())
    fresh.configure(wsl2_mountDeviceTimeout=100, general_instanceIdleTimeout=-1)
    image = ext4(fresh.tmp / "disk.img")
    fresh.sh("true")
    fresh.fails(125, "--mount", image, "--name", "data", says="has not done it in time", timeout=90)
    assert mounts(fresh) == set()
    late.unlink()
    wait_for("the mount", lambda: mounts(fresh) == {"data"})
    fresh.ok("--unmount", image)
    assert mounts(fresh) == set()
    fresh.ok("--mount", image, "--name", "data")


@fake_only
def test_it_lasts_only_until_the_machine_is_idle(fresh):
    """A mount alone keeps no machine up, and is there with the next one."""
    w = fresh
    w.configure(wsl2_vmIdleTimeout=0)
    (w.tmp / "d").write_bytes(bytes(1 << 20))
    w.ok("--mount", w.tmp / "d")
    wait_for("the machine to stop", lambda: not w.vmm_pids())
    assert mounts(w) == {"d"}
    with open(w.tmp / "d", "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        p = w.run("-d", "deb", "--", "true")
        assert p.returncode == 0 and "in use by another program" in p.stderr
    w.ok("--unmount")


# --- a real machine ---

@real_only
def test_an_image_is_there_in_every_distribution(wslx):
    w = wslx
    img = ext4(w.tmp / "data.img")
    p = w.popen("-d", "deb", "--", "echo up; read x; cat /mnt/wsl/mine/file; echo changed > /mnt/wsl/mine/file", stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"
    assert w.ok("--mount", img, "--name", "mine", timeout=60) == "/mnt/wsl/mine\n"
    assert mounts(w) == {"mine"}
    # It runs already ...
    assert p.communicate(b"\n", timeout=120)[0] == b"hello\n"
    # ... and this one starts later.
    w.ok("--terminate", "deb", timeout=60)
    assert w.sh("cat /mnt/wsl/mine/file") == "changed\n"
    assert "ext4" in w.sh("grep /mnt/wsl/mine /proc/mounts")
    # The names at the top are not its to give.
    assert w.run("-d", "deb", "--", "touch /mnt/wsl/x").returncode == 1
    w.fails(125, "--mount", img, "--name", "again", says=["mounted already", "/mnt/wsl/mine"])
    other = ext4(w.tmp / "other.img")
    w.fails(125, "--mount", other, "--name", "mine", says=["/mnt/wsl/mine", "--name"])
    w.ok("--unmount", img)
    assert w.sh("ls /mnt/wsl") == "" and mounts(w) == set()
    # What was written is on the disk, and nobody holds it.
    out = subprocess.run(["/sbin/debugfs", "-R", "cat file", img], capture_output=True, text=True, timeout=60)
    assert out.stdout == "changed\n"
    with open(img, "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


@real_only
def test_who_uses_it_is_told(wslx):
    w = wslx
    img = ext4(w.tmp / "busy.img")
    w.ok("--mount", img, timeout=60)
    p = w.popen("-d", "deb", "--", "cd /mnt/wsl/busy.img && exec perl -e '$| = 1; print \"in\\n\"; sleep 1000'")
    try:
        assert p.stdout.readline() == b"in\n"
        w.fails(125, "--unmount", img, says=["busy.img is in use", "perl (process ", " of deb)"])
    finally:
        p.send_signal(signal.SIGINT)
        p.wait(60)
        w.ok("--unmount")
    assert mounts(w) == set()


@real_only
def test_partitions(wslx):
    w = wslx
    img = partitioned(w.tmp / "parts.img")
    w.fails(125, "--mount", img, says=["has partitions (1, 2)", "--partition"], timeout=60)
    w.fails(125, "--mount", img, "--partition", "3", says=["no partition 3", "1, 2"])
    assert w.ok("--mount", img, "--partition", "1") == "/mnt/wsl/parts.imgp1\n"
    assert w.ok("--mount", img, "-p", "2", "-n", "two", "-o", "ro,uid=1000", timeout=60) == "/mnt/wsl/two\n"
    assert w.sh("cat /mnt/wsl/parts.imgp1/file; stat -c %u /mnt/wsl/two") == "first\n1000\n"
    line = w.sh("grep /mnt/wsl/two /proc/mounts").split()
    assert line[2] == "vfat" and {"ro", "nosuid", "nodev"} <= set(line[3].split(","))
    w.ok("--unmount", img)
    assert w.sh("ls /mnt/wsl") == ""


@real_only
def test_a_virtual_disk(wslx):
    w = wslx
    raw = ext4(w.tmp / "raw.img", "virtual\n")
    tool("qemu-img", "convert", "-O", "vhdx", raw, w.tmp / "disk.vhdx")
    assert w.ok("--mount", "--vhd", w.tmp / "disk.vhdx", "--name", "v", timeout=60) == "/mnt/wsl/v\n"
    assert w.sh("cat /mnt/wsl/v/file; echo more > /mnt/wsl/v/new") == "virtual\n"
    w.ok("--unmount", w.tmp / "disk.vhdx")
    tool("qemu-img", "convert", "-O", "raw", w.tmp / "disk.vhdx", w.tmp / "back.img")
    out = subprocess.run(["/sbin/debugfs", "-R", "cat new", w.tmp / "back.img"], capture_output=True, text=True, timeout=60)
    assert out.stdout == "more\n"


@real_only
def test_an_iso_image_that_cannot_be_written(wslx):
    w = wslx
    tree = w.tmp / "iso"
    tree.mkdir()
    (tree / "readme.txt").write_text("from the image\n")
    tool("xorriso", "-as", "mkisofs", "-quiet", "-R", "-o", w.tmp / "cd.iso", tree, stderr=subprocess.DEVNULL)
    assert w.ok("--mount", w.tmp / "cd.iso", "-o", "ro", timeout=60) == "/mnt/wsl/cd.iso\n"
    assert w.sh("cat /mnt/wsl/cd.iso/readme.txt") == "from the image\n"
    w.ok("--unmount")


@real_only
def test_a_bare_disk_is_a_device(wslx):
    w = wslx
    img = ext4(w.tmp / "bare.img")
    p = w.popen("-d", "deb", "--", "echo up; read x; ls /dev/sd*; mount $(ls /dev/sd* | head -1) /mnt && cat /mnt/file; umount /mnt",
                stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"
    dev = w.ok("--mount", img, "--bare", timeout=60)
    assert dev.startswith("/dev/sd")
    assert p.communicate(b"\n", timeout=120)[0].decode() == dev + "hello\n"
    w.fails(125, "--mount", img, "--bare", says="is attached already")
    # It has a file system all the same.
    assert w.ok("--mount", img, "--name", "b", timeout=60) == "/mnt/wsl/b\n"
    assert w.sh("cat /mnt/wsl/b/file") == "hello\n"
    w.ok("--terminate", "deb", timeout=60)
    assert w.sh("ls /dev/sd*") == dev
    w.ok("--unmount", img)
    assert w.run("-d", "deb", "--", "ls /dev/sd*").returncode == 2


@real_only
def test_a_damaged_file_system_is_an_error_and_nothing_more(wslx):
    w = wslx
    w.sh("true")
    vm = w.vmm_pids()
    img = ext4(w.tmp / "bad.img")
    with open(img, "rb+") as f:
        f.seek(1024 + 0x18)
        f.write(b"\xff" * 32)  # nonsense in the superblock
    line = w.fails(125, "--mount", img, says=[f"mount {img}", "ext4"])
    assert "Invalid argument" in line or "cleaning" in line
    # One that asks for the machine's end when something is wrong with it.
    img = ext4(w.tmp / "panic.img")
    tool("tune2fs", "-e", "panic", img)
    tool("debugfs", "-w", "-R", "clri file", img, stderr=subprocess.DEVNULL)
    w.ok("--mount", img, "--name", "p", timeout=60)
    w.run("-d", "deb", "--", "cat /mnt/wsl/p/file")
    w.ok("--unmount", img)
    (w.tmp / "noise.img").write_bytes(os.urandom(1 << 20))
    w.fails(125, "--mount", w.tmp / "noise.img", says="no file system that is known")
    w.fails(125, "--mount", w.tmp / "noise.img", "--type", "ext4", says="(ext4)")
    w.fails(125, "--mount", w.tmp / "noise.img", "--type", "nosuchfs", says="no file system \"nosuchfs\"")
    assert w.sh("echo on") == "on\n" and w.vmm_pids() == vm
    # None of them is held.
    with open(w.tmp / "noise.img", "rb+") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)


@real_only
def test_it_is_mounted_again_when_the_machine_starts_again(fresh):
    w = fresh
    img = ext4(w.tmp / "keep.img")
    w.ok("--mount", img, "--name", "keep", timeout=60)
    w.sh("echo one > /mnt/wsl/keep/file")
    w.ok("--shutdown", timeout=60)
    assert not w.vmm_pids() and mounts(w) == {"keep"}
    assert w.sh("cat /mnt/wsl/keep/file") == "one\n"
    # The service may go meanwhile, too.
    w.kill(w.service_pid())
    assert w.sh("cat /mnt/wsl/keep/file") == "one\n"
    w.sh("echo two > /mnt/wsl/keep/file; sync")
    pid, = w.vmm_pids()
    w.kill(pid)
    wait_for("the service to notice", lambda: "vm" not in w.status())
    assert w.sh("cat /mnt/wsl/keep/file") == "two\n"
    w.ok("--shutdown", timeout=60)
    img.rename(w.tmp / "gone.img")
    p = w.run("-d", "deb", "--", "ls /mnt/wsl", timeout=60)
    assert p.returncode == 0 and p.stdout == "" and "keep.img" in p.stderr and "No such file" in p.stderr
    w.ok("--unmount", img)
    assert mounts(w) == set()


@real_only
def test_services_of_systemd_see_it_too(empty):
    """Services with mount namespaces of their own, whose copies come and go with it."""
    w = empty
    w.import_deb("deb", rootfs("WSLX_TEST_SYSTEMD_ROOTFS"))
    w.sh("printf '[boot]\\nsystemd=true\\n' >/etc/wsl.conf")
    w.ok("--terminate", "deb", timeout=60)
    img = ext4(w.tmp / "data.img")
    p = w.popen("-d", "deb", "--", "systemd-run -q --unit=own -p PrivateTmp=yes -p ProtectSystem=yes sleep infinity; echo up; read x; "
                "nsenter -m -t $(systemctl show -P MainPID own) cat /mnt/wsl/data/file", stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"up\n"
    w.ok("--mount", img, "--name", "data", timeout=60)
    assert p.communicate(b"\n", timeout=120)[0] == b"hello\n"
    w.sh("systemctl is-active -q own")
    w.ok("--unmount", img)
    assert w.sh("ls /mnt/wsl") == ""


@real_only
def test_one_with_a_machine_of_its_own_does_not_get_it(fresh):
    w = fresh
    w.configure(**{"distribution.deb_isolation": "vm"})
    w.ok("--mount", ext4(w.tmp / "data.img"), "-n", "data", timeout=60)
    assert w.sh("ls /mnt/wsl") == "" and len(w.vmm_pids()) == 2
    # Its machine can be looked into all the same.
    assert w.ok("--debug-shell", "-d", "deb", "--", "ls /run/shared; echo over", timeout=60) == "over\n"
    w.ok("--unmount")


# --- a shell in the machine ---

@real_only
def test_a_shell_in_the_machine_itself(wslx):
    w = wslx
    out = w.ok("--debug-shell", "-d", "deb", "--", "id -u; tr '\\0' ' ' < /proc/1/cmdline; echo; ls -d /run/shared; grep -c ext4 /proc/mounts",
               timeout=60).splitlines()
    assert out[0] == "0" and "init" in out[1] and out[2] == "/run/shared" and int(out[3]) >= 1
    # It sees the processes of distributions, and not only them.
    p = w.popen("-d", "deb", "--", "echo up; exec sleep 4711")
    assert p.stdout.readline() == b"up\n"
    assert "sleep 4711" in w.ok("--debug-shell", "--", "ps ax", timeout=60)
    p.send_signal(signal.SIGINT)
    p.wait(60)
    # What it is lent stays as it is, and the exit status is the program's.
    assert w.run("--debug-shell", "--", "touch /usr/x").returncode == 1
    assert w.run("--debug-shell", "--", "exit 7").returncode == 7
    assert w.ok("--debug-shell", "--", "cat", input="through\n") == "through\n"
    # Nothing of it stays.
    assert w.ok("--debug-shell", "--", "ls /usr | head -1").strip()
    assert w.run("-d", "deb", "--", "test -e /run/shared").returncode == 1
    w.fails(125, "--debug-shell", "-d", "nope", "--", "true", says="'nope'")
    w.fails(125, "--debug-shell", "--what", says=["--what", "--help"])


@real_only
def test_a_shell_in_the_machine_has_a_terminal(wslx):
    import pexpect
    t = pexpect.spawn(str(wslx.cmd()[0]), ["--debug-shell"], env=wslx.env, timeout=60, encoding="utf-8", dimensions=(30, 90))
    t.sendline("stty size; tty")
    t.expect("30 90")
    t.expect("/dev/pts/")
    t.sendline("exit 3")
    t.expect(pexpect.EOF)
    t.close()
    assert t.exitstatus == 3


def test_a_distribution_by_its_id(wslx):
    w = wslx
    id_ = w.list()["deb"]["id"]
    assert w.ok("--distribution-id", id_, "--", "echo $WSL_DISTRO_NAME") == "deb\n"
    assert w.ok(f"--distribution-id={{{id_.upper()}}}", "--", "echo x") == "x\n"
    w.fails(125, "--distribution-id", "12", "--", "true", says=["'12'", "--list --json"])
    w.fails(125, "--distribution-id", "00000000-0000-0000-0000-000000000000", "--", "true", says=["no distribution with id"])
    w.fails(125, "-d", "deb", "--distribution-id", id_, "--", "true", says="exclude each other")
