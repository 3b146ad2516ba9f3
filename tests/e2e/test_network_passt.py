# SPDX-License-Identifier: MIT
"""networkBackend=passt: passt makes the guest's connections, with all that the guest has of the other one."""
import hashlib
import json
import os
import pathlib
import signal
import socket
import socketserver

import pytest

from conftest import alive, real_only, wait_for
from test_network import (BLOCK, HOST, HOST6, Udp, Web, Web4, Web6, answer, free_port, http_get, listen_in_guest, processes, read_all,
                          refused, sender, serving, summer)

pytestmark = real_only


@pytest.fixture(scope="module", name="passt")
def passt_fixture(wslx):
    wslx.configure(wslx_networkBackend="passt")
    yield wslx
    wslx.ok("--shutdown", "--force")


def passts(w):
    """wslx-netd's children, of which there is one."""
    pids = []
    for n in processes(w, "wslx-netd"):
        try:
            pids += map(int, pathlib.Path(f"/proc/{n}/task/{n}/children").read_text().split())
        except OSError:
            pass  # it has ended
    return pids


def test_the_hosts_services(passt):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        assert passt.sh(http_get(HOST, port, "/four")) == "from the host: /four\n"
        assert passt.sh(http_get("host.wslx.internal", port, "/name")) == "from the host: /name\n"
    assert [pathlib.Path(f"/proc/{p}/comm").read_text().split(".")[0].strip() for p in passts(passt)] == ["passt"]
    assert {n["backend"] for n in json.loads(passt.ok("network", "--json"))} == {"passt"}


def test_the_hosts_ipv6_services(passt):
    with serving(Web6(("::1", 0), Web)) as port:
        assert passt.sh(http_get(HOST6, port, "/six")) == "from the host: /six\n"


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(b"you said " + data, self.client_address)


def udp(host, port):
    """In the guest: what this server says to a word."""
    return (f"perl -MIO::Socket::IP -e 'my $s = IO::Socket::IP->new(PeerHost=>\"{host}\", PeerPort=>{port}, Proto=>\"udp\") or die; "
            "$SIG{ALRM} = sub { print \"silence\"; exit }; alarm 20; $s->send(\"hello\"); $s->recv(my $m, 100); print $m'")


class Udp6(socketserver.ThreadingUDPServer):
    address_family = socket.AF_INET6


@pytest.mark.parametrize("kind, at, host", [(socketserver.ThreadingUDPServer, "127.0.0.1", HOST), (Udp6, "::1", HOST6)])
def test_datagrams(passt, kind, at, host):
    with serving(kind((at, 0), Echo)) as port:
        assert passt.sh(udp(host, port)) == "you said hello"


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_a_port_of_the_hosts_where_nobody_listens_refuses_at_once(passt, host):
    said = passt.sh(f"timeout 60 bash -c '</dev/tcp/{host}/{free_port()}' 2>&1 || true")
    assert "Connection refused" in said


def test_a_distribution_with_a_network_of_its_own_is_refused(passt):
    passt.import_deb("own")
    passt.ok("-d", "own", "--", "printf '[network]\\nisolation=true\\n' >/etc/wsl.conf")
    passt.ok("--terminate", "own")
    p = passt.run("-d", "own", "--", "true")
    assert p.returncode == 125 and "isolation" in p.stderr, p.stderr
    passt.ok("--unregister", "own")


def test_much_data_arrives_as_it_was_sent(passt):
    size, sums = 40 << 20, []
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), sender(size))) as port:
        out = passt.sh(f"exec 3<>/dev/tcp/{HOST}/{port}; sha256sum <&3", timeout=300)
    assert out.split()[0] == hashlib.sha256(BLOCK * (size // len(BLOCK))).hexdigest()
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), summer(sums))) as port:
        mine = passt.sh(f"head -c {size} /dev/urandom >/tmp/blob; cat /tmp/blob >/dev/tcp/{HOST}/{port}; sha256sum </tmp/blob; rm /tmp/blob",
                        timeout=300)
        wait_for("the end of it", lambda: sums, 60)
    assert mine.split()[0] == sums[0]


def test_a_listener_of_the_guest_appears_at_localhost(passt):
    port, other = free_port(), free_port()
    p = passt.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'hello')}'")
    wait_for("the listener", lambda: not refused("127.0.0.1", port))
    assert read_all("127.0.0.1", port) == "hello\n"
    passt.ok("port", "add", f"{other}:{port}")
    wait_for("the other port", lambda: answer("127.0.0.1", other) == "hello\n")
    passt.ok("port", "remove", str(other))
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: refused("127.0.0.1", port))


@pytest.mark.parametrize("whose", ["passt", "wslx-netd"])
def test_the_network_comes_back_when_passt_is_killed(passt, whose):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        p = passt.popen("-d", "deb", "--", "sleep 1000")
        assert passt.sh(http_get(HOST, port, "/before")) == "from the host: /before\n"
        old = passts(passt)
        assert len(old) == 1
        os.kill(old[0] if whose == "passt" else processes(passt, "wslx-netd")[0], signal.SIGKILL)
        wait_for("another one", lambda: passts(passt) not in ([], old))
        wait_for("the network", lambda: "after" in passt.sh(f"timeout 5 bash -c \"{http_get(HOST, port, '/after')}\" || true"), 30)
        # The one before does not linger.
        wait_for("its end", lambda: not alive(old[0]), 20)
        assert p.poll() is None
        p.kill()
        p.wait(60)
    if whose == "passt":
        assert any("passt has ended" in text for _, text in passt.logs())


def test_name_servers(fresh):
    conf = fresh.tmp / "resolv.conf"
    with serving(Udp("192.0.2.1")) as one, serving(Udp("192.0.2.2")) as two:
        conf.write_text(f"nameserver 127.0.0.1#{one}\n")
        fresh.configure(wslx_resolvConf=conf, wslx_networkBackend="passt")
        assert fresh.sh("getent ahostsv4 www.example.test | head -n1").split()[0] == "192.0.2.1"
        p = fresh.popen("-d", "deb", "--", "sleep 1000")
        temp = fresh.tmp / "resolv.new"
        temp.write_text(f"nameserver 127.0.0.1#{two}\n")
        temp.rename(conf)
        wait_for("the new resolver", lambda: "192.0.2.2" in fresh.sh("getent ahostsv4 www.example.test || true"))
        ended = passts(fresh)
        fresh.ok("--shutdown")
        p.wait(60)
        # It ends with its machine.
        wait_for("its end", lambda: not any(map(alive, ended)), 20)


def test_passt_that_is_not_installed_is_a_clear_error(fresh):
    fresh.configure(wslx_networkBackend="passt")
    # The service that runs has a path of its own.
    fresh.kill(fresh.service_pid())
    fresh.env["PATH"] = str(fresh.tmp)
    fresh.fails(125, "-d", "deb", "--", "true", says=["passt is not installed", "networkBackend=slirp"])
