#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Stands in for wslx-vmm and the guest's init, so that wslxd and wslx can be tested without a virtual machine.

Takes wslx-vmm's options, serves its control and vsock sockets, and speaks the host-guest protocol (include/wslx/abi/
guest.h): programs run on this host, as this user. The environment makes it misbehave:

    FAKE_FAIL=TEXT        say TEXT and exit before anything else, as for a bad kernel
    FAKE_NO_HELLO=1       never connect to the host
    FAKE_BOOT_DELAY=S     seconds until HELLO
    FAKE_ORDERLY=PATH     make this file when the host asks for a shutdown
    FAKE_NO_START=NAME    never answer that this distribution has started; 1: any
    FAKE_THAWS=1          a file system that is frozen is not for long
    FAKE_MOUNT=PATH       while this file exists its text is why MOUNT fails
    FAKE_UNMOUNT=PATH     and UNMOUNT, with EBUSY
    FAKE_MOUNT_LATE=PATH  while this file exists MOUNT is not answered
    FAKE_LISTENERS=PATH   one in a line: who listens in the guest; a connection there hears that line
"""
import argparse
import array
import errno
import json
import os
import pty
import signal
import socket
import struct
import subprocess
import sys
import termios
import fcntl
import threading
import time

HELLO, START, STOP, SHUTDOWN, STAT = 1, 16, 17, 18, 19
FREEZE, THAW = 120, 121
MOUNT, UNMOUNT = 113, 114
BUSY, EXITED = 32, 33
NETWORK, LISTENERS, FORWARD = 144, 145, 146
FORWARDS = 59999  # the vsock port for them
EXEC, ATTACH, STARTED, EXIT, FAILED = 48, 49, 50, 51, 52
SIGNAL_SEND, RESIZE = 56, 57
REPLY = 1
TAGS = ("VERSION CAPS TEXT BOOT_US DISTRO PORT LUN FSTYPE OPTIONS HOSTNAME UID TIMEOUT_MS MEM_TOTAL MEM_FREE UPTIME_MS "
        "TIME_NS COUNT ARG ENV USER CWD FLAGS FD0 FD1 FD2 ROWS COLS COOKIE STREAM PID STATUS SIGNAL ERRNO NAME").split()
TAG = {name: i + 1 for i, name in enumerate(TAGS)}
TAG.update(PARTITION=108, DEVICE=109, FOLDER=110, FORWARD_PORT=149, LISTENER=150)
U64 = {"CAPS", "BOOT_US", "COOKIE", "TIME_NS", "MEM_TOTAL", "MEM_FREE", "UPTIME_MS"}
FLAG_SHELL, FLAG_LOGIN, FLAG_CWD_MUST = 1, 2, 4
FD_NULL, FD_PIPE, FD_TTY = 0, 1, 2
STREAM_TTY = 3


def pack(type_, flags, id_, error, *attrs):
    body = b""
    for name, value in attrs:
        if isinstance(value, int):
            value = struct.pack("<Q" if name in U64 else "<I", value)
        elif isinstance(value, str):
            value = value.encode()
        body += struct.pack("<IHH", len(value), TAG[name], 0) + value + bytes(-len(value) % 4)
    return struct.pack("<IHHII", 16 + len(body), type_, flags, id_, error) + body


class Msg:
    def __init__(self, data):
        _, self.type, self.flags, self.id, self.error = struct.unpack_from("<IHHII", data)
        self.attrs, pos = [], 16
        while pos < len(data):
            n, tag, _ = struct.unpack_from("<IHH", data, pos)
            self.attrs.append((tag, data[pos + 8:pos + 8 + n]))
            pos += 8 + n + -n % 4

    def all(self, name):
        return [v for t, v in self.attrs if t == TAG[name]]

    def get(self, name, default=None):
        found = self.all(name)
        if not found:
            return default
        if name in U64:
            return struct.unpack("<Q", found[0])[0]
        return struct.unpack("<I", found[0])[0] if isinstance(default, int) else found[0].decode()


def read_exact(sock, n):
    data = b""
    while len(data) < n:
        piece = sock.recv(n - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def recv_msg(sock):
    head = read_exact(sock, 4)
    size, = struct.unpack("<I", head)
    return Msg(head + read_exact(sock, size - 4))


def copy(src, dst, done=None):
    """Bytes from one descriptor to another until either ends."""
    try:
        while True:
            data = os.read(src, 65536)
            if not data:
                break
            while data:
                data = data[os.write(dst, data):]
    except OSError:
        pass
    if done:
        done()


class Session:
    def __init__(self, distro, conn, m):
        self.distro, self.conn, self.lock = distro, conn, threading.Lock()
        self.streams, self.proc, self.master = {}, None, -1
        self.kinds = [m.get(f"FD{i}", 0) for i in range(3)]
        self.rows, self.cols = m.get("ROWS", 24), m.get("COLS", 80)
        self.needs = {i for i in range(3) if self.kinds[i] == FD_PIPE}
        if FD_TTY in self.kinds:
            self.needs.add(STREAM_TTY)
        args = [a.decode() for a in m.all("ARG")]
        flags = m.get("FLAGS", 0)
        if not args:
            args = ["/bin/sh"]
        elif flags & FLAG_SHELL:
            script = args[0] if len(args) == 1 else " ".join("'" + a.replace("'", "'\\''") + "'" for a in args)
            args = ["/bin/sh", "-c", script]
        self.args, self.cwd = args, m.get("CWD") or "/"
        self.env = {"PATH": os.environ["PATH"], "WSL_DISTRO_NAME": distro.name}
        self.env.update(e.decode().split("=", 1) for e in m.all("ENV"))
        self.cookie = struct.unpack("<Q", os.urandom(8))[0]
        user = m.get("USER")
        if user and user not in ("root", "0"):
            raise OSError(errno.ENOENT, f'user "{user}" does not exist in the distribution')
        if not os.path.isdir(self.cwd):
            if flags & FLAG_CWD_MUST:
                raise OSError(errno.ENOENT, f"directory {self.cwd} does not exist in the distribution")
            self.cwd = "/"

    def send(self, *args):
        with self.lock:
            try:
                self.conn.sendall(pack(*args))
            except OSError:
                pass

    def start(self):
        slave, child, ours = -1, [], []
        if STREAM_TTY in self.needs:
            self.master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", self.rows, self.cols, 0, 0))
        for i, kind in enumerate(self.kinds):
            if kind == FD_PIPE:
                r, w = os.pipe()
                child.append(r if i == 0 else w)
                ours.append(w if i == 0 else r)
            else:
                child.append(os.dup(slave) if kind == FD_TTY else os.open("/dev/null", os.O_RDWR))
                ours.append(-1)

        def become():
            os.setsid()
            if slave >= 0:
                fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        try:
            self.proc = subprocess.Popen(self.args, stdin=child[0], stdout=child[1], stderr=child[2], cwd=self.cwd,
                                         env=self.env, preexec_fn=become, restore_signals=True)
        except OSError as e:
            self.send(FAILED, 0, 0, 0, ("ERRNO", e.errno), ("TEXT", f"execute {self.args[0]}: {os.strerror(e.errno)}"))
            self.close()
            return
        finally:
            for fd in child:
                os.close(fd)
        if slave >= 0:
            os.close(slave)
        self.distro.count(+1)
        outs = []
        self.send(STARTED, 0, 0, 0, ("PID", self.proc.pid))
        for i in range(3):
            if self.kinds[i] == FD_PIPE:
                s = self.streams[i]
                if i == 0:
                    threading.Thread(target=copy, args=(s.fileno(), ours[0], lambda fd=ours[0]: os.close(fd)),
                                     daemon=True).start()
                else:
                    def end(fd=ours[i], sock=s):
                        os.close(fd)
                        try:
                            sock.shutdown(socket.SHUT_RDWR)
                        except OSError:
                            pass
                    outs.append(threading.Thread(target=copy, args=(ours[i], s.fileno(), end), daemon=True))
        if self.master >= 0:
            s = self.streams[STREAM_TTY]
            threading.Thread(target=copy, args=(s.fileno(), self.master), daemon=True).start()
            outs.append(threading.Thread(target=copy, args=(self.master, s.fileno()), daemon=True))
        for t in outs:
            t.start()
        threading.Thread(target=self.wait, args=(outs,), daemon=True).start()

    def wait(self, outs):
        status = self.proc.wait()
        for t in outs:
            t.join(1)  # descendants may hold the descriptors open
        self.distro.count(-1)
        self.send(EXIT, 0, 0, 0, ("SIGNAL", -status) if status < 0 else ("STATUS", status))
        self.close()

    def close(self):
        for s in [self.conn, *self.streams.values()]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hang_up(self):
        if self.proc and self.proc.poll() is None:
            try:
                os.killpg(self.proc.pid, signal.SIGHUP)
            except OSError:
                pass

    def serve(self):
        """Messages from the client until it goes away."""
        try:
            while True:
                m = recv_msg(self.conn)
                if m.type == SIGNAL_SEND and self.proc:
                    group = self.proc.pid
                    if self.master >= 0:
                        group = struct.unpack("i", fcntl.ioctl(self.master, termios.TIOCGPGRP, b"\0" * 4))[0]
                    os.killpg(group, m.get("SIGNAL", 0))
                elif m.type == RESIZE and self.master >= 0:
                    fcntl.ioctl(self.master, termios.TIOCSWINSZ,
                                struct.pack("HHHH", m.get("ROWS", 24), m.get("COLS", 80), 0, 0))
        except (EOFError, OSError):
            self.hang_up()


class Distro:
    def __init__(self, vm, id_, name, port):
        self.vm, self.id, self.name, self.port = vm, id_, name, port
        self.sessions, self.live, self.lock = [], 0, threading.Lock()

    def count(self, delta):
        with self.lock:
            before, self.live = self.live, self.live + delta
            if (before == 0) != (self.live == 0):
                self.vm.event(BUSY, ("DISTRO", self.id), ("COUNT", self.live))

    def kill(self):
        for s in self.sessions:
            if s.proc and s.proc.poll() is None:
                try:
                    os.killpg(s.proc.pid, signal.SIGKILL)
                except OSError:
                    pass

    def connection(self, conn):
        try:
            m = recv_msg(conn)
        except (EOFError, OSError):
            return
        if m.type == ATTACH:
            for s in self.sessions:
                n = m.get("STREAM", 99)
                if s.cookie == m.get("COOKIE") and n in s.needs and n not in s.streams:
                    s.streams[n] = conn
                    if s.needs == set(s.streams):
                        s.start()
                    return
            conn.close()
            return
        try:
            s = Session(self, conn, m)
        except OSError as e:
            conn.sendall(pack(EXEC, REPLY, m.id, e.errno, ("TEXT", e.strerror)))
            conn.close()
            return
        self.sessions.append(s)
        conn.sendall(pack(EXEC, REPLY, m.id, 0, ("COOKIE", s.cookie)))
        s.serve()


class Vm:
    def __init__(self, opt):
        self.opt, self.disks, self.distros, self.folders = opt, {}, {}, set()
        self.servers = {}
        self.next_port, self.host, self.lock = 60000, None, threading.Lock()

    def event(self, type_, *attrs):
        self.send(pack(type_, 0, 0, 0, *attrs))

    def send(self, data):
        with self.lock:
            try:
                if self.host:
                    self.host.sendall(data)
            except OSError:
                pass

    # The control socket

    def control_conn(self, conn):
        buf, fds = b"", []
        while True:
            data, anc, _, _ = conn.recvmsg(65536, socket.CMSG_SPACE(8 * 4))
            for level, kind, raw in anc:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    a = array.array("i")
                    a.frombytes(raw)
                    fds += a
            if not data:
                return
            buf += data
            while b"\n" in buf:
                line, buf = buf.split(b"\n", 1)
                req = json.loads(line)
                reply = {"id": req["id"]}
                try:
                    reply["result"] = self.control(req["method"], req.get("params", {}), fds)
                except OSError as e:
                    reply["error"] = {"code": e.errno, "text": e.strerror}
                conn.sendall(json.dumps(reply).encode() + b"\n")

    def control(self, method, params, fds):
        if method == "status":
            return {"engine": "soft", "reason": "it is a fake", "state": "running", "memory_mib": 1024, "cpus": 1,
                    "luns": sorted(self.disks), "memory_used": 1 << 20, "began": 0, "entered": 0}
        if method == "disk-attach":
            fd = fds.pop(0)
            if params["lun"] in self.disks:
                os.close(fd)
                raise OSError(errno.EBUSY, "the LUN is in use")
            self.disks[params["lun"]] = fd
            return {}
        if method == "disk-detach":
            if params["lun"] not in self.disks:
                raise OSError(errno.ENOENT, "no such LUN")
            os.close(self.disks.pop(params["lun"]))
            return {}
        if method == "vhost-user-attach":
            self.servers[params["device"]] = fds.pop(0)
            return {}
        if method == "stop":
            os._exit(5)
        raise OSError(errno.ENOSYS, f"unknown method {method}")

    # The guest

    def vsock_conn(self, conn):
        line = b""
        while not line.endswith(b"\n"):
            c = conn.recv(1)
            if not c:
                return
            line += c
        port = int(line.split()[1])
        if port == FORWARDS:
            conn.sendall(b"OK %d\n" % port)
            m = recv_msg(conn)
            conn.sendall(pack(FORWARD, REPLY, m.id, 0) + m.all("LISTENER")[0] + b"\n")
            conn.close()
            return
        for d in self.distros.values():
            if d.port == port:
                conn.sendall(b"OK %d\n" % port)
                d.connection(conn)
                return
        conn.close()

    def start(self, m):
        id_ = m.get("DISTRO")
        if id_ not in self.distros:
            fd = self.disks.get(m.get("LUN", 0))
            if fd is None:
                return pack(START, REPLY, m.id, errno.ENODEV, ("TEXT", "no disk appeared at this LUN"))
            if os.pread(fd, 2, 1024 + 56) != b"\x53\xef":
                return pack(START, REPLY, m.id, errno.EUCLEAN, ("TEXT", "mount /dev/sda: Structure needs cleaning"))
            self.next_port += 1
            self.distros[id_] = Distro(self, id_, m.get("NAME"), self.next_port)
        return pack(START, REPLY, m.id, 0, ("DISTRO", id_), ("PORT", self.distros[id_].port))

    def listeners(self):
        told = None
        while True:
            with open(os.environ["FAKE_LISTENERS"], "rb") as f:
                now = f.read()
            if now != told:
                self.event(LISTENERS, *(("LISTENER", x) for x in now.splitlines()))
            told = now
            time.sleep(0.05)

    def guest(self):
        time.sleep(float(os.environ.get("FAKE_BOOT_DELAY", "0")))
        while True:
            self.host = None
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self.opt.vsock + "_50000")
            except OSError:
                time.sleep(0.1)
                continue
            running = [a for d in self.distros.values()
                       for a in (("DISTRO", d.id), ("PORT", d.port), ("COUNT", d.live))]
            self.host = sock
            self.send(pack(HELLO, 0, 1, 0, ("VERSION", 1), ("CAPS", 1), ("TEXT", "6.1.0-fake"), ("BOOT_US", 1),
                           *running))
            try:
                while True:
                    self.request(recv_msg(sock))
            except (EOFError, OSError):
                pass

    def volume(self, m):
        trouble = os.environ.get("FAKE_MOUNT" if m.type == MOUNT else "FAKE_UNMOUNT", "")
        if os.path.exists(trouble):
            with open(trouble, encoding="utf-8") as f:
                return pack(m.type, REPLY, m.id, errno.EINVAL if m.type == MOUNT else errno.EBUSY, ("TEXT", f.read()))
        folder = m.get("FOLDER")
        if folder is not None:
            name = m.get("NAME")
            if name in self.folders:
                return pack(m.type, REPLY, m.id, errno.EEXIST, ("TEXT", "something is mounted there"))
            self.folders.add(name)
            print("fake: MOUNT", name, folder, m.get("OPTIONS"), file=sys.stderr, flush=True)
            return pack(m.type, REPLY, m.id, 0)
        if m.type == UNMOUNT and not m.all("LUN"):
            print("fake: UNMOUNT", m.get("NAME"), file=sys.stderr, flush=True)
            self.folders.discard(m.get("NAME"))
            return pack(m.type, REPLY, m.id, 0)
        if m.get("LUN", 99) not in self.disks:
            return pack(m.type, REPLY, m.id, errno.ENODEV, ("TEXT", "no disk appeared at this LUN"))
        print("fake:", "MOUNT" if m.type == MOUNT else "UNMOUNT", *(n.decode() for n in m.all("NAME")), file=sys.stderr, flush=True)
        return pack(m.type, REPLY, m.id, 0, ("DEVICE", "sdz"), ("FSTYPE", m.get("FSTYPE") or "ext4"))

    def mount_late(self, m):
        while os.path.exists(os.environ["FAKE_MOUNT_LATE"]):
            time.sleep(0.02)
        self.send(self.volume(m))

    def request(self, m):
        if m.flags & REPLY:
            return
        if m.type == MOUNT and os.path.exists(os.environ.get("FAKE_MOUNT_LATE", "")):
            threading.Thread(target=self.mount_late, args=(m,), daemon=True).start()
            return
        if m.type in (MOUNT, UNMOUNT):
            self.send(self.volume(m))
            return
        if m.type == NETWORK and "FAKE_LISTENERS" in os.environ:
            self.send(pack(NETWORK, REPLY, m.id, 0, ("FORWARD_PORT", FORWARDS)))
            threading.Thread(target=self.listeners, daemon=True).start()
        elif m.type == START and os.environ.get("FAKE_NO_START") in ("1", m.get("NAME")):
            pass
        elif m.type == START:
            self.send(self.start(m))
        elif m.type == STOP:
            d = self.distros.pop(m.get("DISTRO"), None)
            if d:
                d.kill()
            self.send(pack(STOP, REPLY, m.id, 0 if d else errno.ENOENT, ("DISTRO", m.get("DISTRO"))))
        elif m.type == FREEZE:
            d = self.distros.get(m.get("DISTRO"))
            self.send(pack(FREEZE, REPLY, m.id, 0 if d else errno.ENOENT, ("DISTRO", m.get("DISTRO")), ("COOKIE", 7)))
        elif m.type == THAW:
            lasted = m.get("COOKIE", 0) == 7 and "FAKE_THAWS" not in os.environ
            self.send(pack(THAW, REPLY, m.id, 0 if lasted else errno.ETIMEDOUT, ("DISTRO", m.get("DISTRO")),
                           ("TEXT", "it was frozen for too long")))
        elif m.type == SHUTDOWN:
            for d in self.distros.values():
                d.kill()
            if "FAKE_ORDERLY" in os.environ:
                open(os.environ["FAKE_ORDERLY"], "w", encoding="utf-8").close()
            self.send(pack(SHUTDOWN, REPLY, m.id, 0))
            os._exit(0)
        else:
            self.send(pack(m.type, REPLY, m.id, errno.ENOSYS, ("TEXT", "unknown request")))


def serve(path, handler):
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(64)

    def accept():
        while True:
            conn, _ = sock.accept()
            threading.Thread(target=handler, args=(conn,), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def main():
    p = argparse.ArgumentParser()
    for name in ("kernel", "initrd", "cmdline", "memory", "cpus", "engine", "serial", "vsock", "control"):
        p.add_argument("--" + name)
    p.add_argument("--vhost-user", action="append")
    p.add_argument("--balloon", action="store_true")
    p.add_argument("--probe", action="store_true")
    opt = p.parse_args()
    if opt.probe:
        print("soft: it is a fake")
        return
    with open(opt.kernel, "rb") as f:
        if not f.read(4) == b"FAKE" or "FAKE_FAIL" in os.environ:
            text = os.environ.get("FAKE_FAIL", f"{opt.kernel}: not a Linux kernel")
            print(f"wslx-vmm: engine soft: it is a fake\nwslx-vmm: {text}", file=sys.stderr)
            sys.exit(1)
    vm = Vm(opt)
    serve(opt.control, vm.control_conn)
    serve(opt.vsock, vm.vsock_conn)
    if "FAKE_NO_HELLO" in os.environ:
        signal.pause()
    vm.guest()


main()
