# SPDX-License-Identifier: MIT
"""Virtual machines for tests: wslx-vmm with Debian's kernel and a busybox guest whose init is a shell script.

WSLX_TEST_ENGINE (soft, kvm), WSLX_TEST_CPUS, WSLX_TEST_KERNEL say on what; ./dev test sets them.
"""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CACHE = os.environ.get("WSLX_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "wslx")
LAB = " nohz=off" if os.environ.get("WSLX_LAB") else ""  # tests/lab/lab says why
LIMIT = int(os.environ.get("WSLX_TEST_LIMIT", 240))  # seconds; an emulated machine on a busy host takes its time

INIT = """#!/bin/sh
/bin/busybox mkdir -p /proc /sys
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
while read -r ko; do insmod /modules/$ko; done </modules/order
%s
poweroff -f
"""


class Vm:
    """One wslx-vmm process; its serial port is our pipe."""

    def __init__(self, folder, initrd, *args, name="vm", fds=()):
        self.control_path = f"{folder}/{name}.sock"
        self.out = b""
        env = os.environ
        argv = [f"{ROOT}/build/vmm/wslx-vmm", "--engine", env.get("WSLX_TEST_ENGINE", "soft"), "--serial", "stdio",
                "--control", self.control_path]
        if "--restore" not in args:
            argv += ["--cpus", env.get("WSLX_TEST_CPUS", "1"), "--kernel", kernel(), "--initrd", initrd, "--memory", "256",
                     "--cmdline", "console=ttyS0 quiet" + LAB]
        self.errors = open(f"{folder}/{name}.err", "w+b")
        self.proc = subprocess.Popen(argv + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors,
                                     pass_fds=fds)
        os.set_blocking(self.proc.stdout.fileno(), False)

    def pump(self):
        chunk = self.proc.stdout.read()
        if chunk:
            self.out += chunk
        else:
            time.sleep(0.02)
        return chunk

    def wait_for(self, pattern, meanwhile=None):
        """The first match on the serial port; fails when the machine ends or time runs out without one."""
        end = time.monotonic() + LIMIT
        while True:
            if meanwhile:
                meanwhile()
            m = re.search(pattern, self.out)
            if m:
                return m
            if self.pump() == b"" and self.proc.poll() is not None:
                pytest.fail(f"ended with {self.proc.returncode} without {pattern!r}: {self.tail()}")
            if time.monotonic() > end:
                pytest.fail(f"no {pattern!r} in {LIMIT} s: {self.tail()}")

    def wait(self):
        """The exit status."""
        end = time.monotonic() + LIMIT
        while self.proc.poll() is None:
            self.pump()
            if time.monotonic() > end:
                pytest.fail(f"still running after {LIMIT} s: {self.tail()}")
        while self.pump():
            pass
        return self.proc.returncode

    def tail(self):
        self.errors.seek(0)
        return f"{self.out[-800:].decode(errors='replace')}\n{self.errors.read()[-800:].decode(errors='replace')}"

    def call(self, method, *fds, **params):
        reply = self.ask(method, *fds, **params)
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply.get("result")

    def refused(self, method, *fds, **params):
        """The text of the error that is expected."""
        reply = self.ask(method, *fds, **params)
        assert "error" in reply, f"{method} was not refused"
        return json.dumps(reply["error"])

    def ask(self, method, *fds, **params):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(LIMIT)
            end = time.monotonic() + LIMIT
            while True:
                try:
                    s.connect(self.control_path)
                    break
                except OSError:
                    if time.monotonic() > end or self.proc.poll() is not None:
                        pytest.fail(f"no control socket: {self.tail()}")
                    time.sleep(0.05)
            msg = {"id": 1, "method": method, "params": params}
            if fds:
                msg["fds"] = len(fds)
            socket.send_fds(s, [json.dumps(msg).encode() + b"\n"], list(fds))
            data = b""
            while not data.endswith(b"\n"):
                part = s.recv(65536)
                assert part, f"the control connection closed: {self.tail()}"
                data += part
        return json.loads(data)

    def end(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        self.proc.stdout.close()
        self.errors.close()


def kernel():
    path = os.environ.get("WSLX_TEST_KERNEL")
    if path:
        return path
    found = sorted(glob.glob(f"{CACHE}/vmlinux-*/vmlinux")) or sorted(glob.glob(f"{CACHE}/kernel-*/vmlinuz"))
    assert found, "no kernel; ./dev setup fetches it"
    return found[-1]


@pytest.fixture
def folder():
    # Short: a unix socket's path has 107 characters.
    path = tempfile.mkdtemp(prefix="wslx-vmm-test.")
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(folder):
    """start(SCRIPT, wslx-vmm options...) boots a guest whose init runs SCRIPT, then powers off; add: FILE=PATH for it;
    modules: more of the kernel's; fds: descriptors to pass on."""
    machines = []

    def run(script, *args, name="vm", add=(), modules=(), fds=()):
        initrd = f"{folder}/initrd"
        if script is not None:
            init = f"{folder}/init"
            with open(init, "w", encoding="ascii") as f:
                f.write(INIT % script)
            kernels = sorted(glob.glob(f"{CACHE}/kernel-*/lib"))
            subprocess.run([sys.executable, f"{ROOT}/tools/mkinitramfs", "--kernel", os.path.dirname(kernels[-1]), "--init", init,
                            "--add", "/bin/busybox=bin/busybox", "--add", "busybox=@bin/sh", "--module", "virtio_pci",
                            "--module", "virtio_scsi", "--module", "sd_mod", "--module", "virtio_balloon",
                            *(x for m in modules for x in ("--module", m)), *(x for a in add for x in ("--add", a)),
                            "-o", initrd], check=True)
        machines.append(Vm(folder, initrd, *args, name=name, fds=fds))
        return machines[-1]

    yield run
    for m in machines:
        m.end()
