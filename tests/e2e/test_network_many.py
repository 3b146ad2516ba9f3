# SPDX-License-Identifier: MIT
"""Thousands of connections at once, from the guest to this host and the other way: each moves bytes, nothing works for nothing."""
import contextlib
import pathlib
import resource
import shutil
import subprocess
import time

import pytest

from conftest import real_only, wait_for
from test_network import HOST, Web, Web4, free_port, http_get, processes, serving

pytestmark = real_only
SOURCE = pathlib.Path(__file__).with_name("crowd.c")
COUNTS = [2000, pytest.param(10000, marks=pytest.mark.slow)]
LIMIT = 600


@pytest.fixture(scope="module", autouse=True)
def descriptors():
    """A connection takes two of wslx-forward's, which inherits its limit: that is to be enough, where it may be raised."""
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (old[0], max(old[1], 65536)))
    yield
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, old)


@pytest.fixture(scope="module")
def crowd(wslx, tmp_path_factory):
    """The program, here; in the guest it is /crowd."""
    if not shutil.which("musl-gcc"):
        pytest.skip("no musl-gcc")
    program = tmp_path_factory.mktemp("crowd") / "crowd"
    subprocess.run(["musl-gcc", "-static", "-O2", "-D_GNU_SOURCE", "-o", program, SOURCE], check=True)
    wslx.ok("-d", "deb", "--", "cat >/crowd; chmod +x /crowd", input=program.read_bytes(), text=False)
    return program


class Side:
    """The program, running here or there."""

    def __init__(self, p):
        self.p = p

    def says(self):
        return self.p.stdout.readline().decode().strip()

    def ask(self):
        self.p.stdin.write(b"again\n")
        self.p.stdin.flush()
        return self.says()

    def end(self):
        self.p.stdin.close()
        self.p.wait(120)


@contextlib.contextmanager
def here(program, *args):
    p = subprocess.Popen(["timeout", str(LIMIT), program, *map(str, args)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    side = Side(p)
    try:
        yield side
    finally:
        side.end()


@contextlib.contextmanager
def there(w, *args):
    p = w.popen("-d", "deb", "--", f"timeout {LIMIT} /crowd {' '.join(map(str, args))}", stdin=subprocess.PIPE)
    side = Side(p)
    try:
        yield side
    finally:
        side.end()


def cpu(pid):
    """Seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory(pid):
    """MiB of its own: the machine's memory, which wslx-netd has, too, does not count."""
    resident, shared = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * 4096 >> 20


def descriptors_of(pid):
    return len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))


GUEST_CPU = r"""for p in /proc/[0-9]*; do read -r n <$p/comm && case $n in *init*|wslx-*)
set -- $(sed 's/.*) //' <$p/stat); t=$((t + ${12} + ${13}));; esac; done 2>/dev/null; echo $t"""


def idle(w, *names):
    """They are open and nothing moves: nobody is at work."""
    pids = [p for name in names for p in processes(w, name)]
    assert pids
    before, guest, start = [cpu(p) for p in pids], int(w.sh(GUEST_CPU)), time.monotonic()
    time.sleep(4)
    spent, passed = [cpu(p) - b for p, b in zip(pids, before)], time.monotonic() - start
    print(names, "idle:", spent, "s of", passed, [(memory(p), descriptors_of(p)) for p in pids])
    assert all(s < passed / 2 for s in spent), (names, spent)
    # ticks of a hundredth of a second, and what it took to ask
    assert int(w.sh(GUEST_CPU)) - guest < 100 * (time.monotonic() - start) / 2


def works(w):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        assert w.sh(http_get(HOST, port, "/after"), timeout=60) == "from the host: /after\n"


@pytest.mark.parametrize("count", COUNTS)
def test_from_the_guest_to_the_host(wslx, crowd, count):
    port, (netd,) = free_port(), processes(wslx, "wslx-netd")
    few = descriptors_of(netd)
    with here(crowd, "serve", "127.0.0.1", port) as server:
        assert server.says() == "up"
        with there(wslx, "connect", HOST, port, count) as client:
            assert client.says() == f"{count} made, 0 failed"
            assert client.ask() == f"{count} answered"
            idle(wslx, "wslx-netd")
            # two buffers of 128 KiB are what libslirp makes room for
            assert memory(netd) < 64 + count * 256 // 1024
            works(wslx)
            assert client.ask() == f"{count} answered"
    wait_for("their end", lambda: descriptors_of(netd) < few + 50, 60)
    works(wslx)


@pytest.mark.parametrize("count", COUNTS)
def test_from_the_host_to_the_guest(wslx, crowd, count):
    inside, outside = free_port(), free_port()
    count = min(count, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 100) // 2)
    with there(wslx, "serve", "127.0.0.1", inside) as server:
        assert server.says() == "up"
        wslx.ok("port", "add", f"{outside}:{inside}")
        (forward,) = processes(wslx, "wslx-forward")
        few = descriptors_of(forward)
        with here(crowd, "connect", "127.0.0.1", outside, count) as client:
            assert client.says() == f"{count} made, 0 failed"
            assert client.ask() == f"{count} answered"
            assert few + count * 2 <= descriptors_of(forward) < few + count * 2 + 50
            idle(wslx, "wslx-forward", "wslx-netd")
            assert memory(forward) < 32 + count * 4 // 1024
            assert client.ask() == f"{count} answered"
        wait_for("their end", lambda: descriptors_of(forward) < few + 50, 60)
        with here(crowd, "connect", "127.0.0.1", outside, 5) as client:
            assert client.says() == "5 made, 0 failed"
            assert client.ask() == "5 answered"
        wslx.ok("port", "remove", str(outside))
    works(wslx)


def test_more_than_there_are_descriptors_for(wslx, crowd):
    """The others are told so; those that are made work, and so does what comes later."""
    port, (netd,) = free_port(), processes(wslx, "wslx-netd")
    old = resource.prlimit(netd, resource.RLIMIT_NOFILE)
    resource.prlimit(netd, resource.RLIMIT_NOFILE, (300, old[1]))
    try:
        with here(crowd, "serve", "127.0.0.1", port) as server:
            assert server.says() == "up"
            with there(wslx, "connect", HOST, port, 500) as client:
                said = client.says()
                made = int(said.split()[0])
                assert 200 < made < 300 and said == f"{made} made, {500 - made} failed: Network unreachable", said
                assert client.ask() == f"{made} answered"
                idle(wslx, "wslx-netd")
    finally:
        resource.prlimit(netd, resource.RLIMIT_NOFILE, old)
    works(wslx)
