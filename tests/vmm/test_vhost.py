# SPDX-License-Identifier: MIT
"""Devices that another process serves (--vhost-user): a folder of the host through QEMU's virtiofsd, and a network whose server
is on our own library (echo-net.c), which QEMU must be able to use as well."""
import glob
import hashlib
import os
import re
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import CACHE, LIMIT, ROOT

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MODULES = ("fuse", "virtiofs")
NET_MODULES = ("failover", "net_failover", "virtio_net")

# Sums of all regular files below the mount, as the host makes them too.
SUMS = """
sums() { (cd "$1" && find . -type f | sort | while read -r f; do echo "SUM $f $(sha256sum <"$f" | cut -d' ' -f1)"; done); }
mkdir -p /mnt
"""


@pytest.fixture
def share(folder):
    path = f"{folder}/share"
    os.makedirs(f"{path}/sub/deeper")
    contents = {"hello": b"from the host\n", "empty": b"", "sub/large": os.urandom(3 << 20), "sub/deeper/name with space": b"x" * 4097}
    for name, data in contents.items():
        with open(f"{path}/{name}", "wb") as f:
            f.write(data)
    return path


def listens(path):
    """A socket has its name before it listens, and a connection made to look would be the one that virtiofsd serves."""
    with open("/proc/net/unix", encoding="utf-8") as f:
        return any(fields[3] == "00010000" and fields[-1] == path for fields in map(str.split, f))


@pytest.fixture
def server(folder):
    """server(ARGV): a server that listens at the path it is given for "SOCKET"; process and path."""
    servers = []

    def run(*argv):
        path = f"{folder}/server{len(servers)}.sock"
        p = subprocess.Popen([a.replace("SOCKET", path) for a in argv])
        servers.append(p)
        end = time.monotonic() + LIMIT
        while not listens(path):
            assert p.poll() is None and time.monotonic() < end, "the server did not start"
            time.sleep(0.02)
        return p, path

    yield run
    for p in servers:
        if p.poll() is None:
            p.terminate()
        p.wait()


@pytest.fixture
def virtiofsd(server, share):
    """Serves the share to the first who connects."""
    return lambda: server(VIRTIOFSD, "--socket-path=SOCKET", "-o", f"source={share}", "-o", "cache=auto", "-f")


@pytest.fixture
def echo_net(server):
    """A network on which 10.1.2.3 answers pings."""
    return lambda: server(f"{ROOT}/build/tests/echo-net", "SOCKET")


def sums(path):
    found = {}
    for base, _, files in os.walk(path):
        for name in files:
            with open(f"{base}/{name}", "rb") as f:
                found["./" + os.path.relpath(f"{base}/{name}", path)] = hashlib.sha256(f.read()).hexdigest()
    return found


def sums_said(out):
    return {name.decode(): s.decode() for name, s in re.findall(rb"SUM (.*) ([0-9a-f]{64})", out)}


def test_a_folder_of_the_host_reads_and_writes_as_it_is(start, virtiofsd, share):
    _, path = virtiofsd()
    vm = start(SUMS + """
mount -t virtiofs host /mnt && echo MOUNTED
sums /mnt
mkdir /mnt/new && seq 1 100000 >/mnt/new/numbers && mv /mnt/hello /mnt/new/moved && rm /mnt/empty && sync
echo AFTER; sums /mnt
umount /mnt && echo UNMOUNTED
""", "--vhost-user", f"fs,tag=host,socket={path}", modules=MODULES)
    before = sums(share)
    assert vm.wait() == 0, vm.tail()
    first, after = vm.out.split(b"AFTER")
    assert b"MOUNTED" in first and b"UNMOUNTED" in after, vm.tail()
    assert sums_said(first) == before
    assert sums_said(after) == sums(share)
    with open(f"{share}/new/numbers", encoding="ascii") as f:
        assert f.read().split() == [str(i) for i in range(1, 100001)]


def attach(vm, path, device="fs0"):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        vm.call("vhost-user-attach", s.fileno(), device=device)


def test_a_file_server_that_dies_is_an_error_and_its_successor_serves_again(start, virtiofsd, share):
    daemon, path = virtiofsd()
    vm = start(SUMS + """
mount -t virtiofs host /mnt && echo MOUNTED
while cat /mnt/hello >/dev/null 2>&1; do sleep 0.1; done
echo "ERROR $(cat /mnt/hello 2>&1)"
umount -l /mnt
mkdir /new
# A mount succeeds before the server's first answer, or without any.
until mount -t virtiofs host /new 2>/dev/null && ls /new >/dev/null 2>&1; do umount /new 2>/dev/null; sleep 0.1; done
sums /new
umount /new && echo UNMOUNTED
""", "--vhost-user", f"fs,tag=host,socket={path}", modules=MODULES)
    vm.wait_for(b"MOUNTED")
    assert vm.call("status")["servers"] == {"fs0": True}
    daemon.send_signal(signal.SIGKILL)
    # the second one if it died before it had answered at all
    vm.wait_for(b"ERROR .*(not connected|onnection refused)")
    assert vm.call("status")["servers"] == {"fs0": False}
    attach(vm, virtiofsd()[1])
    assert vm.wait() == 0, vm.tail()
    assert b"UNMOUNTED" in vm.out, vm.tail()
    assert sums_said(vm.out) == sums(share)


def test_a_driver_that_leaves_and_returns_finds_the_share_again(start, virtiofsd, share):
    _, path = virtiofsd()
    vm = start(SUMS + """
for i in 1 2 3; do
    mount -t virtiofs host /mnt && cat /mnt/hello && umount /mnt
    rmmod virtiofs && echo "LEFT $i"
    insmod /modules/virtiofs.ko
done
mount -t virtiofs host /mnt && sums /mnt
""", "--vhost-user", f"fs,tag=host,socket={path}", modules=MODULES)
    assert vm.wait() == 0, vm.tail()
    assert vm.out.count(b"from the host") == 3 and b"LEFT 3" in vm.out, vm.tail()
    assert sums_said(vm.out) == sums(share)


@pytest.mark.parametrize("option, said", [
    ("blk", "fs, 9p or net is needed"),
    ("fs", "tag= is needed"),
    ("fs,tag=" + "x" * 37, "more than 36 bytes"),
    ("fs,tag=x,queues=0", "a number from 1 to"),
    ("fs,tag=x,mac=02:00:00:00:00:01", "no such setting: mac"),
    ("net,mac=01:00:00:00:00:01", "not an address of one device"),
    ("net,mac=02:00:00:00:00", "not an address of one device"),
    ("net,mtu=70000", "a number from 68 to 65535"),
    ("net,fd=1", "a number from 3 to"),
    ("net,fd=5,socket=/x", "not both"),
    ("net,socket", "socket needs a value"),
])
def test_a_device_that_makes_no_sense_is_refused(option, said):
    r = subprocess.run([f"{ROOT}/build/vmm/wslx-vmm", "--kernel", "/nowhere", "--vhost-user", option], capture_output=True,
                       timeout=LIMIT, check=False)
    assert r.returncode == 2 and said in r.stderr.decode(), r.stderr


def test_a_server_that_does_not_answer_is_an_error_at_the_start(start, folder):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/mute.sock")
        listener.listen(1)
        vm = start("", "--vhost-user", f"fs,tag=host,socket={folder}/mute.sock", modules=MODULES)
        assert vm.wait() == 1
    assert "agree with the server of fs0" in vm.tail()


def test_a_machine_whose_file_system_is_in_use_is_not_saved(start, folder, virtiofsd):
    _, path = virtiofsd()
    vm = start("""
mkdir -p /mnt
mount -t virtiofs host /mnt && echo MOUNTED
while ! [ -e /mnt/end ]; do sleep 0.1; done
""", "--vhost-user", f"fs,tag=host,socket={path}", modules=MODULES)
    vm.wait_for(b"MOUNTED")
    vm.call("pause")
    with open(f"{folder}/saved", "w+b") as f:
        assert "cannot be saved" in vm.refused("save", f.fileno())
    vm.call("resume")
    with open(f"{folder}/share/end", "wb"):
        pass
    assert vm.wait() == 0, vm.tail()


PING = """
echo "MAC $(cat /sys/class/net/eth0/address) MTU $(cat /sys/class/net/eth0/mtu)"
ip addr add 10.1.2.9/24 dev eth0
ip link set eth0 up
ping -c 4 -s 1000 -i 0.2 10.1.2.3
"""


def pings(out, n):
    return re.search(rb"%d packets transmitted, %d packets received" % (n, n), out)


def test_a_network_of_another_process(start, echo_net):
    _, path = echo_net()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        vm = start(PING, "--vhost-user", f"net,mac=02:11:22:33:44:55,mtu=1400,fd={s.fileno()}", modules=NET_MODULES,
                   fds=[s.fileno()])
    assert vm.wait() == 0, vm.tail()
    assert b"MAC 02:11:22:33:44:55 MTU 1400" in vm.out, vm.tail()
    assert pings(vm.out, 4), vm.tail()


def test_a_network_whose_server_comes_late_dies_and_comes_again(start, echo_net):
    vm = start("""
ip addr add 10.1.2.9/24 dev eth0
ip link set eth0 up
for i in 1 2; do
    until [ "$(cat /sys/class/net/eth0/carrier)" = 1 ]; do sleep 0.1; done
    echo "UP $i"
    until ping -c 1 -W 1 10.1.2.3 >/dev/null; do :; done
    echo "ANSWERED $i"
    until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ]; do sleep 0.1; done
    echo "DOWN $i"
done
""", "--vhost-user", "net", modules=NET_MODULES)
    for i in (1, 2):
        process, path = echo_net()
        attach(vm, path, "net0")
        vm.wait_for(b"ANSWERED %d" % i)
        process.send_signal(signal.SIGKILL)
        vm.wait_for(b"DOWN %d" % i)
    assert vm.wait() == 0, vm.tail()


@pytest.mark.parametrize("when", ["before it was connected to", "before it answered"])
def test_the_machine_did_not_start_whose_server_had_died(start, folder, echo_net, when):
    path = f"{folder}/dead.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
        if when == "before it answered":
            threading.Thread(target=lambda: dead.accept()[0].close(), daemon=True).start()
        else:
            dead.close()
        vm = start("""
ip addr add 10.1.2.9/24 dev eth0
ip link set eth0 up
until ping -c 1 -W 1 10.1.2.3 >/dev/null; do :; done
echo ANSWERED
""", "--vhost-user", f"net,socket={path}", modules=NET_MODULES)
        _, path = echo_net()
        attach(vm, path, "net0")
        vm.wait_for(b"ANSWERED")
        assert vm.wait() == 0, vm.tail()


def test_a_network_goes_on_in_a_machine_that_was_saved(start, folder, echo_net):
    _, path = echo_net()
    vm = start(PING + """
echo READY
while ! [ -e /sys/block/sda ]; do ping -c 1 -W 1 10.1.2.3 >/dev/null; done
ping -c 4 -i 0.2 10.1.2.3
""", "--vhost-user", f"net,socket={path}", modules=NET_MODULES)
    vm.wait_for(b"READY")
    vm.call("pause")
    with open(f"{folder}/saved", "w+b") as f:
        vm.call("save", f.fileno())
    # The first goes on as well: what was stopped for the saved state has begun again.
    vm.call("resume")
    finish(vm, folder)
    _, path = echo_net()
    again = start(None, "--restore", f"{folder}/saved", "--vhost-user", f"net,socket={path}", name="again")
    finish(again, folder)


def finish(vm, folder):
    with open(f"{folder}/disk", "w+b") as disk:
        disk.truncate(1 << 20)
        vm.call("disk-attach", disk.fileno(), lun=0)
    assert vm.wait() == 0, vm.tail()
    assert re.search(rb"4 packets transmitted, 4 packets received(?!.*4 packets transmitted)", vm.out, re.S), vm.tail()


@pytest.mark.skipif(bool(os.environ.get("WSLX_LAB")), reason="the lab is about wslx-vmm on KVM; this is QEMU alone")
def test_our_server_library_serves_qemu(start, folder, echo_net):
    """The front end is QEMU's; the guest is the same."""
    _, path = echo_net()
    start(PING, modules=NET_MODULES).end()  # for its initramfs
    image = sorted(glob.glob(f"{CACHE}/kernel-*/vmlinuz"))[-1]
    out = subprocess.run(["qemu-system-x86_64", "-accel", "tcg", "-m", "256", "-display", "none", "-nodefaults", "-no-reboot",
                          "-serial", "stdio", "-kernel", image, "-initrd", f"{folder}/initrd",
                          "-append", "console=ttyS0 quiet cryptomgr.notests panic=-1",
                          "-object", "memory-backend-memfd,id=mem,size=256M,share=on", "-machine", "q35,memory-backend=mem",
                          "-chardev", f"socket,id=c,path={path}", "-netdev", "vhost-user,id=n,chardev=c",
                          # Without MSI-X: QEMU 7.2 asks KVM to route it, and ends here.
                          "-device", "virtio-net-pci,netdev=n,mac=02:11:22:33:44:55,vectors=0"],
                         stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False)
    assert pings(out.stdout, 4), out.stdout[-1000:] + out.stderr[-1000:]
