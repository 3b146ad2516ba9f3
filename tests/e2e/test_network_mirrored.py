# SPDX-License-Identifier: MIT
"""networkingMode=mirrored: the host's services at the guest's localhost, the guest's at all of the host's addresses."""
import signal
import socket
import socketserver

import pytest

from conftest import real_only, wait_for
from test_network import HOST, Web, Web4, Web6, answer, free_port, http_get, listen_in_guest, read_all, refused, serving

pytestmark = real_only


@pytest.fixture(scope="module", name="mirrored")
def mirrored_fixture(wslx):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        wslx.ignored = s.getsockname()[1]
        wslx.configure(wsl2_networkingMode="mirrored", experimental_ignoredPorts=f"{free_port()},{wslx.ignored}")
        yield wslx
        wslx.ok("--shutdown", "--force")


def nobody(w, host, port):
    return w.sh(f"timeout 20 bash -c '</dev/tcp/{host}/{port}' 2>/dev/null || echo nobody") == "nobody\n"


def test_the_hosts_services_are_at_the_guests_localhost(mirrored):
    assert mirrored.sh("wslinfo --networking-mode -n") == "mirrored"
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        assert mirrored.sh(http_get("127.0.0.1", port, "/four")) == "from the host: /four\n"
        assert mirrored.sh(http_get("localhost", port, "/name")) == "from the host: /name\n"
        assert mirrored.sh(http_get("::ffff:127.0.0.1", port, "/mapped")) == "from the host: /mapped\n"
        # and, as ever
        assert mirrored.sh(http_get("host.wslx.internal", port, "/name")) == "from the host: /name\n"
    with serving(Web6(("::1", 0), Web)) as port:
        assert mirrored.sh(http_get("::1", port, "/six")) == "from the host: /six\n"
    assert nobody(mirrored, "127.0.0.1", free_port())
    assert nobody(mirrored, "::1", free_port())


def test_the_guests_own_services_come_first(mirrored):
    with serving(Web4(("127.0.0.1", 0), Web)) as port:
        for bound in "127.0.0.1", "0.0.0.0":
            p = mirrored.popen("-d", "deb", "--", f"perl -e '{listen_in_guest(bound, port, 'the guest')}'")
            assert p.stdout.readline() == b"up\n"
            assert mirrored.sh(f"cat </dev/tcp/127.0.0.1/{port}") == "the guest\n"
            p.send_signal(signal.SIGTERM)
            p.wait(60)
        assert mirrored.sh(http_get("127.0.0.1", port, "/again")) == "from the host: /again\n"


def test_datagrams_to_the_hosts_localhost(mirrored):
    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(b"the host heard " + self.request[0], self.client_address)

    with serving(socketserver.ThreadingUDPServer(("127.0.0.1", 0), Echo)) as port:
        assert mirrored.sh(f"exec 3<>/dev/udp/127.0.0.1/{port} && printf hello >&3 && timeout 20 head -c 20 <&3") == "the host heard hello"


@pytest.mark.parametrize("family, bound, to, comes_from", [
    ("INET", "127.0.0.1", "127.0.0.1", "127.0.0.1"), ("INET", "127.0.0.1", HOST, HOST), ("INET6", "127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ("INET6", "::1", "::1", "::1")])
def test_datagrams_without_a_connection_to_the_hosts_localhost(mirrored, family, bound, to, comes_from):
    """What answers has the address that was asked."""
    class Server(socketserver.ThreadingUDPServer):
        address_family = socket.AF_INET6 if ":" in bound else socket.AF_INET

    class Echo(socketserver.BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(b"heard " + self.request[0], self.client_address)

    with serving(Server((bound, 0), Echo)) as port:
        address = f"Socket::pack_sockaddr_in{family[4:]}({port}, Socket::inet_pton(AF_{family}, \"{to}\"))"
        script = (f"use Socket qw(:all); socket(my $s, PF_{family}, SOCK_DGRAM, 0) or die; alarm 30; "
                  f"for (1..2) {{ send($s, \"it\", 0, {address}) or die \"send: $!\"; my $from = recv($s, my $m, 100, 0) // die; "
                  f"print $m, \" \", inet_ntop(AF_{family}, (unpack_sockaddr_in{family[4:]}($from))[1]), \"\\n\" }}")
        assert mirrored.sh(f"perl -e '{script}'", timeout=60).splitlines() == [f"heard it {comes_from}"] * 2


def test_ignored_ports_are_the_guests_alone(mirrored):
    assert nobody(mirrored, "127.0.0.1", mirrored.ignored)


def test_the_guests_services_are_at_all_addresses_of_the_host(mirrored):
    port = free_port()
    p = mirrored.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('0.0.0.0', port, 'everywhere')}'")
    wait_for("the listener", lambda: answer("127.0.0.1", port) == "everywhere\n" if not refused("127.0.0.1", port) else False)
    assert read_all("127.0.0.2", port) == "everywhere\n"
    assert f"0.0.0.0:{port}" in mirrored.ok("port", "list")
    p.send_signal(signal.SIGTERM)
    p.wait(60)
    wait_for("its end", lambda: refused("127.0.0.1", port))
    # who listens at localhost alone is there alone
    port = free_port()
    p = mirrored.popen("-d", "deb", "--", f"perl -e '{listen_in_guest('127.0.0.1', port, 'here')}'")
    wait_for("the listener", lambda: answer("127.0.0.1", port) == "here\n" if not refused("127.0.0.1", port) else False)
    assert refused("127.0.0.2", port)
    p.send_signal(signal.SIGTERM)
    p.wait(60)
