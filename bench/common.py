# SPDX-License-Identifier: MIT
"""What the benchmarks share: where things are, and the command lines of the virtual machine monitors compared."""
import os
import selectors
import signal
import subprocess
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CMDLINE = "console=ttyS0 quiet cryptomgr.notests noreplace-smp panic=-1"
VMM = f"{ROOT}/build/vmm/wslx-vmm"


class Failed(Exception):
    """A guest that failed or hung; the message says which and at what."""


def qemu(cpu, machine, memory, kernel, initrd, cmdline, disk=None, snapshot="on", rng=False):
    argv = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", cpu, "-M", machine, "-m", str(memory), "-nodefaults",
            "-display", "none", "-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
            "-append", cmdline]
    if disk:
        argv += ["-device", "virtio-scsi-pci", "-drive", f"if=none,id=d,file={disk},format=raw,snapshot={snapshot}",
                 "-device", "scsi-hd,drive=d"]
    if rng:
        argv += ["-device", "virtio-rng-pci"]
    return argv


def wslx(engine, translate, memory, kernel, initrd, cmdline, disk=None, vmm=VMM):
    argv = [vmm, "--engine", engine, "--kernel", kernel, "--initrd", initrd,
            "--memory", str(memory), "--no-default-cmdline", "--cmdline", cmdline, "--serial", "stdio"]
    if translate:  # otherwise as wslx-vmm does by default
        argv += ["--translate", translate]
    if disk:
        argv += ["--disk", disk]
    return argv


def fetch_kernel():
    """The folder of the cached Debian kernel."""
    return subprocess.check_output([f"{ROOT}/kernel/fetch"], text=True).strip()


def make_initrd(kdir, init, out, add=(), modules=()):
    subprocess.check_call([f"{ROOT}/tools/mkinitramfs", "--kernel", kdir, "--init", init, "--list",
                           f"{ROOT}/kernel/modules", *(x for m in modules for x in ("--module", m)),
                           *(x for a in add for x in ("--add", a)), "-o", out])


class Lines:
    """A program whose lines of output are read under a limit of time; ends it when left.

    With a prompt, its input is a pipe (self.p.stdin), and lines that hold the prompt count too, before their end."""

    def __init__(self, name, argv, limit, env=None, prompt=None):
        self.name, self.limit, self.tail, self.at, self.prompt = name, limit, b"", "its start", prompt
        self.start = time.monotonic()
        self.p = subprocess.Popen(argv, stdin=subprocess.PIPE if prompt else subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, env=env, bufsize=0)
        self.sel = selectors.DefaultSelector()
        self.sel.register(self.p.stdout, selectors.EVENT_READ)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.p.poll() is None:
            self.p.send_signal(signal.SIGKILL)
        self.p.wait()
        self.p.stdout.close()
        if self.p.stdin:
            self.p.stdin.close()
        self.sel.close()

    def fail(self, why):
        raise Failed(f"{self.name}: {why} at {self.at}; last output: {self.tail[-400:].decode(errors='replace')!r}")

    def __iter__(self):
        """(seconds since the start, words) of each line that begins with BENCH-, and (seconds, ["PROMPT"]) of the prompt;
        failures of the guest are raised."""
        rest = b""
        while True:
            left = self.start + self.limit - time.monotonic()
            if left <= 0 or not self.sel.select(left):
                self.fail(f"hung (no end within {self.limit:g} s)")
            chunk = os.read(self.p.stdout.fileno(), 65536)
            now = time.monotonic() - self.start
            if not chunk:
                return
            self.tail = (self.tail + chunk)[-4000:]
            *lines, rest = (rest + chunk).replace(b"\r", b"").split(b"\n")
            if self.prompt and any(self.prompt in line for line in [*lines, rest]):
                self.prompt = None
                yield now, ["PROMPT"]
            for line in lines:
                words = line[line.find(b"BENCH-"):].decode(errors="replace").split()
                if b"BENCH-" not in line:
                    continue
                if words[0] == "BENCH-START":
                    self.at = words[1]
                elif words[0] == "BENCH-ERROR":
                    self.fail(" ".join(words[1:]))
                yield now, words
