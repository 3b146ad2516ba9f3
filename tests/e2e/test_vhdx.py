# SPDX-License-Identifier: MIT
"""Distributions whose disk is a VHDX file, used where it is."""
import subprocess
import time

import pytest
from conftest import real_only, rootfs, wait_for
from test_mount import tool


@pytest.fixture
def vhdx(empty):
    """A distribution "v" on empty.tmp/v.vhdx. Small, for qemu-img reads holes, too."""
    w = empty
    w.ok("--import", "deb", w.tmp / "disk-deb", rootfs(), "--size", "2GB", timeout=300)
    tool("qemu-img", "convert", "-O", "vhdx", w.tmp / "disk-deb/ext4.img", w.tmp / "v.vhdx")
    w.ok("--import-in-place", "v", w.tmp / "v.vhdx", timeout=120)
    return w


def sh(w, script, **kw):
    return w.ok("-d", "v", "--", script, timeout=60, **kw)


def check(image):
    """What others make of it."""
    tool("qemu-img", "check", "-f", "vhdx", image)


def test_only_what_is_one_is_taken(empty):
    w = empty
    (w.tmp / "a.vhdx").write_bytes(bytes(1 << 20))
    w.fails(125, "--import-in-place", "a", w.tmp / "a.vhdx", says="is not a VHDX file")
    with open(w.tmp / "b.vhdx", "wb") as f:
        f.write(b"vhdxfile".ljust(8 << 20, b"\0"))
    w.fails(125, "--import-in-place", "b", w.tmp / "b.vhdx", says="import b")
    # Without being told so, a file that looks like one is not: a guest may have written that.
    (w.tmp / "b.vhdx").rename(w.tmp / "c.img")
    w.fails(125, "--import-in-place", "c", w.tmp / "c.img", says="VHDX container")
    tool("qemu-img", "create", "-q", "-f", "vhdx", w.tmp / "empty.vhdx", "64M")
    w.fails(125, "--import-in-place", "d", w.tmp / "empty.vhdx", says="is empty")
    # A file system, but no distribution.
    (w.tmp / "tree").mkdir()
    tool("mke2fs", "-q", "-t", "ext4", "-d", w.tmp / "tree", w.tmp / "fs.img", "16M")
    tool("qemu-img", "convert", "-O", "vhdx", w.tmp / "fs.img", w.tmp / "fs.vhdx")
    w.fails(125, "--import-in-place", "e", w.tmp / "fs.vhdx", says="not a root file system")
    assert w.list() == {}


def test_what_it_says_of_itself(vhdx):
    w = vhdx
    entry = w.list()["v"]
    assert (entry["format"], entry["disk"], entry["flavor"]) == ("vhdx", str(w.tmp / "v.vhdx"), w.list()["deb"]["flavor"] or entry["flavor"])
    assert entry["flavor"] and w.list()["deb"]["format"] == "raw"
    w.kill(w.service_pid())
    assert w.list()["v"]["format"] == "vhdx"
    for args in (["--resize", "8GB"], ["--compact"]):
        w.fails(125, "--manage", "v", *args, says=["VHDX file", "--move"])
    w.ok("--export", "v", w.tmp / "v.tar", timeout=120)
    assert "./etc/os-release" in subprocess.run(["tar", "-tf", w.tmp / "v.tar"], capture_output=True, text=True, check=True).stdout
    w.ok("--export", "v", w.tmp / "copy.vhdx", timeout=120)
    check(w.tmp / "copy.vhdx")
    w.ok("--export", "v", w.tmp / "raw.img", timeout=120)
    tool("qemu-img", "compare", "-f", "raw", "-F", "vhdx", w.tmp / "raw.img", w.tmp / "v.vhdx")
    w.ok("--unregister", "v")
    assert (w.tmp / "v.vhdx").exists()


@real_only
def test_it_runs_and_others_can_read_it_after(vhdx):
    w = vhdx
    sh(w, "head -c 3M /dev/urandom > /root/noise; sha256sum /root/noise > /root/sum; echo mark > /root/mark; sync")
    w.ok("--export", "v", w.tmp / "running.tar", timeout=120)  # while it runs
    assert subprocess.run(["tar", "-xOf", w.tmp / "running.tar", "./root/mark"], capture_output=True, text=True,
                          check=True).stdout == "mark\n"
    w.ok("--terminate", "v", timeout=60)
    check(w.tmp / "v.vhdx")
    tool("qemu-img", "convert", "-O", "raw", w.tmp / "v.vhdx", w.tmp / "back.img")
    out = subprocess.run(["/sbin/debugfs", "-R", "cat /root/mark", w.tmp / "back.img"], capture_output=True, text=True, timeout=60)
    assert out.stdout == "mark\n"
    # A copy and a moved one are raw disks of the service's.
    w.ok("--manage", "v", "--clone", "copy", timeout=120)
    assert w.list()["copy"]["format"] == "raw"
    assert w.ok("-d", "copy", "--", "cd /root && sha256sum -c sum", timeout=60) == "/root/noise: OK\n"
    w.ok("--manage", "v", "--move", w.tmp / "moved", timeout=120)
    assert w.list()["v"]["format"] == "raw" and sh(w, "cat /root/mark") == "mark\n"


@real_only
def test_a_killed_machine_loses_nothing_that_was_synced(vhdx):
    w = vhdx
    for i in range(3):
        sh(w, f"head -c 2M /dev/urandom > /root/n{i}; (cd /root; sha256sum n{i} >> sums); sync")
        p = w.popen("-d", "v", "--", "while :; do head -c 1M /dev/urandom > /root/unsynced; done")
        time.sleep(1)
        pid, = w.vmm_pids()
        w.kill(pid)
        p.wait(60)
        wait_for("the service to notice", lambda: "vm" not in w.status())
        if i == 1:
            # Exported first: the file's log is replayed, and the file system's journal by its kernel.
            w.ok("--export", "v", w.tmp / "after.tar", timeout=240)
        assert sh(w, "cd /root && sha256sum -c --quiet sums && grep -c . sums") == f"{i + 1}\n"
    w.ok("--terminate", "v", timeout=60)
    check(w.tmp / "v.vhdx")
