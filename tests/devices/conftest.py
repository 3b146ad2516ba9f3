# SPDX-License-Identifier: MIT
"""One virtual machine a test module, running guest.c as its init, and the host's ends of its devices.

WSLX_TEST_ENGINE    kvm or soft (soft)
WSLX_TEST_CPUS      virtual CPUs (2)
WSLX_TEST_VMLINUX   the kernel
WSLX_TEST_DEVICES   the initramfs made by make-initramfs
WSLX_LAB            set in the KVM lab, whose guests need a tick (tests/lab/lab says why)
Without the last two the tests are skipped.
"""
import json
import os
import re
import signal
import socket
import subprocess
import time

import pytest

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
LIMIT = 120


class GuestError(Exception):
    pass


class Refused(Exception):
    pass


def unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(LIMIT)
    s.connect(path)
    return s


class Machine:
    of_test = []  # beside the module's

    def __init__(self, folder, restore=None):
        Machine.of_test.append(self)
        self.folder = str(folder)
        self.stuck = False
        self.log = open(self.path("log"), "wb")
        command = [os.path.join(ROOT, "build/vmm/wslx-vmm"), "--engine", os.environ.get("WSLX_TEST_ENGINE", "soft"),
                   "--serial", "file:" + self.path("serial"), "--vsock", self.path("v"), "--console", self.path("c"),
                   "--balloon", "--control", self.path("ctl")]
        if restore:
            command += ["--restore", restore]
        else:
            command += ["--cpus", os.environ.get("WSLX_TEST_CPUS", "2"), "--memory", "256",
                        "--kernel", os.environ["WSLX_TEST_VMLINUX"], "--initrd", os.environ["WSLX_TEST_DEVICES"],
                        "--cmdline", "console=ttyS0" + (" nohz=off" if os.environ.get("WSLX_LAB") else "")]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        end = time.monotonic() + LIMIT
        while not os.path.exists(self.path("c")):
            assert self.process.poll() is None and time.monotonic() < end, self.tail()
            time.sleep(0.05)
        self.attach()
        if not restore:
            line = self.lines.readline()
            assert line == b"ready\n", (line, self.tail())

    def attach(self):
        self.console = unix(self.path("c"))
        self.lines = self.console.makefile("rb")

    def path(self, name):
        return os.path.join(self.folder, name)

    def tail(self):
        text = ""
        for name in ("log", "serial"):
            try:
                with open(self.path(name), errors="replace") as f:
                    text += f"--- {name}\n" + "".join(f.readlines()[-15:])
            except OSError:
                pass
        return text

    def state(self):
        """Of a guest that no longer answers: what its processors do, and what it said last."""
        try:
            return json.dumps(self.control("registers"), indent=1) + "\n" + self.tail()
        except (OSError, AssertionError, ValueError) as e:
            return f"wslx-vmm: {e!r}\n{self.tail()}"

    def order(self, line):
        """Sends one order to the guest; its answer's lines."""
        self.console.sendall(line.encode() + b"\n")
        answer = []
        while True:
            got = self.lines.readline()
            assert got.endswith(b"\n"), self.tail()
            got = got[:-1].decode()
            if got.startswith("!"):
                raise GuestError(got[2:])
            if got == ".":
                return answer
            answer.append(got)

    def connect(self, port):
        s = unix(self.path("v"))
        s.sendall(b"CONNECT %d\n" % port)
        answer = b""
        while not answer.endswith(b"\n"):
            c = s.recv(1)
            if not c:
                s.close()
                raise Refused(port)
            answer += c
        assert re.fullmatch(rb"OK \d+\n", answer)
        return s

    def control(self, method, fd=None, **params):
        call = {"id": 1, "method": method, "params": params}
        with unix(self.path("ctl")) as s:
            if fd is not None:
                call["fds"] = 1
            socket.send_fds(s, [json.dumps(call).encode() + b"\n"], [] if fd is None else [fd])
            answer = json.loads(s.makefile("rb").readline())
        assert "error" not in answer, answer
        return answer["result"]

    def guest_memory(self):
        """KiB of the guest's memory that the host holds."""
        total, ours = 0, False
        with open(f"/proc/{self.process.pid}/smaps") as f:
            for line in f:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    ours = "wslx-guest-memory" in line
                elif ours and line.startswith("Rss:"):
                    total += int(line.split()[1])
        return total

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(LIMIT)
        finally:
            self.process.kill()
        self.console.close()
        self.log.close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    for name in ("WSLX_TEST_VMLINUX", "WSLX_TEST_DEVICES"):
        if name not in os.environ:
            pytest.skip(f"{name} is not set")
    m = Machine(tmp_path_factory.mktemp("m"))
    yield m
    m.stop()


@pytest.fixture(autouse=True)
def answering(machine):
    """What no longer answers is not asked again: each test would wait out its limit."""
    Machine.of_test.clear()
    if machine.stuck:
        pytest.fail("the guest no longer answered an earlier test", pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    outcome = yield
    if outcome.excinfo and issubclass(outcome.excinfo[0], (TimeoutError, subprocess.TimeoutExpired)):
        machine = item.funcargs["machine"]
        machine.stuck = True
        item.add_report_section("call", "machine", machine.state())


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    crash = getattr(report.longrepr, "reprcrash", None)
    if report.failed and crash:
        for m in [*Machine.of_test, *(m for m in [item.funcargs.get("machine")] if m)]:
            crash.message += f"; wslx-vmm's exit status {m.process.poll()}, {m.tail()}"
