# SPDX-License-Identifier: MIT
"""tools/mkinitramfs, with a made-up kernel whose modules are just large enough to have a .modinfo section."""
import os
import struct
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def module(depends, aliases=()):
    """An ELF64 file with the sections "", .shstrtab and .modinfo."""
    info = b"license=GPL\0depends=" + ",".join(depends).encode() + b"\0name=x\0"
    info += b"".join(b"alias=" + a.encode() + b"\0" for a in aliases)
    names = b"\0.shstrtab\0.modinfo\0"
    shoff = 64 + len(names) + len(info)
    head = b"\x7fELF\x02\x01\x01" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, shoff, 0, 64, 0, 0, 64, 3, 1)

    def section(name, kind, off, size):
        return struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, off, size, 0, 0, 1, 0)

    return (head + names + info + section(0, 0, 0, 0) + section(1, 3, 64, len(names)) +
            section(11, 1, 64 + len(names), len(info)))


@pytest.fixture
def kernel(tmp_path):
    base = tmp_path / "kernel/lib/modules/1.0"
    mods = {"a": [], "b": ["a"], "c-d": ["b", "a"], "loop1": ["loop2"], "loop2": ["loop1"], "lost": ["nowhere"]}
    (base / "kernel/x").mkdir(parents=True)
    for name, deps in mods.items():
        (base / "kernel/x" / f"{name}.ko").write_bytes(module(deps))
    (base / "modules.builtin").write_text("kernel/y/inside.ko\n")
    (tmp_path / "init").write_bytes(b"#!init")
    return tmp_path


def make(folder, *args):
    return subprocess.run([sys.executable, f"{ROOT}/tools/mkinitramfs", "--kernel", f"{folder}/kernel", "--init", f"{folder}/init",
                           "-o", f"{folder}/out", *args], capture_output=True, text=True, check=False)


def entries(path):
    data = path.read_bytes()
    found, off = {}, 0
    while True:
        assert data[off:off + 6] == b"070701"
        f = [int(data[off + 6 + 8 * i:off + 14 + 8 * i], 16) for i in range(13)]
        name = data[off + 110:off + 110 + f[11] - 1].decode()
        off = (off + 110 + f[11] + 3) & ~3
        body = data[off:off + f[6]]
        off = (off + f[6] + 3) & ~3
        if name == "TRAILER!!!":
            assert off == len(data)
            return found
        found[name] = (f[1], body)


def test_dependencies_come_first(kernel):
    assert make(kernel, "--module", "c_d").returncode == 0
    e = entries(kernel / "out")
    assert e["modules/order"][1] == b"a.ko\nb.ko\nc-d.ko\n"
    assert e["init"] == (0o100755, b"#!init")
    assert e["dev/console"][0] == 0o020600
    assert e["modules/b.ko"][1] == module(["a"])


@pytest.mark.parametrize("suffix, program", [("gz", ["gzip", "-n"]), ("xz", ["xz", "--check=crc32"]), ("zst", ["zstd", "-q"])])
def test_compressed_modules_are_unpacked(kernel, suffix, program):
    for path in (kernel / "kernel/lib/modules/1.0/kernel/x").glob("*.ko"):
        data = subprocess.run([*program, "-c"], input=path.read_bytes(), capture_output=True, check=True).stdout
        path.with_suffix(f".ko.{suffix}").write_bytes(data)
        path.unlink()
    assert make(kernel, "--module", "b").returncode == 0
    e = entries(kernel / "out")
    assert e["modules/order"][1] == b"a.ko\nb.ko\n" and e["modules/b.ko"][1] == module(["a"])
    (kernel / f"kernel/lib/modules/1.0/kernel/x/a.ko.{suffix}").write_bytes(b"no such thing")
    r = make(kernel, "--module", "b")
    assert r.returncode == 1 and "a.ko" in r.stderr and len(r.stderr.splitlines()) == 1


def test_builtin_and_optional_are_left_out(kernel):
    (kernel / "list").write_text("inside  # built in\n-absent\n\na # twice\na\n")
    assert make(kernel, "--list", f"{kernel}/list").returncode == 0
    assert entries(kernel / "out")["modules/order"][1] == b"a.ko\n"


def test_what_is_loaded_on_demand_has_an_index(kernel):
    (kernel / "kernel/lib/modules/1.0/kernel/x/e.ko").write_bytes(module(["c-d"], ["net-pf-9", "fs-e*"]))
    (kernel / "list").write_text("+e\na\n+absent\n+inside\n+a\n")
    assert make(kernel, "--list", f"{kernel}/list").returncode == 0
    e = entries(kernel / "out")
    assert e["modules/order"][1] == b"a.ko\n"
    assert e["modules/index"][1] == b"e b.ko c-d.ko e.ko\nnet_pf_9 b.ko c-d.ko e.ko\nfs_e* b.ko c-d.ko e.ko\nb b.ko\nc_d b.ko c-d.ko\n"
    assert {"modules/b.ko", "modules/c-d.ko", "modules/e.ko"} < set(e)


@pytest.mark.parametrize("name,message", [("absent", "module absent"), ("lost", "module nowhere"), ("loop1", "each other")])
def test_what_cannot_be_loaded_is_refused(kernel, name, message):
    r = make(kernel, "--module", name)
    assert r.returncode == 1 and message in r.stderr and len(r.stderr.splitlines()) == 1
    assert sorted(p.name for p in kernel.iterdir()) == ["init", "kernel"]


def test_not_a_module(kernel):
    (kernel / "kernel/lib/modules/1.0/kernel/x/a.ko").write_bytes(b"hello")
    r = make(kernel, "--module", "a")
    assert r.returncode == 1 and "not a 64-bit" in r.stderr


def test_signatures_are_left_out(kernel):
    path = kernel / "kernel/lib/modules/1.0/kernel/x/a.ko"
    trailer = b"\0\0\2\0\0\0\0\0" + struct.pack(">I", 300) + b"~Module signature appended~\n"
    path.write_bytes(module([]) + b"s" * 300 + trailer)
    assert make(kernel, "--module", "a").returncode == 0
    assert entries(kernel / "out")["modules/a.ko"][1] == module([])
    path.write_bytes(module([]) + trailer.replace(b"\1\x2c", b"\xff\xff"))
    r = make(kernel, "--module", "a")
    assert r.returncode == 1 and "signature" in r.stderr


def test_same_inputs_same_bytes(kernel):
    assert make(kernel, "--module", "c_d").returncode == 0
    first = (kernel / "out").read_bytes()
    os.utime(kernel / "init", (1, 1))
    assert make(kernel, "--module", "c_d").returncode == 0
    assert (kernel / "out").read_bytes() == first


def test_added_files(kernel):
    assert make(kernel, "--add", f"{kernel}/init=etc/x/file:600", "--add", "file=@etc/x/link").returncode == 0
    e = entries(kernel / "out")
    assert e["etc/x/file"] == (0o100600, b"#!init")
    assert e["etc/x/link"] == (0o120777, b"file")
    assert "etc" in e and "etc/x" in e
