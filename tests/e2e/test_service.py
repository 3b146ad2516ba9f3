# SPDX-License-Identifier: MIT
"""wslxd: registry, life cycle, idle stops, and the death of any process of ours."""
import json
import os
import pathlib
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import BUILD, ENGINE, FAKE, SCALE, alive, fake_only, real_only, rootfs, wait_for


def test_list_in_all_its_shapes(fresh):
    fresh.import_deb("other")
    assert fresh.ok("--list") == "deb (Default)\nother\n"
    assert fresh.ok("-l", "-q") == "deb\nother\n"
    assert fresh.ok("--list", "--running") == ""
    fresh.ok("--set-default", "other")
    assert fresh.ok("-l", "-v").split() == "NAME STATE VERSION * other Stopped 2 deb Stopped 2".split()
    d = fresh.list()
    assert d["other"]["default"] and not d["deb"]["default"] and d["deb"]["state"] == "Stopped"
    fresh.ok("-d", "DEB", "--", "true")
    assert fresh.list()["deb"]["state"] == "Running"
    assert fresh.ok("--list", "--running") == "deb\n"


def test_the_default_distribution_is_used(fresh):
    assert fresh.ok("--", "echo", "hi") == "hi\n"


def test_terminate_and_shutdown(fresh):
    fresh.sh("true")
    assert fresh.vmm_pids()
    fresh.ok("--terminate", "deb")
    assert fresh.list()["deb"]["state"] == "Stopped"
    assert fresh.vmm_pids()
    fresh.sh("true")
    fresh.ok("--shutdown")
    assert not fresh.vmm_pids()
    assert fresh.list()["deb"]["state"] == "Stopped"
    fresh.ok("--shutdown")
    assert fresh.sh("echo again") == "again\n"
    fresh.ok("--shutdown", "--force")
    assert not fresh.vmm_pids()


def test_terminate_ends_running_commands(fresh):
    p = fresh.popen("-d", "deb", "--", "echo on; sleep 1000")
    assert p.stdout.readline() == b"on\n"
    fresh.ok("--terminate", "deb")
    assert p.wait(10 * SCALE) in (125, 128 + signal.SIGTERM, 128 + signal.SIGHUP, 128 + signal.SIGKILL)


def test_status(fresh):
    s = fresh.status()
    assert s["default"] == "deb" and s["distributions"] == 1
    engine = s["engine"]
    assert engine["name"] == ("soft" if FAKE else engine["name"] if ENGINE == "auto" else ENGINE) and engine["reason"]
    fresh.sh("true")
    s = fresh.status()
    assert s["vm"]["state"] == "Running" and s["vm"]["pid"] in fresh.vmm_pids() and s["vm"]["kernel"]
    assert s["engine"]["name"] == engine["name"]
    text = fresh.ok("--status")
    assert f"Engine: {engine['name']} (" in text and "Default distribution: deb" in text


def test_unregister_removes_everything(fresh):
    disk_dir = fresh.tmp / "disk-deb"
    assert (disk_dir / "ext4.img").exists()
    fresh.sh("true")
    fresh.ok("--unregister", "deb")
    assert fresh.list() == {} and not disk_dir.exists()
    assert not list((fresh.data / "pending").iterdir())
    fresh.import_deb()
    assert fresh.sh("echo new") == "new\n"


def test_the_service_died_when_a_running_distribution_was_unregistered(fresh):
    """What it knew of it was looked at once more after the files were gone."""
    fresh.import_deb("other")
    for i in range(3):
        fresh.import_deb(f"gone{i}")
        fresh.ok("-d", "other", "--", "true")
        fresh.ok("-d", f"gone{i}", "--", "true")
        pid = fresh.service_pid()
        fresh.ok("--unregister", f"gone{i}", timeout=60)
        fresh.ok("--list")
        assert fresh.service_pid() == pid


def test_unregister_leaves_files_that_are_not_ours(fresh):
    (fresh.tmp / "disk-deb/letter").write_text("dear")
    fresh.ok("--unregister", "deb")
    assert [f.name for f in (fresh.tmp / "disk-deb").iterdir()] == ["letter"]


def test_idle_distribution_and_vm_stop(fresh):
    fresh.configure(general_instanceIdleTimeout=300, wsl2_vmIdleTimeout=600)
    fresh.sh("true")
    wait_for("the distribution to stop", lambda: fresh.list()["deb"]["state"] == "Stopped", 10)
    wait_for("the virtual machine to stop", lambda: not fresh.vmm_pids(), 20)
    assert fresh.sh("echo again") == "again\n"


def test_a_busy_distribution_is_not_idle(fresh):
    """Neither with a client, nor with a program that has none."""
    fresh.configure(general_instanceIdleTimeout=200, wsl2_vmIdleTimeout=200)
    assert fresh.sh("sleep 1.5; echo done") == "done\n"
    assert fresh.sh("setsid sleep 2 >/dev/null 2>&1 </dev/null & echo $!").strip() != ""
    if not FAKE:  # the fake counts sessions only
        time.sleep(1)
        assert fresh.list()["deb"]["state"] == "Running"
    wait_for("the virtual machine to stop", lambda: not fresh.vmm_pids(), 20)


def test_the_service_ends_when_unused_and_comes_back(fresh):
    fresh.configure(general_instanceIdleTimeout=0, wsl2_vmIdleTimeout=0, wslx_serviceIdleTimeout=200)
    fresh.kill(fresh.service_pid())  # one that has read the new configuration
    fresh.sh("true")
    wait_for("wslxd to end", lambda: not fresh.service_pid(), 20)
    assert not fresh.vmm_pids()
    assert fresh.sh("echo back") == "back\n"


def test_commands_while_everything_stops_and_starts(fresh):
    """With all timeouts at zero each command finds some step of stopping under way."""
    fresh.configure(general_instanceIdleTimeout=0, wsl2_vmIdleTimeout=0, wslx_serviceIdleTimeout=0)
    fresh.kill(fresh.service_pid())
    for i in range(10 if FAKE else 4):
        assert fresh.sh(f"echo {i}") == f"{i}\n"
        time.sleep(0.03 * i)


def test_a_service_waits_for_the_client_that_started_it(empty):
    """However short its idle timeout: else a slow client starts one after another and meets none."""
    empty.configure(wslx_serviceIdleTimeout=0)
    ready, theirs = os.pipe()
    p = subprocess.Popen([BUILD / "daemon/wslxd", "--ready-fd", str(theirs)], env=empty.env, pass_fds=[theirs])
    os.close(theirs)
    with os.fdopen(ready, "rb") as f:
        assert f.read() == b"ok\n"
    time.sleep(1)
    assert p.poll() is None
    empty.ok("-l")
    assert p.wait(10 * SCALE) == 0


def test_many_clients_start_one_service(empty):
    ps = [empty.popen("--list", "-q") for _ in range(16)]
    for p in ps:
        out, err = p.communicate(timeout=30 * SCALE)
        assert (p.returncode, out, err) == (0, b"", b"")
    assert "another wslxd" not in (empty.data / "wslxd.log").read_text()


def test_wslxd_does_not_answer_because_another_one_has_the_data_folder(empty):
    """Started with another XDG_RUNTIME_DIR, say. The error says which one that is, and what to do."""
    empty.ok("-l", "-q")
    pid, other = empty.service_pid(), empty.tmp / "other-run"
    other.mkdir(mode=0o700)
    line = empty.fails(125, "--list", env={"XDG_RUNTIME_DIR": str(other)}, timeout=60,
                       says=["another wslxd, process", str(empty.data), str(other), "XDG_RUNTIME_DIR", "kill"])
    assert f"process {pid}," in line
    assert empty.service_pid() == pid
    empty.ok("-l", "-q")


def test_many_clients_start_one_vm(fresh):
    ps = [fresh.popen("-d", "deb", "--", "echo", str(i)) for i in range(16)]
    for i, p in enumerate(ps):
        out, err = p.communicate(timeout=60 * SCALE)
        assert (p.returncode, out, err) == (0, b"%d\n" % i, b"")
    assert len(fresh.vmm_pids()) == 1


def test_a_second_service_by_hand_says_so(fresh):
    fresh.ok("-l")
    pid = fresh.service_pid()
    p = subprocess.run([BUILD / "daemon/wslxd"], env=fresh.env, capture_output=True, text=True, timeout=10 * SCALE)
    assert p.returncode == 1 and p.stdout == ""
    assert p.stderr.count("\n") == 1 and f"process {pid}" in p.stderr and p.stderr.startswith("wslxd: another wslxd")
    # Nor with another runtime folder over the same data.
    other = fresh.tmp / "other"
    other.mkdir(mode=0o700)
    p = subprocess.run([BUILD / "daemon/wslxd"], env={**fresh.env, "XDG_RUNTIME_DIR": str(other)}, capture_output=True,
                       text=True, timeout=10 * SCALE)
    assert p.returncode == 1 and "another wslxd" in p.stderr
    assert fresh.service_pid() == pid
    fresh.ok("-l")


def test_socket_activation(empty):
    """As systemd does it: a listening socket as descriptor 3, and a READY datagram."""
    (empty.run_dir / "wslx").mkdir(mode=0o700)
    path = str(empty.run_dir / "wslx/wslxd.sock")
    listener, notify = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listener.bind(path)
    listener.listen(8)
    notify.bind(str(empty.tmp / "notify"))
    notify.settimeout(10 * SCALE)
    script = "import os,sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); os.execv(sys.argv[2], sys.argv[2:])"
    p = subprocess.Popen(["/usr/bin/python3", "-c", script, str(listener.fileno()), BUILD / "daemon/wslxd"],
                         env={**empty.env, "LISTEN_FDS": "1", "NOTIFY_SOCKET": str(empty.tmp / "notify")},
                         pass_fds=[listener.fileno()])
    assert notify.recv(100) == b"READY=1"
    assert empty.status()["pid"] == p.pid
    p.terminate()
    assert p.wait(10 * SCALE) == 0


def test_other_users_are_kept_out(fresh):
    fresh.ok("-l")
    sock = fresh.run_dir / "wslx/wslxd.sock"
    assert (sock.stat().st_mode & 0o077, sock.parent.stat().st_mode & 0o077) == (0, 0)
    if os.geteuid() != 0:
        pytest.skip("needs root to become somebody else")
    # Even with the files' permissions out of the way.
    for d in (fresh.tmp, fresh.run_dir, sock.parent):
        d.chmod(0o755)
    sock.chmod(0o777)
    code = f"import os,socket; os.setuid(65534); s=socket.socket(socket.AF_UNIX); s.connect({str(sock)!r}); " \
           "s.sendall(b'{\"id\":1,\"method\":\"list\"}\\n'); print(s.recv(100))"
    p = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, timeout=10)
    assert p.stdout.strip() == "b''" or "reset" in p.stderr.lower() or "broken" in p.stderr.lower(), p.stdout + p.stderr
    # Nor do we talk to a service that is not ours.
    fresh.kill(fresh.service_pid())
    sock.unlink()
    code = f"import os,socket,time; s=socket.socket(socket.AF_UNIX); s.bind({str(sock)!r}); os.chmod({str(sock)!r}, 0o777); " \
           "os.setuid(65534); s.listen(1); print('up', flush=True); time.sleep(60)"
    sock.parent.chmod(0o777)
    p = subprocess.Popen(["/usr/bin/python3", "-c", code], stdout=subprocess.PIPE)
    try:
        assert p.stdout.readline() == b"up\n"
        sock.parent.chmod(0o700)
        # listen(2) was called by the stranger: that is who the peer is.
        fresh.fails(125, "-l", says="runs as user 65534")
    finally:
        p.kill()
        p.wait()


# The death of each process

def test_service_killed_and_restarted_finds_its_vm(fresh):
    fresh.configure(general_instanceIdleTimeout=60000)
    fresh.sh("echo state > /tmp/e2e-state" if not FAKE else "true")
    vmm, boot = fresh.vmm_pids(), fresh.status()["vm"]["pid"]
    fresh.kill(fresh.service_pid())
    assert fresh.sh("cat /tmp/e2e-state" if not FAKE else "echo state") == "state\n"
    assert fresh.vmm_pids() == vmm and fresh.status()["vm"]["pid"] == boot
    fresh.ok("--terminate", "deb")
    fresh.ok("--shutdown")
    assert not fresh.vmm_pids()


def test_sessions_outlive_the_service(fresh):
    p = fresh.popen("-d", "deb", "--", "echo on; cat; exit 6", stdin=subprocess.PIPE)
    assert p.stdout.readline() == b"on\n"
    fresh.kill(fresh.service_pid())
    fresh.ok("-l")
    p.stdin.write(b"still here\n")
    p.stdin.close()
    assert p.stdout.read() == b"still here\n"
    assert p.wait(10 * SCALE) == 6


@fake_only
def test_shutdown_right_after_a_restart_kills_no_running_guest(fresh, tmp_path):
    """Init is not back yet when the new service is asked: what the guest has not written would be lost."""
    fresh.env["FAKE_ORDERLY"] = str(tmp_path / "orderly")
    fresh.ok("--shutdown")
    if fresh.service_pid():
        fresh.kill(fresh.service_pid())  # the environment is that of the service's start
    fresh.sh("true")
    fresh.kill(fresh.service_pid())
    fresh.ok("--shutdown")
    assert not fresh.vmm_pids()
    assert (tmp_path / "orderly").exists()


def test_an_adopted_vm_goes_idle_as_any_other(fresh):
    fresh.configure(general_instanceIdleTimeout=500, wsl2_vmIdleTimeout=500)
    fresh.sh("true")
    fresh.kill(fresh.service_pid())
    fresh.ok("-l")
    wait_for("the virtual machine to stop", lambda: not fresh.vmm_pids(), 30)


def test_a_busy_distribution_stays_busy_across_a_restart(fresh):
    fresh.configure(general_instanceIdleTimeout=300, wsl2_vmIdleTimeout=300)
    p = fresh.popen("-d", "deb", "--", "echo on; sleep 4; echo off")
    assert p.stdout.readline() == b"on\n"
    fresh.kill(fresh.service_pid())
    fresh.ok("-l")
    off = p.stdout.readline()
    assert off == b"off\n", p.stderr.read()
    assert p.wait(10 * SCALE) == 0


def test_vm_killed_is_told_to_its_clients_and_replaced(fresh):
    p = fresh.popen("-d", "deb", "--", "echo on; sleep 1000")
    assert p.stdout.readline() == b"on\n"
    fresh.kill(fresh.vmm_pids()[0])
    out, err = p.communicate(timeout=20 * SCALE)
    assert p.returncode == 125
    assert err.decode().count("\n") == 1 and "virtual machine ended" in err.decode() and "signal 9" in err.decode()
    assert fresh.sh("echo new") == "new\n"


def test_service_and_vm_killed(fresh):
    fresh.sh("true")
    pids = [fresh.service_pid(), *fresh.vmm_pids()]
    for pid in pids:
        fresh.kill(pid)
    assert fresh.sh("echo new") == "new\n"
    assert len(list(fresh.run_dir.glob("wslx/vm-*"))) == 1


def test_service_killed_while_the_vm_boots(fresh):
    if FAKE:
        fresh.env["FAKE_BOOT_DELAY"] = "1"
    p = fresh.popen("-d", "deb", "--", "true")
    wait_for("the virtual machine", fresh.vmm_pids)
    fresh.kill(fresh.service_pid())
    assert p.wait(20 * SCALE) == 125
    assert fresh.sh("echo up") == "up\n"
    assert len(fresh.vmm_pids()) == 1


def test_service_killed_at_any_moment(fresh):
    """No kill leaves a virtual machine nobody can reach, or a distribution that does not start."""
    for i in range(15 if FAKE else 4):
        p = fresh.popen("-d", "deb", "--", "true")
        time.sleep(0.01 * i)
        if fresh.service_pid():
            try:
                os.kill(fresh.service_pid(), signal.SIGKILL)
            except ProcessLookupError:
                pass
        p.communicate(timeout=60 * SCALE)
        assert fresh.sh(f"echo {i}") == f"{i}\n"
        assert len(fresh.vmm_pids()) == 1
        fresh.ok("--shutdown")


@fake_only
def test_a_stopped_guest_is_given_up(fresh):
    """Its process lives, but nothing answers: the next service ends it."""
    fresh.sh("true")
    vmm = fresh.vmm_pids()[0]
    os.kill(vmm, signal.SIGSTOP)
    p = fresh.popen("-d", "deb", "--", "true")
    fresh.ok("--shutdown", "--force")
    p.communicate(timeout=30)
    assert not alive(vmm)
    assert fresh.sh("echo new") == "new\n"


def test_a_client_that_sends_garbage_harms_nobody(fresh):
    fresh.ok("-l")
    path = str(fresh.run_dir / "wslx/wslxd.sock")
    for junk in (b"\0" * 100000, b"{}\n", b"[" * 200000, b'{"id":1,"method":"open","params":{"connections":9}}\n',
                 b'{"id":1,"method":"import","params":{"name":"x","dir":"/x"}}\n'):
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        try:
            s.sendall(junk)
            s.settimeout(2)
            s.recv(1000)
        except OSError:
            pass
        s.close()
    assert "x" not in fresh.list()
    assert fresh.sh("echo fine") == "fine\n"


@real_only
def test_a_runtime_folder_with_a_path_too_long_for_a_socket(fresh):
    deep = fresh.run_dir / ("d" * 100) / ("e" * 60)
    deep.mkdir(parents=True, mode=0o700)
    fresh.run_dir = deep
    fresh.kill(fresh.service_pid())
    fresh.env["XDG_RUNTIME_DIR"] = str(deep)
    assert fresh.sh("echo fine") == "fine\n"
    fresh.kill(fresh.service_pid())
    assert fresh.sh("echo again") == "again\n"  # init finds the new service inside the sandbox


def test_a_session_without_connections_is_refused_not_forgotten(fresh):
    fresh.ok("-l")
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(20 * SCALE)
        s.connect(str(fresh.run_dir / "wslx/wslxd.sock"))
        s.sendall(b'{"id":1,"method":"open","params":{"connections":0}}\n')
        assert b"connections" in s.recv(10000)
    assert not fresh.vmm_pids()


@real_only
def test_a_program_that_poses_as_init_is_not_heard(fresh):
    knock = 'socket(S, 40, 1, 0) or die; print connect(S, pack("SSLLx4", 40, 0, 50000, 2)) ? "in" : "out"; sleep 1'
    assert fresh.ok("-d", "deb", "-u", "nobody", "-e", "perl", "-e", knock) == "out"
    assert fresh.sh("echo fine") == "fine\n"


def test_a_thousand_calls(fresh):
    fresh.ok("-l")
    path = str(fresh.run_dir / "wslx/wslxd.sock")
    socks = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for s in socks:
        s.connect(path)
        s.sendall(b"".join(b'{"id":%d,"method":"list","params":{}}\n' % i for i in range(1, 21)))
    for s in socks:
        data = b""
        while data.count(b"\n") < 20:
            piece = s.recv(65536)
            assert piece
            data += piece
        assert sorted(json.loads(line)["id"] for line in data.splitlines()) == list(range(1, 21))


def test_import_survives_a_killed_service(fresh):
    """Killed at whatever moment of an import: the distribution is there whole, or nothing of it is."""
    for i in range(12):
        p = fresh.popen("--import", "two", fresh.tmp / "two", rootfs())
        time.sleep(0.005 * i * (1 if FAKE else 20))
        if fresh.service_pid():
            try:
                os.kill(fresh.service_pid(), signal.SIGKILL)
            except ProcessLookupError:
                pass
        p.communicate(timeout=60 * SCALE)
        there = "two" in fresh.list()
        wait_for("what is left of the import to go", lambda: there == (fresh.tmp / "two").exists())
        if there:
            assert sorted(f.name for f in (fresh.tmp / "two").iterdir()) == ["ext4.img"]
            fresh.ok("--unregister", "two")
        assert not (fresh.tmp / "two").exists()


def test_two_imports_of_one_name(empty):
    ps = [empty.popen("--import", "deb", empty.tmp / f"d{i}", rootfs()) for i in range(2)]
    codes = sorted(p.wait(120 * SCALE) for p in ps)
    assert codes == [0, 125]
    assert len(empty.list()) == 1
    assert sum((empty.tmp / f"d{i}").exists() for i in range(2)) == 1


def test_threads_of_clients(fresh):
    """Listing, running and terminating all at once: every answer is one of those possible."""
    errors = []

    def work(i):
        for _ in range(5):
            if i == 0:
                p = fresh.run("--terminate", "deb")
            else:
                p = fresh.run("-d", "deb", "--", "echo", "x")
            if p.returncode == 0:
                if i and p.stdout != "x\n":
                    errors.append(p.stdout)
            elif i == 0 or p.returncode not in (125, 129, 137, 143):
                errors.append((p.returncode, p.stderr))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert fresh.sh("echo fine") == "fine\n"


@fake_only
@pytest.mark.parametrize("how", ["terminate", "shutdown", "kill"])
def test_wslx_interop_without_a_guest_ends_with_whoever_started_it(fresh, how):
    """The fake's init never connects to it."""
    def running():
        found = []
        for d in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{d}/cmdline", "rb") as f, open(f"/proc/{d}/environ", "rb") as e:
                    if b"/wslx-interop\0" in f.read() and f"{fresh.run_dir}".encode() in e.read() and alive(int(d)):
                        found.append(int(d))
            except OSError:
                pass
        return found
    fresh.sh("true")
    assert not running()
    fresh.ok("--shutdown")
    fresh.configure(interop_enabled="true")
    fresh.sh("true")
    assert len(running()) == 1
    if how == "kill":
        fresh.kill(fresh.service_pid())
    else:
        fresh.ok(f"--{how}", *(["deb"] if how == "terminate" else []))
    wait_for("wslx-interop to end", lambda: not running())


def test_many_clients_leave_room_for_a_list_and_the_one_too_many_is_told(fresh):
    fresh.sh("true")
    path = str(fresh.run_dir / "wslx/wslxd.sock")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    idle = []
    try:
        for n in range(4096 - 40):
            s = socket.socket(socket.AF_UNIX)
            s.connect(path)
            idle.append(s)
            if n == 600:
                assert fresh.sh("echo still") == "still\n"
        fresh.fails(125, "-d", "deb", "--", "true", says="too many programs")
        assert fresh.list()["deb"]["state"] == "Running"
    finally:
        for s in idle:
            s.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    wait_for("their ends", lambda: fresh.run("-d", "deb", "--", "true").returncode == 0)


def test_the_console_file_is_the_common_machines_alone(fresh):
    path = fresh.tmp / "console"
    fresh.import_deb("own")
    fresh.configure(wsl2_debugConsoleLogFile=str(path), **{"distribution.own_isolation": "vm"})
    for name in "deb", "own":
        fresh.ok("-d", name, "--", "true")
    serial = [pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"--serial\0")[1].split(b"\0")[0].decode() for pid in fresh.vmm_pids()]
    assert len(serial) == 2 and serial.count(f"file:{path}") == 1


def second(w, **env):
    """A service with that environment, which runs "deb" and knows "hung" too."""
    w.import_deb("hung")
    w.ok("--shutdown")
    if w.service_pid():
        w.kill(w.service_pid())
    w.env.update(env)
    w.sh("true")


@fake_only
def test_a_distribution_that_hangs_as_it_starts_takes_no_neighbour_down(fresh):
    fresh.configure(general_instanceIdleTimeout=60000, wsl2_distributionStartTimeout=1000)
    second(fresh, FAKE_NO_START="hung")
    vmm = fresh.vmm_pids()
    fresh.fails(125, "-d", "hung", "--", "true", says="did not start in time")
    assert fresh.vmm_pids() == vmm
    assert fresh.list()["deb"]["state"] == "Running"
    wait_for("its disk to be given back", lambda: fresh.list()["hung"]["state"] == "Stopped")


@fake_only
def test_terminate_does_not_wait_for_a_distribution_that_hangs_as_it_starts(fresh):
    fresh.configure(general_instanceIdleTimeout=60000, wsl2_distributionStartTimeout=600000)
    second(fresh, FAKE_NO_START="hung")
    vmm = fresh.vmm_pids()
    p = fresh.popen("-d", "hung", "--", "true")
    wait_for("it to start", lambda: fresh.list()["hung"]["state"] == "Starting")
    fresh.ok("--terminate", "hung")
    _, err = p.communicate(timeout=20 * SCALE)
    assert p.returncode == 125 and b"stopped meanwhile" in err
    assert fresh.vmm_pids() == vmm
    assert fresh.list()["deb"]["state"] == "Running"


@pytest.mark.parametrize("how", ["--terminate", "--unregister"])
def test_what_runs_is_stopped_right_after_a_restart_of_the_service(fresh, how):
    """Init is not back yet when the new service is asked, which cannot know what runs."""
    fresh.configure(general_instanceIdleTimeout=60000)
    p = fresh.popen("-d", "deb", "--", "echo on; sleep 1000")
    assert p.stdout.readline() == b"on\n"
    fresh.kill(fresh.service_pid())
    fresh.ok(how, "deb", timeout=60)
    p.communicate(timeout=20 * SCALE)
    assert p.returncode != 0
    if how == "--terminate":
        assert fresh.list()["deb"]["state"] == "Stopped"
    else:
        assert "deb" not in fresh.list()


@fake_only
def test_the_service_died_when_an_export_waited_for_a_start_that_was_stopped(fresh):
    fresh.ok("--shutdown")
    if fresh.service_pid():
        fresh.kill(fresh.service_pid())
    fresh.env.update(FAKE_BOOT_DELAY="10", MALLOC_PERTURB_="85")  # what is freed is not what it was
    run = fresh.popen("-d", "deb", "--", "true")
    wait_for("the machine to start", fresh.vmm_pids)
    service = fresh.service_pid()
    export = fresh.popen("--export", "deb", fresh.tmp / "deb.tar")
    time.sleep(1)  # nothing shows that the export has come to its wait
    fresh.ok("--terminate", "deb")
    for p in (run, export):
        _, err = p.communicate(timeout=20 * SCALE)
        assert p.returncode == 125 and b"stopped meanwhile" in err, err
    assert fresh.service_pid() == service
