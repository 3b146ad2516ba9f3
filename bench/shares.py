# SPDX-License-Identifier: MIT
"""A folder of the host, or a disk, for guests that are otherwise alike: the monitors and file servers that benchmarks compare."""
import os
import signal
import subprocess
import time

from common import CMDLINE, Failed, ROOT, qemu, wslx

INIT = f"{ROOT}/build/guest/bench/guest/bench-soft"
FSD = f"{ROOT}/build/fsd/wslx-fsd"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MODULES = ["9p", "9pnet_virtio", "virtiofs"]
# What serves a guest over vhost-user: its own program, the kind of device, and what is told to it.
VHOST = {"fsd": "fs", "fsd-9p": "9p", "virtiofsd": "fs", "virtiofsd-all": "fs"}
QEMU_9P = {"9p": "passthrough", "9p-loose": "passthrough", "9p-mmap": "passthrough", "9p-mapped": "mapped-xattr"}

# For /bin/sh in the guest: mounts the share that the kernel's command line names on /job.
MOUNT = """share=$(sed 's/.*bench.share=\\([^ ]*\\).*/\\1/' /proc/cmdline)
mkdir -p /job
case $share in
fsd | virtiofsd*) mount -t virtiofs share /job ;;
9p) mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000 share /job ;;
9p-loose) mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose share /job ;;
fsd-9p | 9p-mmap | 9p-mapped)
	mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,access=client,cache=mmap,posixacl share /job ;;
disk) mount /dev/sdb /job ;;
esac
case $share in
fsd*) [ ! -d /job/share ] || mount --bind /job/share /job ;;
esac
"""
COLD = "cd / && umount -l /job; [ ! -d /job/share ] || umount -l /job; sync; echo 3 >/proc/sys/vm/drop_caches\n"


class Server:
    """A file server with a folder."""

    def __init__(self, kind, folder, sock):
        if kind.startswith("fsd"):
            argv = [FSD, "--socket", sock, "--share", f"share={folder}", *(["--9p"] if VHOST[kind] == "9p" else [])]
        else:
            argv = [VIRTIOFSD, f"--socket-path={sock}", "-o", f"source={folder}", "-o", "cache=auto",
                    *(["-o", "xattr", "-o", "posix_acl", "-o", "killpriv_v2"] if kind == "virtiofsd-all" else [])]
        self.p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
        end = time.monotonic() + 20
        while not os.path.exists(sock):
            if self.p.poll() is not None or time.monotonic() > end:
                raise Failed(f"{argv[0]} does not start: {self.p.stderr.read().decode()[-300:] if self.p.poll() is not None else 'no socket'}")
            time.sleep(0.02)

    def end(self):
        try:
            os.killpg(self.p.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.p.wait()
        self.p.stderr.close()


def own_disk(tmp):
    own = f"{tmp}/own"
    with open(own, "wb") as f:
        f.truncate(8 << 30)
    subprocess.check_call(["mke2fs", "-q", "-F", "-t", "ext4", own], stdout=subprocess.DEVNULL)
    return own


def command(monitor, server, a, jobs, kernel, initrd, disk, folder, tmp):
    """The monitor's command line, and the server that it needs or None. a has accel and memory; jobs are files in the disk's /bench."""
    cmdline = f"{CMDLINE} bench.root=/dev/sda bench.share={server} bench.args={','.join(['--job', *jobs])}"
    sock = f"{tmp}/sock"
    s = Server(server, folder, sock) if server in VHOST else None
    if monitor == "wslx":
        argv = wslx(a.accel, None, a.memory, kernel, initrd, cmdline, disk)
        if s:
            argv += ["--vhost-user", f"{VHOST[server]},tag=share,socket={sock}"]
        elif server == "disk":
            argv += ["--disk", own_disk(tmp)]
        return argv, s
    argv = qemu("host" if a.accel == "kvm" else "max", "q35", a.memory, kernel, initrd, cmdline, disk, "off")
    if a.accel == "kvm":
        argv[argv.index("tcg")] = "kvm"
    if s:
        argv += ["-object", f"memory-backend-memfd,id=m,size={a.memory}M,share=on", "-numa", "node,memdev=m",
                 "-chardev", f"socket,id=c,path={sock}", "-device", "vhost-user-fs-pci,chardev=c,tag=share"]
    elif server in QEMU_9P:
        argv += ["-fsdev", f"local,id=f,path={folder},security_model={QEMU_9P[server]},multidevs=remap",
                 "-device", "virtio-9p-pci,fsdev=f,mount_tag=share"]
    else:
        argv += ["-drive", f"if=none,id=o,file={own_disk(tmp)},format=raw,discard=unmap", "-device", "scsi-hd,drive=o"]
    return argv, s
