# SPDX-License-Identifier: MIT
"""Ten distributions of several kinds at once, in one virtual machine of less than 2 GB: each sees its own and nobody else's.

Ubuntu's is Debian's tree with Ubuntu's os-release, Alpine's a tree of musl, a program linked to it, and busybox (Debian's
static one) under Alpine's os-release: no packages of either are fetched for this.
"""
import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

from conftest import SCALE, real_only, rootfs, wait_for

pytestmark = real_only

# Says what libc it runs with: musl's loader calls itself so.
MUSL_PROGRAM = r"""
#include <stdio.h>
#include <string.h>
int main(void)
{
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");
	while (f && fgets(line, sizeof(line), f))
		if (strstr(line, "ld-musl-")) { puts("musl"); return 0; }
	return 1;
}
"""

# What one distribution can see of others: marks in files, memory, message queues, names, processes, disks, mounts.
LOOK = r"""
cat /mark; cat /proc/sys/kernel/hostname; ls /dev/shm /tmp | grep mark- | tr '\n' ' '
for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline 2>/dev/null; echo; done | grep -x 'sleep 7[0-9]* ' | tr '\n' ' '
grep -c ' / ext4 ' /proc/mounts; grep ext4 /proc/mounts | wc -l; ls /dev | grep -c -e '^sd' -e '^vd'; exit 0
"""


def tree(path, ident, name, extra=""):
    """busybox and what a root file system needs beside it."""
    subprocess.run(["sh", "-ec", f"""
        mkdir -p bin sbin etc proc sys dev run tmp root lib; cp -L "$(command -v busybox)" bin/busybox
        for a in $(bin/busybox --list); do [ $a = busybox ] || ln -s busybox bin/$a; done
        printf 'ID={ident}\nNAME="{name}"\n' >etc/os-release
        echo root:x:0:0:root:/root:/bin/sh >etc/passwd; echo root:x:0: >etc/group
        {extra}"""], cwd=path, check=True)


def pack(folder, archive):
    subprocess.run(["tar", "-C", folder, "--owner=0", "--group=0", "-cf", archive, "."], check=True)
    return archive


def busybox(w, ident="busybox", name="busybox", extra=""):
    d = w.tmp / f"tree-{ident}"
    d.mkdir()
    tree(d, ident, name, extra)
    return pack(d, w.tmp / f"{ident}.tar")


def alpine(w):
    source, libc = w.tmp / "which-libc.c", subprocess.check_output(
        ["realpath", "/lib/ld-musl-x86_64.so.1"], text=True).strip()
    source.write_text(MUSL_PROGRAM)
    subprocess.run(["musl-gcc", "-o", w.tmp / "which-libc", source], check=True)
    return busybox(w, "alpine", "Alpine Linux", f"""
        echo 3.20.0 >etc/alpine-release; cp {libc} lib/ld-musl-x86_64.so.1; cp {w.tmp}/which-libc bin/which-libc""")


def ubuntu(w):
    """Later entries of an archive replace earlier ones."""
    out = w.tmp / "ubuntu.tar"
    shutil.copy(rootfs(), out)
    text = b'ID=ubuntu\nID_LIKE=debian\nNAME="Ubuntu"\nVERSION_ID="24.04"\n'
    with tarfile.open(out, "a") as t:
        info = tarfile.TarInfo("./usr/lib/os-release")
        info.size, info.mode = len(text), 0o644
        t.addfile(info, io.BytesIO(text))
    return out


def oci(w, base):
    """An image layout of two layers: busybox, and a file on top."""
    d = w.tmp / "layout"
    (d / "blobs/sha256").mkdir(parents=True)

    def put(data, kind):
        digest = hashlib.sha256(data).hexdigest()
        (d / "blobs/sha256" / digest).write_bytes(data)
        return {"mediaType": f"application/vnd.oci.image.{kind}", "digest": f"sha256:{digest}", "size": len(data)}

    top = w.tmp / "top"
    (top / "etc").mkdir(parents=True)
    (top / "etc/os-release").write_text("ID=container\n")
    layers = [put(gzip.compress(base.read_bytes(), 1), "layer.v1.tar+gzip"),
              put(pack(top, w.tmp / "top.tar").read_bytes(), "layer.v1.tar")]
    config = put(json.dumps({"os": "linux", "architecture": "amd64"}).encode(), "config.v1+json")
    manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode(), "manifest.v1+json")
    (d / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (d / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return d


def install_ten(w):
    """Their names, each with the ID of its os-release."""
    def add(name, what, *args):
        w.ok("--import", name, w.tmp / "d" / name, what, "--size", "8GB", *args, timeout=300)

    small = busybox(w)
    add("bookworm", rootfs())
    add("trixie", rootfs("WSLX_TEST_TRIXIE_ROOTFS"))
    add("ubuntu", ubuntu(w))
    add("sysd", rootfs("WSLX_TEST_SYSTEMD_ROOTFS"))
    add("alpine", alpine(w))
    add("busybox", small)
    add("container", oci(w, small))
    w.ok("--export", "busybox", w.tmp / "disk.vhdx", timeout=60)
    w.ok("--import", "virtual", w.tmp / "d/virtual", w.tmp / "disk.vhdx", "--vhd", timeout=60)
    w.ok("--manage", "trixie", "--clone", "copy1", "--location", w.tmp / "d/copy1", timeout=60)
    w.ok("--manage", "alpine", "--clone", "copy2", "--location", w.tmp / "d/copy2", timeout=60)
    return {"bookworm": "debian", "trixie": "debian", "ubuntu": "ubuntu", "sysd": "debian", "alpine": "alpine",
            "busybox": "busybox", "container": "container", "virtual": "busybox", "copy1": "debian", "copy2": "alpine"}


def personalise(w, names):
    """A name and a mark for each, which its next start knows."""
    for name in names:
        w.ok("-d", name, "--", f"echo {name} >/mark; printf '[network]\\nhostname=box-{name}\\n[boot]\\nsystemd="
             f"{'true' if name == 'sysd' else 'false'}\\n' >/etc/wsl.conf", timeout=60)
        w.ok("--terminate", name, timeout=60)


def memory_of(pid):
    """KiB of this host's memory that a process has."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmRSS:"))


def disk_is_clean(path):
    p = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True)
    assert p.returncode == 0, p.stdout + p.stderr
    info = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True, check=True).stdout
    assert "Filesystem state:         clean" in info and "needs_recovery" not in info


def test_ten_at_once_see_only_their_own(empty):
    w = empty
    # None goes while the others are still being started.
    w.configure(wsl2_memory="1900MB", general_instanceIdleTimeout="-1", wsl2_swap=0)
    ids = install_ten(w)
    names = list(ids)
    assert len(names) == 10 and set(w.list()) == set(names)
    assert {n: d["flavor"] for n, d in w.list().items()} == ids
    personalise(w, names)

    # All are asked to start before any has been waited for, each with a program of its own and one that answers.
    sessions = {}
    for i, name in enumerate(names):
        sessions[name] = w.popen("-d", name, "--", f": >/dev/shm/mark-{name}; : >/tmp/mark-{name}; sleep {70000 + i} & "
                                 "echo up; read x; echo $x; read x", stdin=subprocess.PIPE, text=True)
    for name, p in sessions.items():
        assert p.stdout.readline() == "up\n", (name, p.communicate(timeout=30 * SCALE))
    assert {d["state"] for d in w.list().values()} == {"Running"}
    assert len(w.vmm_pids()) == 1
    total = int(w.ok("-d", "bookworm", "--", "awk '/MemTotal/{print $2}' /proc/meminfo"))
    used = memory_of(w.vmm_pids()[0])
    print(f"memory: {total >> 10} MiB in the guest, {used >> 10} MiB of this host's")
    assert total < 2 << 20 and used < 2 << 20

    boots = set()
    for i, name in enumerate(names):
        assert w.ok("-d", name, "--", LOOK, timeout=60) == (
            f"{name}\nbox-{name}\nmark-{name} mark-{name} sleep {70000 + i}  1\n1\n0\n"), name
        boots.add(w.ok("-d", name, "--", "cat /proc/sys/kernel/random/boot_id"))
    assert len(boots) == 1  # one machine
    assert w.ok("-d", "trixie", "--", ". /etc/os-release; echo $VERSION_CODENAME") == "trixie\n"
    assert w.ok("-d", "ubuntu", "--", ". /etc/os-release; echo $NAME $VERSION_ID") == "Ubuntu 24.04\n"
    for name in ("alpine", "copy2"):
        assert w.ok("-d", name, "--", "which-libc; cat /etc/alpine-release") == "musl\n3.20.0\n"
    assert w.ok("-d", "sysd", "--", "cat /proc/1/comm") == "systemd\n"
    # What root of one does to its name, all processes and its shared memory, the others do not notice.
    w.ok("-d", "busybox", "--", "hostname other; rm -f /dev/shm/* /tmp/mark-*; kill -9 -1")
    assert sessions.pop("busybox").wait(60 * SCALE) != 0
    for i, name in enumerate(n for n in names if n != "busybox"):
        assert w.ok("-d", name, "--", LOOK, timeout=60).split()[1:5] == [
            f"box-{name}", f"mark-{name}", f"mark-{name}", "sleep"], name

    # Half of them end; the sessions of the others go on as if nothing had happened.
    for name in names[:5]:
        w.ok("--terminate", name, timeout=60)
        assert sessions.pop(name).wait(60 * SCALE) != 0
    assert {n for n, d in w.list().items() if d["state"] == "Running"} >= set(sessions)
    for name, p in sessions.items():
        p.stdin.write(f"hello {name}\n")
        p.stdin.flush()
        assert p.stdout.readline() == f"hello {name}\n"
    for name in names[5:]:
        w.ok("--terminate", name, timeout=60)
    for p in sessions.values():
        p.communicate(timeout=60 * SCALE)
        assert p.returncode != 0
    assert {d["state"] for d in w.list().values()} == {"Stopped"}
    w.ok("--shutdown", timeout=60)
    wait_for("the virtual machine to end", lambda: not w.vmm_pids())
    log = (w.data / "wslxd.log").read_text()
    assert "still in use" not in log and "ended by itself" not in log
    for name in names:
        disk_is_clean(os.path.join(w.list()[name]["dir"], "ext4.img"))
