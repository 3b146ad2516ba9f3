# SPDX-License-Identifier: MIT
"""User code that the processor itself executes (docs/softcpu.md): the same as any other, whatever it or the host does."""
import contextlib
import os
import signal

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


@pytest.fixture
def direct(start):
    """direct(SCRIPT, UNTIL, wslx-vmm options...): a machine that has said UNTIL, with our program."""
    def run(script, until, *args):
        assert os.path.exists(PROGRAM), "no direct; ./dev build makes it"
        vm = start(script, *args, add=[f"{PROGRAM}=bin/direct"])
        vm.wait_for(until)
        if "no direct execution" in said(vm):
            pytest.skip("the host cannot")
        return vm
    return run


def said(vm):
    vm.errors.seek(0)
    return vm.errors.read().decode()


def test_killed_stub_ends_the_program_only(direct):
    vm = direct("direct; echo after", rb"DIRECT-SPINS")
    before = stubs(vm)
    assert before

    def kill():
        """Whichever had two tenths of a second since; again, because one that was in the guest's kernel at that moment lost nothing."""
        for pid, ticks in stubs(vm).items():
            if ticks > before.get(pid, 0) + 20:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(pid, signal.SIGKILL)

    assert int(vm.wait_for(rb"DIRECT-ENDED (\d+)", kill)[1]) == signal.SIGSEGV
    assert vm.wait() == 0, vm.tail()
    assert b"after" in vm.out
    assert "a process for user code ended" in said(vm)


def test_a_program_that_waited_when_its_stub_was_killed_goes_on(direct, folder):
    vm = direct("direct wait", rb"DIRECT-WAITS")
    had = stubs(vm)
    assert max(had.values()) >= 20, "the program was not executed directly"
    # Each of them: the program may be given another one, and another vCPU.
    for pid in had:
        os.kill(pid, signal.SIGKILL)
    with open(f"{folder}/disk", "w+b") as disk:
        disk.truncate(1 << 20)
        vm.call("disk-attach", disk.fileno(), lun=0)
    assert vm.wait() == 0, vm.tail()
    assert b"DIRECT-WENT-ON" in vm.out, vm.tail()
    assert "a process for user code ended" in said(vm)


def test_a_program_is_told_of_the_guests_processor(direct):
    """Also where CPUID does not fault in user code: many of AMD's processors."""
    vm = direct("direct cpuid", rb"DIRECT-ASKS")
    used = {}

    def look():
        used.update(stubs(vm))

    assert b"DIRECT-SAME" in vm.wait_for(rb"DIRECT-SAME|DIRECT-ERROR.*", look)[0], vm.tail()
    assert vm.wait() == 0, vm.tail()
    assert max(used.values()) >= 20, "the program was not executed directly"


@pytest.mark.parametrize("test,cmdline", [("code-32", ""), ("segments", ""), ("vsyscall", "vsyscall=emulate"), ("vsyscall", "vsyscall=xonly"),
                                          ("steps", ""), ("low-pages", ""), ("asks", ""), ("written", "")])
def test_what_a_stub_cannot_do_as_it_is(direct, test, cmdline):
    """tests/vmm/direct.c says what each is."""
    vm = direct(f"direct {test}", rb"DIRECT-BEGINS", *(["--cmdline", f"console=ttyS0 quiet {cmdline}"] if cmdline else []))
    assert max(stubs(vm).values()) >= 20, "the program was not executed directly"
    assert b"DIRECT-RIGHT" in vm.wait_for(rb"DIRECT-RIGHT|DIRECT-ERROR.*")[0], vm.tail()
    assert vm.wait() == 0, vm.tail()
    assert "a process for user code ended" not in said(vm)
