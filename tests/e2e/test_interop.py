# SPDX-License-Identifier: MIT
"""Programs of the host, run from a distribution: wslx-run, names on the search path, WSLENV; wslpath and wslinfo."""
import hashlib
import os
import re
import signal

import pexpect
import pytest
from conftest import SCALE, alive, end, imported, real_only, wait_for, world

pytestmark = real_only
LAB = "WSLX_LAB" in os.environ
many_boots = pytest.mark.skipif(LAB, reason="many boots, and the same on every engine: done on the software CPU")

TOOL = """#!/bin/sh
printf '<%s>' "$0" "$@"
echo "host=$(cat "$HOME/mark")"
"""


def make(**keys):
    """A world whose host has a program of its own, host-tool, and a file that tells host from guest, ~/mark."""
    w = world()
    try:
        (w.tmp / "bin").mkdir()
        (w.tmp / "bin/host-tool").write_text(TOOL)
        (w.tmp / "bin/host-tool").chmod(0o755)
        (w.tmp / "bin/uname").write_text("#!/bin/sh\necho the host's\n")
        (w.tmp / "bin/uname").chmod(0o755)
        (w.home / "mark").write_text(w.tmp.name)
        w.env["PATH"] = f"{w.tmp}/bin:" + w.env["PATH"]
        imported(w)
        w.configure(**keys)
        return w
    except BaseException:
        end(w, True)
        raise


@pytest.fixture(scope="module")
def host(request):
    w = make(interop_enabled="true")
    w.sh("printf '[interop]\\nappendHostPath=true\\n' >/etc/wsl.conf")
    w.ok("--terminate", "deb", timeout=60)
    yield w
    end(w, getattr(request.session, "wslx_failed", False))


@pytest.fixture
def other(request):
    """Made by calling it with keys of wslx.conf."""
    made = []

    def new(**keys):
        made.append(make(**keys))
        return made[-1]
    yield new
    for w in made:
        end(w, getattr(request.session, "wslx_failed", False))


def interop_pids(w):
    """The processes that run programs for this world's distributions."""
    pids = []
    for d in os.listdir("/proc"):
        try:
            with open(f"/proc/{d}/cmdline", "rb") as f, open(f"/proc/{d}/environ", "rb") as e:
                if b"/wslx-interop\0" in f.read() and f"{w.run_dir}".encode() in e.read():
                    pids.append(int(d))
        except OSError:
            pass
    return [p for p in pids if alive(p)]


def test_exit_status_and_signals(host):
    script = 'wslx-run sh -c "$1" 2>/dev/null; echo $?'
    for command, status in (("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)):
        assert host.ok("-d", "deb", "-e", "sh", "-c", script, "x", command) == f"{status}\n"
    p = host.run("-d", "deb", "-e", "wslx-run", "no-such-program")
    assert p.returncode == 127 and "wslx-run: run no-such-program on the host: " in p.stderr
    assert host.run("-d", "deb", "-e", "wslx-run", "/etc").returncode == 126


def test_it_is_the_host(host):
    assert host.sh("wslx-run sh -c 'cat $HOME/mark'") == host.tmp.name
    assert host.sh("wslx-run sh -c 'id -u'") == f"{os.getuid()}\n"
    with open("/proc/sys/kernel/random/boot_id") as f:
        assert host.sh("wslx-run cat /proc/sys/kernel/random/boot_id") == f.read()


def test_streams_stay_apart(host):
    p = host.run("-d", "deb", "--", "echo in | wslx-run sh -c 'cat; echo out; echo err >&2' 2>/tmp/err; grep -v warning /tmp/err >&2")
    assert (p.stdout, p.stderr) == ("in\nout\n", "err\n")
    script = "wslx-run sh -c 'for fd in 0 1 2; do [ -t $fd ] && echo tty $fd; done; echo done'"
    assert host.sh(script) == "done\n"


def test_many_bytes_there_and_back(host):
    there, mib = host.tmp / "there", 16 if LAB else 64
    out = host.sh(f"head -c {mib}M /dev/urandom >/tmp/r; sha256sum </tmp/r; wslx-run tee {there} </tmp/r | sha256sum; rm /tmp/r",
                  timeout=120)
    sums = re.findall("[0-9a-f]{64}", out)
    with open(there, "rb") as f:
        assert sums == [hashlib.sha256(f.read()).hexdigest()] * 2
    assert there.stat().st_size == mib << 20
    there.unlink()


def test_working_directory(host):
    here = host.tmp / "a folder"
    here.mkdir(exist_ok=True)
    assert host.sh(f"mkdir -p '/mnt/host{here}' && cd '/mnt/host{here}' && wslx-run pwd") == f"{here}\n"
    # A folder that the host does not see: home, and a word about it.
    p = host.run("-d", "deb", "--cd", "/etc", "-e", "wslx-run", "pwd")
    assert p.stdout == f"{host.home}\n"
    assert p.stderr.startswith("wslx-run: warning: directory ") and "/mnt/deb/etc" in p.stderr


def test_wslenv_to_the_host(host):
    root = host.run_dir / "wslx/mnt/deb"
    out = host.sh("export A=/etc/x B=/mnt/host/home C='a b' D=no L=/mnt/host/a:/etc E=e F=f; "
                  "export WSLENV=A/p:B/p:C:D/u:L/l:E/x:UNSET:F/w; wslx-run env")
    env = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert env["A"] == f"{root}/etc/x" and env["B"] == "/home" and env["C"] == "a b" and env["F"] == "f"
    assert env["L"] == f"/a:{root}/etc" and env["WSLENV"].startswith("A/p:")
    assert not {"D", "E", "UNSET"} & env.keys()
    assert env["HOME"] == str(host.home) and "WSL_DISTRO_NAME" not in env


def test_wslenv_from_the_host(host):
    names = {"A": "/etc/x", "L": f"/a:{host.run_dir}/wslx/mnt/deb/b", "U": "u", "W": "w", "X": "x", "N": "n"}
    out = host.sh("env", env={**names, "WSLENV": "A/p:L/l:U/u:W/w:X/x"})
    env = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert env["A"] == "/mnt/host/etc/x" and env["L"] == "/mnt/host/a:/b" and env["U"] == "u"
    assert env["WSLENV"] == "A/p:L/l:U/u:W/w:X/x" and not {"W", "X", "N"} & env.keys()


def test_without_any_variable_and_as_anybody(host):
    """As in a cron job, in tmux, in a unit of systemd: nothing of the session is there."""
    assert host.sh("env -i wslx-run echo one 2>/dev/null; env -i setsid -w /run/wslx/host/echo two 2>/dev/null") == "one\ntwo\n"
    assert host.sh("cd /; su nobody -s /bin/sh -c 'wslx-run id -u' 2>/dev/null") == f"{os.getuid()}\n"


def test_by_its_name_alone(host):
    wait_for("the names of the host's programs", lambda: host.run("-d", "deb", "--", "command -v host-tool").returncode == 0)
    end = f"host={host.tmp.name}\n"
    assert host.sh("host-tool 'a b' '' '$x' 2>/dev/null") == f"<{host.tmp}/bin/host-tool><a b><><$x>{end}"
    assert host.sh("/run/wslx/host/host-tool 2>/dev/null") == f"<{host.tmp}/bin/host-tool>{end}"
    assert host.sh("cd /run/wslx/host; ./host-tool x 2>/dev/null") == f"<{host.tmp}/bin/host-tool><x>{end}"
    assert host.sh("uname") == "Linux\n"  # the distribution's own comes first
    assert host.sh("host-tool 2>/dev/null | cat; perl -e 'exit(system(\"host-tool >/dev/null 2>&1\") >> 8)'; echo $?") \
        == f"<{host.tmp}/bin/host-tool>{end}0\n"


def test_the_registration_cannot_be_flushed_by_accident(host):
    assert host.run("-d", "deb", "--", "echo -1 >/proc/sys/fs/binfmt_misc/status").returncode != 0
    assert host.sh("/run/wslx/host/host-tool 2>/dev/null")


def spawn(host, *command):
    p = pexpect.spawn(host.cmd()[0], ["-d", "deb", "-e", "wslx-run", *command], env={**host.env, "TERM": "dumb"},
                      dimensions=(33, 101), timeout=20 * SCALE, encoding="utf-8", echo=False)
    p.delaybeforesend = 0.05
    return p


def test_a_terminal_of_the_host(host):
    p = spawn(host, "bash", "--norc", "--noprofile")
    p.expect(r"[$#] ")
    p.sendline("PS1='re''ady> '; bind 'set enable-bracketed-paste off' 2>/dev/null")
    p.expect("ready> ")
    p.sendline("stty size; echo T=$TERM; cat ~/mark; echo")
    p.expect("33 101")
    p.expect("T=dumb")
    p.expect(host.tmp.name)
    p.sendline("sh -c 'echo run''ning; exec sleep 1000'")
    p.expect("running\r\n")
    p.sendintr()
    p.expect("ready> ")
    p.sendline("echo st''atus $?")
    p.expect("status 130")
    p.sendline("exit 9")
    p.expect(pexpect.EOF)
    p.wait()
    assert p.exitstatus == 9


def test_resize_reaches_the_hosts_program(host):
    p = spawn(host, "bash", "-c", "trap 'stty size; exit' WINCH; echo go; while :; do sleep 0.1; done")
    p.expect("go\r\n")
    p.setwinsize(50, 150)
    p.expect("50 150")
    p.close(force=True)


def test_a_program_ends_with_its_client(host):
    p = host.popen("-d", "deb", "--", "wslx-run sh -c 'echo $$; exec sleep 1000' & read x; kill -KILL $!; wait",
                   stdin=-1)
    pid = int(p.stdout.readline())
    assert alive(pid)
    p.stdin.close()
    wait_for("the host's program to end", lambda: not alive(pid))
    p.wait()


def test_signals_are_passed_on(host):
    p = host.popen("-d", "deb", "-e", "wslx-run", "sh", "-c",
                   "trap 'echo got; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    assert p.stdout.readline() == b"ready\n"
    p.send_signal(signal.SIGTERM)
    assert p.stdout.read() == b"got\n"
    assert p.wait(10 * SCALE) == 5


def test_wslpath(host):
    root = f"{host.run_dir}/wslx/mnt/deb"
    host.sh("ln -sfn /etc /tmp/link; mkdir -p /tmp/d")
    table = [("/home/me/x", "/mnt/host/home/me/x"), ("-u /a/", "/mnt/host/a/"), (f"-u {root}/etc/fstab", "/etc/fstab"),
             (r"'\\wsl.localhost\deb\etc\fstab'", "/etc/fstab"), (r"-u '\\wsl$\DEB\etc'", "/etc"), ("-u a/b", "a/b"),
             ("-ua a/b", "/tmp/a/b"), ("-w /etc/fstab", f"{root}/etc/fstab"), ("-w /etc/", f"{root}/etc/"),
             ("-w /no/such", f"{root}/no/such"), ("-w /tmp/link/fstab", f"{root}/etc/fstab"), ("-w d", "d"), ("-w .", "."),
             ("-wa d", f"{root}/tmp/d"), ("-w link", f"{root}/etc"), ("-m /etc", f"{root}/etc"), ("-w /mnt/host/x", "/x"),
             ("-w d/", "d/")]
    out = host.sh("cd /tmp; " + "; ".join(f"wslpath {args}" for args, _ in table))
    assert dict(zip([args for args, _ in table], out.splitlines())) == dict(table)
    for args, says in ((r"'C:\x'", r"wslpath: C:\x: Invalid argument"), (r"'\\wsl$\other\x'", "Invalid argument"),
                       ("''", "wslpath: : Invalid argument"), ("", "usage"), ("-x /", "usage"), ("a b", "usage")):
        p = host.run("-d", "deb", "--", f"wslpath {args}")
        assert p.returncode == 1 and says in p.stderr and not p.stdout, args
    assert host.sh("env -i wslpath -w /etc") == f"{root}/etc\n"
    # As the first process of a namespace it is what its name says, and not an init.
    assert host.sh("unshare --pid --fork wslpath /x; unshare --pid --fork wslpath; echo $?") == "/mnt/host/x\n1\n"


def test_wslinfo(host):
    vm = next(host.run_dir.glob("wslx/vm-*")).name.removeprefix("vm-")
    assert host.sh("wslinfo --networking-mode; wslinfo --vm-id") == f"nat\n{vm}\n"
    assert host.sh("wslinfo --vm-id -n; wslinfo -n --networking-mode") == f"{vm}nat"
    assert host.sh("wslinfo --version; wslinfo --wsl-version") == 2 * (host.sh("wslinfo --version -n") + "\n")
    assert host.sh("wslinfo --version -n") in host.ok("--version").split()
    assert host.sh("wslinfo --help").startswith("usage: ")
    for args, says in (("", "question"), ("--msal-proxy-path", "MSAL"), ("--nonsense", "--nonsense"),
                       ("--version --vm-id", "one question")):
        p = host.run("-d", "deb", "--", f"wslinfo {args}")
        assert p.returncode == 1 and says in p.stderr and not p.stdout, args


def test_wsl_is_not_pretended(host):
    assert "microsoft" not in host.sh("cat /proc/version /proc/sys/kernel/osrelease; env").lower()


# What a process of the guest can do that knows the protocol, but not the secret.
FLOOD = r"""use Socket;
my ($port, $n, $what) = @ARGV;
my %first = (none => "", junk => "GET / HTTP/1.1\r\n\r\n", exec => pack("LSSLL", 16, 48, 0, 1, 0),
    wrong => pack("LSSLL", 16 + 40 + 12, 80, 0, 0, 0) . pack("LSS", 32, 64, 0) . "x" x 32 . pack("LSSL", 4, 22, 0, 1));
my (@open, $refused);
for (1 .. $n) {
    socket(my $s, 40, SOCK_STREAM, 0) or die;
    if (connect($s, pack("SSLLx4", 40, 0, $port, 2))) {
        syswrite($s, $first{$what}) if $what ne "none";
        push @open, $s;
    } else { $refused++ }
}
my $closed = 0;
if ($what ne "none") { $closed += !sysread($_, my $b, 1) for @open }
printf "connected %d closed %d\n", scalar @open, $closed;
"""


def test_a_flood_of_bogus_connections(host):
    host.ok("-d", "deb", "-e", "sh", "-c", "cat >/tmp/flood.pl", input=FLOOD)
    pid = interop_pids(host)
    assert len(pid) == 1
    assert host.sh("perl /tmp/flood.pl 50100 200 none; wslx-run echo fine 2>/dev/null") == "connected 200 closed 0\nfine\n"
    for what in ("junk", "exec", "wrong"):
        assert host.sh(f"perl /tmp/flood.pl 50100 20 {what}") == "connected 20 closed 20\n"
    assert host.sh("(perl /tmp/flood.pl 50100 200 none; sleep 1000) >/dev/null & for i in 1 2 3 4 5; do "
                   "wslx-run echo $i 2>/dev/null; done; kill $!") == "1\n2\n3\n4\n5\n"
    assert interop_pids(host) == pid


def test_wslxd_may_be_killed_while_a_program_runs(host):
    p = host.popen("-d", "deb", "-e", "wslx-run", "sh", "-c", "echo on; read x; echo $x; exit 6", stdin=-1)
    assert p.stdout.readline() == b"on\n"
    host.kill(host.service_pid())
    p.stdin.write(b"word\n")
    p.stdin.close()
    assert p.stdout.read() == b"word\n" and p.wait(20 * SCALE) == 6
    assert host.sh("wslx-run echo again 2>/dev/null") == "again\n"


@many_boots
def test_not_allowed_unless_configured(other):
    w = other()
    for command in ("wslx-run", "wslx-run true"):
        p = w.run("-d", "deb", "--", command)
        assert p.returncode == 125 and "not allowed: the host's wslx.conf" in p.stderr and len(p.stderr.splitlines()) == 1
    assert not interop_pids(w)
    assert w.sh("echo $PATH; ls /run/wslx/host 2>/dev/null; wslpath /x").splitlines()[1:] == ["/mnt/host/x"]
    w.ok("-d", "deb", "-e", "sh", "-c", "cat >/tmp/flood.pl", input=FLOOD)
    assert w.sh("perl /tmp/flood.pl 50100 3 none") == "connected 0 closed 0\n"
    with open(w.conf, "a", encoding="utf-8") as f:
        f.write("[distribution.deb]\ninterop=true\n")
    w.ok("--terminate", "deb")
    assert w.sh("wslx-run echo allowed 2>/dev/null") == "allowed\n"
    w.sh("printf '[interop]\\nenabled=false\\n' >/etc/wsl.conf")
    w.ok("--terminate", "deb")
    p = w.run("-d", "deb", "--", "wslx-run true")
    assert p.returncode == 125 and "not allowed: /etc/wsl.conf" in p.stderr
    assert "/run/wslx" not in w.sh("echo $PATH")


@many_boots
def test_configured_in_the_distribution(other):
    w = other(interop_enabled="true", interop_wslCompatibility="true")
    w.sh("printf '[interop]\\nappendWindowsPath=false\\npathPrefix=/opt/the host\\n[automount]\\nroot=/h/\\n' >/etc/wsl.conf")
    w.ok("--terminate", "deb")
    wait_for("wslx-interop to end", lambda: not interop_pids(w))
    assert "host" not in w.sh("echo $PATH")
    wait_for("the names of the host's programs", lambda: w.run("-d", "deb", "--", "test -e '/opt/the host/host-tool'").returncode == 0)
    assert w.sh("'/opt/the host/host-tool' 2>/dev/null") == f"<{w.tmp}/bin/host-tool>host={w.tmp.name}\n"
    assert w.sh("wslpath /x; wslpath -w /h/x") == "/h/x\n/x\n"
    # It looks like WSL, as told.
    seen = w.sh("cat /proc/version; cat /proc/sys/kernel/osrelease; env")
    assert re.search(r"^Linux version \S+-microsoft-standard-WSL2 ", seen)
    assert re.search(r"^\d\S+-microsoft-standard-WSL2$", seen, re.M)
    assert "WSL_INTEROP=/run/wslx/interop\n" in seen and "WSL_DISTRO_NAME=deb\n" in seen


def secrets(pid):
    """What follows the header of a SECRET attribute in a process's writable memory."""
    found = set()
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as mem:
        for line in maps:
            m = re.match("([0-9a-f]+)-([0-9a-f]+) rw", line)
            if m and ("heap" in line or "stack" in line):
                start, stop = (int(x, 16) for x in m.groups())
                mem.seek(start)
                found |= set(re.findall(rb"\x20\0\0\0\x40\0\0\0(.{32})", mem.read(stop - start), re.S))
    return {s for s in found if len(set(s)) > 12}


SCAN = r"""my ($hex) = @ARGV; my $want = pack "H*", $hex; my $n = 0;
open my $maps, "<", "/proc/1/maps"; open my $mem, "<:raw", "/proc/1/mem" or die;
while (<$maps>) {
    next unless /^([0-9a-f]+)-([0-9a-f]+) rw/;
    sysseek $mem, hex $1, 0; sysread $mem, my $b, hex($2) - hex($1) or next;
    $n++ while $b =~ /\Q$want\E/g;
}
print $n ? "found\n" : "none\n";
"""


@many_boots
def test_another_distribution_cannot_use_the_permission(other):
    w = other(interop_enabled="true")
    w.import_deb("two")
    assert w.sh("wslx-run echo fine 2>/dev/null") == "fine\n"
    try:
        mine = secrets(w.service_pid())
    except PermissionError:
        pytest.skip("this host does not let one process of a user read another's memory")
    assert mine
    w.ok("-d", "two", "--", "printf '[interop]\\nenabled=false\\n' >/etc/wsl.conf")
    w.ok("--terminate", "two")
    for name, script in (("flood", FLOOD), ("scan", SCAN)):
        w.ok("-d", "two", "-e", "sh", "-c", f"cat >/tmp/{name}.pl", input=script)
        w.ok("-d", "deb", "-e", "sh", "-c", f"cat >/tmp/{name}.pl", input=script)
    assert w.run("-d", "two", "--", "wslx-run true").returncode == 125
    # It reaches the port, as every process of the machine does, but has no secret, nor the memory with the other's in it.
    for what in ("exec", "wrong"):
        assert w.ok("-d", "two", "--", f"perl /tmp/flood.pl 50100 3 {what}") == "connected 3 closed 3\n"
    assert "found\n" in [w.sh(f"perl /tmp/scan.pl {s.hex()}") for s in mine]
    for s in mine:
        assert w.ok("-d", "two", "--", f"perl /tmp/scan.pl {s.hex()}") == "none\n"
    assert w.sh("wslx-run echo fine 2>/dev/null") == "fine\n"


@many_boots
def test_everything_ends_with_the_distribution_or_its_machine(other):
    w = other(interop_enabled="true")
    for how in (("--terminate", "deb"), ("--shutdown",), ("--shutdown", "--force")):
        p = w.popen("-d", "deb", "-e", "wslx-run", "sh", "-c", "echo $$; exec sleep 1000")
        pid = int(p.stdout.readline())
        assert len(interop_pids(w)) == 1
        w.ok(*how)
        wait_for("the host's program to end", lambda: not alive(pid))
        wait_for("wslx-interop to end", lambda: not interop_pids(w))
        p.wait()
