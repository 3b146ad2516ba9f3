# SPDX-License-Identifier: MIT
"""The guest's network: this host's loopback services, name servers, listeners at localhost, and processes that die."""
import contextlib
import hashlib
import http.server
import os
import pathlib
import signal
import socket
import socketserver
import struct
import threading
import time
import urllib.request

import pytest

from conftest import SCALE, real_only, wait_for

pytestmark = real_only
HOST, HOST6 = "10.255.255.1", "fd77:736c:7800::1"


class Web(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = b"from the host: " + self.path.encode() + b"\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Web4(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


class Web6(Web4):
    address_family = socket.AF_INET6


@contextlib.contextmanager
def serving(server):
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class Resolver(socketserver.BaseRequestHandler):
    """Knows one address for every name below .test; over TCP too."""
    address = "192.0.2.1"

    def handle(self):
        tcp = not isinstance(self.request, tuple)
        if tcp:
            n = struct.unpack("!H", self.request.recv(2))[0]
            query = self.request.recv(n)
        else:
            query = self.request[0]
        end = query.index(0, 12) + 5
        kind = struct.unpack("!H", query[end - 4:end - 2])[0]
        known = query[12:end - 4].endswith(b"\x04test\x00") and kind == 1
        reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(known), 0, 0) + query[12:end]
        if known:
            reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(self.server.answer)
        if tcp:
            self.request.sendall(struct.pack("!H", len(reply)) + reply)
        else:
            self.request[1].sendto(reply, self.client_address)


class Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Resolver)
        self.answer = answer


def http_get(host, port, path):
    """In the guest, with nothing but bash."""
    return (f"exec 3<>/dev/tcp/{host}/{port} && printf 'GET {path} HTTP/1.0\\r\\n\\r\\n' >&3 && "
            f"sed '1,/^\\r*$/d' <&3")


def listen_in_guest(address, port, text, count=100):
    """Perl that answers every connection with text."""
    return ("use IO::Socket::IP; "
            f"my $s = IO::Socket::IP->new(LocalHost=>\"{address}\", LocalPort=>{port}, Listen=>20, ReuseAddr=>1, V6Only=>{int(not address.startswith('::ffff:'))})"
            " or die \"listen: $@\"; $| = 1; print \"up\\n\"; "
            f"for (1..{count}) {{ my $c = $s->accept or last; print $c \"{text}\\n\"; close $c; }}")


def read_all(address, port, timeout=20):
    with socket.create_connection((address, port), timeout=timeout) as s:
        s.settimeout(timeout)
        data = b""
        while part := s.recv(65536):
            data += part
    return data.decode()


def answer(address, port):
    """"" while nobody is there: a port that was added is open before anything listens in the guest."""
    try:
        return read_all(address, port)
    except ConnectionError:
        return ""


def answer_or_none(port):
    try:
        return answer("127.0.0.1", port)
    except OSError:
        return ""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def refused(address, port):
    try:
        socket.create_connection((address, port), timeout=20).close()
    except ConnectionError:
        return True
    return False


def processes(w, name):
    """Those that serve this world's machines."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (p / "comm").read_text().strip() == name[:15] and str(w.tmp).encode() in (p / "environ").read_bytes():
                found.append(int(p.name))
        except OSError:
            pass
    return found


def test_addresses_and_routes(wslx):
    addr = wslx.sh("cat /proc/net/fib_trie")
    assert "10.255.255.2" in addr
    assert wslx.sh("cat /sys/class/net/eth0/operstate /sys/class/net/lo/flags") == "up\n0x9\n"
    assert "fd77736c780000000000000000000002" in wslx.sh("cat /proc/net/if_inet6")
    assert wslx.sh("wslinfo --networking-mode -n") == "nat"


def test_the_hosts_loopback_services(wslx):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        assert wslx.sh(http_get(HOST, port, "/four")) == "from the host: /four\n"
        # by the documented name, which the hosts file has
        assert wslx.sh(http_get("host.wslx.internal", port, "/name")) == "from the host: /name\n"


def test_the_hosts_ipv6_loopback_services(wslx):
    with serving(Web6(("::1", 0), Web)) as port:
        assert wslx.sh(http_get(HOST6, port, "/six")) == "from the host: /six\n"


BLOCK = bytes(range(256)) * 4096


def sender(size):
    """A server's handler that sends as much, a multiple of BLOCK."""
    class Sender(socketserver.BaseRequestHandler):
        def handle(self):
            for _ in range(size // len(BLOCK)):
                self.request.sendall(BLOCK)
    return Sender


def summer(sums):
    """A server's handler that adds the sum of what came to the list."""
    class Summer(socketserver.BaseRequestHandler):
        def handle(self):
            h = hashlib.sha256()
            while part := self.request.recv(1 << 20):
                h.update(part)
            sums.append(h.hexdigest())
    return Summer


def test_much_data_arrives_as_it_was_sent(wslx):
    size, sums = 40 << 20, []
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), sender(size))) as port:
        out = wslx.sh(f"exec 3<>/dev/tcp/{HOST}/{port}; sha256sum <&3", timeout=300)
    assert out.split()[0] == hashlib.sha256(BLOCK * (size // len(BLOCK))).hexdigest()
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), summer(sums))) as port:
        mine = wslx.sh(f"head -c {size} /dev/urandom >/tmp/blob; cat /tmp/blob >/dev/tcp/{HOST}/{port}; sha256sum </tmp/blob; rm /tmp/blob",
                      timeout=300)
        wait_for("the end of it", lambda: sums, 60)
    assert mine.split()[0] == sums[0]


def test_name_servers(fresh):
    conf = fresh.tmp / "resolv.conf"
    with serving(Udp("192.0.2.1")) as one, serving(Udp("192.0.2.2")) as two:
        conf.write_text(f"nameserver 127.0.0.1#{one}\nsearch one.test two.test\n")
        fresh.configure(wslx_resolvConf=conf)
        assert fresh.sh("cat /etc/resolv.conf").endswith("nameserver 10.255.255.254\nsearch one.test two.test\n")
        assert fresh.sh("getent ahostsv4 www.example.test | head -n1").split()[0] == "192.0.2.1"
        # the host itself, by the resolver alone
        assert fresh.sh("sed -i /internal/d /etc/hosts; getent ahostsv4 host.wslx.internal | head -n1").split()[0] == HOST
        # The host's change reaches a distribution that runs.
        p = fresh.popen("-d", "deb", "--", "sleep 1000")
        temp = fresh.tmp / "resolv.new"
        temp.write_text(f"nameserver 127.0.0.1#{two}\nsearch three.test\n")
        temp.rename(conf)
        wait_for("the new resolver", lambda: "192.0.2.2" in fresh.sh("getent ahostsv4 www.example.test || true"))
        wait_for("the new domain", lambda: "search three.test" in fresh.sh("cat /etc/resolv.conf"))
        fresh.ok("--shutdown")
        p.wait(60)


def test_a_name_server_that_is_silent_is_passed_over(fresh):
    conf = fresh.tmp / "resolv.conf"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent, serving(Udp("192.0.2.7")) as good:
        silent.bind(("127.0.0.1", 0))
        conf.write_text(f"nameserver 127.0.0.1#{silent.getsockname()[1]}\nnameserver 127.0.0.1#{good}\n")
        fresh.configure(wslx_resolvConf=conf)
        assert fresh.sh("getent ahostsv4 a.test | head -n1", timeout=60).split()[0] == "192.0.2.7"


@pytest.mark.parametrize("bound, address", [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::ffff:127.0.0.1", "127.0.0.1")])
def test_a_listener_appears_at_localhost_and_goes(wslx, bound, address):
    port = free_port()
    assert refused(address, port)
    p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest(bound, port, 'hello')}'")
    wait_for("the listener", lambda: not refused(address, port))
    assert read_all(address, port) == "hello\n"
    assert read_all(address, port) == "hello\n"
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: refused(address, port))


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_hosts_clients_come_from_localhost(wslx, bound):
    """Whichever way leads to the listener: accept(2) and getpeername(2) tell it the same."""
    port = free_port()
    script = ("use IO::Socket::IP; "
              f"my $s = IO::Socket::IP->new(LocalHost=>\"{bound}\", LocalPort=>{port}, Listen=>20, ReuseAddr=>1, V6Only=>0) or die $@; "
              "while (my ($c, $from) = $s->accept) { my ($e, $h) = Socket::getnameinfo($from, NI_NUMERICHOST|NI_NUMERICSERV); "
              "print $c $h, \" \", $c->peerhost, \" \", $c->peerport, \"\n\"; close $c; }")
    p = wslx.popen("-d", "deb", "--", f"perl -MSocket=:addrinfo -e '{script}'")
    wait_for("the listener", lambda: answer_or_none(port))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as s:
        s.settimeout(20)
        accepted, peer, peer_port = s.makefile().readline().split()
        assert {accepted, peer} <= {"127.0.0.1", "::ffff:127.0.0.1"}
        if bound != "127.0.0.1":
            assert int(peer_port) == s.getsockname()[1], "it did not come by the network device"
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: refused("127.0.0.1", port))


@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
def test_root_has_the_low_ports_of_its_distributions(wslx, bound):
    assert os.geteuid() == 0
    port = next(p for p in range(600, 1023) if refused("127.0.0.1", p))
    p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest(bound, port, 'low')}'")
    wait_for("the listener", lambda: answer_or_none(port) == "low\n")
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: refused("127.0.0.1", port))


def test_a_listener_that_moves_to_another_address_is_still_reached(wslx):
    port = free_port()
    for bound in ("0.0.0.0", "127.0.0.1", "0.0.0.0", "127.0.0.1"):
        p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest(bound, port, 'at ' + bound)}'")
        wait_for(f"the one at {bound}", lambda: answer("127.0.0.1", port) == f"at {bound}\n")
        p.send_signal(signal.SIGTERM)
        p.wait(60)
    wait_for("its end", lambda: refused("127.0.0.1", port))


def test_a_web_server_of_the_guest_is_there_at_once(wslx):
    """No polling: some tries a fiftieth of a second apart are enough, also on a software CPU."""
    port = free_port()
    p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', port, 'at once')}'")
    assert p.stdout.readline() == b"up\n"
    for _ in range(int(25 * SCALE)):
        if (said := answer("127.0.0.1", port)):
            break
        time.sleep(0.02)
    assert said == "at once\n"
    p.send_signal(signal.SIGTERM)
    p.wait(60)


def test_a_server_that_takes_connections_is_not_looked_for_each_time(wslx):
    def wakeups():
        return int(wslx.ok("--debug-shell", "--", "grep ^voluntary /proc/$(pgrep -x wslx-ports)/status").split()[1])

    port = free_port()
    client = f"for (1..80) {{ my $c = IO::Socket::IP->new(PeerHost=>\"127.0.0.1\", PeerPort=>{port}) or die; <$c> }}"
    p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'x')}'")
    assert p.stdout.readline() == b"up\n"
    wait_for("the listener", lambda: answer("127.0.0.1", port))
    time.sleep(0.5 * SCALE)
    before = wakeups()
    wslx.sh(f"perl -MIO::Socket::IP -e '{client}'", timeout=120)
    assert wakeups() - before < 20
    p.send_signal(signal.SIGTERM)
    p.wait(60)


def test_a_port_that_is_taken_is_reported_by_name(wslx):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'hello')}'")
        wait_for("the conflict", lambda: str(port) in wslx.ok("port", "list"))
        line = next(x for x in wslx.ok("port", "list").splitlines() if str(port) in x)
        assert "used by" in line and f"process {os.getpid()}" in line
        # It still leads where it did.
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=20).read() == b"from the host: /x\n"
        p.send_signal(signal.SIGTERM)
        p.wait(60)


@contextlib.contextmanager
def child_with_a_lower_number():
    """Has all that we have open."""
    for _ in range(100):
        pathlib.Path("/proc/sys/kernel/ns_last_pid").write_text(str(os.getpid() - 100), encoding="ascii")
        pid = os.fork()
        if not pid:
            while True:
                signal.pause()
        try:
            if pid < os.getpid():
                yield
                return
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    pytest.fail("there is no lower number")


def test_a_port_that_is_taken_is_its_servers_not_a_childs(wslx):
    with serving(Web4(("127.0.0.1", 0), Web)) as port, child_with_a_lower_number():
        p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'hello')}'")
        wait_for("the conflict", lambda: f"process {os.getpid()})" in wslx.ok("port", "list"))
        p.send_signal(signal.SIGTERM)
        p.wait(60)


def test_ports_by_hand(wslx):
    outside, inside = free_port(), free_port()
    p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', inside, 'inside')}'")
    wslx.ok("port", "add", f"{outside}:{inside}")
    wait_for("the listener", lambda: not refused("127.0.0.1", inside))
    assert read_all("127.0.0.1", outside) == "inside\n"
    assert str(outside) in wslx.ok("port", "list")
    wslx.ok("port", "remove", str(outside))
    assert refused("127.0.0.1", outside)
    p.send_signal(signal.SIGTERM)
    p.wait(60)


def test_network_says_who_is_where(wslx):
    text = wslx.ok("network")
    assert "nat" in text and "10.255.255.2/24" in text and "10.255.255.254" in text


def test_netd_killed(wslx):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        guest = free_port()
        p = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', guest, 'hello')}'")
        wait_for("the listener", lambda: answer_or_none(guest) == "hello\n")
        assert wslx.sh(http_get(HOST, port, "/before")) == "from the host: /before\n"
        old = processes(wslx, "wslx-netd")
        assert len(old) == 1
        os.kill(old[0], signal.SIGKILL)
        wait_for("another one", lambda: processes(wslx, "wslx-netd") not in ([], old))
        wait_for("its ports", lambda: answer_or_none(guest) == "hello\n")
        wait_for("the network", lambda: "after" in wslx.sh(f"timeout 5 bash -c \"{http_get(HOST, port, '/after')}\" || true"), 30)
        assert p.poll() is None
        p.kill()
        p.wait(60)


def test_the_service_may_die(fresh):
    port = free_port()
    with serving(Web4(("127.0.0.1", 0), Web)) as web:
        p = fresh.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'hello')}'")
        wait_for("the listener", lambda: not refused("127.0.0.1", port))
        netd = processes(fresh, "wslx-netd")
        fresh.kill(fresh.service_pid())
        # nobody needs it
        assert read_all("127.0.0.1", port) == "hello\n"
        assert fresh.sh(http_get(HOST, web, "/x")) == "from the host: /x\n"
        assert processes(fresh, "wslx-netd") == netd
        p.send_signal(signal.SIGTERM)
        p.wait(60)
        wait_for("its end", lambda: refused("127.0.0.1", port))
        fresh.ok("--shutdown")
        wait_for("the processes' end", lambda: not processes(fresh, "wslx-netd") + processes(fresh, "wslx-forward"), 20)


def test_no_network(fresh):
    fresh.configure(wsl2_networkingMode="none")
    assert fresh.sh("ls /sys/class/net") == "lo\n"
    assert fresh.sh("wslinfo --networking-mode -n") == "none"
    assert processes(fresh, "wslx-netd") == []


def test_mac_address(fresh):
    fresh.configure(wsl2_macAddress="02:77:78:01:02:03")
    assert fresh.sh("cat /sys/class/net/eth0/address") == "02:77:78:01:02:03\n"


def test_ignored_ports_and_no_forwarding(fresh):
    port = free_port()
    fresh.configure(experimental_ignoredPorts=f"1, {port}")
    other = free_port()
    p = fresh.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'a')}' & perl -e '{listen_in_guest('127.0.0.1', other, 'b')}'")
    wait_for("the other", lambda: not refused("127.0.0.1", other))
    assert refused("127.0.0.1", port)
    fresh.ok("--shutdown", "--force")
    p.wait(60)


def test_isolated_distributions_have_a_network_each(empty):
    w = empty
    for name in ("one", "two"):
        w.import_deb(name)
        w.ok("-d", name, "--", "printf '[network]\\nisolation=true\\n' >/etc/wsl.conf")
    w.import_deb("shared")
    w.ok("--shutdown")
    sessions = [w.popen("-d", name, "--", f"perl -e '{listen_in_guest('0.0.0.0', 80, name)}'") for name in ("one", "two")]
    addresses = {name: w.ok("-d", name, "--", "sed -n 's/^.*|-- \\(10[.]255[.]255[.][0-9]*\\)$/\\1/p' /proc/net/fib_trie").split()
                 for name in ("one", "two", "shared")}
    assert "10.255.255.2" in addresses["shared"]
    assert not {"10.255.255.2"} & set(addresses["one"] + addresses["two"])
    # Each its own port 80, at a port of this host's.
    outside = {name: free_port() for name in ("one", "two")}
    for name, port in outside.items():
        w.ok("port", "add", "-d", name, f"{port}:80")
    for name, port in outside.items():
        wait_for(f"{name}'s answer", lambda: answer("127.0.0.1", port) == f"{name}\n")
    # And the same way out.
    with serving(Web4(("127.0.0.1", 0), Web)) as web:
        assert w.ok("-d", "one", "--", http_get(HOST, web, "/one")) == "from the host: /one\n"
        assert w.ok("-d", "one", "--", http_get("host.wslx.internal", web, "/one")) == "from the host: /one\n"
    # Nobody of the others is there.
    assert w.ok("-d", "shared", "--", f"timeout 2 bash -c '</dev/tcp/{addresses['one'][0]}/80' 2>/dev/null || echo not") == "not\n"
    w.ok("--shutdown", "--force")
    for p in sessions:
        p.wait(60)


def test_no_port_was_forwarded_any_more_when_its_process_had_died(empty):
    w = empty
    w.import_deb("own")
    w.ok("-d", "own", "--", "printf '[network]\\nisolation=true\\n' >/etc/wsl.conf")
    w.import_deb("deb")
    w.ok("--shutdown")
    first, second, outside = free_port(), free_port(), free_port()
    sessions = [w.popen("-d", "own", "--", f"perl -e '{listen_in_guest('0.0.0.0', 80, 'own')}'"),
                w.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', first, 'first')}'")]
    assert [p.stdout.readline() for p in sessions] == [b"up\n"] * 2
    w.ok("port", "add", "-d", "own", f"{outside}:80")
    wait_for("both", lambda: answer("127.0.0.1", outside) + answer("127.0.0.1", first) == "own\nfirst\n")
    before = w.ok("--debug-shell", "--", "pgrep -x wslx-ports")
    w.ok("--debug-shell", "--", "pkill -KILL -x wslx-ports")
    # What is asked for meanwhile is answered by the next one.
    assert answer("127.0.0.1", first) == "first\n"
    wait_for("the distribution with a network of its own", lambda: answer("127.0.0.1", outside) == "own\n")
    assert w.ok("--debug-shell", "--", "pgrep -x wslx-ports") not in ("", before)
    sessions.append(w.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', second, 'second')}'"))
    wait_for("a new listener", lambda: answer("127.0.0.1", second) == "second\n")
    w.ok("--shutdown", "--force")
    for p in sessions:
        p.wait(60)


def udp_ask(port, text, timeout=2):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        s.connect(("127.0.0.1", port))
        try:
            s.send(text)
            return s.recv(65536)
        except OSError:
            return b""


# The other port is one of those that the kernel gives to clients.
@pytest.mark.parametrize("base, bound", [(20000, "127.0.0.1"), (45000, "127.0.0.1"), (20000, "0.0.0.0")])
def test_a_datagram_listener_appears_at_localhost_and_goes(wslx, base, bound):
    port = base + os.getpid() % 10000
    script = ("use IO::Socket::IP; "
              f"my $s = IO::Socket::IP->new(LocalHost=>\"{bound}\", LocalPort=>{port}, Proto=>\"udp\") or die; "
              "while (defined $s->recv(my $m, 65536)) { $s->send(length $m < 60000 ? \"you said $m\" : $m); }")
    assert udp_ask(port, b"nobody") == b""
    p = wslx.popen("-d", "deb", "--", f"perl -e '{script}'")
    wait_for("the listener", lambda: udp_ask(port, b"hello") == b"you said hello")
    big = bytes(range(256)) * 32
    assert udp_ask(port, big, 20) == b"you said " + big
    largest = os.urandom(65507)
    assert udp_ask(port, largest, 20) == largest
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: f":{port}" not in wslx.ok("port", "list"))


def test_a_port_that_the_kernel_chose_for_a_datagram_client_is_no_listener(wslx):
    script = ("use Socket; socket(my $s, PF_INET, SOCK_DGRAM, 0) or die; "
              "send($s, \"x\", 0, pack_sockaddr_in(9, inet_aton(\"127.0.0.1\"))) or die; $| = 1; "
              "print((unpack_sockaddr_in(getsockname($s)))[0], \"\\n\"); sleep 1000")
    p = wslx.popen("-d", "deb", "--", f"perl -e '{script}'")
    client = int(p.stdout.readline())
    # What comes later is there, so the client was looked at.
    server = free_port()
    q = wslx.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', server, 'x')}'")
    wait_for("a listener", lambda: f":{server}" in wslx.ok("port", "list"))
    assert f":{client}" not in wslx.ok("port", "list")
    for x in p, q:
        x.send_signal(signal.SIGTERM)
        x.wait(60)


def proxies(w, **env):
    clean = {f"{p}_proxy": "" for p in ("http", "https", "all", "no", "ftp")}
    text = w.sh("env | grep -i _proxy= | sort || true", env={**clean, **{k.upper(): "" for k in clean}, **env})
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_users_proxies_are_the_distributions(wslx):
    assert proxies(wslx) == {}
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        got = proxies(wslx, http_proxy=f"http://127.0.0.1:{port}", HTTPS_PROXY="http://me:secret@proxy.example:3128/", no_proxy="localhost,.lan.example")
        assert got == {"http_proxy": f"http://host.wslx.internal:{port}", "HTTP_PROXY": f"http://host.wslx.internal:{port}",
                       "https_proxy": "http://me:secret@proxy.example:3128/", "HTTPS_PROXY": "http://me:secret@proxy.example:3128/",
                       "no_proxy": "localhost,.lan.example", "NO_PROXY": "localhost,.lan.example"}
        # and it is one
        assert wslx.sh("eval $(echo $http_proxy | sed 's|http://\\(.*\\):\\(.*\\)|h=\\1 p=\\2|'); "
                       "exec 3<>/dev/tcp/$h/$p && printf 'GET http://www.example/x HTTP/1.0\\r\\n\\r\\n' >&3 && sed '1,/^\\r*$/d' <&3",
                       env={"http_proxy": f"http://localhost:{port}"}) == "from the host: http://www.example/x\n"


def test_no_proxies_when_the_user_does_not_want_them(fresh):
    fresh.configure(wsl2_autoProxy="false")
    assert proxies(fresh, http_proxy="http://proxy.example:3128") == {}
