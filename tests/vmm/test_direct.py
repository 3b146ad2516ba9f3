# SPDX-License-Identifier: MIT
"""User code that the processor itself executes (docs/softcpu.md): the same as any other, whatever it or the host does."""
import os
import signal
import time

import pytest

ENGINE = os.environ.get("WSLX_TEST_ENGINE", "soft")
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/guest/tests/vmm/direct")

pytestmark = pytest.mark.skipif(ENGINE != "soft", reason="it is about the software CPU")


def stubs(vm):
    """The processes that execute user code, with the ticks of time that each has had."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                name, rest = f.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue  # it has ended
        fields = rest.split()
        if name == "wslx-program" and int(fields[1]) == vm.proc.pid:
            found[int(pid)] = int(fields[11]) + int(fields[12])
    return found


def test_killed_stub_ends_the_program_only(start):
    assert os.path.exists(PROGRAM), "no direct; ./dev build makes it"
    vm = start("direct; echo after", add=[f"{PROGRAM}=bin/direct"])
    vm.wait_for(rb"DIRECT-SPINS")
    vm.errors.seek(0)
    if b"no direct execution" in vm.errors.read():
        pytest.skip("the host cannot")
    before, busy = stubs(vm), []
    assert before
    end = time.monotonic() + 60
    while not busy:  # two tenths of a second of its own
        assert time.monotonic() < end, "the program is not executed directly"
        time.sleep(0.05)
        busy = [pid for pid, ticks in stubs(vm).items() if ticks > before.get(pid, 0) + 20]
    for pid in busy:
        os.kill(pid, signal.SIGKILL)
    assert int(vm.wait_for(rb"DIRECT-ENDED (\d+)")[1]) == signal.SIGSEGV
    assert vm.wait() == 0, vm.tail()
    assert b"after" in vm.out
    vm.errors.seek(0)
    assert b"a process for user code ended" in vm.errors.read()
