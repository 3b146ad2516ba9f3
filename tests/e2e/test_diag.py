# SPDX-License-Identifier: MIT
"""wslx diag: virtual machines seen from outside."""
import json
import subprocess

from conftest import ENGINE, FAKE, alive, real_only, wait_for


def machines(w):
    return json.loads(w.ok("diag", "list", "--json"))


def test_list(wslx):
    wslx.sh("true")
    m, = machines(wslx)
    assert m["pid"] in wslx.vmm_pids() and m["state"] == "Running" and m["distributions"] == ["deb"]
    assert m["kernel"] == wslx.status()["vm"]["kernel"]
    if not FAKE:
        assert ENGINE in (m["engine"], "auto") and m["cpus"] >= 1 and m["uptime_ms"] > 0 and m["cpu_ms"] > 0
        assert 0 < m["memory_used"] <= m["memory"]
    head, line = wslx.ok("diag", "list").splitlines()
    assert head.split()[:3] == ["ID", "ENGINE", "STATE"]
    assert line.split()[0] == m["id"] and line.split()[-1] == "deb"


def test_nothing_runs(empty):
    assert machines(empty) == []
    p = empty.run("diag", "list")
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "No virtual machine runs.\n")
    for what in (["registers"], ["timeline"], ["reclaim"], ["kill"], ["console"], ["dump", empty.tmp / "core"]):
        empty.fails(125, "diag", *what, says="no virtual machine runs")
    assert not (empty.tmp / "core").exists()


def test_bad_arguments(wslx):
    wslx.sh("true")
    wslx.fails(125, "diag", says="needs a subcommand")
    wslx.fails(125, "diag", "frobnicate", says="unknown subcommand 'frobnicate'")
    wslx.fails(125, "diag", "list", "x", says="unknown argument 'x'")
    wslx.fails(125, "diag", "registers", "--vcpu", "one", says="--vcpu 'one'")
    wslx.fails(125, "diag", "dump", says="needs a file")
    wslx.fails(125, "diag", "timeline", "nosuch", says=["no virtual machine 'nosuch'", "wslx diag list"])
    wslx.fails(125, "diag", "console", "nosuch", says="no virtual machine 'nosuch'")
    wslx.fails(125, "diag", "dump", wslx.conf, says="File exists")


def test_kill(fresh):
    fresh.sh("true")
    m, = machines(fresh)
    fresh.ok("diag", "kill", m["id"])
    assert not alive(m["pid"]) and machines(fresh) == []
    assert fresh.status()["last_end"] == "it was killed by 'wslx diag kill'"
    assert fresh.sh("echo new") == "new\n"


def test_timeline(fresh):
    fresh.sh("true")
    stages = {s["stage"]: s["ms"] for s in json.loads(fresh.ok("diag", "timeline", "--json"))["stages"]}
    wanted = ["asked for", "wslx-vmm", "kernel", "init", "init connected", "distribution", "session"]
    if FAKE:
        wanted = [s for s in wanted if s not in ("wslx-vmm", "kernel", "init")]
    assert list(stages) == wanted
    assert list(stages.values()) == sorted(stages.values()) and stages["asked for"] == 0
    # It stays what it was: later sessions do not count, nor does another service.
    fresh.kill(fresh.service_pid())
    fresh.sh("true")
    again = {s["stage"]: s["ms"] for s in json.loads(fresh.ok("diag", "timeline", "--json"))["stages"]}
    assert again == stages
    text = fresh.ok("diag", "timeline").splitlines()
    assert text[0].split() == ["MS", "TOOK", "STAGE"] and len(text) == 1 + len(wanted)


@real_only
def test_registers(wslx):
    wslx.sh("true")
    m, = machines(wslx)
    all_ = json.loads(wslx.ok("diag", "registers", m["id"], "--json"))["vcpus"]
    assert [v["vcpu"] for v in all_] == list(range(m["cpus"]))
    for v in all_:
        # Paging and long mode are on, and the stack is somewhere.
        assert int(v["registers"]["cr0"], 16) >> 31 and int(v["registers"]["efer"], 16) & 0x500 == 0x500
        assert int(v["registers"]["rsp"], 16) and v["state"] in ("running", "halted")
    one = json.loads(wslx.ok("diag", "registers", "--vcpu", "0", "--json"))["vcpus"]
    assert len(one) == 1 and one[0]["msrs"]["0xc0000082"] != "0x0000000000000000"  # LSTAR: the kernel's entry
    wslx.fails(125, "diag", "registers", "--vcpu", "1000", says="there is no vCPU 1000")
    text = wslx.ok("diag", "registers")
    assert text.startswith("vCPU 0: ") and text.count("vCPU ") == m["cpus"] and "cr3" in text
    assert wslx.sh("echo goes on") == "goes on\n"


@real_only
def test_dump(wslx, tmp_path):
    """gdb reads registers and memory from it; the secret a program holds is there."""
    p = wslx.popen("-d", "deb", "--", "x=needle-$((40 + 2))-in-memory; echo on; read y; echo $x", stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"on\n"
    core = tmp_path / "core"
    wslx.ok("diag", "dump", core, timeout=120)
    m, = machines(wslx)
    regs = subprocess.run(["gdb", "-batch", "-ex", "info threads", "-ex", "info registers rip cs", "-c", core],
                          capture_output=True, text=True, timeout=120)
    assert regs.stdout.count("LWP") >= m["cpus"] and "rip  " in regs.stdout, regs.stdout + regs.stderr
    assert m["memory"] <= core.stat().st_size and core.stat().st_blocks * 512 <= m["memory"]
    with open(core, "rb") as f:
        found, tail = False, b""
        while not found and (piece := f.read(1 << 24)):
            found, tail = b"needle-42-in-memory" in tail + piece, piece[-32:]
    assert found
    out, _ = p.communicate(b"\n", timeout=60)
    assert out == b"needle-42-in-memory\n"


@real_only
def test_console(fresh):
    fresh.configure(wsl2_debugConsole="true", wsl2_earlyBootLogging="true")
    fresh.sh("true")
    text = fresh.ok("diag", "console")
    assert "bootconsole [earlyser0] enabled" in text and "wslx-init: init: up after" in text
    p = fresh.popen("diag", "console", "-f")
    for line in p.stdout:
        if b"up after" in line:
            break
    fresh.sh("echo '<2>hello console' > /dev/kmsg")
    for line in p.stdout:
        if b"hello console" in line:
            break
    fresh.ok("--shutdown", "--force")
    p.stdout.read()
    assert p.wait(60) == 0


@real_only
def test_memory_goes_back_to_the_host(fresh):
    """The page cache that a program left behind, given back on request."""
    fresh.sh("dd if=/dev/zero of=/big bs=1M count=300 conv=fsync status=none; cat /big > /dev/null", timeout=120)
    full = machines(fresh)[0]["memory_used"]
    assert full > 300 << 20
    answer = json.loads(fresh.ok("diag", "reclaim", "--json", timeout=60))
    assert answer["free_kib"] <= answer["total_kib"]
    wait_for("the memory to come back", lambda: machines(fresh)[0]["memory_used"] < full - (200 << 20), 60)
    assert fresh.sh("head -c 300M /dev/zero | cmp - /big && echo same", timeout=120) == "same\n"
