# SPDX-License-Identifier: MIT
"""A distribution with boot.systemd=true, in Debian with systemd."""

import pytest
from conftest import end, real_only, rootfs, wait_for, world

pytestmark = real_only


@pytest.fixture(scope="module")
def sysd(request):
    """A distribution with systemd and a user."""
    w = world()
    try:
        w.import_deb("deb", rootfs("WSLX_TEST_SYSTEMD_ROOTFS"))
        w.sh("useradd -m -u 1000 joe; printf '[boot]\\nsystemd=true\\n' >/etc/wsl.conf")
        w.ok("--terminate", "deb")
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


def test_it_is_running_when_the_first_command_is(sysd):
    p = sysd.run("-d", "deb", "--", "systemctl is-system-running; systemctl --failed --no-legend; systemd-detect-virt -c; "
                 "cat /proc/1/comm /proc/self/cgroup", timeout=120)
    assert (p.stdout, p.stderr) == ("running\ncontainer-other\nsystemd\n0::/wslx/sessions\n", "")


def test_controllers_are_delegated(sysd):
    assert {"cpu", "io", "memory", "pids"} <= set(sysd.sh("cat /sys/fs/cgroup/cgroup.controllers").split())
    assert sysd.sh("systemd-run -q --wait -p MemoryMax=50M -p CPUQuota=50% -P sh -c "
                   "'cat /sys/fs/cgroup/system.slice/run-*/memory.max /sys/fs/cgroup/system.slice/run-*/cpu.max'"
                   ) == "52428800\n50000 100000\n"


def test_users_are_logged_in(sysd):
    out = sysd.ok("-d", "deb", "-u", "joe", "--", "loginctl --no-legend; echo $XDG_RUNTIME_DIR; systemctl --user is-system-running --wait",
                  timeout=120).splitlines()
    assert [line.split()[1:3] for line in out[:-2]].count(["1000", "joe"]) == 1 and out[-2:] == ["/run/user/1000", "running"]
    assert sysd.ok("-d", "deb", "-u", "joe", "--", "systemd-run --user -q touch /tmp/mark; until test -e /tmp/mark; do sleep 0.1; "
                   "done; stat -c %U /tmp/mark", timeout=60) == "joe\n"


def test_a_timer_fires_and_the_journal_tells(sysd):
    sysd.sh("systemd-run -q --on-active=0.5 --timer-property=AccuracySec=10ms --unit=tick sh -c 'echo ti''ck; touch /run/ticked'; "
            "until test -e /run/ticked; do sleep 0.1; done")
    wait_for("the journal", lambda: "tick" in sysd.sh("journalctl -u tick -o cat --no-pager | grep -x tick || true"))


def test_sessions_survive_a_new_manager(sysd):
    p = sysd.popen("-d", "deb", "--", "echo on; cat")
    sysd.sh("systemctl daemon-reexec; systemctl daemon-reload; systemctl is-system-running")
    assert sysd.sh("echo still") == "still\n"
    p.kill()
    p.wait()


def test_a_service_keeps_it_and_what_systemd_consists_of_does_not(sysd):
    sysd.configure(**{"general_instanceIdleTimeout": 1000, "distribution.deb_keepAlive": "services"})
    sysd.ok("--shutdown", timeout=90)
    # Much longer than the idle time: it gets to its end only if it keeps the distribution.
    sysd.sh("systemd-run -q --unit=keeper sh -c 'sleep 10; touch /root/kept'", timeout=120)
    wait_for("the idle stop", lambda: sysd.list()["deb"]["state"] == "Stopped", 60)
    assert sysd.sh("ls /root/kept", timeout=120) == "/root/kept\n"
    sysd.configure()
    sysd.ok("--shutdown", timeout=90)


def test_terminate_is_a_clean_shutdown(sysd):
    sysd.sh("cat >/etc/systemd/system/probe.service; systemctl daemon-reload; rm -f /root/stopped; systemctl start probe",
            input="[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\nExecStop=/bin/sh -c 'echo yes >/root/stopped'\n",
            timeout=120)
    p = sysd.popen("-d", "deb", "--", "echo on; trap '' TERM HUP; while :; do sleep 1; done")
    assert p.stdout.readline() == b"on\n"
    sysd.ok("--terminate", "deb", timeout=60)
    p.wait(60)
    assert sysd.sh("cat /root/stopped; systemctl is-system-running", timeout=120) == "yes\nrunning\n"


@pytest.mark.parametrize("how, word", [("poweroff", "powered off"), ("reboot", "rebooted")])
def test_it_can_be_ended_from_inside(sysd, how, word):
    sysd.run("-d", "deb", "--", f"{how}; sleep 1000", timeout=120)
    wait_for("the stop", lambda: sysd.list()["deb"]["state"] == "Stopped", 60)
    log = (sysd.data / "wslxd.log").read_text()
    assert f"deb has stopped: it was {word} from inside" in log and "ended by itself" not in log


def test_units_that_never_come_up_do_not_hang_the_start(sysd):
    sysd.sh("cat >/etc/systemd/system/slow.service; systemctl enable -q slow; printf 'initTimeout=3000\\n' >>/etc/wsl.conf",
            input="[Service]\nType=oneshot\nExecStart=sleep infinity\n[Install]\nWantedBy=multi-user.target\n", timeout=120)
    sysd.ok("--terminate", "deb", timeout=60)
    p = sysd.run("-d", "deb", "--", "echo here I am", timeout=120)
    assert p.stdout == "here I am\n"
    assert p.stderr == ("wslx: warning: deb: systemd was not up in time (boot.initTimeout in /etc/wsl.conf); it goes on "
                        "starting\n")
    sysd.sh("rm -f /etc/systemd/system/slow.service /etc/systemd/system/*.wants/slow.service; "
            "printf '[boot]\\nsystemd=true\\n' >/etc/wsl.conf")
    sysd.ok("--terminate", "deb", timeout=60)
