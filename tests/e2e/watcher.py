#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""watcher.py PATH...: prints what inotify(7) says of them, a line each: the path's number, event, cookie, name (JSON). Reads
commands: "add PATH", "read PATH" prints a file's content, "open PATH" too and
keeps it open, "again" reads that again; "tree PATH" adds all folders below, "rm N" ends a watch, others are shell."""
import ctypes
import json
import os
import select
import struct
import subprocess
import sys

EVENTS = {0x2: "MODIFY", 0x4: "ATTRIB", 0x8: "CLOSE_WRITE", 0x40: "MOVED_FROM", 0x80: "MOVED_TO", 0x100: "CREATE",
          0x200: "DELETE", 0x400: "DELETE_SELF", 0x800: "MOVE_SELF", 0x2000: "UNMOUNT", 0x4000: "OVERFLOW", 0x8000: "IGNORED"}
MASK = 0xfce & ~0x10
libc = ctypes.CDLL(None, use_errno=True)


def say(*what):
    print(json.dumps(what), flush=True)


def main():
    fd = libc.inotify_init1(os.O_NONBLOCK)
    names, opened = {}, []

    def add(path):
        wd = libc.inotify_add_watch(fd, os.fsencode(path), MASK)
        if wd < 0:
            raise OSError(ctypes.get_errno(), path)
        names[wd] = len(names)

    def command(line):
        what, _, arg = line.partition(" ")
        if what == "add":
            add(arg)
        elif what == "read":
            with open(arg) as f:
                say("content", f.read())
        elif what == "open":
            opened.append(os.open(arg, os.O_RDONLY))
            say("content", os.pread(opened[-1], 1000, 0).decode())
        elif what == "again":
            say("content", os.pread(opened[-1], 1000, 0).decode())
        elif what == "tree":
            for path, folders, _ in os.walk(arg):
                for d in folders:
                    add(f"{path}/{d}")
        elif what == "rm":
            libc.inotify_rm_watch(fd, next(wd for wd, n in names.items() if n == int(arg)))
        else:
            subprocess.run(line, shell=True, check=False)
        say("done")

    def event(mask, cookie, wd, name):
        text = "|".join(t for bit, t in EVENTS.items() if mask & bit) + ("|ISDIR" if mask & 0x40000000 else "")
        say(names.get(wd, -1), text, cookie, os.fsdecode(name.rstrip(b"\0")))

    for path in sys.argv[1:]:
        add(path)
    say("ready")
    while True:
        ready = select.select([0, fd], [], [])[0]
        if 0 in ready:
            line = sys.stdin.readline()
            if not line:
                return
            command(line.rstrip("\n"))
        if fd in ready:
            data = os.read(fd, 65536)
            while data:
                wd, mask, cookie, size = struct.unpack_from("iIII", data)
                event(mask, cookie, wd, data[16:16 + size])
                data = data[16 + size:]


main()
