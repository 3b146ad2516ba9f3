# SPDX-License-Identifier: MIT
"""Files of the host in a distribution: /mnt/host, [automount] of wsl.conf, mount.drvfs, and what happens when the server dies."""
import os
import pathlib
import signal

import pytest
from conftest import real_only, wait_for

pytestmark = real_only


@pytest.fixture
def folder(wslx, tmp_path):
    """A folder of this host, and what it is called in the distribution."""
    return tmp_path, f"/mnt/host{tmp_path}"


def test_a_file_of_the_host_is_read_and_written(wslx, folder):
    here, there = folder
    (here / "from-host").write_text("hello\n")
    assert wslx.sh(f"cat {there}/from-host; echo back >{there}/from-guest; mkdir {there}/d; ln -s d {there}/l; ls -1 {there}") == \
        "hello\nd\nfrom-guest\nfrom-host\nl\n"
    assert (here / "from-guest").read_text() == "back\n"
    assert os.readlink(here / "l") == "d"
