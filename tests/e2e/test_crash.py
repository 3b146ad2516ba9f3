# SPDX-License-Identifier: MIT
"""What was acknowledged survives: the virtual machine is killed again and again while it writes and fsyncs files."""
import os
import random
import subprocess
import time

from conftest import alive, real_only, rootfs

KILLS = int(os.environ.get("WSLX_TEST_KILLS", "5"))

# File N of a round holds a text of its own, of a length between 1 byte and 300 kB; its number is printed once
# fsync(2) of the file has returned.
CONTENT = "yes \"round $round file $i\" | head -c $((i * 7919 % 300000 + 1))"
WRITER = f"""mkdir -p /crash/$round && i=0
while :; do
	{CONTENT} | dd of=/crash/$round/$i conv=fsync bs=64k status=none iflag=fullblock || exit 1
	echo $i; i=$((i + 1))
done"""
CHECK = f"""i=0
while [ $i -lt $n ]; do
	{CONTENT} | cmp - /crash/$round/$i || echo BAD $i
	i=$((i + 1))
done; echo checked $n"""


def fsck(disk):
    p = subprocess.run(["e2fsck", "-fn", disk], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


@real_only
def test_acknowledged_writes_survive(empty):
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    print(f"seed {seed}")
    w, rounds = empty, {}
    w.ok("--import", "deb", w.tmp / "disk-deb", rootfs(), "--size", "8GB", timeout=300)
    disk = w.tmp / "disk-deb/ext4.img"
    for n in range(KILLS):
        p = w.popen("-d", "deb", "--", f"round={n}; {WRITER}")
        first = p.stdout.readline()
        assert first == b"0\n", p.stderr.read()
        time.sleep(rng.uniform(0, 2))
        w.kill(w.vmm_pids()[0])
        out, err = p.communicate(timeout=60)
        assert p.returncode == 125 and b"virtual machine ended" in err, (p.returncode, err)
        rounds[n] = len([line for line in (first + out).splitlines(keepends=True) if line.endswith(b"\n")])
        # The next start replays the journal; then every file is whole, and the file system clean.
        checked = w.sh(f"round={n}; n={rounds[n]}; {CHECK}", timeout=120)
        assert checked == f"checked {rounds[n]}\n", checked[-2000:]
        w.ok("--terminate", "deb", timeout=60)
        fsck(disk)
        if n % 10 == 9:
            w.sh(f"rm -rf $(ls -d /crash/* | grep -v /{n}$)", timeout=120)
            rounds = {n: rounds[n]}
    for n, count in rounds.items():
        assert w.sh(f"round={n}; n={count}; {CHECK}", timeout=120) == f"checked {count}\n"
    w.ok("--shutdown", timeout=60)
    fsck(disk)
    print(f"{KILLS} kills, {sum(rounds.values())} files whole at the end")
