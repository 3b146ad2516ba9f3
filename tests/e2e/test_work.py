# SPDX-License-Identifier: MIT
"""Real work inside a distribution: compile, run, compress; results agree with the host's."""
import decimal
import hashlib
import math
import os
import shutil
import struct
import subprocess
import time

import pytest
from conftest import SOURCE, end, real_only, rootfs, wait_for, world

pytestmark = real_only

# Only operations that IEEE 754 defines to the last bit, so that there is one right answer.
C_PROGRAM = r"""
#include <math.h>
#include <stdio.h>
#include <stdint.h>

int main(void)
{
	double x = 0.5, sum = 0, y = 1;
	float f = 1;
	long double l = 1;

	for (int i = 1; i <= 200000; i++) {
		x = 3.75 * x * (1 - x);
		sum += sqrt(x) / i;
		y = (y + 2 / y) / 2 + i * 1e-9;
		f = f * 1.0001f + 0.25f / (float)i;
		l = l + 1.0L / ((long double)i * i);
		if (f > 1e6f)
			f /= 3.0f;
	}
	printf("%a %a %a %a %.15Lf\n", x, sum, y, (double)f, l);
	printf("%d %lld %a\n", (int)(sum * 1000), (long long)(x * 1e15), (double)(uint64_t)(y * 1e18));
	return 0;
}
"""


def expected():
    f32 = lambda v: struct.unpack("f", struct.pack("f", v))[0]
    x, total, y, f = 0.5, 0.0, 1.0, 1.0
    c = f32(1.0001)
    for i in range(1, 200001):
        x = 3.75 * x * (1 - x)
        total += math.sqrt(x) / i
        y = (y + 2 / y) / 2 + i * 1e-9
        # Each float operation rounds; computing it in double and rounding once gives the same for one operation.
        f = f32(f32(f * c) + f32(0.25 / f32(float(i))))
        if f > 1e6:
            f = f32(f / 3.0)
    return [x, total, y, f], (int(total * 1000), int(x * 1e15), float(int(y * 1e18)))


@pytest.fixture(scope="module")
def wslx(request):
    """The one with a compiler, Python and archivers; the other modules' is a small one."""
    w = world()
    try:
        w.import_deb(archive=rootfs("WSLX_TEST_WORK_ROOTFS"))
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


def has(wslx, *programs):
    for p in programs:
        assert wslx.run("-d", "deb", "--", f"command -v {p}").returncode == 0, f"the test distribution has no {p}"


@pytest.mark.parametrize("opt", ["-O0", "-O2"])
def test_compile_and_run_floating_point(wslx, opt):
    has(wslx, "gcc")
    wslx.ok("-d", "deb", "--", "cat > /tmp/fp.c", input=C_PROGRAM)
    wslx.sh(f"gcc {opt} -ffp-contract=off -o /tmp/fp /tmp/fp.c -lm", timeout=120)
    first, second = wslx.sh("/tmp/fp", timeout=60).splitlines()
    values, ints = expected()
    got = first.split()
    assert [float.fromhex(v) for v in got[:4]] == values
    with decimal.localcontext(decimal.Context(prec=30)):
        exact = 1 + sum(1 / decimal.Decimal(i * i) for i in range(1, 200001))
    assert abs(decimal.Decimal(got[4]) - exact) < decimal.Decimal("2e-15")  # 64 bits of mantissa
    a, b, c = second.split()
    assert (int(a), int(b), float.fromhex(c)) == ints


@pytest.fixture(scope="module")
def cpu(wslx):
    has(wslx, "gcc")
    wslx.ok("-d", "deb", "--", "cat > /tmp/cpu.c", input=(SOURCE / "tests/e2e/cpu.c").read_text())
    wslx.sh("gcc -O2 -D_GNU_SOURCE -pthread -o /tmp/cpu /tmp/cpu.c", timeout=120)


@pytest.mark.parametrize("case", ["smc", "smc-threads", "signals", "ptrace", "atomics"])
def test_processor_as_programs_see_it(wslx, cpu, case):
    p = wslx.run("-d", "deb", "--", f"/tmp/cpu {case}", timeout=120)
    assert p.returncode == 0, p.stdout + p.stderr


@pytest.mark.parametrize("module", ["test_math", "test_struct", "test_zlib"])
def test_python_tests_itself(wslx, module):
    has(wslx, "python3")
    p = wslx.run("-d", "deb", "--", "python3", "-m", "test", module, timeout=300)
    assert p.returncode == 0, p.stdout[-3000:] + p.stderr[-1000:]
    assert "Tests result: SUCCESS" in p.stdout or "Result: SUCCESS" in p.stdout


def make_data():
    words = [hashlib.sha256(str(i).encode()).hexdigest()[:i % 9 + 2] for i in range(3000)]
    return "".join(words[(i * i + 7 * i) % 3000] + (" " if i % 11 else "\n") for i in range(200000)).encode()


@pytest.fixture(scope="module")
def data(wslx):
    d = make_data()
    p = wslx.run("-d", "deb", "--", "cat > /tmp/data", input=d, text=False)
    assert p.returncode == 0
    return d


def on_host(script, data, tmp_path):
    (tmp_path / "data").write_bytes(data)
    return subprocess.run(["sh", "-ec", script.replace("/tmp/data", str(tmp_path / "data"))], capture_output=True,
                          check=True).stdout


@pytest.mark.parametrize("needs, script", [
    ("sha256sum", "for s in md5sum sha1sum sha256sum sha512sum b2sum cksum; do $s < /tmp/data; done"),
    ("xz", "xz -6 -c /tmp/data | sha256sum; xz -9e -c /tmp/data | xz -dc | sha256sum"),
    ("gzip", "gzip -9nc /tmp/data | sha256sum"),
    ("bzip2", "bzip2 -9c /tmp/data | sha256sum"),
    ("zstd", "zstd -q -10 -c /tmp/data | zstd -dqc | sha256sum"),
    ("perl", "perl -ne 'for (split) { $n{$_}++ } END { printf \"%s %d %.12g\\n\", $_, $n{$_}, sqrt($n{$_}) / 7 "
             "for sort keys %n }' /tmp/data"),
    ("perl", "perl -e 'my ($a, $b) = (1, 1); for (1..200000) { ($a, $b) = ($b, ($a * 31 + $b * 17) % 1000003) } "
             "printf \"%d %.17g\\n\", $a, $a / 3'"),
    ("awk", "LC_ALL=C sort /tmp/data | uniq | LC_ALL=C tr a-f A-F | awk '{ n += length($0) * NR % 97 } END { print n }'"),
    ("od", "od -An -tx8 /tmp/data | tail -n 2000 | cksum"),
])
def test_results_agree_with_the_hosts(wslx, data, tmp_path, needs, script):
    has(wslx, needs)
    assert shutil.which(needs), f"no {needs} on this host to compare with: install it"
    guest = wslx.run("-d", "deb", "--", script, timeout=120, text=False)
    assert guest.returncode == 0, guest.stderr
    assert guest.stdout == on_host(script, data, tmp_path)


def test_tar_archives_travel_both_ways(wslx, tmp_path):
    d = tmp_path / "tree"
    d.mkdir()
    for i in range(300):
        (d / f"f{i}").write_bytes(os.urandom(i * 37))
    (d / "link").symlink_to("f7")
    tar = subprocess.run(["tar", "-C", tmp_path, "--sort=name", "-cf", "-", "tree"], capture_output=True, check=True).stdout
    p = wslx.run("-d", "deb", "--", "cd /tmp && tar -xf - && cd tree && sha256sum f* && readlink link", input=tar, text=False,
                 timeout=60)
    assert p.returncode == 0
    host = subprocess.run("sha256sum f* && readlink link", shell=True, cwd=d, capture_output=True, check=True).stdout
    assert p.stdout == host
    back = wslx.run("-d", "deb", "--", "tar -C /tmp -cf - tree", text=False, timeout=60).stdout
    out = tmp_path / "back"
    out.mkdir()
    subprocess.run(["tar", "-C", out, "-xf", "-"], input=back, check=True)
    assert subprocess.run(["diff", "-r", d, out / "tree"]).returncode == 0


def test_many_processes_and_files(wslx):
    assert wslx.sh("i=0; while [ $i -lt 200 ]; do (exit 3); i=$((i + $?/3)); done; echo $i", timeout=60) == "200\n"
    assert wslx.sh("mkdir -p /tmp/many && cd /tmp/many && seq 3000 | xargs touch && ls | wc -l && rm -r /tmp/many",
                   timeout=60) == "3000\n"


def test_time_passes_as_it_does_outside(wslx):
    a = time.time()
    inside = float(wslx.sh("date +%s.%N"))
    assert a - 5 < inside < time.time() + 5
    t = time.monotonic()
    wslx.sh("sleep 2")
    took = time.monotonic() - t
    assert took >= 1.9


def test_the_disk_shrinks_again(wslx):
    """What is deleted is discarded, and the host gets the space back."""
    disk = wslx.tmp / "disk-deb/ext4.img"
    used = lambda: disk.stat().st_blocks * 512
    wslx.sh("sync")
    before = used()
    wslx.sh("head -c 100000000 /dev/urandom > /root/big; sync", timeout=120)
    full = used()
    assert full > before + 90000000
    wslx.sh("rm /root/big; sync; sleep 1; sync", timeout=60)
    wait_for("the space to come back", lambda: used() < full - 80000000, 20)


def test_power_off_keeps_what_was_written(fresh):
    fresh.sh("echo kept > /root/kept")
    fresh.ok("--shutdown")
    assert subprocess.run(["e2fsck", "-fn", fresh.tmp / "disk-deb/ext4.img"], capture_output=True).returncode == 0
    assert fresh.sh("cat /root/kept") == "kept\n"
