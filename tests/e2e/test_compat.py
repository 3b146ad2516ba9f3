# SPDX-License-Identifier: MIT
"""What scripts made for WSL say, in forms that no other test uses: rows of docs/wsl-compat.md."""
import json
import os
import shutil
import subprocess

import pexpect
import pytest

from conftest import SCALE, fake_only, real_only, rootfs, wait_for


def test_options_in_every_form(wslx):
    for form in (["-d", "deb"], ["-ddeb"], ["--distribution", "deb"], ["--distribution=deb"], ["-d", "DEB"]):
        assert wslx.ok(*form, "--", "echo", "$WSL_DISTRO_NAME") == "$WSL_DISTRO_NAME\n"
    for form in (["-u", "root"], ["-uroot"], ["--user", "root"], ["--user=root"], ["-u", "0"]):
        assert wslx.ok("-d", "deb", *form, "--", "id", "-u") == "0\n"
    assert wslx.ok("-d", "deb", "--cd=/etc", "-e", "pwd") == "/etc\n"
    assert wslx.ok("-d", "deb", "--cd", "/etc", "--exec", "pwd") == "/etc\n"


@real_only
def test_home_folder(wslx):
    home = wslx.ok("-d", "deb", "--cd", "~", "-e", "pwd")
    assert home == wslx.sh("cd; pwd") == wslx.ok("~", "-d", "deb", "-e", "pwd") == wslx.ok("-d", "deb", "--cd=~/", "-e", "pwd")
    wslx.fails(125, "-d", "deb", "--cd", "~/no-such-folder", "--", "true", says="no-such-folder")


def test_what_follows_two_dashes_is_no_option(wslx):
    assert wslx.ok("-d", "deb", "--", "printf", "<%s>", "-u", "--list", "--") == "<-u><--list><-->"
    assert wslx.ok("-d", "deb", "-e", "printf", "<%s>", "--cd", "/") == "<--cd></>"
    # Nor is what follows the first word.
    assert wslx.ok("-d", "deb", "printf", "<%s>", "-u", "x") == "<-u><x>"


@pytest.mark.parametrize("args", [["--system"], ["--parent-console", "1"], ["{6e5a3d5b-52d1-4c5f-9b0a-000000000000}"]])
def test_options_that_belong_to_windows_are_refused(empty, args):
    empty.fails(125, *args, "--", "true")


def test_standard_streams_are_utf8(wslx):
    p = wslx.run("-d", "deb", "--", "printf", "gr\u00fc\u00df \u2603", text=False)
    assert p.stdout.decode("utf-8") == "gr\u00fc\u00df \u2603"
    assert wslx.run("--list", text=False).stdout == b"deb (Default)\n"


@real_only
def test_limits_of_processes(wslx):
    assert wslx.sh("ulimit -Sn; ulimit -Hn; ulimit -l; cat /proc/sys/fs/inotify/max_user_watches").split() == \
        ["10240", "1048576", "65536", "524288"]
    assert "Linux version" in wslx.ok("-d", "deb", "-u", "nobody", "--exec", "dmesg")


def test_success_is_silent(fresh):
    for args in (["--set-default", "deb"], ["--terminate", "deb"], ["--shutdown"], ["--set-version", "deb", "2"]):
        p = fresh.run(*args)
        assert (p.returncode, p.stdout, p.stderr) == (0, "", "")


def test_warnings_can_be_silenced(fresh):
    fresh.configure(wsl2_nonsense="1")
    assert fresh.run("-d", "deb", "--", "true", env={"WSL_DISABLE_WARNINGS": "1"}).stderr == ""
    fresh.ok("--shutdown")
    assert "wsl2.nonsense" in fresh.run("-d", "deb", "--", "true", env={"WSL_DISABLE_WARNINGS": "0"}).stderr


def test_install_takes_what_wsl_takes(empty):
    w = empty
    w.ok("--install", "--no-distribution", "--enable-wsl1", "--legacy", "--web-download", "--pre-release", "--prompt-before-exit",
         "--version", "2")
    p = w.run("--install", "-f", rootfs(), "--name", "one", "--fixed-vhd", "--vhd-size", "3GB", "-l", w.tmp / "here", "-n", timeout=300)
    assert p.returncode == 0 and "wslx: warning: disks of wslx are sparse always: --fixed-vhd is ignored" in p.stderr
    disk = w.tmp / "here/ext4.img"
    assert disk.stat().st_size == 3 << 30 and disk.stat().st_blocks * 512 < 2 << 30


@fake_only
def test_install_ends_in_a_shell_on_a_terminal(empty):
    p = pexpect.spawn(empty.cmd()[0], ["--install", "-f", str(rootfs()), "--name", "one"], env={**empty.env, "TERM": "dumb"},
                      timeout=30 * SCALE, encoding="utf-8")
    p.expect("wslx -d one")
    wait_for("it to start", lambda: empty.list()["one"]["state"] == "Running", 20)
    p.sendline("exit 3")
    p.expect(pexpect.EOF)
    p.close()
    assert p.exitstatus == 3


def test_a_suite_is_made_by_mmdebstrap(empty):
    """One that plays it: what it writes is imported, and what it is told is in the list."""
    w = empty
    path = w.tmp / "list.json"
    path.write_text(json.dumps({"MadeDistributions": {"Debian": [
        {"Name": "Mine", "Default": True, "FriendlyName": "My own", "Suite": "somesuite", "Mirror": "file:///nowhere"}]}}))
    w.configure(wslx_distributionList=str(path))
    tools = w.tmp / "tools"
    tools.mkdir()
    (tools / "mmdebstrap").write_text(f'#!/bin/sh\necho "$@" >{w.tmp}/told\nexec cat {rootfs()}\n')
    (tools / "mmdebstrap").chmod(0o755)
    p = w.run("--install", "-n", env={"PATH": f"{tools}:{os.environ['PATH']}"}, timeout=300)
    assert p.returncode == 0, p.stderr
    assert list(w.list()) == ["Mine"]
    told = (w.tmp / "told").read_text().split()
    assert told[-3:] == ["somesuite", "-", "file:///nowhere"] and "--format=tar" in told


def test_import_of_a_version(empty):
    w = empty
    w.ok("--import", "one", w.tmp / "one", rootfs(), "--version", "2", timeout=300)
    w.fails(125, "--import", "two", w.tmp / "two", rootfs(), "--version", "1", says="version")
    assert list(w.list()) == ["one"] and not (w.tmp / "two").exists()


def test_set_sparse_compacts(empty):
    """The disk loses what its file system does not use."""
    fresh = empty
    fresh.ok("--import", "deb", fresh.tmp / "disk-deb", rootfs(), "--size", "2GB", timeout=300)
    disk = fresh.tmp / "disk-deb/ext4.img"
    fresh.ok("--manage", "deb", "--set-sparse", "true", timeout=60)
    before = disk.stat().st_blocks
    # The last blocks of the file are no file's.
    with open(disk, "r+b") as f:
        f.seek(disk.stat().st_size - (16 << 20))
        f.write(b"x" * (8 << 20))
    assert disk.stat().st_blocks > before
    fresh.ok("--manage", "deb", "--set-sparse", "true", "--allow-unsafe", timeout=60)
    assert disk.stat().st_blocks <= before + 128


@fake_only
def test_a_distribution_that_never_starts_is_given_up(fresh):
    fresh.ok("--shutdown")
    fresh.kill(fresh.service_pid())
    fresh.env["FAKE_NO_START"] = "1"
    fresh.configure(wsl2_distributionStartTimeout=500)
    fresh.fails(125, "-d", "deb", "--", "true", says=["did not start in time", "distributionStartTimeout"])


@fake_only
def test_more_distributions_than_a_machine_has_places_for_disks(fresh):
    """The one too many is told so; it runs when another has stopped."""
    fresh.configure(general_instanceIdleTimeout=-1)
    fresh.kill(fresh.service_pid())
    path = fresh.data / "registry.json"
    reg = json.loads(path.read_text())
    first = reg["distributions"][0]
    for i in range(64):
        d = fresh.tmp / f"disk-{i}"
        shutil.copytree(fresh.tmp / "disk-deb", d, copy_function=lambda a, b: subprocess.run(["cp", "--sparse=always", a, b], check=True))
        reg["distributions"].append({**first, "name": f"n{i}", "id": f"{first['id'][:-4]}{i:04x}", "dir": str(d)})
    path.write_text(json.dumps(reg))
    full = None
    for i in range(64):
        p = fresh.run("-d", f"n{i}", "--", "true", timeout=60)
        if p.returncode:
            full = i
            break
    if full is None:
        full = "deb"
        p = fresh.run("-d", "deb", "--", "true")
    else:
        full = f"n{full}"
    assert p.returncode == 125 and "no room for another disk" in p.stderr, p.stderr
    fresh.ok("--terminate", "n0")
    assert fresh.ok("-d", full, "--", "echo", "fits") == "fits\n"
