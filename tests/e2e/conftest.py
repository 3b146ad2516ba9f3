# SPDX-License-Identifier: MIT
"""End-to-end tests: wslx, wslxd and a virtual machine, each test with folders of its own.

    WSLX_TEST_ENGINE   soft, kvm, auto: a real VM on that engine; fake (the default): a program that plays wslx-vmm
                       and the guest's init, which tests host side and protocol within seconds
    WSLX_TEST_CPUS     processors of the VM (default: all)
    WSLX_TEST_MEMORY   its memory (default 1GB)
    WSLX_BUILD         the build tree (default: build/ of the source tree)
    WSLX_TEST_ROOTFS   for a real VM: a root file system (tar) that has bash, coreutils, util-linux, procps
    WSLX_TEST_WORK_ROOTFS   test_work.py's: gcc, python3 with its tests, perl, tar and compressors too
    WSLX_TEST_SYSTEMD_ROOTFS, WSLX_TEST_PODMAN_ROOTFS   test_systemd.py's: systemd, dbus, libpam-systemd; podman, busybox-static
    WSLX_TEST_TRIXIE_ROOTFS   test_many.py's: a Debian of another release
    WSLX_TEST_KERNEL, WSLX_TEST_INITRD   kernel and initramfs (default: those ./dev setup installed)
    WSLX_TEST_KILLS    how often test_crash.py kills the virtual machine (default 5)
    WSLX_TEST_SCALE    stretches time limits on slow machines (default 1)
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("WSLX_BUILD", SOURCE / "build"))
# The cases and random loads that every file server is put to, and what each cannot keep of them (less.py).
FS_CASES = SOURCE / "tests/fs"
sys.path.insert(0, str(FS_CASES))
ENGINE = os.environ.get("WSLX_TEST_ENGINE", "fake")
# A shell without job control has background programs ignore SIGINT, and so would all that is started here.
signal.signal(signal.SIGINT, signal.default_int_handler)
FAKE = ENGINE == "fake"
SCALE = float(os.environ.get("WSLX_TEST_SCALE", "1" if FAKE else "4"))

real_only = pytest.mark.skipif(FAKE, reason="needs a real virtual machine")
fake_only = pytest.mark.skipif(not FAKE, reason="needs the fake virtual machine")


def wait_for(what, condition, seconds=10):
    deadline = time.monotonic() + seconds * SCALE
    while not condition():
        assert time.monotonic() < deadline, f"timeout: {what}"
        time.sleep(0.02)


def cases_failed(p):
    """Of what posix.py printed: the names; all cases have run."""
    lines = p.stdout.splitlines()
    assert lines and lines[-1] == "1..42", (p.stdout, p.stderr)
    bad = [line for line in lines if line.startswith("not ok")]
    print("\n".join(bad))
    return {line.split(" - ")[1].split(":")[0] for line in bad}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


class Wslx:
    """One user's world: folders, configuration, and the processes that come of it."""

    def __init__(self, tmp):
        self.tmp = pathlib.Path(tmp)
        self.run_dir = self.tmp / "run"
        self.data = self.tmp / "data/wslx"
        self.conf = self.tmp / "config/wslx/wslx.conf"
        self.home = self.tmp / "home"
        for d in (self.run_dir, self.tmp / "data", self.conf.parent, self.home):
            d.mkdir(parents=True, mode=0o700)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "LC_", "WSLX_VMM"))}
        self.env.update(XDG_RUNTIME_DIR=str(self.run_dir), XDG_DATA_HOME=str(self.tmp / "data"),
                        XDG_CONFIG_HOME=str(self.tmp / "config"), HOME=str(self.home), LANG="C.UTF-8", WSLX_DEBUG="1")
        if FAKE:
            (self.tmp / "vmlinuz").write_text("FAKE")
            (self.tmp / "initrd").write_text("x")
            self.env.update(WSLX_VMM=str(SOURCE / "tests/e2e/fake_vmm.py"), WSLX_KERNEL=str(self.tmp / "vmlinuz"),
                            WSLX_INITRD=str(self.tmp / "initrd"))
        else:
            kernel = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share") / "wslx/kernel"
            self.env.update(WSLX_KERNEL=os.environ.get("WSLX_TEST_KERNEL") or str(kernel / "vmlinuz"),
                            WSLX_INITRD=os.environ.get("WSLX_TEST_INITRD") or str(kernel / "initrd.img"))
        self.configure()

    def configure(self, **more):
        """Writes wslx.conf; keys are section_key."""
        keys = {"wsl2_memory": os.environ.get("WSLX_TEST_MEMORY", "1GB")}
        if os.environ.get("WSLX_TEST_CPUS"):
            keys["wsl2_processors"] = os.environ["WSLX_TEST_CPUS"]
        if not FAKE:
            keys["wslx_engine"] = ENGINE
        if os.environ.get("WSLX_LAB"):
            keys["wsl2_kernelCommandLine"] = "nohz=off"  # tests/lab/lab says why
        keys.update(more)
        text = ""
        for key, value in keys.items():
            section, name = key.split("_", 1)
            text += f"[{section}]\n{name}={value}\n"
        self.conf.write_text(text)

    def cmd(self, *args):
        return [str(BUILD / "cli/wslx"), *map(str, args)]

    def popen(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen(self.cmd(*args), env={**self.env, **kw.pop("env", {})}, **kw)

    def run(self, *args, timeout=30, **kw):
        """Runs wslx; the result has returncode, stdout and stderr as text (bytes with text=False)."""
        kw.setdefault("text", True)
        if "input" not in kw:
            kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(self.cmd(*args), env={**self.env, **kw.pop("env", {})}, timeout=timeout * SCALE,
                              capture_output=True, **kw)

    def ok(self, *args, **kw):
        p = self.run(*args, **kw)
        assert p.returncode == 0, f"{args}: {p.returncode}: {p.stderr}"
        return p.stdout

    def sh(self, script, **kw):
        return self.ok("-d", "deb", "--", script, **kw)

    def fails(self, status, *args, says="", **kw):
        """It fails with this status and one line on stderr that holds these words."""
        p = self.run(*args, **kw)
        assert p.returncode == status, f"{args}: {p.returncode}: {p.stdout} {p.stderr}"
        lines = p.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("wslx: "), p.stderr
        for words in [says] if isinstance(says, str) else says:
            assert words in lines[0], lines[0]
        return lines[0]

    def list(self):
        return {d["name"]: d for d in json.loads(self.ok("--list", "--json"))}

    def status(self):
        return json.loads(self.ok("--status", "--json"))

    def import_deb(self, name="deb", archive=None):
        self.ok("--import", name, self.tmp / f"disk-{name}", archive or rootfs(), timeout=300)

    def service_pid(self):
        try:
            pid = int((self.data / "wslxd.lock").read_text())
        except (OSError, ValueError):
            return 0
        return pid if alive(pid) else 0

    def vmm_pids(self):
        pids = []
        for f in self.run_dir.glob("wslx/vm-*/state.json"):
            try:
                pids.append(json.loads(f.read_text())["pid"])
            except (OSError, ValueError):
                pass
        return [p for p in pids if alive(p)]

    def fsd_pids(self):
        """The servers of host folders."""
        pids = []
        for f in self.run_dir.glob("wslx/vm-*/fsd"):
            try:
                pids.append(int(f.read_text().split()[0]))
            except (OSError, IndexError):
                pass  # it has ended
        return pids

    def kill(self, pid, sig=signal.SIGKILL):
        os.kill(pid, sig)
        if sig == signal.SIGKILL:
            wait_for(f"process {pid} to die", lambda: not alive(pid))

    def close(self):
        for pid in filter(None, [self.service_pid(), *self.vmm_pids()]):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        wait_for("our processes to die", lambda: not self.service_pid() and not self.vmm_pids())

    def logs(self):
        for f in [self.data / "wslxd.log", *sorted((self.data / "log").glob("*.log"))]:
            if f.exists():
                yield f.name, f.read_text(errors="replace")[-4000:]


_rootfs = None


def rootfs(variable="WSLX_TEST_ROOTFS"):
    """The archive that becomes the test distribution."""
    global _rootfs
    if not FAKE:
        path = os.environ.get(variable)
        assert path, f"{variable} names no root file system"
        return path
    if not _rootfs:
        d = pathlib.Path(tempfile.mkdtemp(prefix="wslx-e2e."))
        for sub in ("etc", "bin"):
            (d / "fs" / sub).mkdir(parents=True)
        (d / "fs/etc/os-release").write_text("ID=test\n")
        (d / "fs/bin/sh").write_text("")
        subprocess.run(["tar", "-C", d / "fs", "-cf", d / "fs.tar", "."], check=True)
        _rootfs = d / "fs.tar"
    return _rootfs


_master = None


def imported(w):
    """An imported distribution: a copy of one that was imported the long way once."""
    global _master
    if FAKE:
        w.import_deb()
        return
    if not _master:
        m = world()
        try:
            m.import_deb()
        except BaseException:
            end(m, True)
            raise
        m.close()
        _master = m
    subprocess.run(["cp", "-a", _master.tmp / "disk-deb", w.tmp], check=True)
    w.data.mkdir(mode=0o700)
    text = (_master.data / "registry.json").read_text()
    (w.data / "registry.json").write_text(text.replace(_master.tmp.name, w.tmp.name))
    assert w.ok("--list") == "deb (Default)\n"


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes minutes; not in every run")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    """No test hangs: it fails when it takes this long."""
    seconds = 3600 if item.get_closest_marker("slow") else 600

    def too_long(signum, frame):
        raise TimeoutError(f"the test took longer than {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(seconds)
    yield
    signal.alarm(0)


def pytest_sessionfinish():
    if _rootfs:
        shutil.rmtree(_rootfs.parent)
    if _master:
        shutil.rmtree(_master.tmp)


def world():
    # Short, since socket paths are limited; not below pytest's own temporary folder.
    return Wslx(tempfile.mkdtemp(prefix="wslx-e2e."))


def end(w, failed):
    if failed:
        for name, text in w.logs():
            print(f"--- {name}\n{text}", file=sys.stderr)
    w.close()
    shutil.rmtree(w.tmp)


def last_words(w):
    """What its virtual machines said of a panic, or last, for who has a test's message and no more."""
    said = ""
    for f in sorted((w.data / "log").glob("**/console.log")):
        lines = f.read_text(errors="replace").splitlines()
        at = next((i for i, line in enumerate(lines) if "Kernel panic" in line or "Oops" in line or "BUG:" in line), len(lines) - 5)
        said += f"; {f.relative_to(w.data)}: " + " / ".join(lines[max(at - 3, 0):at + 9])
    return said


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.failed:
        item.session.wslx_failed = True
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash:
            crash.message += "".join(last_words(w) for w in item.funcargs.values() if isinstance(w, Wslx))


@pytest.fixture
def empty(request):
    """No distribution, nothing running."""
    w = world()
    yield w
    end(w, getattr(request.session, "wslx_failed", False))


@pytest.fixture
def fresh(request):
    """A distribution of one's own, not running."""
    w = world()
    try:
        imported(w)
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


@pytest.fixture(scope="module")
def work(request):
    """A distribution with Python, shared by a module's tests."""
    w = world()
    try:
        w.import_deb(archive=rootfs("WSLX_TEST_WORK_ROOTFS"))
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


@pytest.fixture(scope="module")
def wslx(request):
    """A distribution shared by a module's tests, which leave it in order."""
    w = world()
    try:
        imported(w)
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))
