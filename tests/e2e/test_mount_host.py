# SPDX-License-Identifier: MIT
"""Folders of the host beside /mnt/host: --mount and --unmount."""
import os
import subprocess

import pytest
from conftest import fake_only, real_only, wait_for
from test_mount import mounts


# --- what can be asked ---

@pytest.mark.parametrize("option", [["--vhd"], ["--bare"], ["--type", "ext4"], ["--partition", "1"]])
def test_what_only_disks_have(empty, option):
    empty.fails(125, "--mount", empty.tmp, *option, says=["is a folder", option[0]])


def test_folders_that_cannot_be_mounted(empty):
    w = empty
    w.fails(125, "--mount", w.tmp / "nothing", says=["nothing", "No such file"])
    d = w.tmp / "d"
    d.mkdir()
    for name in ("..", "a/b", "-x", "a b", "x" * 65):
        w.fails(125, "--mount", d, "--name", name, says=["is no name for a mount"])
    w.fails(125, "--unmount", d, says=[str(d), "is not mounted"])
    (w.tmp / "f").write_text("text")
    w.fails(125, "--mount", f"{w.tmp}/f/", says=["Not a directory"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read(empty):
    d = empty.tmp / "d"
    d.mkdir(mode=0o300)
    empty.fails(125, "--mount", d, says=[str(d), "Permission denied"])


# --- the service ---

@fake_only
def test_the_list_of_folders(fresh):
    w = fresh
    one, two = w.tmp / "my one", w.tmp / "two,x"
    one.mkdir()
    two.mkdir()
    assert w.ok("--mount", one) == "/mnt/wsl/my_one\n"
    assert w.ok("--mount", os.path.relpath(two), "--name", "b", "-o", "ro", cwd=os.getcwd()) == "/mnt/wsl/b\n"
    (w.tmp / "link").symlink_to(one)
    w.fails(125, "--mount", w.tmp / "link", says=["mounted already", "/mnt/wsl/my_one"])
    third = w.tmp / "third"
    third.mkdir()
    w.fails(125, "--mount", third, "-n", "b", says=["two,x", "--name"])
    listed = {v["disk"]: (v["folder"], v["mounts"][0]["options"]) for v in w.status()["mounts"]}
    assert listed == {str(one): (True, ""), str(two): (True, "ro")}
    # A new service, the same machine; a new machine.
    w.kill(w.service_pid())
    assert mounts(w) == {"my_one", "b"}
    w.ok("--shutdown")
    w.ok("-d", "deb", "--", "true")
    log = (w.data / "log/wslx-vmm.log").read_text()
    assert f"fake: MOUNT my_one {str(one)[1:]} user=0:0\n" in log and f"fake: MOUNT b {str(two)[1:]} ro,user=0:0\n" in log, log
    # One that has gone, by its path.
    two.rmdir()
    w.ok("--unmount", two)
    assert mounts(w) == {"my_one"}
    w.ok("--unmount")
    assert mounts(w) == set()


@fake_only
def test_only_what_is_shared_is_mounted(fresh):
    w = fresh
    for d in ("in", "in/x", "inside"):
        (w.tmp / d).mkdir()
    w.configure(wslx_hostFolder=w.tmp / "in")
    w.fails(125, "--mount", w.tmp / "inside", says=["it is not in", "hostFolder"])
    w.ok("--mount", w.tmp / "in/x")
    w.ok("--mount", w.tmp / "in")
    w.ok("--shutdown")
    w.configure(wsl2_hostFileSystemAccess="false")
    w.ok("--unmount")
    w.fails(125, "--mount", w.tmp / "in", says="hostFileSystemAccess")


# --- in a machine ---

@real_only
def test_a_folder_is_there_in_every_distribution(wslx, tmp_path):
    (tmp_path / "f").write_text("hello\n")
    sleeper = wslx.popen("-d", "deb", "--", "sleep 100")
    try:
        assert wslx.ok("--mount", tmp_path, "-n", "data") == "/mnt/wsl/data\n"
        assert wslx.sh("cd /mnt/wsl/data; cat f; echo back >g; echo x 2>/dev/null >../h || echo refused") == "hello\nrefused\n"
        assert (tmp_path / "g").read_text() == "back\n"
        # it is the folder that was mounted, wherever that has gone
        wslx.ok("--shutdown")
        assert wslx.sh("cat /mnt/wsl/data/g") == "back\n"
        wslx.ok("--unmount", tmp_path)
        assert wslx.sh("ls /mnt/wsl") == ""
    finally:
        sleeper.kill()
        sleeper.wait()
        wslx.run("--unmount")


@real_only
def test_a_link_on_the_way_to_a_folder_leads_to_the_hosts_files(wslx, tmp_path):
    """Who can write to the folder above it puts one there while nothing runs."""
    (tmp_path / "a/proc").mkdir(parents=True)
    (tmp_path / "b/proc").mkdir(parents=True)
    (tmp_path / "b/proc/f").write_text("the host's\n")
    wslx.ok("--mount", tmp_path / "a/proc", "-n", "linked")
    try:
        wslx.ok("--shutdown")
        (tmp_path / "a/proc").rmdir()
        (tmp_path / "a").rmdir()
        for to in ("/", "b", tmp_path / "b", "../" * 20 + str(tmp_path / "b")[1:], "/"):
            (tmp_path / "a").symlink_to(to)
            # not the virtual machine's own /proc
            want = "f\n" if str(to) != "/" else ""
            assert wslx.sh("ls /mnt/wsl/linked; ls /mnt/wsl/linked/1 2>/dev/null; true") == want, to
            wslx.ok("--shutdown")
            (tmp_path / "a").unlink()
    finally:
        wslx.run("--unmount")


@real_only
def test_options_of_a_folder(wslx, tmp_path):
    (tmp_path / "f").write_text("#!/bin/sh\n")
    (tmp_path / "f").chmod(0o755)
    wslx.ok("--mount", tmp_path, "-n", "ro", "-o", "ro,noexec,fmask=077")
    try:
        out = wslx.sh("cd /mnt/wsl/ro; stat -c %a f; touch g 2>&1; ./f 2>&1; true")
        assert out.startswith("700\n") and "Read-only" in out and "Permission denied" in out, out
        wslx.ok("--unmount", tmp_path)
        wslx.fails(125, "--mount", tmp_path, "-o", "colour=red", says='options "colour=red')
        assert mounts(wslx) == set()
    finally:
        wslx.run("--unmount")


@real_only
def test_a_folder_in_use_stays(wslx, tmp_path):
    wslx.ok("--mount", tmp_path, "-n", "busy")
    p = wslx.popen("-d", "deb", "--", "cd /mnt/wsl/busy && touch here && sleep 100")
    try:
        wait_for("a user", (tmp_path / "here").exists)
        wslx.fails(125, "--unmount", tmp_path, says=["busy"])
        assert mounts(wslx) == {"busy"}
    finally:
        p.kill()
        p.wait()
    wait_for("an unmount", lambda: wslx.run("--unmount", tmp_path).returncode == 0)


@real_only
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")
def test_a_folder_with_the_hosts_mounts_in_it(wslx, tmp_path):
    (tmp_path / "in").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "in", tmp_path / "in"], check=True)
    try:
        (tmp_path / "in/f").write_text("1\n")
        wslx.ok("--mount", tmp_path, "-n", "outer")
        wslx.ok("--mount", tmp_path / "in", "-n", "inner")
        assert wslx.sh("cat /mnt/wsl/outer/in/f /mnt/wsl/inner/f") == "1\n1\n"
        wslx.ok("--unmount")
        assert wslx.sh("ls /mnt/wsl") == ""
    finally:
        wslx.run("--unmount")
        subprocess.run(["umount", "-l", tmp_path / "in"], check=False)
