# SPDX-License-Identifier: MIT
"""Guests that do what is worst for the software CPU: its memory keeps within its limit, the neighbour goes on, the machine
obeys and still works afterwards. How late the neighbour's interrupts are says bench/latency: a test asserts no duration."""
import hashlib
import os
import re
import time

import pytest

ENGINE = os.environ.get("WSLX_TEST_ENGINE", "soft")
CPUS = int(os.environ.get("WSLX_TEST_CPUS", "1"))
PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../build/guest/tests/vmm/hostile")
MIB = 1 << 20
# Of each vCPU: as much for decoded blocks as for translated code (docs/softcpu.md), and tables whose size is fixed.
CACHE, TABLES = 64 * MIB, 8 * MIB
REST = 16 * MIB  # the monitor itself, a bit per page of RAM
TICKS = 2000

# (mode, units of work). Of mode code as much as 2 GiB of different code make: each page is done three times.
HOSTILE = [("rewrite", 200000), ("code", 3 * 2048 * MIB // 4096), ("fault", 300000), ("cross", 400000)]


def own_memory(pid):
    """What wslx-vmm has in memory beside the guest's RAM. Translated code is mapped twice: Pss counts it once."""
    total, name = 0, ""
    with open(f"/proc/{pid}/smaps", encoding="ascii", errors="replace") as f:
        for line in f:
            words = line.split()
            if not words[0].endswith(":"):
                name = words[5] if len(words) > 5 else ""
            elif words[0] == "Pss:" and not name.startswith("/memfd:wslx-guest-memory"):
                total += int(words[1]) * 1024
    return total


class Peak:
    """The most that a process had in memory. Looks a few times a second: counting pages takes milliseconds."""

    def __init__(self, pid):
        self.pid, self.size, self.next = pid, 0, 0

    def look(self):
        if time.monotonic() >= self.next:
            self.size = max(self.size, own_memory(self.pid))
            self.next = time.monotonic() + 0.25


@pytest.mark.skipif(ENGINE != "soft", reason="it is about the software CPU")
@pytest.mark.skipif(CPUS == 1, reason="the hostile program has a neighbour on another vCPU")
@pytest.mark.parametrize("mode, work", HOSTILE)
def test_hostile_program(start, mode, work):
    assert os.path.exists(PROGRAM), "no hostile; ./dev build makes it"
    vm = start(f"hostile {mode}:{TICKS}:{work}; sha256sum </bin/busybox", "--memory", "1024", add=[f"{PROGRAM}=bin/hostile"])
    vm.wait_for(rb"BENCH-START")
    vm.call("pause")  # its vCPU can be had whatever it is at
    vm.call("resume")
    peak = Peak(vm.proc.pid)
    vm.wait_for(rb"BENCH-(DONE|ERROR)", peak.look)
    m = re.search(rb"BENCH-LATENCY (\w+) (\d+) \d+ \d+ \d+ \d+ (\d+)\r?\n", vm.out)
    assert m, vm.tail()
    assert m[1].decode() == mode and int(m[2]) >= TICKS and int(m[3]) >= work
    assert peak.size <= CPUS * (2 * CACHE + TABLES) + REST, f"{peak.size / MIB:.0f} MiB"
    if mode in ("code", "cross"):
        # It goes round many times what a cache holds; the fullest moment is seldom among those looked at.
        assert peak.size > CACHE * 3 // 4, "no cache was ever near its limit: this has tested nothing"
    assert vm.wait() == 0, vm.tail()
    with open("/bin/busybox", "rb") as f:
        assert hashlib.sha256(f.read()).hexdigest().encode() in vm.out
    assert b"BUG" not in vm.out and b"rcu" not in vm.out
