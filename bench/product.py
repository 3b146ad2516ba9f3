# SPDX-License-Identifier: MIT
"""The whole product for a benchmark: a service of its own with one distribution."""
import contextlib
import os
import select
import shutil
import signal
import subprocess

from common import Failed, ROOT

WSLX = f"{ROOT}/build/cli/wslx"


class Product:
    """The distribution is "d". user: a number of whose the service is, when root runs this. more: of wslx.conf."""

    def __init__(self, tmp, accel, tar, user=None, more=""):
        self.tmp, self.user = tmp, user
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
        data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
        for what, name in ("KERNEL", "vmlinuz"), ("INITRD", "initrd.img"):
            self.env.setdefault(f"WSLX_{what}", f"{data}/wslx/kernel/{name}")
        for what, name in ("RUNTIME_DIR", "run"), ("DATA_HOME", "data"), ("CONFIG_HOME", "config"):
            os.makedirs(f"{tmp}/{name}/wslx", mode=0o700)
            os.chmod(f"{tmp}/{name}", 0o700)
            self.env[f"XDG_{what}"] = f"{tmp}/{name}"
        with open(f"{tmp}/config/wslx/wslx.conf", "w", encoding="ascii") as f:
            f.write(f"[wslx]\nengine={accel}\n[wsl2]\nmemory=1GB\nprocessors=1\n{more}")
        if user is not None:
            self.env["HOME"] = tmp
            for name in "KERNEL", "INITRD":  # which may be where only root can read
                self.env[f"WSLX_{name}"] = shutil.copy(self.env[f"WSLX_{name}"], f"{tmp}/{name}")
            subprocess.check_call(["chown", "-R", f"{user}:{user}", tmp])
        with open(tar, "rb") as f:
            self.call("--import", "d", f"{tmp}/d", "-", stdin=f)

    def options(self):
        """For subprocess: as whom, in which environment."""
        who = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        return {"env": self.env, **who}

    def call(self, *args, stdin=subprocess.DEVNULL):
        p = subprocess.run([WSLX, *args], stdin=stdin, capture_output=True, text=True, timeout=300, check=False, **self.options())
        if p.returncode:
            raise Failed(f"wslx {' '.join(args)}: {p.stderr.strip() or p.returncode}")
        return p.stdout

    def end(self):
        subprocess.run([WSLX, "--shutdown"], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False, **self.options())
        # the service would wait for more to do
        with contextlib.suppress(OSError, ValueError), open(f"{self.tmp}/data/wslx/wslxd.lock", encoding="ascii") as f:
            pid = os.pidfd_open(int(f.read()))
            signal.pidfd_send_signal(pid, signal.SIGTERM)
            select.select([pid], [], [], 10)
            os.close(pid)
