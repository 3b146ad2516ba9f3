# SPDX-License-Identifier: MIT
"""On a terminal: the program gets one of its own, with size, control keys and job control."""
import fcntl
import struct
import termios

import pexpect
import pytest
from conftest import SCALE


@pytest.fixture
def shell(wslx):
    """An interactive bash on a pty of 33 by 101."""
    p = pexpect.spawn(wslx.cmd()[0], ["-d", "deb", "-e", "bash", "--norc", "--noprofile"], env={**wslx.env, "TERM": "dumb"},
                      dimensions=(33, 101), timeout=20 * SCALE, encoding="utf-8", echo=False)
    p.delaybeforesend = 0.05
    p.expect(r"[$#] ")
    p.sendline("PS1='re''ady> '; bind 'set enable-bracketed-paste off' 2>/dev/null")
    p.expect("ready> ")
    yield p
    p.close(force=True)


def line(p, command, want):
    p.sendline(command)
    p.expect(want)
    p.expect("ready> ")


def test_it_is_a_terminal_with_our_size(shell):
    line(shell, "tty", "/dev/pts/[0-9]+")
    line(shell, "stty size", "33 101")
    line(shell, "echo T=$TERM", "T=dumb")


def test_resize(shell):
    shell.setwinsize(40, 120)
    line(shell, "sleep 0.3; stty size", "40 120")
    shell.setwinsize(24, 80)
    line(shell, "sleep 0.3; stty size", "24 80")


def sleeper(p, more=""):
    """A program in the foreground that has started for sure: keys typed before go to the shell."""
    p.sendline("sh -c 'echo run''ning; exec sleep 1000'" + more)
    p.expect("running\r\n")


def test_ctrl_c_interrupts_the_program_not_us(shell):
    sleeper(shell)
    shell.sendintr()
    shell.expect("ready> ")
    line(shell, "echo st''atus $?", "status 130")


def test_ctrl_z_and_job_control(shell):
    # It says so itself when it goes on: what fg prints it prints before the terminal is the job's, and a key then is the shell's.
    # It starts no other: a shell whose child is stopped between vfork and exec does not stop.
    shell.sendline("perl -e '$|=1; $SIG{CONT}=sub{print qq(goes on\\n)}; print qq(run), qq(ning\\n); sleep 1 while 1'")
    shell.expect("running\r\n")
    shell.sendcontrol("z")
    shell.expect("Stopped")
    shell.expect("ready> ")
    line(shell, "jobs", r"\[1\]\+? +Stopped +perl -e")
    shell.sendline("fg")
    shell.expect("goes on\r\n")
    shell.sendintr()
    shell.expect("ready> ")
    line(shell, "echo st''atus $?", "status 130")
    line(shell, "jobs; echo e''nd", "end")


def test_ctrl_d_ends_it_with_the_shells_status(shell):
    shell.sendline("(exit 9)")
    shell.expect("ready> ")
    shell.sendeof()
    shell.expect(pexpect.EOF)
    shell.wait()
    assert shell.exitstatus == 9


def test_much_output_arrives_in_order(shell):
    shell.sendline("seq 1 20000; echo e''nd")
    shell.expect("\n")
    text = ""
    while "end\r\n" not in text:
        shell.expect("(end)?\r\n")
        text += shell.before + shell.after
    numbers = [int(n) for n in text.split() if n.isdigit()]
    assert numbers == list(range(1, 20001))


def flags(fd):
    return termios.tcgetattr(fd)[:4]


def test_our_terminal_is_as_it_was_afterwards(wslx):
    """Run below a shell on the host, whose terminal must work again at the end."""
    p = pexpect.spawn("/bin/sh", [], env={**wslx.env, "PS1": "host> "}, timeout=20 * SCALE, encoding="utf-8")
    p.expect("host> ")
    before = flags(p.child_fd)
    for args, status in (("-d deb -e sh -c 'exit 3'", 3), ("-d deb -e sh -c 'kill -9 $$'", 137),
                         ("-d deb -e no-such-program", 127)):
        p.sendline(f"{wslx.cmd()[0]} {args}; echo status=$?")
        p.expect(rf"status={status}\r")
        p.expect("host> ")
        assert flags(p.child_fd) == before
    p.sendline("exit")
    p.close(force=True)


def test_standard_error_may_go_elsewhere(wslx, tmp_path):
    err = tmp_path / "err"
    p = pexpect.spawn("/bin/sh", ["-c", f"{wslx.cmd()[0]} -d deb -- 'echo out; echo err >&2; test -t 1 && ! test -t 2' "
                                  f"2>{err}; echo status=$?"], env=wslx.env, timeout=20 * SCALE, encoding="utf-8")
    p.expect("out\r\n")
    p.expect("status=0")
    p.close(force=True)
    assert err.read_text() == "err\n"


@pytest.mark.parametrize("tty_in", [True, False], ids=["terminal-in", "file-in"])
@pytest.mark.parametrize("tty_out", [True, False], ids=["terminal-out", "file-out"])
def test_a_terminal_only_when_input_and_output_are_one(wslx, tmp_path, tty_in, tty_out):
    """Else three pipes: the bytes pass unchanged, and our own terminal is not made raw."""
    (tmp_path / "in").write_bytes(b"x\n\x03\x04\xff\n")
    (tmp_path / "script").write_text("for i in 0 1 2; do test -t $i; printf $?; done; test ! -t 0 || stty size; "
                                     "test -t 0 || head -c 6 | od -An -tx1; echo end")
    redirect = ("" if tty_in else f" <{tmp_path}/in") + ("" if tty_out else f" >{tmp_path}/out")
    p = pexpect.spawn("/bin/sh", ["-c", f'{wslx.cmd()[0]} -d deb -e sh -c "$(cat {tmp_path}/script)"{redirect}; echo sta""tus=$?'],
                      env=wslx.env, dimensions=(31, 99), timeout=20 * SCALE, encoding="utf-8", echo=True)
    before = flags(p.child_fd)
    if tty_in and not tty_out:
        p.sendline("typed")  # echoed and passed on as a line by our own terminal, which is as it was
        p.expect("typed\r\n")
        assert flags(p.child_fd) == before
    p.expect("status=0")
    assert flags(p.child_fd) == before
    got = p.before if tty_out else (tmp_path / "out").read_text()
    p.close(force=True)
    if tty_in and tty_out:
        assert "000" in got and "31 99" in got
    else:
        assert "111" in got
        assert ("74 79 70 65 64 0a" if tty_in else "78 0a 03 04 ff 0a") in got
    assert "end" in got


def test_a_login_shell_when_no_command_is_given(wslx):
    p = pexpect.spawn(wslx.cmd()[0], ["-d", "deb"], env=wslx.env, timeout=20 * SCALE, encoding="utf-8")
    p.delaybeforesend = 0.05
    p.expect(r"[$#] ")
    p.sendline("echo m''ark; exit 4")
    p.expect("mark\r\n")
    p.expect(pexpect.EOF)
    p.wait()
    assert p.exitstatus == 4


def test_resize_reaches_a_full_screen_program(wslx):
    p = pexpect.spawn(wslx.cmd()[0], ["-d", "deb", "-e", "bash", "-c",
                                      "trap 'stty size; exit' WINCH; echo go; while :; do sleep 0.1; done"],
                      env=wslx.env, dimensions=(20, 70), timeout=20 * SCALE, encoding="utf-8")
    p.expect("go\r\n")
    fcntl.ioctl(p.child_fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 150, 0, 0))
    p.expect("50 150")
    p.close(force=True)
