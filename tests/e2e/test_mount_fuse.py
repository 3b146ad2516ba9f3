# SPDX-License-Identifier: MIT
"""wslx-mount: distributions' files in a folder of the host."""
import os
import subprocess

import pytest
from conftest import BUILD, SCALE, imported, end, wait_for, world


class Mount:
    """wslx-mount on a folder of its own, as the user of a world."""

    def __init__(self, w, *options):
        self.w = w
        self.folder = w.tmp / "mnt"
        self.p = subprocess.Popen([BUILD / "mount/wslx-mount", "--verbose", *options, self.folder], env=w.env)
        wait_for("the mount", lambda: os.path.ismount(self.folder) or self.p.poll() is not None)
        assert self.p.poll() is None

    def close(self):
        if self.p.poll() is None:
            self.p.terminate()
        self.p.wait(10 * SCALE)
        if os.path.ismount(self.folder):
            subprocess.run(["fusermount3", "-u", "-z", self.folder], check=False)


@pytest.fixture(scope="module")
def m():
    w = world()
    mount = None
    try:
        imported(w)
        mount = Mount(w, "--user", "root")
        yield mount
    finally:
        if mount:
            mount.close()
        end(w, True)


def test_a_folder_for_each_distribution(m):
    assert os.listdir(m.folder) == ["deb"]
    assert os.stat(m.folder / "deb").st_uid == os.getuid()
    assert m.w.vmm_pids() == [], "looking started it"
    with pytest.raises(FileNotFoundError):
        os.stat(m.folder / "nosuch")


def test_opening_one_starts_it(m):
    assert "etc" in os.listdir(m.folder / "deb")
    assert m.w.vmm_pids()
    assert (m.folder / "deb/etc/os-release").read_text() == m.w.sh("cat /etc/os-release")
