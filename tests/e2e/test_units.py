# SPDX-License-Identifier: MIT
"""systemd's user units, in a distribution whose systemd takes them; wslxd and wslx are played by scripts there."""
import pytest
from conftest import BUILD, SOURCE, end, real_only, rootfs, world

pytestmark = real_only

SERVICE = r"""#!/usr/bin/perl
use Socket;
socket(my $s, AF_UNIX, SOCK_DGRAM, 0);
send($s, "READY=1", 0, sockaddr_un($ENV{NOTIFY_SOCKET}));
system("echo service fds=$ENV{LISTEN_FDS} >>~/told");
sleep;
"""
JOE = ("-d", "deb", "-u", "joe", "--")


@pytest.fixture(scope="module")
def sysd(request):
    w = world()
    try:
        w.import_deb("deb", rootfs("WSLX_TEST_SYSTEMD_ROOTFS"))
        w.sh("useradd -m -u 1000 -s /bin/bash joe; printf '[boot]\\nsystemd=true\\n' >/etc/wsl.conf; mkdir -p /opt/bin")
        service = (BUILD / "daemon/wslxd.service").read_text()
        for line in service.splitlines():
            if line.startswith("ExecStart="):
                service = service.replace(line, "ExecStart=/opt/bin/wslxd")
            elif line.startswith("ExecStop="):
                path, = [word for word in line.split() if word.endswith("/wslx")]
                service = service.replace(path, "/opt/bin/wslx")
        for path, text in (("/etc/systemd/user/wslxd.service", service), ("/opt/bin/wslxd", SERVICE),
                           ("/etc/systemd/user/wslxd.socket", (SOURCE / "daemon/systemd/wslxd.socket").read_text()),
                           ("/opt/bin/wslx", '#!/bin/sh\necho "wslx $*" >>~/told\n')):
            w.sh(f"cat >{path}", input=text)
        w.sh("chmod 755 /opt/bin/*")
        w.ok("--terminate", "deb")
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


def test_a_client_starts_it_and_the_end_of_the_users_manager_shuts_all_down(sysd):
    w = sysd
    w.ok(*JOE, "systemctl --user start wslxd.socket", timeout=120)
    # Nobody has called: there is a socket, private, and no service.
    assert w.ok(*JOE, "stat -c '%a %F' $XDG_RUNTIME_DIR/wslx/wslxd.sock; stat -c %a $XDG_RUNTIME_DIR/wslx; "
                "systemctl --user is-active wslxd.service; test ! -e ~/told && echo untold", timeout=60) == \
        "600 socket\n700\ninactive\nuntold\n"
    w.ok(*JOE, "perl -MSocket -e 'socket(my $s, AF_UNIX, SOCK_STREAM, 0); "
         "connect($s, sockaddr_un(\"$ENV{XDG_RUNTIME_DIR}/wslx/wslxd.sock\")) or die'; until test -s ~/told; do sleep 0.1; done", timeout=60)
    assert w.ok(*JOE, "cat ~/told; systemctl --user is-active wslxd.service", timeout=60) == "service fds=1\nactive\n"
    # A service that is started anew leaves virtual machines alone.
    w.ok(*JOE, "rm ~/told; systemctl --user restart wslxd.service; until test -s ~/told; do sleep 0.1; done", timeout=60)
    assert w.sh("cat ~joe/told") == "service fds=1\n"
    w.sh("systemctl stop user@1000.service", timeout=60)
    assert w.sh("cat ~joe/told") == "service fds=1\nwslx --shutdown\n"


def test_enabled_it_starts_with_the_users_manager(sysd):
    w = sysd
    w.sh("systemctl start user@1000.service", timeout=120)
    w.ok(*JOE, "rm -f ~/told; systemctl --user enable -q wslxd", timeout=60)
    w.sh("systemctl restart user@1000.service", timeout=120)
    w.sh("until test -s ~joe/told; do sleep 0.1; done; tail -1 ~joe/told | grep service", timeout=60)
    w.ok(*JOE, "systemctl --user disable -q wslxd; rm ~/told", timeout=60)
