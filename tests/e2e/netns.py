# SPDX-License-Identifier: MIT
"""A network namespace of a test's own (root only), in which wslx runs and the test has sockets."""
import ctypes
import itertools
import json
import os
import subprocess
import threading

CLONE_NEWNET = 0x40000000
_number = itertools.count()


class Namespace:
    def __init__(self):
        assert os.geteuid() == 0, "network namespaces need root, as which this suite runs"
        self.name = f"wslx-test-{os.getpid()}-{next(_number)}"
        subprocess.run(["ip", "netns", "add", self.name], check=True, timeout=60)
        self.ip("link", "set", "lo", "up")

    def ip(self, *args):
        p = subprocess.run(["ip", "-n", self.name, *args], check=True, capture_output=True, text=True, timeout=60)
        return p.stdout

    def add_tap(self, name, address):
        self.ip("tuntap", "add", "dev", name, "mode", "tap")
        self.ip("addr", "add", address, "dev", name)
        self.ip("link", "set", name, "up")

    def packets(self, device):
        """(received, sent) by this namespace."""
        stats = json.loads(self.ip("-s", "-j", "link", "show", "dev", device))[0]["stats64"]
        return stats["rx"]["packets"], stats["tx"]["packets"]

    def call(self, fn):
        """fn() on a thread that is in the namespace; sockets that it makes stay there."""
        out = []

        def run():
            try:
                with open(f"/run/netns/{self.name}", encoding="ascii") as f:
                    if ctypes.CDLL(None, use_errno=True).setns(f.fileno(), CLONE_NEWNET):
                        raise OSError(ctypes.get_errno(), "setns")
                out.append((fn(), None))
            except BaseException as e:  # pylint: disable=broad-except
                out.append((None, e))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        value, error = out[0]
        if error:
            raise error
        return value

    def put(self, w):
        """What this Wslx runs is in the namespace, its service first of all."""
        if w.service_pid():
            w.kill(w.service_pid())
        plain = w.cmd
        w.cmd = lambda *args: ["ip", "netns", "exec", self.name, *plain(*args)]

    def close(self):
        subprocess.run(["ip", "netns", "delete", self.name], check=True, timeout=60)
