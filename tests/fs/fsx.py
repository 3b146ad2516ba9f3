#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A file under random load compared with a model in memory: fsx.py FOLDER OPERATIONS SEED [--direct]. Exit status 1 at the first difference.

Reads, writes, truncation, memory mappings, holes, copies of ranges, renames, unlinked and opened again; several descriptors at once.
"""
import ctypes
import mmap
import os
import random
import sys

SIZE = 1 << 18
libc = ctypes.CDLL(None, use_errno=True)


class Load:
    def __init__(self, folder, rng):
        self.path, self.rng = f"{folder}/fsx-{os.getpid()}", rng
        self.model = bytearray()
        self.fds = [os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o600)]
        self.log = []

    def fd(self):
        return self.rng.choice(self.fds)

    def range(self):
        off = self.rng.randrange(SIZE) if self.rng.random() < 0.7 else self.rng.randrange(SIZE // 4096) * 4096
        return off, self.rng.choice([1, 100, 4096, 8191, 65536, self.rng.randrange(1, SIZE)])

    def grow(self, size):
        if len(self.model) < size:
            self.model.extend(bytes(size - len(self.model)))

    def write(self):
        off, n = self.range()
        n = min(n, SIZE - off)
        data = self.rng.randbytes(n)
        assert os.pwrite(self.fd(), data, off) == n
        self.grow(off + n)
        self.model[off:off + n] = data

    def read(self):
        off, n = self.range()
        got = os.pread(self.fd(), n, off)
        assert got == self.model[off:off + n], f"read at {off}, {n} bytes"

    def truncate(self):
        size = self.range()[0]
        if self.rng.random() < 0.5:
            os.ftruncate(self.fd(), size)
        else:
            os.truncate(self.path, size)
        del self.model[size:]
        self.grow(size)

    def map_write(self):
        if not self.model:
            return
        off, n = self.range()
        off = min(off, len(self.model) - 1)
        n = min(n, len(self.model) - off)
        data = self.rng.randbytes(n)
        with mmap.mmap(self.fd(), len(self.model)) as m:
            m[off:off + n] = data
            if self.rng.random() < 0.5:
                m.flush()
        self.model[off:off + n] = data

    def map_read(self):
        if self.model:
            with mmap.mmap(self.fd(), len(self.model), prot=mmap.PROT_READ) as m:
                assert m[:] == self.model, "mapped"

    def punch(self):
        off, n = self.range()
        if libc.fallocate(self.fd(), 3, ctypes.c_long(off), ctypes.c_long(n)) == 0:
            end = min(off + n, len(self.model))
            if end > off:
                self.model[off:end] = bytes(end - off)

    def allocate(self):
        off, n = self.range()
        n = min(n, SIZE - off)
        if libc.fallocate(self.fd(), 0, ctypes.c_long(off), ctypes.c_long(n)) == 0:
            self.grow(off + n)

    def copy(self):
        if len(self.model) < 2:
            return
        n = self.rng.randrange(1, len(self.model) // 2 + 1)
        src = self.rng.randrange(len(self.model) - n + 1)
        dst = self.rng.randrange(SIZE - n + 1)
        if src < dst + n and dst < src + n:
            return
        done = 0
        while done < n:
            k = os.copy_file_range(self.fd(), self.fd(), n - done, src + done, dst + done)
            assert k > 0
            done += k
        data = bytes(self.model[src:src + n])
        self.grow(dst + n)
        self.model[dst:dst + n] = data

    def rename(self):
        new = self.path + "x" if not self.path.endswith("x") else self.path[:-1]
        os.rename(self.path, new)
        self.path = new

    def reopen(self):
        if len(self.fds) > 4 or (len(self.fds) > 1 and self.rng.random() < 0.5):
            os.close(self.fds.pop(self.rng.randrange(len(self.fds))))
        else:
            self.fds.append(os.open(self.path, os.O_RDWR))

    def sync(self):
        os.fsync(self.fd())

    def check(self):
        st = os.fstat(self.fd())
        assert st.st_size == len(self.model), f"{st.st_size} bytes long, not {len(self.model)}"
        assert os.stat(self.path).st_size == len(self.model)

    def whole(self):
        fd = os.open(self.path, os.O_RDONLY)
        got = b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
        os.close(fd)
        assert got == self.model, "as a whole"

    OPS = [(write, 10), (read, 10), (truncate, 3), (map_write, 4), (map_read, 4), (punch, 2), (allocate, 1), (copy, 2), (rename, 1),
           (reopen, 3), (sync, 1), (check, 4), (whole, 1)]

    def run(self, count):
        names, weights = zip(*self.OPS)
        for i in range(count):
            op = self.rng.choices(names, weights)[0]
            self.log.append(op.__name__)
            try:
                op(self)
            except (AssertionError, OSError) as e:
                print(f"operation {i}, {op.__name__}: {e}; before: {' '.join(self.log[-12:])}")
                return 1
        self.whole()
        os.unlink(self.path)
        print(f"{count} operations, no difference")
        return 0


sys.exit(Load(sys.argv[1], random.Random(int(sys.argv[3]))).run(int(sys.argv[2])))
