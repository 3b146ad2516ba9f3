# SPDX-License-Identifier: MIT
"""./dev fuzz finds the fuzz targets."""
import pathlib
import subprocess

SOURCE = pathlib.Path(__file__).resolve().parents[2]


def test_programs_that_are_not_called_as_their_file_are_found():
    p = subprocess.run([SOURCE / "dev", "fuzz"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=True)
    targets = p.stdout.split()
    assert sorted(targets) == sorted(d.name for d in (SOURCE / "tests/corpus").iterdir())
    assert len(targets) == len(subprocess.check_output(["git", "-C", SOURCE, "ls-files", "*/fuzz-*.c", ":!*fuzz-replay.c"], text=True).split())
