#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A tree under random load compared with a model in memory: tree.py FOLDER OPERATIONS SEED. Exit status 1 at the first difference.

Folders, files and links come, go and move, also onto one another; which errors there are is the model's to say, too.
"""
import errno
import os
import random
import stat
import sys

NAMES = 12


class Tree:
    def __init__(self, top, rng):
        self.top, self.rng = f"{top}/tree-{os.getpid()}", rng
        os.mkdir(self.top)
        self.model = {"": None}  # path: None a folder, bytes a file, str a link

    def full(self, path):
        return f"{self.top}/{path}" if path else self.top

    def pick(self):
        """A name that may be there or not, in a folder that is."""
        folder = self.rng.choice([p for p, v in self.model.items() if v is None])
        return f"{folder}/{self.rng.randrange(NAMES)}".lstrip("/")

    def is_folder(self, path):
        return path in self.model and self.model[path] is None

    def below(self, path):
        return [p for p in self.model if p.startswith(path + "/")]

    def does(self, error, fn, *args):
        """Whether it worked, which it does unless the model expects an error."""
        try:
            fn(*args)
        except OSError as e:
            allowed = error if isinstance(error, tuple) else (error,)
            assert e.errno in allowed, f"{errno.errorcode[e.errno]} instead of {[errno.errorcode.get(x, 'success') for x in allowed]}"
            return False
        assert not error, f"success instead of {error}"
        return True

    def mkdir(self):
        p = self.pick()
        if self.does(errno.EEXIST if p in self.model else 0, os.mkdir, self.full(p)):
            self.model[p] = None

    def write(self):
        p = self.pick()
        if isinstance(self.model.get(p), str):
            return
        data = self.rng.randbytes(self.rng.randrange(9000))

        def put():
            with open(self.full(p), "wb") as f:
                f.write(data)
        if self.does(errno.EISDIR if self.is_folder(p) else 0, put):
            self.model[p] = data

    def symlink(self):
        p, text = self.pick(), f"to-{self.rng.randrange(1000)}"
        if self.does(errno.EEXIST if p in self.model else 0, os.symlink, text, self.full(p)):
            self.model[p] = text

    def unlink(self):
        p = self.pick()
        if self.does(errno.ENOENT if p not in self.model else errno.EISDIR if self.is_folder(p) else 0, os.unlink, self.full(p)):
            del self.model[p]

    def rmdir(self):
        p = self.pick()
        error = errno.ENOENT if p not in self.model else errno.ENOTDIR if not self.is_folder(p) else errno.ENOTEMPTY if self.below(p) else 0
        if self.does(error, os.rmdir, self.full(p)):
            del self.model[p]

    def rename_error(self, p, q):
        if p not in self.model:
            return errno.ENOENT
        if q.startswith(p + "/"):
            return errno.EINVAL
        if p.startswith(q + "/"):
            return (errno.ENOTEMPTY, errno.EEXIST) if self.is_folder(p) else (errno.ENOTEMPTY, errno.EISDIR)
        if q not in self.model or p == q:
            return 0
        if self.is_folder(p):
            return errno.ENOTDIR if not self.is_folder(q) else (errno.ENOTEMPTY, errno.EEXIST) if self.below(q) else 0
        return errno.EISDIR if self.is_folder(q) else 0

    def rename(self):
        p, q = self.pick(), self.pick()
        if self.does(self.rename_error(p, q), os.rename, self.full(p), self.full(q)) and p != q:
            moved = {k: self.model.pop(k) for k in [p, *self.below(p)]}
            self.model.update({q + k[len(p):]: v for k, v in moved.items()})

    def look(self):
        p = self.pick()
        if not self.does(errno.ENOENT if p not in self.model else 0, os.lstat, self.full(p)):
            return
        self.same(p)

    def same(self, p):
        v, mode = self.model[p], os.lstat(self.full(p)).st_mode
        if v is None:
            assert stat.S_ISDIR(mode), f"{p} is no folder"
        elif isinstance(v, str):
            assert stat.S_ISLNK(mode) and os.readlink(self.full(p)) == v, f"{p} is another link"
        else:
            with open(self.full(p), "rb") as f:
                assert f.read() == v, f"{p} holds something else"

    def whole(self):
        found = {""}
        for base, dirs, files in os.walk(self.top):
            rel = os.path.relpath(base, self.top)
            found.update(os.path.normpath(os.path.join(rel, name)) for name in dirs + files)
        assert found == set(self.model), f"names differ: {sorted(found ^ set(self.model))[:5]}"
        for p in self.model:
            self.same(p)

    def clean(self):
        for p in sorted(self.model, key=len, reverse=True):
            (os.rmdir if self.model[p] is None else os.unlink)(self.full(p))

    OPS = [(mkdir, 2), (write, 2), (symlink, 1), (unlink, 2), (rmdir, 2), (rename, 4), (look, 3), (whole, 0.02)]

    def run(self, count):
        ops, weights = zip(*self.OPS)
        for i in range(count):
            op = self.rng.choices(ops, weights)[0]
            try:
                op(self)
            except (AssertionError, OSError) as e:
                print(f"operation {i}, {op.__name__}: {e}")
                return 1
        self.whole()
        self.clean()
        print(f"{count} operations, no difference")
        return 0


sys.exit(Tree(sys.argv[1], random.Random(int(sys.argv[3]))).run(int(sys.argv[2])))
