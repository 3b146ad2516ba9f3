# SPDX-License-Identifier: MIT
"""wslx cp: files between this host and distributions."""
import filecmp
import hashlib
import os
import random
import resource
import signal
import stat
import subprocess
import time

import pytest
from conftest import SCALE, alive, real_only, wait_for

pytestmark = real_only


@pytest.fixture
def d(wslx):
    """A folder here, and one there, empty."""
    here = wslx.tmp / f"cp-{random.getrandbits(32):08x}"
    here.mkdir()
    wslx.here = here
    wslx.there = f"/root/{here.name}"
    wslx.sh(f"mkdir {wslx.there}")
    return wslx


def sha(data):
    return hashlib.sha256(data).hexdigest()


def test_a_file_there_and_back(d):
    data = random.Random(1).randbytes(3 << 20)
    (d.here / "f").write_bytes(data)
    d.ok("cp", d.here / "f", f"deb:{d.there}/g")
    assert d.sh(f"sha256sum < {d.there}/g").split()[0] == sha(data)
    assert d.sh(f"ls -A {d.there}") == "g\n", "no temporary name is left"
    d.ok("cp", f"deb:{d.there}/g", d.here / "back")
    assert (d.here / "back").read_bytes() == data


def test_into_a_folder_and_several(d):
    for n in "ab":
        (d.here / n).write_text(n)
    d.ok("cp", d.here / "a", d.here / "b", f"deb:{d.there}")
    assert d.sh(f"cat {d.there}/a {d.there}/b") == "ab"
    (d.here / "out").mkdir()
    d.ok("cp", f"deb:{d.there}/a", f"deb:{d.there}/b", d.here / "out")
    assert sorted(os.listdir(d.here / "out")) == ["a", "b"]
    d.fails(125, "cp", d.here / "a", d.here / "b", f"deb:{d.there}/nosuch", says="only go to a folder")


def test_a_relative_path_is_below_home(d):
    (d.here / "f").write_text("x")
    d.ok("cp", "-u", "root", d.here / "f", f"deb:{d.here.name}/rel")
    assert d.sh(f"cat ~root/{d.here.name}/rel") == "x"
    d.ok("cp", "-u", "root", d.here / "f", "deb:")
    assert d.sh("cat ~root/f; rm ~root/f") == "x"


def test_everything_of_a_tree_is_kept(d):
    t = d.here / "tree"
    (t / "sub/empty").mkdir(parents=True)
    (t / "file").write_text("hello")
    (t / "mode").write_text("x")
    (t / "mode").chmod(0o4711)
    os.link(t / "file", t / "sub/hard")
    (t / "link").symlink_to("sub/../file")
    (t / "dangling").symlink_to("/nowhere/at all")
    os.mkfifo(t / "fifo")
    os.mknod(t / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.chown(t / "mode", 1234, 4321)
    (t / "mode").chmod(0o4711)
    os.setxattr(t / "file", "user.colour", b"blue\0\xff")
    os.setxattr(t / "file", "trusted.x", b"y")
    name = bytes(c for c in range(1, 256) if c != ord("/")).decode("latin-1")[:200].encode("latin-1")
    (t / "sub" / os.fsdecode(name)).write_bytes(b"odd")
    os.utime(t / "file", ns=(1_111_111_111_123_456_789, 987_654_321_987_654_321))
    os.utime(t / "link", ns=(1, 2_000_000_003), follow_symlinks=False)
    os.utime(t / "sub", ns=(5, 6_000_000_007))
    d.ok("cp", "-a", "-u", "root", t, f"deb:{d.there}/")
    assert d.sh(f"stat -c '%a %u %g %F' {d.there}/tree/mode") == "4711 1234 4321 regular file\n"
    assert d.sh(f"stat -c %h {d.there}/tree/file") == "2\n"
    d.ok("cp", "-a", "-u", "root", f"deb:{d.there}/tree", d.here / "back")

    def facts(root):
        out = {}
        root = os.fsencode(root)
        for base, dirs, files in os.walk(root):
            for n in [b"."] + dirs + files:
                p = os.path.join(base, n)
                st = os.lstat(p)
                xattrs = {} if stat.S_ISFIFO(st.st_mode) else {
                    k: os.getxattr(p, k, follow_symlinks=False) for k in os.listxattr(p, follow_symlinks=False)}
                content = os.readlink(p) if stat.S_ISLNK(st.st_mode) else open(p, "rb").read() if stat.S_ISREG(st.st_mode) else 0
                out[os.path.relpath(p, root)] = (st.st_mode, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_rdev,
                                                 st.st_nlink if stat.S_ISREG(st.st_mode) else 0, xattrs, content)
        return out

    before, after = facts(t), facts(d.here / "back")
    assert before == after
    assert os.stat(d.here / "back/file").st_ino == os.stat(d.here / "back/sub/hard").st_ino


def test_a_sparse_file_stays_sparse(d):
    with open(d.here / "s", "wb") as f:
        f.seek(10 << 20)
        f.write(b"middle")
        f.truncate(3 << 30)
    d.ok("cp", d.here / "s", f"deb:{d.there}/s")
    size, blocks = d.sh(f"stat -c '%s %b' {d.there}/s").split()
    assert int(size) == 3 << 30 and int(blocks) < 1000
    d.ok("cp", f"deb:{d.there}/s", d.here / "t")
    st = os.stat(d.here / "t")
    assert st.st_size == 3 << 30 and st.st_blocks < 1000
    with open(d.here / "t", "rb") as f:
        f.seek(10 << 20)
        assert f.read(6) == b"middle"


def test_what_is_missing_is_said(d):
    d.fails(125, "cp", d.here / "nosuch", f"deb:{d.there}", says="No such file")
    d.fails(125, "cp", f"deb:{d.there}/nosuch", d.here, says="No such file")
    d.fails(125, "cp", f"nosuch:{d.there}", d.here, says="there is no distribution 'nosuch'")
    d.fails(125, "cp", f"deb:{d.there}", d.here, says="-r was not given")
    d.fails(125, "cp", d.here, says="needs what to copy")


def test_a_file_keeps_its_old_content_until_the_new_is_complete(d):
    d.sh(f"echo old > {d.there}/f; mkdir {d.there}/full; mount -t tmpfs -o size=1m none {d.there}/full; echo old > {d.there}/full/f")
    (d.here / "f").write_bytes(bytes(4 << 20) + b"x" * (4 << 20))
    try:
        d.fails(125, "cp", "-u", "root", d.here / "f", f"deb:{d.there}/full/f", says="No space left")
        assert d.sh(f"cat {d.there}/full/f; ls -A {d.there}/full") == "old\nf\n"
    finally:
        d.sh(f"umount {d.there}/full")


def test_links_of_a_path_are_followed_but_for_the_last_with_r(d):
    d.sh(f"cd {d.there} && mkdir real && echo x > real/f && ln -s real dir && ln -s dir/../real/f l && ln -s loop loop")
    d.ok("cp", f"deb:{d.there}/dir/f", d.here / "1")
    d.ok("cp", f"deb:{d.there}/l", d.here / "2")
    d.ok("cp", "-r", f"deb:{d.there}/l", d.here / "3")
    assert (d.here / "1").read_text() == (d.here / "2").read_text() == "x\n"
    assert os.readlink(d.here / "3") == "dir/../real/f"
    d.fails(125, "cp", f"deb:{d.there}/loop/x", d.here, says="Too many levels")


def test_many_small_files(d):
    t = d.here / "many"
    for i in range(20):
        (t / str(i)).mkdir(parents=True)
        for k in range(100):
            (t / str(i) / str(k)).write_text(f"{i} {k}")
    d.ok("cp", "-r", t, f"deb:{d.there}", timeout=120)
    assert d.sh(f"find {d.there}/many -type f | wc -l") == "2000\n"
    d.ok("cp", "-r", f"deb:{d.there}/many", d.here / "back", timeout=120)
    cmp = filecmp.dircmp(t, d.here / "back")
    assert not cmp.left_only and not cmp.right_only
    for i in range(20):
        _, bad, err = filecmp.cmpfiles(t / str(i), d.here / "back" / str(i), map(str, range(100)), shallow=False)
        assert not bad and not err


def test_interrupted_leaves_nothing_half_done(d):
    with open(d.here / "big", "wb") as f:
        for _ in range(200):
            f.write(os.urandom(1 << 20))
    p = d.popen("cp", d.here / "big", f"deb:{d.there}/big")
    wait_for("the copy to be under way", lambda: "wslx-" in d.sh(f"ls -A {d.there}") or p.poll() is not None)
    p.send_signal(signal.SIGINT)
    assert p.wait(30 * SCALE) in (125, 0)
    assert "wslx-" not in d.sh(f"ls -A {d.there}")


# --- what copies depend on ---

INTO_ITSELF = "a folder cannot be copied into itself"


@pytest.mark.parametrize("deb", ["deb", "Deb"])
def test_a_folder_copied_into_itself_is_copied_once(d, deb):
    make = "mkdir -p p/sub p/backup && echo f > p/f && echo g > p/sub/g"
    subprocess.run(["sh", "-c", make], check=True, cwd=d.here)
    p = d.here / "p"
    d.fails(125, "cp", "-r", p, p / "new", says=INTO_ITSELF)
    d.fails(125, "cp", "-r", ".", "backup/x", cwd=p, says=INTO_ITSELF)
    assert sorted(os.listdir(p / "new")) == ["backup", "f", "sub"] and sorted(os.listdir(p / "backup/x")) == ["backup", "f", "new", "sub"]
    assert os.listdir(p / "backup/x/backup") == [] and (p / "new/sub/g").read_text() == "g\n"
    d.fails(125, "cp", "-r", p, d.here, says="the folder that it would be copied to")
    # The same in the distribution, whose name's case does not matter.
    d.sh(f"cd {d.there} && {make}")
    d.fails(125, "cp", "-r", f"deb:{d.there}/p", f"{deb}:{d.there}/p/new", says=INTO_ITSELF)
    d.fails(125, "cp", "-r", f"deb:{d.there}/p", f"{deb}:{d.there}/p", says=INTO_ITSELF)
    assert d.sh(f"cd {d.there}/p && find . -type f | sort") == "./f\n./new/f\n./new/sub/g\n./p/f\n./p/new/f\n./p/new/sub/g\n./p/sub/g\n./sub/g\n"


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def test_more_files_with_several_names_than_may_be_open(d):
    t = d.here / "t"
    (t / "a").mkdir(parents=True)
    (t / "b/c").mkdir(parents=True)
    for i in range(300):
        (t / f"a/{i}").write_text(str(i))
        os.link(t / f"a/{i}", t / f"b/c/{i}")
    d.ok("cp", "-a", t, f"deb:{d.there}/t", preexec_fn=few_descriptors)
    assert d.sh(f"cd {d.there}/t && find . -type f -links 2 | wc -l; [ a/77 -ef b/c/77 ] && cat b/c/77") == "600\n77"
    d.ok("cp", "-a", f"deb:{d.there}/t", d.here / "back", preexec_fn=few_descriptors)
    for i in range(300):
        assert os.path.samefile(d.here / f"back/a/{i}", d.here / f"back/b/c/{i}") and (d.here / f"back/a/{i}").read_text() == str(i)


def test_files_that_do_not_say_their_size(d):
    d.ok("cp", "/proc/version", f"deb:{d.there}/host")
    # This one says more than it has.
    d.ok("cp", "/sys/class/net/lo/mtu", f"deb:{d.there}/mtu")
    with open("/proc/version") as v, open("/sys/class/net/lo/mtu") as mtu:
        assert d.sh(f"cd {d.there} && cat host mtu") == v.read() + mtu.read()
    (d.here / "empty").touch()
    d.ok("cp", d.here / "empty", f"deb:{d.there}/empty")
    assert d.sh(f"stat -c %s {d.there}/empty") == "0\n"


def test_a_folder_that_is_there_keeps_its_mode(d):
    t = d.here / "t"
    (t / "sub").mkdir(parents=True)
    (t / "f").write_text("x")
    for p in (t, t / "sub"):
        p.chmod(0o755)
    d.sh(f"mkdir -m 700 {d.there}/t")
    d.ok("cp", "-r", t, f"deb:{d.there}", umask=0o022)
    assert d.sh(f"cd {d.there} && stat -c %a t t/sub; cat t/f") == "700\n755\nx"
    d.ok("cp", "-a", t, f"deb:{d.there}")
    assert d.sh(f"stat -c %a {d.there}/t") == "755\n"
    (t / "sub").chmod(0o555)
    d.ok("cp", "-r", t / "sub", f"deb:{d.there}/new", umask=0o022)
    assert d.sh(f"stat -c %a {d.there}/new") == "555\n"
