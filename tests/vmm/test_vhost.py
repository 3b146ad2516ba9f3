# SPDX-License-Identifier: MIT
"""Devices that another process serves (--vhost-user): a folder of the host through QEMU's virtiofsd."""
import hashlib
import os
import re
import signal
import socket
import subprocess
import time

import pytest

from conftest import LIMIT

VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MODULES = ("fuse", "virtiofs")

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


@pytest.fixture
def virtiofsd(folder, share):
    """virtiofsd(): serves the share to one who connects to the socket at the path it returns, until the test ends."""
    servers = []

    def run():
        path = f"{folder}/fs{len(servers)}.sock"
        p = subprocess.Popen([VIRTIOFSD, f"--socket-path={path}", "-o", f"source={share}", "-o", "cache=auto", "-f"])
        servers.append(p)
        end = time.monotonic() + LIMIT
        while not os.path.exists(path):
            assert p.poll() is None and time.monotonic() < end, "virtiofsd did not start"
            time.sleep(0.02)
        return p, path

    yield run
    for p in servers:
        if p.poll() is None:
            p.terminate()
        p.wait()


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
    server, path = virtiofsd()
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
    server.send_signal(signal.SIGKILL)
    vm.wait_for(b"ERROR .*not connected")
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
