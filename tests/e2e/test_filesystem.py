# SPDX-License-Identifier: MIT
"""Root file systems other than ext4: made at import, kept in every other form."""
import os
import random
import signal
import subprocess
import time

import pytest

from conftest import end, fake_only, real_only, rootfs, wait_for, world
from test_export import EVERYTHING, gnu_tar, make, root_only, same, tree, unpack

KINDS = ["xfs", "btrfs"]


def disk(w, name="deb"):
    d = w.list()[name]
    return os.path.join(d["dir"], d["fs"] + ".img")


def stop(w, name="deb"):
    w.ok("--terminate", name, timeout=60)


def check(w, name="deb"):
    """The file system is whole, says its own checker, which changes nothing."""
    tool = {"xfs": ["xfs_repair", "-n", "-f"], "btrfs": ["btrfs", "check", "--readonly"]}[w.list()[name]["fs"]]
    p = subprocess.run([*tool, disk(w, name)], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


def guest_size(w, name="deb"):
    """MiB."""
    return int(w.ok("-d", name, "--", "df --output=size -BM / | tail -1").strip().rstrip("M"))


@pytest.fixture(scope="module", params=KINDS)
def made(request):
    """One distribution of each kind, shared by the tests, which leave it stopped and as it was."""
    w = world()
    try:
        w.ok("--import", "deb", w.tmp / "disk-deb", rootfs(), "--file-system", request.param, "--size", "2GB", timeout=300)
        w.fs = request.param
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


@real_only
def test_import_makes_it_and_it_runs(made):
    w = made
    assert os.listdir(w.tmp / "disk-deb") == [w.fs + ".img"]
    assert not os.listdir(w.data / "pending")
    assert w.list()["deb"]["fs"] == w.fs and w.list()["deb"]["flavor"] == "debian"
    assert w.sh("findmnt -no FSTYPE /; stat -c %U:%a /usr/bin/passwd") == f"{w.fs}\nroot:4755\n"
    assert w.sh("echo original > /root/mark; sync; cat /root/mark") == "original\n"
    stop(w)
    check(w)


@real_only
def test_clones_run_side_by_side(made):
    w = made
    w.ok("--manage", "deb", "--clone", "copy", timeout=60)
    w.sh("echo original > /root/mark")
    assert w.ok("-d", "copy", "--", "echo changed > /root/mark; cat /root/mark") == "changed\n"
    assert w.sh("cat /root/mark") == "original\n"
    w.ok("--unregister", "copy", timeout=60)
    assert not os.path.exists(w.data / "copy")
    stop(w)


@real_only
def test_it_grows_and_shrinks_where_it_can(made):
    w = made
    w.ok("--manage", "deb", "--resize", "3GB", timeout=120)
    assert os.stat(disk(w)).st_size == 3 << 30
    check(w)
    assert 2700 < guest_size(w) <= 3072
    stop(w)
    if w.fs == "xfs":
        w.fails(125, "--manage", "deb", "--resize", "1GB", says=["xfs file system cannot shrink", "3072 MiB", "--size"])
        assert os.stat(disk(w)).st_size == 3 << 30
    else:
        w.ok("--manage", "deb", "--resize", "1GB", timeout=120)
        assert os.stat(disk(w)).st_size == 1 << 30
        check(w)
        assert guest_size(w) == 1024
        stop(w)
        w.fails(125, "--manage", "deb", "--resize", "300MB", says="resize deb", timeout=120)
        assert os.stat(disk(w)).st_size == 1 << 30
    assert os.listdir(w.tmp / "disk-deb") == [w.fs + ".img"]
    w.sh("true")
    stop(w)


@real_only
def test_compact_gives_space_back(made):
    w = made
    options = {"xfs": "logbufs=8", "btrfs": "nodiscard"}[w.fs]  # without discard
    w.configure(**{"distribution.deb_mountOptions": options})
    w.sh("head -c 100M /dev/urandom > /big && sync && rm /big && sync")
    stop(w)
    w.configure()
    full = os.stat(disk(w)).st_blocks * 512
    w.ok("--manage", "deb", "--compact", timeout=60)
    assert os.stat(disk(w)).st_blocks * 512 < full - (70 << 20)
    check(w)


SUM = "cd / && find bin etc usr/bin -xdev -type f | sort | xargs sha256sum | sha256sum"


@real_only
@pytest.mark.parametrize("what", ["move", "grow", "shrink", "clone", "compact"])
def test_killed_in_the_middle_it_still_starts(made, what):
    """The service dies at any point: while the machine that resizes boots, works or ends, or between the copy and the registry."""
    w = made
    if what == "shrink" and w.fs == "xfs":
        pytest.skip("xfs cannot shrink")
    before = w.sh(SUM)
    for i in range(int(os.environ.get("WSLX_TEST_MANAGE_KILLS", "1"))):
        w.ok("--shutdown", timeout=60)
        args = {"move": ["--move", w.tmp / f"place-{time.time_ns()}"], "grow": ["--resize", f"{3072 + i}MB"], "shrink": ["--resize", f"{1500 - i}MB"],
                "clone": ["--clone", "copy"], "compact": ["--compact"]}[what]
        wait = random.uniform(0, 0.4 if what in ("move", "clone") else 4)
        print(f"killed after {wait:.3f} s: {args}")
        w.list()  # the service is there
        p = w.popen("--manage", "deb", *args)
        time.sleep(wait)
        w.kill(w.service_pid(), signal.SIGKILL)
        p.communicate(timeout=60)
        wait_for("the machine to end", lambda: not w.vmm_pids(), 20)
        names = w.list()
        assert not os.path.isdir(w.data / "pending") or not os.listdir(w.data / "pending")
        for d in names.values():
            assert os.listdir(d["dir"]) == [w.fs + ".img"]
        check(w)
        assert w.sh(SUM) == before
        if "copy" in names:
            assert w.ok("-d", "copy", "--", SUM) == before
            w.ok("--unregister", "copy", timeout=60)
        stop(w)
    if what == "shrink":
        w.ok("--manage", "deb", "--resize", "3GB", timeout=120)
    if w.list()["deb"]["dir"] != str(w.tmp / "disk-deb"):
        w.ok("--manage", "deb", "--move", w.tmp / "disk-deb", timeout=60)


@real_only
def test_a_disk_is_imported_as_it_is(made):
    w = made
    raw = w.tmp / "raw.img"
    w.ok("--export", "deb", raw, "--format", "raw", timeout=60)
    w.ok("--import", "again", w.tmp / "again", raw, "--vhd", timeout=60)
    assert w.list()["again"]["fs"] == w.fs and w.list()["again"]["flavor"] == "debian"
    assert os.listdir(w.tmp / "again") == [w.fs + ".img"]
    assert w.ok("-d", "again", "--", "findmnt -no FSTYPE /") == w.fs + "\n"
    w.fails(125, "--import", "x", w.tmp / "x", raw, "--file-system", "ext4", says="a disk image keeps its file system")
    w.ok("--unregister", "again", timeout=60)
    w.ok("--import-in-place", "place", raw, timeout=60)
    assert w.list()["place"]["fs"] == w.fs and w.list()["place"]["os_version"]
    assert w.ok("-d", "place", "--", "findmnt -no FSTYPE /") == w.fs + "\n"
    w.ok("--unregister", "place", timeout=60)
    assert raw.exists()
    raw.unlink()


@real_only
def test_a_running_one_is_exported(made):
    w = made
    w.sh("echo before > /root/when")
    w.ok("--export", "deb", w.tmp / "running.tar", timeout=300)
    out = subprocess.run(["tar", "-xOf", w.tmp / "running.tar", "./root/when"], capture_output=True, text=True)
    assert out.stdout == "before\n"
    assert os.listdir(w.tmp / "disk-deb") == [w.fs + ".img"]
    stop(w)
    (w.tmp / "running.tar").unlink()


@root_only
@real_only
@pytest.mark.parametrize("fs", KINDS)
def test_a_tree_of_every_kind_goes_round(empty, fs):
    """From an archive to ext4, to this, to ext4, to an archive."""
    w = empty
    script = EVERYTHING.replace("head -c 3000 ", "head -c 1000 ") if fs == "xfs" else EVERYTHING  # a link there is that long at most
    make(script, w.tmp / "src")
    gnu_tar("-C", w.tmp / "src", "--format=posix", "--sparse", "-cf", w.tmp / "a.tar", ".")
    want = tree(w.tmp / "src")
    w.ok("--import", "odd", w.tmp / "odd", w.tmp / "a.tar", "--file-system", fs, "--size", "1GB", timeout=300)
    assert w.list()["odd"]["flavor"] == "odd"
    w.ok("--export", "odd", w.tmp / "b.tar", timeout=300)
    unpack(w.tmp / "b.tar", w.tmp / "back")
    same(want, tree(w.tmp / "back"))


@real_only
def test_killed_in_the_middle_nothing_is_registered(empty):
    """The service dies while the files are copied: no distribution, no file, no machine is left."""
    w = empty
    p = w.popen("--import", "deb", w.tmp / "disk-deb", rootfs(), "--file-system", "xfs", "--size", "1GB")
    wait_for("the machine that copies", lambda: w.vmm_pids(), 120)
    time.sleep(1)
    w.kill(w.service_pid(), signal.SIGKILL)
    assert p.wait(60) == 125
    assert w.list() == {}
    assert not os.path.exists(w.tmp / "disk-deb") and not os.listdir(w.data / "pending")
    wait_for("the machine to end", lambda: not w.vmm_pids())


@real_only
def test_the_client_that_goes_away_ends_it(empty):
    w = empty
    p = w.popen("--import", "deb", w.tmp / "disk-deb", rootfs(), "--file-system", "btrfs", "--size", "1GB")
    wait_for("the machine that copies", lambda: w.vmm_pids(), 120)
    p.kill()
    p.wait()
    wait_for("the machine to end", lambda: not w.vmm_pids(), 20)
    assert w.list() == {} and not os.path.exists(w.tmp / "disk-deb") and not os.listdir(w.data / "pending")


@real_only
def test_wslx_conf_names_one(empty):
    w = empty
    w.configure(**{"distribution.small_fileSystem": "btrfs"})
    (w.tmp / "src/etc").mkdir(parents=True)
    (w.tmp / "src/etc/os-release").write_text("ID=small\n")
    subprocess.run(["tar", "-C", w.tmp / "src", "-cf", w.tmp / "small.tar", "."], check=True)
    w.ok("--import", "Small", w.tmp / "a", w.tmp / "small.tar", timeout=120)
    w.ok("--import", "other", w.tmp / "b", w.tmp / "small.tar", timeout=120)
    assert {n: d["fs"] for n, d in w.list().items()} == {"Small": "btrfs", "other": "ext4"}


def test_file_systems_that_are_not(empty):
    w = empty
    (w.tmp / "a.tar").write_bytes(b"x")
    w.fails(125, "--import", "x", w.tmp / "x", w.tmp / "a.tar", "--file-system", "zfs", says="unknown file system 'zfs'")
    w.fails(125, "--import", "x", w.tmp / "x", w.tmp / "a.tar", "--file-system", says="needs ext4, xfs or btrfs")
    assert not (w.tmp / "x").exists()


@fake_only
def test_without_a_guest_that_can_it_fails_and_nothing_is_left(empty):
    w = empty
    w.fails(125, "--import", "x", w.tmp / "x", rootfs(), "--file-system", "btrfs", says="import x", timeout=60)
    assert w.list() == {} and not (w.tmp / "x").exists() and not os.listdir(w.data / "pending")
