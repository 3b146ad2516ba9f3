# SPDX-License-Identifier: MIT
"""What the host changes in a shared folder wakes who watches it by inotify in the guest."""
import json
import os
import pathlib
import signal
import threading
import time

import pytest
from conftest import SCALE, real_only, rootfs, wait_for

pytestmark = real_only
HERE = pathlib.Path(__file__).resolve().parent


def host_watches(w):
    """What the server watches for the guest."""
    n = 0
    for pid in w.fsd_pids():
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue  # it is gone
        for fd in fds:
            try:
                if os.readlink(f"/proc/{pid}/fd/{fd}") == "anon_inode:inotify":
                    n += pathlib.Path(f"/proc/{pid}/fdinfo/{fd}").read_text().count("inotify wd:")
            except OSError:  # it is closed, or the server gone
                pass
    return n


class Watcher:
    """A program in the guest that watches."""

    def __init__(self, w, *paths, distro="deb"):
        self.w, self.before = w, host_watches(w)
        self.p = w.popen("-d", distro, "-u", "root", "--", "python3", f"/mnt/host{HERE}/watcher.py", *[f"/mnt/host{p}" for p in paths],
                         stdin=-1, text=True, bufsize=1)
        self.events, self.done, self.content = [], 0, None
        threading.Thread(target=lambda: [print(line, end="") for line in self.p.stderr], daemon=True).start()
        self.ready = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()
        assert self.ready.wait(30 * SCALE), "not ready"
        wait_for("the host to watch", lambda: host_watches(w) >= (self.before + len(paths) if distro == "deb" else 1))

    def read(self):
        for line in self.p.stdout:
            what = json.loads(line)
            if what[0] == "ready":
                self.ready.set()
            elif what[0] == "done":
                self.done += 1
            elif what[0] == "content":
                self.content = what[1]
            else:
                self.events.append((time.monotonic(), *what))

    def names(self, n=None):
        """(event, name), of the watch with this number."""
        return [(e[2], e[4]) for e in list(self.events) if n in (None, e[1])]

    def expect(self, event, name, n=None):
        wait_for(f"{event} of {name}, not {self.names()}", lambda: (event, name) in self.names(n))

    def command(self, text):
        done = self.done
        self.p.stdin.write(text + "\n")
        wait_for(text, lambda: self.done > done)

    def forget(self):
        """Until nothing comes any more."""
        seen = -1
        while seen != len(self.events):
            seen = len(self.events)
            time.sleep(0.3 * SCALE ** 0.5)
        self.events.clear()

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.p.stdin.close()
        try:
            self.p.wait(10 * SCALE)
        finally:
            self.p.kill()
            self.p.wait()
        wait_for("its watches to go", lambda: host_watches(self.w) <= self.before)


def test_a_host_edit_wakes_a_watcher_in_the_guest(work, tmp_path):
    f = tmp_path / "f"
    f.write_text("old")
    with Watcher(work, tmp_path, f) as w:
        began = time.monotonic()
        f.write_text("new text")
        w.expect("MODIFY", "f", 0)
        print("after", min(e[0] for e in w.events) - began)
        w.expect("MODIFY", "", 1)
        w.expect("CLOSE_WRITE", "f", 0)
        w.command(f"read /mnt/host{f}")
        assert w.content == "new text"


def test_each_kind_of_event(work, tmp_path):
    old = tmp_path / "old"
    old.mkdir()
    (tmp_path / "there").write_text("1")
    (tmp_path / "gone").write_text("1")
    with Watcher(work, tmp_path) as w:
        (tmp_path / "file").write_text("1")
        w.expect("CREATE", "file")
        (tmp_path / "dir").mkdir()
        w.expect("CREATE|ISDIR", "dir")
        os.symlink("file", tmp_path / "link")
        w.expect("CREATE", "link")
        os.link(tmp_path / "file", tmp_path / "hard")
        w.expect("CREATE", "hard")
        os.mkfifo(tmp_path / "fifo")
        w.expect("CREATE", "fifo")
        (tmp_path / "there").chmod(0o600)
        w.expect("ATTRIB", "there")
        (tmp_path / "gone").unlink()
        w.expect("DELETE", "gone")
        (tmp_path / "file").unlink()
        w.expect("DELETE", "file")
        (tmp_path / "link").unlink()
        w.expect("DELETE", "link")
        (tmp_path / "dir").rmdir()
        w.expect("DELETE|ISDIR", "dir")
        old.rmdir()
        w.expect("DELETE|ISDIR", "old")
        w.command(f"ls -A /mnt/host{tmp_path} >/tmp/list")
        assert sorted(os.listdir(tmp_path)) == ["fifo", "hard", "there"]
        w.command("read /tmp/list")
        assert w.content == "fifo\nhard\nthere\n"
        # nothing of what was raised was done
        assert (tmp_path / "hard").read_text() == "1" and (tmp_path / "there").stat().st_mtime < time.time() + 1


def test_moves(work, tmp_path):
    a, b, away = tmp_path / "a", tmp_path / "b", tmp_path / "away"
    for d in (a, b, away):
        d.mkdir()
    for name in ("one", "two", "three"):
        (a / name).write_text(name)
    (a / "folder").mkdir()
    (away / "comes").write_text("comes")
    (away / "foldercomes").mkdir()
    (b / "self").write_text("self")
    with Watcher(work, a, b, b / "self") as w:
        (a / "one").rename(a / "uno")
        w.expect("MOVED_TO", "uno", 0)
        (a / "two").rename(b / "due")
        w.expect("MOVED_TO", "due", 1)
        (a / "folder").rename(b / "folder")
        w.expect("MOVED_TO|ISDIR", "folder", 1)
        (a / "three").rename(away / "three")
        w.expect("MOVED_FROM", "three", 0)
        (b / "folder").rename(away / "folder")
        w.expect("MOVED_FROM|ISDIR", "folder", 1)
        (away / "comes").rename(a / "comes")
        w.expect("MOVED_TO", "comes", 0)
        (away / "foldercomes").rename(a / "foldercomes")
        w.expect("MOVED_TO|ISDIR", "foldercomes", 0)
        (b / "self").rename(b / "itself")
        w.expect("MOVE_SELF", "", 2)
        # one cookie for both halves
        cookies = {(e[2], e[4]): e[3] for e in reversed(w.events) if e[2].startswith("MOVED")}
        assert cookies["MOVED_FROM", "one"] == cookies["MOVED_TO", "uno"] != 0
        assert cookies["MOVED_FROM", "two"] == cookies["MOVED_TO", "due"] != 0
        assert cookies["MOVED_FROM|ISDIR", "folder"] == cookies["MOVED_TO|ISDIR", "folder"] != 0
        w.command(f"cd /mnt/host{tmp_path} && (ls -A a b away; cat a/uno b/due away/three a/comes b/itself) >/tmp/list 2>&1")
        w.command("read /tmp/list")
        assert w.content == "a:\ncomes\nfoldercomes\nuno\n\naway:\nfolder\nthree\n\nb:\ndue\nitself\nonetwothreecomesself"


def test_an_editor_saves(work, tmp_path):
    """As vim does, and as those do that write a new file and rename it over the old one."""
    f = tmp_path / "f.txt"
    f.write_text("0")
    with Watcher(work, tmp_path, f) as w:
        f.rename(tmp_path / "f.txt~")
        f.write_text("1")
        (tmp_path / "f.txt~").unlink()
        w.expect("CREATE", "f.txt", 0)
        w.expect("CLOSE_WRITE", "f.txt", 0)
        w.expect("DELETE", "f.txt~", 0)
        w.command(f"read /mnt/host{f}")
        assert w.content == "1"
        w.expect("DELETE_SELF", "", 1)
        w.command(f"add /mnt/host{f}")
        w.forget()
        for i in range(3):
            (tmp_path / ".f.tmp").write_text(f"saved {i}")
            os.replace(tmp_path / ".f.tmp", f)
            w.expect("MOVED_TO", "f.txt", 0)
            w.command(f"read /mnt/host{f}")
            assert w.content == f"saved {i}"
            w.events.clear()
        assert sorted(os.listdir(tmp_path)) == ["f.txt"]


def test_a_file_that_is_open_shows_what_the_host_wrote(work, tmp_path):
    """Of the same size, so that only the cache of the guest's kernel can be out of date."""
    f = tmp_path / "f"
    f.write_text("old")
    with Watcher(work, tmp_path) as w:
        w.command(f"open /mnt/host{f}")
        assert w.content == "old"
        f.write_text("new")
        w.expect("CLOSE_WRITE", "f")
        w.command("again")
        assert w.content == "new"


def test_folders_that_the_guests_kernel_dropped_from_its_cache(work, tmp_path):
    (tmp_path / "a/b/c").mkdir(parents=True)
    with Watcher(work, tmp_path / "a/b/c") as w:
        for i in range(3):
            work.ok("--debug-shell", "--", "sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches")
            (tmp_path / f"a/b/c/f{i}").write_text("1")
            w.expect("CREATE", f"f{i}")


def test_views_and_distributions(work, tmp_path):
    """A view has inodes of its own for the same files; two distributions have the same ones."""
    work.import_deb("other", archive=rootfs("WSLX_TEST_WORK_ROOTFS"))
    d = f"/mnt/host{tmp_path}"
    with Watcher(work, tmp_path) as one, Watcher(work, tmp_path, distro="other") as two:
        one.command(f"mkdir -p /opt/v; mount -t drvfs {tmp_path} /opt/v -o ro,fmask=077 && mount -o remount,bind,ro /opt/v")
        one.command("add /opt/v")
        wait_for("the view to be watched", lambda: host_watches(work) >= 1)
        time.sleep(1)
        (tmp_path / "f").write_text("1")
        for w, n in ((one, 0), (one, 1), (two, 0)):
            w.expect("CREATE", "f", n)
            w.expect("CLOSE_WRITE", "f", n)
        one.command(f"mkdir {d}/by-one")
        two.expect("CREATE|ISDIR", "by-one", 0)
        one.expect("CREATE|ISDIR", "by-one", 1)
        two.command(f"mv {d}/by-one {d}/by-two")
        one.expect("MOVED_TO|ISDIR", "by-two", 0)
        # it comes to an end
        one.forget()
        two.forget()
        time.sleep(1)
        assert not one.events and not two.events
        assert sorted(os.listdir(tmp_path)) == ["by-two", "f"]
        one.command("umount /opt/v")
        assert work.ok("-d", "deb", "--", "grep -c /opt/v /proc/mounts || true") == "0\n"


def test_thousands_of_folders(work, tmp_path):
    for i in range(3000):
        (tmp_path / f"d{i // 100}/e{i % 100}").mkdir(parents=True)
    with Watcher(work, tmp_path) as w:
        w.command(f"tree /mnt/host{tmp_path}")
        wait_for("all to be watched", lambda: host_watches(work) == 3031, 30)
        for i in (0, 1234, 2999):
            (tmp_path / f"d{i // 100}/e{i % 100}/file{i}").write_text("1")
            w.expect("CREATE", f"file{i}")
    wait_for("none", lambda: host_watches(work) == 0)


def test_another_server_serves_new_watchers(work, tmp_path):
    (tmp_path / "a").mkdir()
    with Watcher(work, tmp_path / "a") as w:
        old = work.fsd_pids()
        work.kill(old[0], signal.SIGKILL)
        wait_for("another server", lambda: work.fsd_pids() not in ([], old) and work.sh(f"ls /mnt/host{tmp_path}") == "a\n")
        # in a folder that was found anew
        w.command(f"add /mnt/host{tmp_path}")
        wait_for("it to be watched", lambda: host_watches(work) >= 1)
        (tmp_path / "new").write_text("1")
        w.expect("CREATE", "new", 1)


def test_a_watcher_that_goes_takes_the_hosts_watches_along(work, tmp_path):
    wait_for("no watches", lambda: host_watches(work) == 0)
    for i in range(50):
        (tmp_path / f"d{i}").mkdir()
    with Watcher(work, *[tmp_path / f"d{i}" for i in range(50)]) as w:
        wait_for("watches", lambda: host_watches(work) == 50)
        w.command("rm 3")
        wait_for("one less", lambda: host_watches(work) == 49)
        (tmp_path / "d3/f").write_text("1")
        (tmp_path / "d4/f").write_text("1")
        w.expect("CREATE", "f", 4)
        assert not [e for e in w.events if e[1] == 3 and e[2] != "IGNORED"]
    wait_for("none", lambda: host_watches(work) == 0)


def test_what_the_guest_changes_is_told_once(work, tmp_path):
    (tmp_path / "there").write_text("1")
    d = f"/mnt/host{tmp_path}"
    with Watcher(work, tmp_path) as w:
        w.command(f"cd {d} && echo 1 >new && mkdir dir && mv new renamed && chmod 600 there && echo 2 >>there && "
                  "ln -s x link && ln there hard && touch hard && truncate -s 9 there && rm renamed link && rmdir dir")
        (tmp_path / "last").mkdir()
        w.expect("CREATE|ISDIR", "last")
        time.sleep(0.5)
        seen = w.names()
        for once in (("CREATE", "new"), ("CLOSE_WRITE", "new"), ("MOVED_FROM", "new"), ("MOVED_TO", "renamed"),
                     ("CREATE|ISDIR", "dir"), ("CREATE", "link"), ("CREATE", "hard"), ("DELETE", "renamed"),
                     ("DELETE", "link"), ("DELETE|ISDIR", "dir"), ("CREATE|ISDIR", "last")):
            assert seen.count(once) == 1, (once, seen)
        n = len(w.events)
        time.sleep(1)
        assert len(w.events) == n


def test_ten_thousand_changes(work, tmp_path):
    with Watcher(work, tmp_path) as w:
        for i in range(10000):
            os.close(os.open(tmp_path / f"f{i}", os.O_CREAT | os.O_WRONLY))
        (tmp_path / "last").mkdir()
        wait_for("the last", lambda: ("CREATE|ISDIR", "last") in w.names(), 60)
        names = {e[4] for e in w.events if e[2] == "CREATE"}
        # the guest's own queue may have been too short for so slow a reader
        assert len(names) == 10000 or [e for e in w.events if e[2] in ("OVERFLOW", "ATTRIB|ISDIR")]
