# SPDX-License-Identifier: MIT
"""Forwarded ports, of a guest that says what a real one never would."""
import json
import os
import pathlib
import signal
import socket

import pytest

from conftest import fake_only, wait_for

ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def said(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
            return s.makefile().readline().strip()
    except OSError:
        return ""


def forwarders(folder):
    """The processes whose machine is in this folder."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            line = (p / "cmdline").read_bytes().split(b"\0") if p.name.isdigit() else [b""]
        except OSError:
            continue
        if line[0].endswith(b"/wslx-forward") and str(folder).encode() in b" ".join(line):
            found.append(int(p.name))
    return found


@pytest.fixture
def guest(fresh):
    path = fresh.tmp / "listeners"
    path.write_bytes(b"")
    fresh.env["FAKE_LISTENERS"] = str(path)

    def listen(*lines):
        new = fresh.tmp / "listeners.new"
        new.write_bytes(b"".join(x + b"\n" for x in lines))
        os.rename(new, path)
    fresh.listen = listen
    fresh.kill(fresh.service_pid())  # the next one has this environment
    fresh.configure(general_instanceIdleTimeout=-1)
    fresh.ok("-d", "deb", "--", "true")
    return fresh


def leads_to(port, text):
    wait_for(text, lambda: said(port) == text)


@fake_only
def test_a_listener_that_is_no_text_does_not_stop_the_others(guest):
    one, two = free_port(), free_port()
    guest.listen(f"tcp 127.0.0.1 {one}".encode())
    leads_to(one, f"tcp 127.0.0.1 {one}")
    before = forwarders(guest.tmp)
    guest.listen(f"tcp 127.0.0.1 {one}".encode(), b"tcp 127.0.0.1 9 \xff\xfe", b"tcp 127.0.0.1 10 \x01", b"tcp 127.0.0.1 11 a b",
                 f"tcp 127.0.0.1 {two} {ONE}".encode())
    leads_to(two, f"tcp 127.0.0.1 {two} {ONE}")
    assert said(one) and forwarders(guest.tmp) == before and len(before) == 1
    listed = {x["listen"] for x in json.loads(guest.ok("port", "list", "--json"))}
    assert listed == {f"tcp 127.0.0.1 {one}", f"tcp 127.0.0.1 {two}"}


@fake_only
def test_a_port_follows_to_the_distribution_that_still_listens(guest):
    port = free_port()
    guest.listen(*(f"tcp 127.0.0.1 {port} {x}".encode() for x in (ONE, TWO)))
    leads_to(port, f"tcp 127.0.0.1 {port} {ONE}")
    guest.listen(f"tcp 127.0.0.1 {port} {TWO}".encode())
    leads_to(port, f"tcp 127.0.0.1 {port} {TWO}")


@fake_only
def test_a_guest_with_all_ports_leaves_some_to_the_user(guest):
    base = 20000
    guest.listen(*(f"udp 127.0.0.1 {base + i}".encode() for i in range(1200)))
    wait_for("the guest's share", lambda: len(json.loads(guest.ok("port", "list", "--json"))) == 1024)
    port = free_port()
    guest.ok("port", "add", f"{port}:80")
    wait_for("the port", lambda: said(port).startswith("tcp "))


def listed(guest):
    return {x["listen"]: x for x in json.loads(guest.ok("port", "list", "--json"))}


def listen_in_vain(guest, other):
    """The guest listens at the port that another program of the host's has: the port, and how it is listed."""
    port = other.getsockname()[1]
    text = f"tcp 127.0.0.1 {port}"
    guest.listen(text.encode())
    wait_for("the error", lambda: "error" in listed(guest).get(text, {}))
    return port, text


@fake_only
def test_what_the_user_did_not_get_is_the_guests_again(guest):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port, text = listen_in_vain(guest, other)
        assert guest.run("port", "add", f"{port}:80").returncode != 0
        assert listed(guest)[text]["added"] is False
        guest.listen()
        wait_for("no port", lambda: not listed(guest))
    guest.listen(text.encode())
    leads_to(port, text)


@fake_only
def test_a_listener_that_goes_while_its_port_is_tried_again_takes_it_along(guest):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port, text = listen_in_vain(guest, other)
        pid, = forwarders(guest.tmp)
        os.kill(pid, signal.SIGSTOP)
    try:
        guest.listen(f"tcp 0.0.0.0 {port}".encode())
        wait_for("the other listener", lambda: listed(guest)[text]["to"] == f"tcp 0.0.0.0 {port}")
        guest.listen()
        wait_for("no port", lambda: not listed(guest))
    finally:
        os.kill(pid, signal.SIGCONT)
    # Its calls are done in order: one more has been answered after all of these.
    last = free_port()
    guest.ok("port", "add", f"{last}:80")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10).close()


@fake_only
def test_a_port_that_another_program_gives_up_is_forwarded(guest):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port, text = listen_in_vain(guest, other)
    leads_to(port, text)
    assert "error" not in listed(guest)[text]
