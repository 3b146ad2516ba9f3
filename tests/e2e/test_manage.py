# SPDX-License-Identifier: MIT
"""wslx --manage: move, resize, compact, rename, clone, default user."""
import os
import random
import signal
import subprocess
import time

import pytest

from conftest import real_only

SUM = "cd / && find bin etc usr/bin -xdev -type f | sort | xargs sha256sum | sha256sum"


def disk(w, name="deb"):
    return os.path.join(w.list()[name]["dir"], "ext4.img")


def check(path):
    """The file system is whole, says e2fsck, which changes nothing."""
    p = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr


def stop(w, name="deb"):
    w.ok("--terminate", name, timeout=60)


def test_rename(fresh):
    w = fresh
    w.ok("--manage", "deb", "--rename", "Other")
    assert list(w.list()) == ["Other"] and w.list()["Other"]["default"]
    w.fails(125, "--manage", "deb", "--rename", "x", says="no distribution 'deb'")
    w.fails(125, "--manage", "Other", "--rename", "-x", says="no name for a distribution")
    w.ok("--manage", "other", "--rename", "OTHER")  # its case only
    w.import_deb("second")
    w.fails(125, "--manage", "second", "--rename", "other", says="exists already")


def test_move(fresh):
    w = fresh
    old, new = w.list()["deb"]["dir"], str(w.tmp / "elsewhere/deb")
    before = os.stat(disk(w)).st_size
    w.ok("--manage", "deb", "--move", new, timeout=60)
    assert w.list()["deb"]["dir"] == new
    assert not os.path.exists(os.path.join(old, "ext4.img"))
    assert os.stat(disk(w)).st_size == before
    assert not os.listdir(w.data / "pending")
    w.ok("-d", "deb", "--", "true")


def test_move_to_where_a_disk_is(fresh):
    w = fresh
    w.import_deb("second")
    w.fails(125, "--manage", "deb", "--move", w.list()["second"]["dir"], says="holds a disk already")
    assert os.path.exists(disk(w)) and os.path.exists(disk(w, "second"))


@real_only
def test_a_running_one_is_not_moved_resized_or_cloned(fresh):
    w = fresh
    w.sh("true")
    for args in (["--move", w.tmp / "x"], ["--resize", "2GB"], ["--compact"], ["--clone", "x"]):
        w.fails(125, "--manage", "deb", *args, says=["it is running", "--terminate deb"])
    assert not os.path.exists(w.tmp / "x")


@real_only
def test_resize_both_ways(fresh):
    w = fresh
    before = w.sh(SUM)
    for size, mib in (("3GB", 3072), ("1500MB", 1500), ("20GB", 20480)):
        stop(w)
        w.ok("--manage", "deb", "--resize", size, timeout=120)
        assert os.stat(disk(w)).st_size == mib << 20
        check(disk(w))
        total = int(w.sh("df --output=size -BM / | tail -1").strip().rstrip("M"))
        assert 0.9 * mib < total <= mib
        assert w.sh(SUM) == before
    stop(w)
    w.fails(125, "--manage", "deb", "--resize", "20MB", says="resize deb")
    assert os.stat(disk(w)).st_size == 20480 << 20
    assert w.sh(SUM) == before


@real_only
def test_compact_gives_space_back(fresh):
    w = fresh
    w.configure(**{"distribution.deb_mountOptions": "errors=remount-ro"})  # without discard
    before = w.sh(SUM)
    w.sh("head -c 200M /dev/urandom > /big && sync && rm /big && sync")
    stop(w)
    full = os.stat(disk(w)).st_blocks * 512
    w.ok("--manage", "deb", "--compact", timeout=60)
    assert os.stat(disk(w)).st_blocks * 512 < full - (150 << 20)
    check(disk(w))
    assert w.sh(SUM) == before


@real_only
def test_clone(fresh):
    w = fresh
    w.sh("echo original > /root/mark")
    stop(w)
    w.ok("--manage", "deb", "--clone", "copy", timeout=60)
    assert w.ok("-d", "copy", "--", "cat /root/mark; echo changed > /root/mark; cat /root/mark") == "original\nchanged\n"
    assert w.sh("cat /root/mark") == "original\n"
    assert w.list()["deb"]["default"] and not w.list()["copy"]["default"]
    w.ok("--unregister", "copy", timeout=60)
    assert w.sh("cat /root/mark") == "original\n"
    w.fails(125, "--manage", "deb", "--clone", "deb", says="exists already")


@real_only
def test_default_user(fresh):
    w = fresh
    w.sh("useradd -m -u 1234 someone")
    w.ok("--manage", "deb", "--set-default-user", "someone")
    assert w.sh("id -un; pwd") == "someone\n/home/someone\n"
    w.fails(125, "--manage", "deb", "--set-default-user", "nobody-knows", says="user 'nobody-knows' does not exist")
    assert w.list()["deb"]["uid"] == 1234


def test_wrong_arguments(fresh):
    w = fresh
    for args, says in ((["deb"], "needs a distribution"), (["deb", "--resize"], "needs an argument"),
                       (["deb", "--resize", "big"], "bad size"), (["deb", "--shrink", "1"], "unknown option '--shrink'"),
                       (["deb", "--set-sparse", "maybe"], "true or false"),
                       (["deb", "--set-sparse", "false"], "sparse always"),
                       (["deb", "--compact", "--rename"], "one option at a time"),
                       (["deb", "--rename", "x", "--compact"], "one option at a time")):
        w.fails(125, "--manage", *args, says=says)
    w.fails(125, "--manage", "none", "--compact", says="no distribution 'none'")


def kill_in_the_middle(w, args, seed, most):
    """Starts it, kills the service some way into it; afterwards nothing half-made is left."""
    print(f"seed {seed}: {args}")
    w.list()  # the service is there
    p = w.popen(*args)
    time.sleep(random.Random(seed).uniform(0, most))
    if w.service_pid():
        w.kill(w.service_pid(), signal.SIGKILL)
    p.communicate(timeout=60)
    names = w.list()
    assert not os.path.isdir(w.data / "pending") or not os.listdir(w.data / "pending")
    for d in names.values():
        assert sorted(os.listdir(d["dir"])) == ["ext4.img"]
    return names


@real_only
@pytest.mark.parametrize("what", ["move", "resize", "clone", "compact", "rename"])
def test_killed_in_the_middle_it_still_starts(fresh, what):
    w = fresh
    before, ours = w.sh(SUM), "deb"
    for i in range(int(os.environ.get("WSLX_TEST_MANAGE_KILLS", "3"))):
        w.ok("--shutdown", timeout=60)
        args = {"move": ["--move", w.tmp / f"place{i}"], "resize": ["--resize", f"{2 + i % 3}GB"],
                "clone": ["--clone", f"copy{i}"], "compact": ["--compact"], "rename": ["--rename", f"name{i}"]}[what]
        names = kill_in_the_middle(w, ["--manage", ours, *args], random.randrange(1 << 30), 0.04 if what == "rename" else 0.4)
        if what == "rename":  # one name or the other
            before_name, (ours,) = ours, names
            assert ours in (before_name, f"name{i}")
        check(disk(w, ours))
        assert w.ok("-d", ours, "--", SUM) == before
        for name in names:
            if name != ours:
                assert w.ok("-d", name, "--", SUM) == before
                w.ok("--unregister", name, timeout=60)
