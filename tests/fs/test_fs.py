# SPDX-License-Identifier: MIT
"""lib/fs and lib/fuse under this machine's own kernel: build/tests/fs-serve mounts a folder through /dev/fuse. Needs root."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
SERVE = HERE.parents[1] / "build/tests/fs-serve"
LIMIT = 600

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="root and /dev/fuse are needed")


@pytest.fixture
def mounted(tmp_path):
    """mounted(KEY...): the folder that is served, and where it is mounted."""
    servers = []

    def start(*keys):
        src, mnt = tmp_path / "src", tmp_path / "mnt"
        src.mkdir()
        mnt.mkdir()
        p = subprocess.Popen([SERVE, src, mnt, *keys], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        servers.append((p, mnt))
        assert p.stdout.readline() == "ready\n", p.stderr.read()
        return src, mnt
    yield start
    for p, mnt in servers:
        subprocess.run(["umount", "-l", mnt], check=False)
        try:
            err = p.communicate(timeout=20)[1]
        except subprocess.TimeoutExpired:
            p.send_signal(signal.SIGKILL)
            raise
        assert p.returncode == 0 and err == "", err


@pytest.mark.parametrize("keys", [[], ["ms=0", "threads=8", "fds=1100"], ["exclusive"]], ids=["usual", "no-caching", "exclusive"])
def test_posix_cases(mounted, keys):
    _, mnt = mounted(*keys)
    p = subprocess.run([sys.executable, HERE / "posix.py", mnt], capture_output=True, text=True, timeout=LIMIT, check=False)
    bad = [line for line in p.stdout.splitlines() if line.startswith("not ok")]
    assert p.returncode == 0 and not bad, (bad, p.stderr)


@pytest.mark.parametrize("keys", [["threads=4"], ["ms=0"], ["exclusive"]], ids=["usual", "no-caching", "exclusive"])
def test_random_load_is_as_a_model_says(mounted, keys):
    _, mnt = mounted(*keys)
    loads = [subprocess.Popen([sys.executable, HERE / "fsx.py", mnt, "3000", str(seed)], stdout=subprocess.PIPE, text=True)
             for seed in (1, 2)]
    for p in loads:
        out = p.communicate(timeout=LIMIT)[0]
        assert p.returncode == 0, out


def test_changes_of_the_host_are_seen(mounted):
    src, mnt = mounted("ms=1000")
    (src / "f").write_text("one")
    assert (mnt / "f").read_text() == "one"
    # close-to-open: whoever opens it after the change sees it, however long names and attributes are believed
    for i in range(20):
        (src / "f").write_text(f"{i:03}")
        with open(mnt / "f", encoding="ascii") as f:
            assert f.read() == f"{i:03}"


def test_squashed_ids(mounted):
    src, mnt = mounted("squash=4711")
    (mnt / "f").write_text("x")
    (src / "other").write_text("x")
    os.chown(src / "other", 4711, 55)
    st, other = os.stat(mnt / "f"), os.stat(mnt / "other")
    assert (st.st_uid, st.st_gid) == (4711, 4711) and (other.st_uid, other.st_gid) == (65534, 55)
    assert os.stat(src / "f").st_uid == 0
