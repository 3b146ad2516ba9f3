# SPDX-License-Identifier: MIT
"""Root file systems other than ext4: made at import, kept in every other form."""
import json
import os
import subprocess

import pytest

from conftest import fake_only, real_only, rootfs

KINDS = ["xfs", "btrfs"]


def make(w, fs, name="deb", *more, archive=None):
    w.ok("--import", name, w.tmp / f"disk-{name}", archive or rootfs(), "--file-system", fs, "--size", "2GB", *more, timeout=300)


def disk(w, name="deb"):
    d = w.list()[name]
    return os.path.join(d["dir"], d["fs"] + ".img")


def fs_of(w, name="deb"):
    return w.ok("-d", name, "--", "findmnt -no FSTYPE /").strip()


@real_only
@pytest.mark.parametrize("fs", KINDS)
def test_import_makes_it_and_it_runs(empty, fs):
    w = empty
    make(w, fs)
    assert sorted(os.listdir(w.tmp / "disk-deb")) == [fs + ".img"]
    assert not os.listdir(w.data / "pending")
    assert w.list()["deb"]["fs"] == fs and w.list()["deb"]["flavor"] == "debian"
    assert fs_of(w) == fs
    assert w.sh("echo x > /root/f; sync; cat /root/f; stat -c %U:%a /usr/bin/passwd") == "x\nroot:4755\n"
    assert w.vmm_pids()
