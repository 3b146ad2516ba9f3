# SPDX-License-Identifier: MIT
"""virtio devices under a stock Linux kernel: console, entropy, vsock, balloon."""
import os
import socket
import threading
import time

import pytest

from conftest import LIMIT, GuestError, Machine, Refused


def echo(machine, size, port=7):
    """Sends random bytes and half-closes; are they what comes back?"""
    data = os.urandom(size)
    s = machine.connect(port)

    def send():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)

    t = threading.Thread(target=send)
    t.start()
    got = bytearray()
    while part := s.recv(1 << 20):
        got += part
    t.join()
    s.close()
    return bytes(got) == data


def open_files(machine):
    return len(os.listdir(f"/proc/{machine.process.pid}/fd"))


def eventually(check):
    end = time.monotonic() + LIMIT
    while not check() and time.monotonic() < end:
        time.sleep(0.1)
    return check()


def test_console_output_is_whole(machine):
    answer = machine.order("bytes 60000")  # what is kept for a client that is slow to read is 64 KiB
    assert answer[0] == "60000"
    assert answer[1] == "." * 60000


def test_console_passes_to_the_next_client(machine):
    before, lines = machine.console, machine.lines
    machine.attach()
    # What was kept comes first: up to the last answer's end.
    machine.console.sendall(b"bytes 7\n")
    while (line := machine.lines.readline()) != b".......\n":
        assert line
    assert machine.lines.readline() == b".\n"
    assert lines.read() == b""  # the one before is closed
    before.close()
    # And again at once, with the old one gone by itself.
    for _ in range(20):
        machine.lines.close()
        machine.console.close()
        machine.attach()
        machine.console.sendall(b"bytes 3\n")
        while (line := machine.lines.readline()) != b".\n":
            assert line
    time.sleep(0.1)
    machine.lines.close()
    machine.console.close()
    machine.attach()
    machine.console.sendall(b"mem\n")
    while not (line := machine.lines.readline()).startswith(b"MemFree"):
        assert line
    assert machine.lines.readline() == b".\n"


def test_entropy_comes_from_the_host(machine):
    device, a = machine.order("hwrng 64")
    _, b = machine.order("hwrng 64")
    assert device.startswith("virtio_rng")
    assert len(a) == 128 and len(b) == 128 and a != b


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1 << 20, 64 << 20])
def test_stream_comes_back_intact(machine, size):
    assert echo(machine, size)


def test_many_streams_at_once(machine):
    results = []
    threads = [threading.Thread(target=lambda: results.append(echo(machine, 300000))) for _ in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [True] * 40


def test_half_closed_sender_gets_its_answer(machine):
    s = machine.connect(8)
    s.sendall(b"x" * 5000000)
    s.shutdown(socket.SHUT_WR)
    assert s.makefile("rb").read() == b"done\n"


def test_guest_that_stops_reading_loses_nothing(machine):
    s = machine.connect(9)
    s.sendall(b"20000000\n")
    time.sleep(1)  # everything on the way fills up
    got = s.makefile("rb").read()
    assert len(got) == 20000000
    block = bytes(i * 7 & 255 for i in range(65536))
    assert got == (block * 306)[:20000000]


def test_host_that_leaves_is_noticed_by_the_guest(machine):
    s = machine.connect(9)
    s.sendall(b"1000000000\n")
    assert s.recv(1000)
    s.close()
    assert echo(machine, 1000)


def test_refused_port(machine):
    with pytest.raises(Refused):
        machine.connect(12345)


def test_connections_leave_nothing_behind(machine):
    machine.connect(7).close()
    assert eventually(lambda: True)
    before = open_files(machine)
    for i in range(300):
        s = machine.connect(7 + i % 2)
        if i % 3:
            s.sendall(b"hello")
        if i % 5 == 0:
            s.shutdown(socket.SHUT_WR)
            s.makefile("rb").read()
        s.close()
    assert eventually(lambda: open_files(machine) <= before)


def test_guest_dials_the_host(machine):
    path = machine.path("v_5000")
    with socket.socket(socket.AF_UNIX) as l:
        l.bind(path)
        l.listen(4)
        l.settimeout(LIMIT)
        machine.order("dial 5000")
        s, _ = l.accept()
        s.settimeout(LIMIT)
        s.sendall(b"hello")
        s.shutdown(socket.SHUT_WR)
        assert s.makefile("rb").read() == b"hello"
        s.close()
    with pytest.raises(GuestError, match="reset"):
        machine.order("dial 5001")


def test_memory_that_the_guest_frees_comes_back(machine):
    before = machine.guest_memory()
    machine.order("touch 100")
    # Reported some seconds later, in blocks of 2 MiB or more.
    assert eventually(lambda: machine.guest_memory() < before + 30000)


def test_balloon(machine):
    machine.order("touch 100")
    free = int(machine.order("mem")[1].split()[1])
    machine.control("balloon", mib=80)
    assert eventually(lambda: machine.control("status")["balloon_mib"] == 80)
    assert int(machine.order("mem")[1].split()[1]) < free - 70000
    assert machine.guest_memory() < 256 * 1024 - 70000
    machine.control("balloon", mib=0)
    assert eventually(lambda: machine.control("status")["balloon_mib"] == 0)
    machine.order("touch 100")  # what came back can be used
    assert echo(machine, 1 << 20)


def test_pause_in_the_middle_of_a_stream(machine):
    s = machine.connect(9)
    s.sendall(b"30000000\n")
    got = s.recv(100000)
    machine.control("pause")
    time.sleep(0.2)
    machine.control("resume")
    got += s.makefile("rb").read()
    assert len(got) == 30000000


@pytest.mark.parametrize("driver", ["virtio_rng", "virtio_balloon", "vmw_vsock_virtio_transport"])
def test_reset_in_the_middle_of_traffic(machine, driver):
    before = open_files(machine)
    for _ in range(5):
        streams = [machine.connect(9) for _ in range(4)]
        for s in streams:
            s.sendall(b"1000000000\n")
            s.recv(1000)
        machine.order("rebind " + driver)
        for s in streams:
            if driver.startswith("vmw"):
                while s.recv(1 << 20):  # ends, before all has come
                    pass
            s.close()
        assert echo(machine, 100000)
    assert len(machine.order("hwrng 16")[1]) == 32
    assert eventually(lambda: open_files(machine) <= before)


def test_saved_in_the_middle_of_traffic_and_restored(machine, tmp_path):
    saved = str(tmp_path / "saved")
    s = machine.connect(9)
    s.sendall(b"300000000\n")
    got = len(s.recv(100000))
    machine.control("pause")
    with open(saved, "wb") as f:
        machine.control("save", fd=f.fileno())
    # The one that was saved goes on as if nothing had been.
    machine.control("resume")
    while part := s.recv(1 << 20):
        got += len(part)
    assert got == 300000000
    assert echo(machine, 100000)
    copy = Machine(tmp_path, restore=saved)
    try:
        # Its streams ended at sockets that are not here; all else works.
        assert echo(copy, 1 << 20)
        assert copy.order("bytes 5") == ["5", "....."]
        assert len(copy.order("hwrng 16")[1]) == 32
        copy.order("touch 50")
        copy.control("balloon", mib=10)
        assert eventually(lambda: copy.control("status")["balloon_mib"] == 10)
    finally:
        copy.stop()


def test_poweroff(machine):
    machine.console.sendall(b"off\n")
    assert machine.process.wait(LIMIT) == 0
