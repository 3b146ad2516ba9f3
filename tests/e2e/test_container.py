# SPDX-License-Identifier: MIT
"""Containers in a distribution: what podman needs is there."""
import pytest
from conftest import end, real_only, rootfs, world

pytestmark = real_only


@pytest.fixture(scope="module")
def deb(request):
    w = world()
    try:
        w.import_deb("deb", rootfs("WSLX_TEST_PODMAN_ROOTFS"))
        yield w
    finally:
        end(w, getattr(request.session, "wslx_failed", False))


@pytest.fixture(scope="module")
def image(deb):
    deb.sh("mkdir -p /img/usr/bin && ln -s usr/bin /img/bin && cp /bin/busybox /img/bin && "
           "for i in sh cat id date test sleep grep; do ln -s busybox /img/bin/$i; done && tar -C /img -c . | podman import -q - localhost/box", timeout=120)
    return "localhost/box"


def run(deb, image, *args):
    return deb.ok("-d", "deb", "--", "podman", "run", "--rm", "--network=none", *args[:-1], image, "sh", "-c", args[-1],
                  timeout=120)


def test_a_container_runs_on_overlays(deb, image):
    assert deb.sh("podman info -f '{{.Store.GraphDriverName}} {{.Host.CgroupsVersion}}'", timeout=60) == "overlay v2\n"
    assert run(deb, image, "echo $$ $(id -u) >/out && cat /out; cat /proc/net/dev | grep -c :") == "1 0\n1\n"


def test_a_container_has_limits(deb, image):
    assert run(deb, image, "--memory=64m", "--pids-limit=50", "--cpus=0.5",
               "cd /sys/fs/cgroup; cat memory.max pids.max cpu.max") == "67108864\n50\n50000 100000\n"


def test_a_container_in_the_background_keeps_running(deb, image):
    deb.sh(f"podman run -d --name bg --network=none {image} sh -c 'while :; do date >/tick; sleep 0.2; done'", timeout=120)
    assert deb.sh("podman exec bg sh -c 'until test -s /tick; do sleep 0.1; done; echo ticks'", timeout=60) == "ticks\n"
    assert deb.sh("podman ps -q | wc -l; podman rm -f -t 0 bg >/dev/null; podman ps -q | wc -l", timeout=60) == "1\n0\n"


def test_packet_filters_load_their_modules(deb):
    deb.sh("nft -f -", input="add table inet wslx\n"
           "add chain inet wslx out { type nat hook postrouting priority 100; }\n"
           "add rule inet wslx out ct state new ip saddr 10.9.8.0/24 masquerade\n")
    assert "masquerade" in deb.sh("nft list table inet wslx; nft delete table inet wslx")
    assert deb.sh("test -c /dev/fuse -a -c /dev/net/tun && exec 3<>/dev/net/tun && echo tun") == "tun\n"
