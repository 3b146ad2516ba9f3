# SPDX-License-Identifier: MIT
"""Files of the host by virtio-9p ([wsl2] virtio9p): what test_files.py shows of virtio-fs."""
import os
import signal
import subprocess

import pytest
from conftest import FS_CASES, SCALE, cases_failed, end, real_only, rootfs, wait_for, world
from less import LESS
from test_mount_fuse import Mount
from test_network import processes

pytestmark = real_only


@pytest.fixture(scope="module")
def deb():
    w = world()
    try:
        w.configure(wsl2_virtio9p="true")
        w.import_deb(archive=rootfs("WSLX_TEST_WORK_ROOTFS"))
        yield w
    finally:
        end(w, False)


def test_the_device_is_of_that_kind(deb):
    assert deb.sh("grep -c ' /mnt/host 9p ' /proc/mounts; grep -c virtiofs /proc/mounts; true") == "1\n0\n"


def test_a_file_of_the_host_is_read_and_written(deb, tmp_path):
    there = f"/mnt/host{tmp_path}"
    (tmp_path / "from-host").write_text("hello\n")
    assert deb.sh(f"cat {there}/from-host; echo back >{there}/from-guest; mkdir {there}/d; ln -s d {there}/l; ls -1 {there}") == \
        "hello\nd\nfrom-guest\nfrom-host\nl\n"
    assert (tmp_path / "from-guest").read_text() == "back\n"
    assert os.readlink(tmp_path / "l") == "d"
    (tmp_path / "from-host").write_text("changed\n")
    assert deb.sh(f"cat {there}/from-host") == "changed\n"


def test_options(deb, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/f").write_text("x\n")
    deb.ok("-d", "deb", "-u", "root", "--", f"mkdir -p /opt/x && mount -t drvfs {tmp_path}/d /opt/x -o ro,fmask=077")
    assert deb.ok("-d", "deb", "-u", "root", "--", "stat -c %a /opt/x/f; touch /opt/x/g 2>&1; umount /opt/x").splitlines() == \
        ["600", "touch: cannot touch '/opt/x/g': Read-only file system"]


def test_a_folder_beside(deb, tmp_path):
    (tmp_path / "f").write_text("1\n")
    deb.ok("--mount", tmp_path, "-n", "x")
    assert deb.sh("cat /mnt/wsl/x/f") == "1\n"
    deb.ok("--unmount", tmp_path)
    assert deb.sh("ls /mnt/wsl") == ""


def test_folders_that_nobody_enters_cannot_even_be_looked_at(deb):
    assert deb.sh("ls -ld /mnt/host/proc /mnt/host/sys | wc -l; ls /mnt/host/proc 2>&1 | grep -c 'Permission denied'") == "2\n1\n"


def test_a_search_that_comes_back_to_where_it_started_hangs_every_distribution(deb, tmp_path):
    """As in test_mount_fuse.py."""
    mount = Mount(deb, "--user", "root")
    there = f"/mnt/host{mount.folder}/deb"
    try:
        deb.ok("-d", "deb", "-u", "root", "--", f"mkdir /opt/b && mount --bind /mnt/host{tmp_path} /opt/b && touch /opt/b/new")
        for d in ("mnt/host", "opt/b"):
            p = deb.run("-d", "deb", "--", f"timeout -k 1 {10 * SCALE:.0f} ls {there}/{d} 2>&1", timeout=60 * SCALE)
            assert "Permission denied" in p.stdout, p
        assert deb.sh(f"ls /mnt/host{tmp_path}") == "new\n"
    finally:
        mount.close()
        deb.run("-d", "deb", "-u", "root", "--", "umount /opt/b; rmdir /opt/b")


def test_files_come_back_when_their_server_dies(deb, tmp_path):
    """What is open or stood in is stale; who looks files up by their paths goes on."""
    there = f"/mnt/host{tmp_path}"
    (tmp_path / "f").write_text("1\n")
    deb.ok("-d", "deb", "-u", "root", "--", f"mkdir -p /opt/view && mount -t drvfs {tmp_path} /opt/view -o ro")
    assert deb.sh(f"cat {there}/f /opt/view/f") == "1\n1\n"
    holder = deb.popen("-d", "deb", "--", f"exec 3<{there}/f; echo up; read -r x; cat <&3", stdin=subprocess.PIPE)
    assert holder.stdout.readline() == b"up\n"
    for text in ("22\n", "333\n"):
        old = processes(deb, "wslx-fsd")
        assert len(old) == 1
        deb.kill(old[0], signal.SIGKILL)
        wait_for("another server", lambda: processes(deb, "wslx-fsd") not in ([], old))
        (tmp_path / "f").write_text(text)
        assert deb.sh(f"cat {there}/f; echo new >{there}/g; cat {there}/g") == text + "new\n"
        assert deb.ok("-d", "deb", "-u", "root", "--", "cat /opt/view/f") == text
    out, err = holder.communicate(b"\n", timeout=60)
    assert out == b"" and b"Stale file handle" in err
    deb.ok("-d", "deb", "-u", "root", "--", "umount /opt/view")


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other users need root")
def test_what_posix_promises(deb, tmp_path):
    p = deb.run("-d", "deb", "-u", "root", "--", f"WSLX_ONLY_USER_XATTRS=1 python3 /mnt/host{FS_CASES}/posix.py /mnt/host{tmp_path}", timeout=200)
    assert cases_failed(p) == set(LESS["9p"])


@pytest.mark.parametrize("load", ["fsx.py", "tree.py"])
def test_random_load_is_as_a_model_says(deb, tmp_path, load):
    assert "no difference" in deb.ok("-d", "deb", "--", f"python3 /mnt/host{FS_CASES}/{load} /mnt/host{tmp_path} 600 5", timeout=200)
