# SPDX-License-Identifier: MIT
"""Nothing that a hostile guest does to a share, and nothing that goes on in it meanwhile, touches what is outside.

    WSLX_ESCAPE_SECONDS   how long each attack lasts (default: 3)
"""
import ctypes
import os
import pathlib
import struct
import subprocess

import pytest
from test_fs import mounted  # noqa: F401 pylint: disable=unused-import

BUILD = pathlib.Path(__file__).resolve().parents[2] / "build/tests"
SECONDS = int(os.environ.get("WSLX_ESCAPE_SECONDS", "3"))
SONG = "song of the canary"
IN_ALL_EVENTS, IN_ISDIR = 0xfff, 0x40000000
libc = ctypes.CDLL(None, use_errno=True)


class Outside:
    """Canaries: a file, one in a folder, and the folders; whoever opens, lists, reads or changes one is heard."""

    def __init__(self, top):
        self.top = top / "outside"
        (self.top / "nest").mkdir(parents=True)
        for d in (self.top, self.top / "nest"):
            d.chmod(0o777)
        self.files = [self.top / "canary", self.top / "nest/egg"]
        for f in self.files:
            f.write_text(SONG)
            f.chmod(0o666)
            try:
                os.setxattr(f, "user.song", SONG.encode())
            except OSError:
                pass
            os.utime(f, (10**9, 2 * 10**9))  # so that reading it would change the time
        self.before = self.look()
        self.ear = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for p in self.all():
            assert libc.inotify_add_watch(self.ear, os.fsencode(p), IN_ALL_EVENTS) >= 0

    def all(self):
        return [self.top, self.top / "nest", *self.files]

    def look(self):
        found = {}
        for p in self.all():
            st = os.lstat(p)
            found[str(p)] = (st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_size, st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns)
        return found

    def heard(self):
        """What happened to canaries: (event's bits, name)."""
        try:
            data = os.read(self.ear, 1 << 16)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(data):
            _, mask, _, n = struct.unpack_from("iIII", data, at)
            found.append((hex(mask), data[at + 16:at + 16 + n].rstrip(b"\0").decode()))
            at += 16 + n
        return found

    def check(self):
        assert self.heard() == []
        assert self.look() == self.before
        os.close(self.ear)
        assert sorted(os.listdir(self.top)) == ["canary", "nest"] and os.listdir(self.top / "nest") == ["egg"]
        assert all(f.read_text() == SONG for f in self.files)


def test_the_alarm_works(tmp_path):
    for touch in (lambda f: f.read_text(), lambda f: f.write_text("x"), lambda f: f.chmod(0o600), lambda f: os.listdir(f.parent)):
        out = Outside(tmp_path / str(id(touch)))
        touch(out.files[1])
        assert out.heard() or out.look() != out.before
        os.close(out.ear)


@pytest.fixture
def field(tmp_path):
    """A share with some things in it, canaries outside, and room beside both."""
    share, beside = tmp_path / "src", tmp_path / "beside"
    # what a user may and may not is not to be what protects canaries
    for p in (tmp_path, *list(tmp_path.parents)[:2]):
        p.chmod(0o755)
    beside.mkdir()
    for d in ("third", "place"):
        (beside / d).mkdir()
        (beside / d / "f").write_text("text")
    yield share, beside, Outside(tmp_path)
    # what the attackers left mounted
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        for line in reversed(f.readlines()):
            if line.split()[4].startswith(f"{tmp_path}/"):
                subprocess.run(["umount", "-l", line.split()[4]], check=False, capture_output=True)
    # deeper than pytest can remove: folders were moved into each other
    subprocess.run(["rm", "-rf", share, beside], check=True)


def furnish(share):
    for d in ("a", "b", "m0", "m1"):
        (share / d).mkdir()
    for f in ("c", "d", "a/c"):
        (share / f).write_text("text")
    (share / "e").symlink_to("../outside/canary")
    (share / "f").symlink_to(share.parent / "outside")


def run(attacks):
    """Side by side. What each tried and went through."""
    procs = [subprocess.Popen([BUILD / "fs-escape", *map(str, a)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for a in attacks]
    total = {}
    try:
        for p in procs:
            out, err = p.communicate(timeout=SECONDS + 60)
            assert p.returncode == 0, (p.args, p.returncode, out, err)
            for line in out.splitlines():
                what, n = line.split()
                total[what] = total.get(what, 0) + int(n)
    finally:
        for p in procs:
            p.kill()
            p.wait()
    print(total)
    return total


def was_an_attack(did, *more):
    """All that was tried went through at times; within seconds, on a busy machine, what is tried most."""
    often, seldom = ["open", "make", "swap"], ["read", "write", "rename", "remove", "setattr", "list", *more]
    for what in often + (seldom if SECONDS >= 60 else []):
        assert did[what] > 0, did


@pytest.mark.parametrize("user", [[], pytest.param([4000], marks=pytest.mark.skipif(os.geteuid() != 0, reason="root becomes another"))],
                         ids=["as-we-are", "unprivileged"])
def test_requests_that_no_kernel_would_send(field, user):
    share, beside, out = field
    share.mkdir()
    furnish(share)
    if user:
        subprocess.run(["chown", "-hR", "4000:4000", share], check=True)
    mounts = ["mounts"] if os.geteuid() == 0 else []
    did = run([("raw", share, out.top, SECONDS, 1, *user),
               ("host", share, out.top, SECONDS, 2, beside, *mounts),
               ("host", share, out.top, SECONDS, 3, beside)])
    out.check()
    was_an_attack(did, "lookup", "xattr", *mounts and ["mount"])


@pytest.mark.skipif(os.geteuid() != 0 or not os.path.exists("/dev/fuse"), reason="root and /dev/fuse are needed")
@pytest.mark.parametrize("keys", [["ms=0", "threads=4"], ["threads=4"], ["ms=0", "threads=4", "as=4000"]],
                         ids=["no-caching", "caching", "unprivileged"])
def test_the_root_of_a_guest(mounted, field, keys):  # noqa: F811 pylint: disable=redefined-outer-name
    _, beside, out = field
    share, mnt = mounted(*keys)
    furnish(share)
    if "as=4000" in keys:
        subprocess.run(["chown", "-hR", "4000:4000", share], check=True)
    did = run([("mounted", mnt, out.top, SECONDS, 1), ("mounted", mnt, out.top, SECONDS, 2),
               ("host", share, out.top, SECONDS, 3, beside, "mounts")])
    out.check()
    was_an_attack(did, "mount")
