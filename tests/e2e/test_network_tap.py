# SPDX-License-Identifier: MIT
"""networkingMode=bridged: the guest on a tap device of an administrator's, with its address by DHCP or fixed; and tap: on one that
wslx-tap makes."""
import contextlib
import ctypes
import errno
import hashlib
import os
import pathlib
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import tempfile
import threading

import pytest

from conftest import BUILD, end, imported, real_only, wait_for, world
from netns import Namespace
from test_network import BLOCK, HOST, Web, Web4, free_port, http_get, listen_in_guest, processes, sender, serving, summer

HERE, GUEST = "192.0.2.1", "192.0.2.77"


@pytest.fixture
def ns():
    n = Namespace()
    try:
        n.add_tap("tap0", f"{HERE}/24")
        yield n
    finally:
        n.close()


class Dhcp(threading.Thread):
    """A server with one address to give away."""

    def __init__(self, ns, lease=3600):
        super().__init__(daemon=True)
        self.lease, self.seen, self.address = lease, [], GUEST

        def make():
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"tap0")
            s.bind(("", 67))
            return s

        self.sock = ns.call(make)
        self.start()

    def run(self):
        with contextlib.suppress(OSError):
            while m := self.sock.recv(2048):
                self.answer(m)

    def answer(self, m):
        options, at = {}, 240
        while m[at] != 255:
            options[m[at]] = m[at + 2:at + 2 + m[at + 1]]
            at += 2 + m[at + 1]
        kind = options[53][0]
        self.seen.append((kind, m[28:34], m[12:16]))
        reply = {1: 2, 3: 5}[kind]
        ip = socket.inet_aton
        wanted = options.get(50, m[12:16])
        if kind == 3 and wanted != ip(self.address):
            reply = 6

        def option(what, data):
            return bytes([what, len(data)]) + data

        body = b"\x02\x01\x06\x00" + m[4:8] + bytes(4) + bytes(4) + (ip(self.address) if reply != 6 else bytes(4)) + bytes(8) + m[28:44]
        body += bytes(192) + bytes([99, 130, 83, 99]) + option(53, bytes([reply])) + option(54, ip(HERE))
        if reply != 6:
            body += option(51, struct.pack("!I", self.lease)) + option(1, ip("255.255.255.0")) + option(3, ip(HERE))
            body += option(6, ip("192.0.2.53") + ip("192.0.2.54")) + option(15, b"lan.example")
        self.sock.sendto(body + b"\xff", ("255.255.255.255", 68))

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


@contextlib.contextmanager
def dhcp(ns, **kw):
    server = Dhcp(ns, **kw)
    try:
        yield server
    finally:
        server.close()


def bridged(w, ns, **more):
    ns.put(w)
    w.configure(wsl2_networkingMode="bridged", wsl2_vmSwitch="tap0", **more)


def connect(ns, address, port):
    return ns.call(lambda: socket.create_connection((address, port), timeout=60))


@real_only
def test_an_address_by_dhcp_and_both_ways_through_the_device(fresh, ns):
    with dhcp(ns) as server:
        bridged(fresh, ns)
        assert GUEST in fresh.sh("cat /proc/net/fib_trie")
        assert fresh.sh("grep -v '^#' /etc/resolv.conf") == "nameserver 192.0.2.53\nnameserver 192.0.2.54\nsearch lan.example\n"
        assert fresh.sh("wslinfo --networking-mode -n") == "bridged"
        # a slow one asks again
        assert server.seen[0][0] == 1 and server.seen[-1][0] == 3
        # the guest's device has the address that the lease is for
        mac = fresh.sh("cat /sys/class/net/eth0/address").strip()
        assert server.seen[0][1].hex(":") == mac and mac != "52:57:53:4c:58:01"
        assert GUEST in fresh.ok("network")
        with serving(ns.call(lambda: Web4((HERE, 0), Web))) as port:
            assert fresh.sh(http_get(HERE, port, "/tap")) == "from the host: /tap\n"
        port = free_port()
        p = fresh.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', port, 'by its own address')}'")
        assert p.stdout.readline() == b"up\n"
        with connect(ns, GUEST, port) as s:
            assert s.recv(100) == b"by its own address\n"
        p.send_signal(signal.SIGTERM)
        p.wait(60)
        # wslx-netd dies, and another one asks for the same lease.
        old, asked = processes(fresh, "wslx-netd"), len(server.seen)
        os.kill(old[0], signal.SIGKILL)
        wait_for("another one", lambda: processes(fresh, "wslx-netd") not in ([], old) and server.seen[asked:] and server.seen[-1][0] == 3)
        with serving(ns.call(lambda: Web4((HERE, 0), Web))) as port:
            wait_for("the network", lambda: "again" in fresh.sh(f"timeout 5 bash -c \"{http_get(HERE, port, '/again')}\" || true"), 30)
        # not the network of wslx's own
        assert fresh.sh(f"timeout 5 bash -c '</dev/tcp/{HOST}/80' 2>/dev/null || echo not") == "not\n"


@real_only
def test_segments_pass_whole_and_arrive_as_they_were(fresh, ns):
    size, sums = 32 << 20, []
    want = hashlib.sha256(BLOCK * (size // len(BLOCK))).hexdigest()
    bridged(fresh, ns, wsl2_dhcp="false", wslx_network=f"{GUEST}/24", wslx_gateway=HERE)
    with serving(ns.call(lambda: socketserver.ThreadingTCPServer((HERE, 0), sender(size)))) as port:
        fresh.sh(f"cat </dev/tcp/{HERE}/{port} >/tmp/blob", timeout=300)
    assert fresh.sh("sha256sum </tmp/blob").split()[0] == want
    with serving(ns.call(lambda: socketserver.ThreadingTCPServer((HERE, 0), summer(sums)))) as port:
        fresh.sh(f"cat /tmp/blob >/dev/tcp/{HERE}/{port}; rm /tmp/blob", timeout=300)
        wait_for("the end of it", lambda: sums, 60)
    assert sums == [want]
    # In packets of 1500 bytes it would be many more each way.
    received, sent = ns.packets("tap0")
    assert max(received, sent) < size / 1500 / 2, (received, sent)
    assert fresh.sh("awk '$2 == \"00000000\" { print $3 }' /proc/net/route") == "010200C0\n"


@real_only
def test_a_new_address_reaches_a_guest_that_runs(fresh, ns):
    """Of a lease for seconds: the server refuses to renew it and gives another address."""
    with dhcp(ns, lease=20) as server:
        bridged(fresh, ns)
        p = fresh.popen("-d", "deb", "--", "sleep 1000")
        wait_for("the first", lambda: GUEST in fresh.sh("cat /proc/net/fib_trie"))
        server.address = "192.0.2.78"
        wait_for("the second", lambda: "192.0.2.78" in fresh.sh("cat /proc/net/fib_trie"), 40)
        assert f"{GUEST}\n" not in fresh.sh("cat /proc/net/fib_trie")
        fresh.ok("--shutdown", "--force")
        p.wait(60)


def test_a_device_that_is_none_is_refused(fresh, ns):
    ns.put(fresh)
    fresh.configure(wsl2_networkingMode="bridged", wsl2_vmSwitch="tap7")
    fresh.fails(125, "-d", "deb", "--", "true", says=["there is no network device 'tap7'", "ip tuntap add dev tap7"])
    fresh.configure(wsl2_networkingMode="bridged", wsl2_vmSwitch="lo")
    fresh.fails(125, "-d", "deb", "--", "true", says="lo is no tap device")


NEAR, FAR, HIDDEN = "198.51.100.1", "198.51.100.2", "10.254.0"


@pytest.fixture
def far(ns):
    """Another machine on a network of the host's."""
    n = Namespace()
    try:
        ns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", n.name)
        for side, address in (ns, NEAR), (n, FAR):
            side.ip("addr", "add", f"{address}/24", "dev", "eth0")
            side.ip("link", "set", "eth0", "up")
        yield n
    finally:
        n.close()


class Who(socketserver.BaseRequestHandler):
    """Says from where it was called."""
    def handle(self):
        self.request.sendall(self.client_address[0].encode() + b"\n")


def who(address, port):
    return f"perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(PeerAddr=>\"{address}:{port}\", Timeout=>20)->getline'"


@real_only
def test_wslx_tap_makes_a_device_whose_guest_is_behind_the_host(fresh, ns, far):
    ns.put(fresh)
    fresh.configure(wsl2_networkingMode="tap")
    assert f"{HIDDEN}.2" in fresh.sh("cat /proc/net/fib_trie")
    assert fresh.sh("wslinfo --networking-mode -n") == "tap"
    assert f"{HIDDEN}.2/24, gateway {HIDDEN}.1" in fresh.ok("network")
    with serving(far.call(lambda: socketserver.ThreadingTCPServer((FAR, 0), Who))) as port:
        assert fresh.sh(who(FAR, port)) == f"{NEAR}\n"
    with serving(ns.call(lambda: Web4(("", 0), Web))) as port:
        assert fresh.sh(http_get("host.wslx.internal", port, "/tap")) == "from the host: /tap\n"
    # The host reaches the guest; who is outside does not, though it knew the way.
    port = free_port()
    p = fresh.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', port, 'by its own address')}'")
    assert p.stdout.readline() == b"up\n"
    far.ip("route", "add", f"{HIDDEN}.0/24", "via", NEAR)
    with pytest.raises(TimeoutError):
        far.call(lambda: socket.create_connection((f"{HIDDEN}.2", port), timeout=3))
    with connect(ns, f"{HIDDEN}.2", port) as s:
        assert s.recv(100) == b"by its own address\n"
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    # wslx-netd dies, and its device with it; there is another one.
    old = processes(fresh, "wslx-netd")
    os.kill(old[0], signal.SIGKILL)
    wait_for("another one", lambda: processes(fresh, "wslx-netd") not in ([], old))
    with serving(far.call(lambda: socketserver.ThreadingTCPServer((FAR, 0), Who))) as port:
        wait_for("the network", lambda: NEAR in fresh.sh(f"timeout 5 {who(FAR, port)} 2>/dev/null || true"), 30)
    fresh.ok("--shutdown", "--force")
    wait_for("the device to go", lambda: "wslx0" not in ns.ip("link", "show"))


@real_only
def test_guests_on_devices_of_wslx_tap_do_not_reach_each_other(fresh, ns):
    other = world()
    try:
        imported(other)
        for n, w in enumerate((fresh, other)):
            ns.put(w)
            w.configure(wsl2_networkingMode="tap")
            assert f"{HIDDEN[:-1]}{n}.2" in w.sh("cat /proc/net/fib_trie")
        port = free_port()
        p = fresh.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', port, 'to the host alone')}'")
        assert p.stdout.readline() == b"up\n"
        assert other.sh(f"timeout 5 bash -c '</dev/tcp/{HIDDEN}.2/{port}' 2>/dev/null || echo not") == "not\n"
        with connect(ns, f"{HIDDEN}.2", port) as s:
            assert s.recv(100) == b"to the host alone\n"
        p.send_signal(signal.SIGTERM)
        p.wait(60)
    finally:
        end(other, False)


def test_wslx_tap_serves_whom_its_file_names():
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = shutil.copy(BUILD / "tap/wslx-tap", folder)

        def check(text):
            pathlib.Path(folder, "tap.conf").write_text(text)
            p = subprocess.run(["setpriv", "--reuid", "4711", "--regid", "4712", "--groups", "4713", program, "--check"],
                               env={"WSLX_TAP_CONF": f"{folder}/tap.conf"}, capture_output=True, text=True, timeout=60)
            assert p.stdout == "" and p.stderr.count("\n") == 1
            assert p.returncode == 1
            return p.stderr

        assert "does not allow user 4711" in check("")
        assert "does not allow user 4711" in check("allow root\nallow @root\n")
        assert f"{folder}/tap.conf, line 2" in check("allow root\nadmit *\n")
        # May, and cannot: nobody gave this copy the right.
        assert "setcap cap_net_admin" in check("allow *\n")


def capable_tap(folder):
    """wslx-tap with its right, in a folder that everybody may enter."""
    os.chmod(folder, 0o755)
    program = shutil.copy(BUILD / "tap/wslx-tap", folder)
    # VFS_CAP_REVISION_2 with its effective flag, CAP_NET_ADMIN permitted
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x02000001, 1 << 12, 0, 0, 0))
    return program


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file a capability")
def test_wslx_tap_with_its_capability_believes_roots_file_alone():
    with tempfile.TemporaryDirectory() as folder:
        program = capable_tap(folder)
        pathlib.Path(folder, "tap.conf").write_text("allow *\n")
        assert not os.path.exists("/etc/wslx/tap.conf"), "this machine's own file would be asked"
        p = subprocess.run(["setpriv", "--reuid", "4711", "--regid", "4712", "--clear-groups", program, "--check"],
                           env={"WSLX_TAP_CONF": f"{folder}/tap.conf"}, capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and "/etc/wslx/tap.conf does not allow user 4711" in p.stderr


def without_nftables():
    """From now on socket(AF_NETLINK, ..., NETLINK_NETFILTER) is EPROTONOSUPPORT, as where the kernel has none: seccomp(2)."""
    load, equal, give, data = 0x20, 0x15, 0x06, {"nr": 0, "domain": 16, "protocol": 32}
    code = [(load, 0, 0, data["nr"]), (equal, 0, 5, 41), (load, 0, 0, data["domain"]), (equal, 0, 3, socket.AF_NETLINK),
            (load, 0, 0, data["protocol"]), (equal, 0, 1, 12), (give, 0, 0, 0x50000 | errno.EPROTONOSUPPORT), (give, 0, 0, 0x7fff0000)]
    insns = b"".join(struct.pack("HBBI", *c) for c in code)
    buf = ctypes.create_string_buffer(insns)
    prog = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(buf)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, prog, 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN")
def test_a_host_without_nftables_is_named_before_the_machine_starts():
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "tap.conf").write_text("allow *\n")
        argv, env = [str(BUILD / "tap" / "wslx-tap"), "--check"], {"WSLX_TAP_CONF": f"{folder}/tap.conf"}
        p = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        assert p.returncode == 0, p.stderr
        p = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, preexec_fn=without_nftables)
        assert p.returncode == 1 and "nftables, which the host's kernel lacks" in p.stderr, p.stderr


# As a user who may: devices are asked for and given to nobody, one after the other, until there are no more.
MANY = """
import array, fcntl, os, socket, struct, subprocess, sys
kept = [os.open("/dev/null", os.O_RDONLY)]  # is 3
for n in range(40):
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.dup2(theirs.fileno(), 3)
    p = subprocess.run([sys.argv[1]], pass_fds=[3], stderr=subprocess.PIPE, text=True)
    if p.returncode:
        print(n, p.stderr.strip())
        break
    fd = socket.recv_fds(ours, 100, 1)[1][0]
    fcntl.ioctl(fd, 0x400454cc, 65534)  # TUNSETOWNER
    kept.append(fd)
"""


def many(sys):
    """What MANY prints, with /sys of a kind."""
    with tempfile.TemporaryDirectory() as folder:
        program = capable_tap(folder)
        script = pathlib.Path(folder, "many.py")
        script.write_text(MANY)
        # The program believes /etc/wslx/tap.conf alone, and a network of one's own has no other devices. udev lets everybody open tun.
        own = (f"mount -t {sys} none /sys && mount -t tmpfs none /etc && mkdir /etc/wslx && echo 'allow *' >/etc/wslx/tap.conf && "
               "mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && "
               f"exec setpriv --reuid 4711 --regid 4712 --clear-groups /usr/bin/python3 {script} {program}")
        p = subprocess.run(["unshare", "-n", "-m", "sh", "-c", own], capture_output=True, text=True, timeout=120)
        return p.stdout, p.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file a capability")
def test_a_user_who_gives_his_devices_to_another_does_not_get_more():
    out, err = many("sysfs")
    assert out.startswith("16 ") and "user 4711 has 16 tap devices already" in out, (out, err)


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file a capability")
def test_devices_that_cannot_be_counted_are_too_many():
    out, err = many("tmpfs")
    assert out.startswith("0 ") and "count the tap devices of user 4711" in out, (out, err)


@real_only
def test_a_user_who_may_not_is_told_before_the_machine_starts(fresh, ns):
    ns.put(fresh)
    fresh.configure(wsl2_networkingMode="tap")
    refusal = fresh.tmp / "refusal"
    refusal.write_text("#!/bin/sh\necho 'wslx-tap: not today' >&2\nexit 1\n")
    refusal.chmod(0o755)
    fresh.env["WSLX_TAP"] = str(refusal)
    fresh.fails(125, "-d", "deb", "--", "true", says=["networkingMode=tap", "not today"])
    fresh.env["WSLX_TAP"] = str(fresh.tmp / "nothing")
    fresh.kill(fresh.service_pid())
    fresh.fails(125, "-d", "deb", "--", "true", says=["networkingMode=tap", "WSLX_TAP names no program"])


@real_only
def test_a_wslx_tap_that_waits_for_something_does_not_hold_up_the_service(fresh, ns):
    ns.put(fresh)
    fresh.configure(wsl2_networkingMode="tap")
    slow, never = fresh.tmp / "slow", fresh.tmp / "never"
    os.mkfifo(never)
    slow.write_text(f"#!/bin/sh\nWSLX_TAP_CONF={never} exec {BUILD}/tap/wslx-tap \"$@\"\n")
    slow.chmod(0o755)
    fresh.env["WSLX_TAP"] = str(slow)
    fresh.fails(125, "-d", "deb", "--", "true", says=["networkingMode=tap", "no answer in time"])
