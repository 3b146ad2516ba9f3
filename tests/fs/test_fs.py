# SPDX-License-Identifier: MIT
"""lib/fs and lib/fuse under this machine's own kernel: build/tests/fs-serve mounts a folder through /dev/fuse. Needs root."""
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from less import BESIDE, OWNERS

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
        if "as=4000" in keys:
            os.chown(src, 4000, 4000)
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


@pytest.mark.parametrize("keys,less", [([], OWNERS), (["metadata"], BESIDE)], ids=["plain", "metadata"])
def test_posix_cases_without_privileges(mounted, keys, less):
    _, mnt = mounted("as=4000", "squash=0", *keys)
    p = subprocess.run([sys.executable, HERE / "posix.py", mnt], capture_output=True, text=True, timeout=LIMIT, check=False,
                       env={**os.environ, "WSLX_ONLY_USER_XATTRS": "1"})
    bad = {line.split(" - ")[1].split(":")[0] for line in p.stdout.splitlines() if line.startswith("not ok")}
    assert p.stdout.splitlines()[-1] == "1..42" and bad == less, (p.stdout, p.stderr)


@pytest.mark.parametrize("keys", [["threads=4"], ["ms=0"], ["exclusive"]], ids=["usual", "no-caching", "exclusive"])
def test_random_load_is_as_a_model_says(mounted, keys):
    _, mnt = mounted(*keys)
    loads = [subprocess.Popen([sys.executable, HERE / program, mnt, "3000", str(seed)], stdout=subprocess.PIPE, text=True)
             for program in ("fsx.py", "tree.py") for seed in (1, 2)]
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


def test_a_file_that_is_new_on_the_host_is_not_opened_for_who_may_not(mounted):
    src, mnt = mounted("ms=60000")
    src.chmod(0o777)
    # so that this kernel believes that there is none, and has it created
    assert not (mnt / "secret").exists()
    (src / "secret").write_text("canary")
    (src / "secret").chmod(0o600)
    script = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.open('secret', os.O_RDWR | os.O_CREAT, 0o600)"
    p = subprocess.run([sys.executable, "-c", script], cwd=mnt, capture_output=True, text=True, timeout=60, check=False)
    assert "PermissionError" in p.stderr, (p.returncode, p.stderr)
    assert (src / "secret").read_text() == "canary"
    # and who may opens it all the same, whatever it is
    assert not (mnt / "mine").exists() and not (mnt / "link").exists()
    (src / "mine").write_text("text")
    (src / "link").symlink_to("mine")
    for name in "mine", "link":
        with open(os.open(mnt / name, os.O_RDWR | os.O_CREAT), encoding="ascii") as f:
            assert f.read() == "text"
    with pytest.raises(FileExistsError):
        os.open(mnt / "mine", os.O_RDWR | os.O_CREAT | os.O_EXCL)


def test_a_file_opened_for_reading_is_not_truncated(mounted):
    src, mnt = mounted()
    (src / "f").write_text("text")
    (src / "f").chmod(0o6777)
    script = "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.open('f', os.O_RDONLY | os.O_TRUNC)"
    p = subprocess.run([sys.executable, "-c", script], cwd=mnt, capture_output=True, text=True, timeout=60, check=False)
    assert p.returncode == 0, p.stderr
    st = os.stat(src / "f")
    assert (st.st_size, st.st_mode & 0o7777) == (0, 0o777)
