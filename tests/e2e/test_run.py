# SPDX-License-Identifier: MIT
"""Running commands: exit statuses, streams, many at once."""
import hashlib
import os
import signal
import subprocess
import threading
import time

import pytest
from conftest import FAKE, SCALE, real_only, wait_for


@real_only
def test_shell_type(wslx):
    for kind, shell in (("standard", "bash"), ("login", "-bash")):
        assert wslx.ok("-d", "deb", "--shell-type", kind, "--", "echo $0") == f"{shell}\n"
    assert wslx.ok("-d", "deb", "--shell-type", "none", "--", "echo", "$0") == "$0\n"


def test_exit_status_is_the_programs_own(wslx):
    for status in (0, 1, 7, 255):
        assert wslx.run("-d", "deb", "--", "sh", "-c", f"exit {status}").returncode == status


def test_death_by_signal_is_128_plus_it(wslx):
    assert wslx.run("-d", "deb", "-e", "sh", "-c", "kill -KILL $$").returncode == 137
    assert wslx.run("-d", "deb", "-e", "sh", "-c", "kill -TERM $$").returncode == 143
    assert wslx.run("-d", "deb", "-e", "sh", "-c", "kill -SEGV $$").returncode == 139


def test_words_stay_words_and_one_word_is_a_script(wslx):
    assert wslx.ok("-d", "deb", "--", "printf", "<%s>", "a b", "", "$HOME", "it's", "*") == "<a b><><$HOME><it's><*>"
    assert wslx.ok("-d", "deb", "--", "echo one; echo two | tr o 0") == "one\ntw0\n"
    assert wslx.ok("-d", "deb", "-e", "printf", "<%s>", "a;b", "$X") == "<a;b><$X>"


def test_not_found_and_not_executable(wslx):
    wslx.fails(127, "-d", "deb", "-e", "no-such-program", says="no-such-program")
    wslx.fails(126, "-d", "deb", "-e", "/etc", says="/etc")
    assert wslx.run("-d", "deb", "--", "no-such-program").returncode == 127  # says the shell


def test_streams_stay_apart(wslx):
    p = wslx.run("-d", "deb", "--", "echo out; echo err >&2; echo out2")
    assert (p.stdout, p.stderr) == ("out\nout2\n", "err\n")


def test_streams_are_no_terminal(wslx):
    script = "for fd in 0 1 2; do [ -t $fd ] && echo tty $fd; done; echo done"
    assert wslx.sh(script) == "done\n"


def test_every_byte_value_comes_back(wslx):
    data = bytes(range(256)) * 40
    assert wslx.run("-d", "deb", "-e", "cat", input=data, text=False).stdout == data


def test_end_of_input_is_seen(wslx):
    assert wslx.ok("-d", "deb", "-e", "wc", "-c", input="12345").strip() == "5"
    assert wslx.ok("-d", "deb", "-e", "wc", "-c").strip() == "0"


@pytest.mark.parametrize("mib", [4, 256])
def test_random_bytes_come_back_whole(wslx, mib):
    """There and back at once, which needs back-pressure in both directions."""
    p = wslx.popen("-d", "deb", "-e", "cat", stdin=subprocess.PIPE)
    sent, received = hashlib.sha256(), hashlib.sha256()

    def feed():
        for _ in range(mib):
            chunk = os.urandom(1 << 20)
            sent.update(chunk)
            p.stdin.write(chunk)
        p.stdin.close()
    t = threading.Thread(target=feed)
    t.start()
    total = 0
    while chunk := p.stdout.read(1 << 20):
        received.update(chunk)
        total += len(chunk)
    t.join()
    assert p.wait(30 * SCALE) == 0
    assert total == mib << 20
    assert sent.hexdigest() == received.hexdigest()


def test_a_slow_reader_holds_up_the_program_and_loses_nothing(wslx):
    p = wslx.popen("-d", "deb", "--", "yes 0123456789abcde | head -c 8000000; echo done >&2")
    time.sleep(0.5)
    assert p.poll() is None
    out, err = p.communicate(timeout=60 * SCALE)
    assert len(out) == 8000000 and out == b"0123456789abcde\n" * 500000
    assert err == b"done\n" and p.returncode == 0


def test_one_blocked_stream_does_not_block_the_other(wslx):
    """Standard output is full and unread; what comes on standard error arrives all the same."""
    p = wslx.popen("-d", "deb", "--", "(sleep 0.5; echo here >&2) & head -c 64000000 /dev/zero; wait")
    assert p.stderr.readline() == b"here\n"
    assert len(p.stdout.read()) == 64000000
    assert p.wait(30 * SCALE) == 0


def test_a_reader_that_goes_away_ends_the_program(wslx):
    p = wslx.popen("-d", "deb", "-e", "yes")
    assert p.stdout.readline() == b"y\n"
    p.stdout.close()
    assert p.wait(20 * SCALE) == 128 + signal.SIGPIPE


def test_32_at_once(wslx):
    ps = [wslx.popen("-d", "deb", "--", f"echo out {i}; sleep 0.2; echo err {i} >&2; exit {i}") for i in range(32)]
    for i, p in enumerate(ps):
        out, err = p.communicate(timeout=60 * SCALE)
        assert (p.returncode, out, err) == (i, b"out %d\n" % i, b"err %d\n" % i)


def test_signals_are_passed_on(wslx):
    p = wslx.popen("-d", "deb", "--", "trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGINT)
    assert p.stdout.read() == b"got\n"
    assert p.wait(10 * SCALE) == 5
    p = wslx.popen("-d", "deb", "-e", "sleep", "1000")
    time.sleep(1 if FAKE else 3)
    p.send_signal(signal.SIGTERM)
    assert p.wait(10 * SCALE) == 143


def test_background_programs_do_not_hold_up_the_end(wslx):
    t = time.monotonic()
    assert wslx.sh("sleep 60 & echo started") == "started\n"
    assert time.monotonic() - t < 30


def test_user_and_directory(wslx):
    assert wslx.ok("-d", "deb", "-u", "root", "--", "id", "-u") == "0\n"
    assert wslx.ok("-d", "deb", "--cd", "/etc", "--", "pwd") == "/etc\n"
    wslx.fails(125, "-d", "deb", "-u", "nobody-here", "--", "true", says="nobody-here")
    wslx.fails(125, "-d", "deb", "--cd", "/no/such/dir", "--", "true", says="/no/such/dir")
    wslx.fails(125, "-d", "deb", "--cd", "relative", "--", "true", says="relative")


def test_environment(wslx):
    out = wslx.sh("env", env={"LC_TIME": "C", "COLORTERM": "truecolor", "SECRET": "x", "TERM": "xterm"})
    env = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert env["WSL_DISTRO_NAME"] == "deb"
    assert env["LANG"] == "C.UTF-8" and env["LC_TIME"] == "C" and env["COLORTERM"] == "truecolor"
    assert "SECRET" not in env


def test_a_long_command_line(wslx):
    words = ["x" * 1000] * 100
    assert wslx.ok("-d", "deb", "-e", "echo", *words) == " ".join(words) + "\n"
    wslx.fails(125, "-d", "deb", "-e", "echo", *["x" * 100000] * 3, says="too long")


def test_a_client_that_dies_takes_its_program_along(wslx):
    p = wslx.popen("-d", "deb", "--", "echo $$; exec sleep 1000")
    pid = p.stdout.readline().decode().strip()
    p.kill()
    p.wait()
    wait_for("the program to end",
             lambda: wslx.sh(f"kill -0 {pid} 2>/dev/null && echo alive || echo gone") == "gone\n", 20)


def test_a_client_that_dies_while_sending(wslx):
    for _ in range(5):
        p = wslx.popen("-d", "deb", "-e", "cat", stdin=subprocess.PIPE)
        p.stdin.write(b"x" * 100000)
        p.kill()
        p.wait()
        p.stdin.close()
    assert wslx.sh("echo fine") == "fine\n"


@real_only
def test_it_is_a_machine_of_its_own(wslx):
    with open("/proc/sys/kernel/random/boot_id") as f:
        assert wslx.sh("cat /proc/sys/kernel/random/boot_id") != f.read()
    assert wslx.sh("cat /proc/1/comm").strip() == "wslx-init"
    assert "ext4" in wslx.sh("grep ' / ' /proc/mounts")
