# SPDX-License-Identifier: MIT
"""The whole programs bench/soft --jobs runs, and the disks that it runs them on and boots from."""
import glob
import hashlib
import lzma
import os
import shutil
import subprocess

from common import ROOT

# Each is a script for /bin/sh; its last line of output is its checksum.
JOBS = {
    "gcc-O2": "gcc -w -O2 -c /bench/mid.i -o /tmp/mid.o && cksum </tmp/mid.o",
    "python-start": "python3 -c 'print(6 * 7)'",
    "python-bench": "python3 /bench/bench.py",
    "perl-bench": "perl -e 'for (1..200000) { $h{$_ % 997} .= chr(65 + $_ % 26); $n++ if $h{$_ % 997} =~ /AB|QZ/ } print \"$n\\n\"'",
    "shell-fork": "i=0; while [ $i -lt 60 ]; do /bin/true; i=$((i+1)); done; echo $i",
    # Before dpkg-unpack: that leaves a package unconfigured, which apt-get would then configure as well.
    # The limit: apt-get asks for the state of every file descriptor that there could be, natively perhaps a million.
    "apt-install": "ulimit -n 1024 && export APT_CONFIG=/bench/apt.conf DEBIAN_FRONTEND=noninteractive && "
                   "apt-get -q update && apt-get -q install wslx-bench-app && "
                   "{ dpkg-query -W -f '${Package} ${Status}\\n' 'wslx-bench-*' && "
                   "find /usr/share/wslx-bench-* /usr/lib/wslx-bench-* -type f | sort | xargs cksum; } | cksum",
    "dpkg-unpack": "dpkg --unpack --force-unsafe-io /bench/bench.deb >/dev/null && find /usr/share/wslx-bench | sort | cksum",
    "gzip": "gzip -6n </bench/data >/tmp/z && cksum </tmp/z && gzip -d </tmp/z | cksum",
    "xz": "xz -T1 -2 </bench/data >/tmp/z && cksum </tmp/z && xz -d </tmp/z | cksum",
}
PYTHON_BENCH = """import hashlib, json
d = {str(i): [i, i * 0.5, "x" * (i % 50)] for i in range(4000)}
t = json.dumps(json.loads(json.dumps(d)))
words = {}
for i in range(60000):
    k = (i * 7919) % 1009
    words[k] = words.get(k, 0) + i
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)
print(hashlib.sha256(t.encode()).hexdigest()[:16], sum(words.values()), fib(19), sorted(t)[500])
"""

# What is done at the login prompt's other end: all engines must have started the same units, and none may have failed.
AT_LOGIN = r"""state=$(systemctl is-system-running --wait)
failed=$(systemctl list-units --full --plain --no-legend --no-pager --state=failed | cut -d ' ' -f 1 | xargs)
[ "$state" = running ] || echo "BENCH-ERROR systemd says $state, failed: $failed"
sum=$(systemctl list-units --full --plain --no-legend --no-pager --type=service,target --state=active |
	cut -d ' ' -f 1 | sort | cksum | tr ' ' _)
printf '\nBENCH-UNITS %s\n' "$sum"
"""
# What else the index of apt-get's repository names: reading indexes is a good part of what apt-get does.
OTHERS = 2000


def rootfs(recipe):
    """The tar of a root file system made from a recipe of tools/dev/rootfs, from the cache."""
    return subprocess.check_output([f"{ROOT}/tools/dev/rootfs-tar", recipe], text=True).strip()


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def unpack(tar, root):
    os.mkdir(root)
    subprocess.check_call(["tar", "-C", root, "--numeric-owner", "-xf", tar])


def ext4(root, disk):
    subprocess.check_call(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk, "2G"], stdout=subprocess.DEVNULL)


def package(tmp, name, out, fields="", scripts=(), files=()):
    """Make the Debian package out of files, pairs of folder and path to copy from, and scripts of DEBIAN/."""
    pkg = f"{tmp}/{name}"
    control = f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: wslx\n{fields}Description: some files\n"
    os.makedirs(f"{pkg}/DEBIAN")
    write(f"{pkg}/DEBIAN/control", control)
    for script, text in scripts:
        write(f"{pkg}/DEBIAN/{script}", text)
        os.chmod(f"{pkg}/DEBIAN/{script}", 0o755)
    for folder, path in files:
        os.makedirs(f"{pkg}/{folder}", exist_ok=True)
        shutil.copy(path, f"{pkg}/{folder}")
    subprocess.check_call(["dpkg-deb", "--root-owner-group", "-Zxz", "-z2", "-b", pkg, out], stdout=subprocess.DEVNULL)
    shutil.rmtree(pkg)
    return control


def repository(tmp, root):
    """A package source of apt's in the tree: a package and two that it depends on, a trigger, maintainer scripts, others."""
    repo, index = f"{root}/bench/repo", []
    os.mkdir(repo)
    perl = [("usr/share/wslx-bench-data/" + os.path.basename(os.path.dirname(p)), p)
            for p in sorted(glob.glob(f"{root}/usr/share/perl/5.*.*/[A-Z]*/*.pm"))]
    libs = [("usr/lib/wslx-bench-lib", p) for p in sorted(glob.glob(f"{root}/usr/lib/x86_64-linux-gnu/liba*.so.?"))]
    if not perl or not libs:
        raise OSError("the root file system lacks what the packages are made of")
    postinst = "#!/bin/sh\nset -e\n[ \"$1\" != configure ] || dpkg --compare-versions \"$2\" lt 1\n"
    for name, fields, scripts, files in (
            ("wslx-bench-app", "Depends: wslx-bench-lib (= 1), wslx-bench-data\n", [("postinst", postinst)], []),
            ("wslx-bench-lib", "", [("triggers", "activate-noawait ldconfig\n")], libs),
            ("wslx-bench-data", "", [("preinst", postinst), ("postinst", postinst)], perl)):
        deb = f"{repo}/{name}.deb"
        control = package(tmp, name, deb, fields, scripts, files)
        with open(deb, "rb") as f:
            digest = hashlib.sha256(f.read()).hexdigest()
        index.append(f"{control}Filename: ./{name}.deb\nSize: {os.path.getsize(deb)}\nSHA256: {digest}\n")
    for i in range(OTHERS):
        digest = hashlib.sha256(str(i).encode()).hexdigest()
        index.append(f"Package: other-{i}\nVersion: 1.{i}-1\nArchitecture: all\nMaintainer: wslx\n"
                     f"Depends: other-{i * 7919 % OTHERS} (>= 1), other-{i * 104729 % OTHERS} | other-{i // 2}\n"
                     f"Description: is only named\nFilename: ./other-{i}.deb\nSize: {1000 + i}\nSHA256: {digest}\n")
    with lzma.open(f"{repo}/Packages.xz", "wb", preset=2) as f:
        f.write("\n".join(index).encode())
    write(f"{root}/bench/sources.list", "deb [trusted=yes] file:/bench/repo ./\n")
    write(f"{root}/bench/apt.conf",
          'Dir::Etc::SourceList "/bench/sources.list";\nDir::Etc::SourceParts "-";\nAPT::Get::Assume-Yes "true";\n'
          'Acquire::Languages "none";\n'
          'Dpkg::Use-Pty "false";\nDpkg::Options { "--force-unsafe-io"; };\n')


def tree(tmp, tar):
    """The root file system with the jobs' inputs in /bench, unpacked, and an ext4 image of it."""
    root, disk = f"{tmp}/root", f"{tmp}/disk"
    unpack(tar, root)
    os.mkdir(f"{root}/bench")
    with open(f"{root}/bench/mid.i", "wb") as f:
        subprocess.check_call(["gcc", "-E", "-P", "-D_GNU_SOURCE", f"-I{ROOT}", f"-I{ROOT}/include",
                               f"{ROOT}/vmm/cpu/soft/mmu.c"], stdout=f)
    with open(f"{root}/bench/data", "wb") as f:
        for path in sorted(glob.glob(f"{root}/usr/lib/python3*/[a-m]*.py")):
            with open(path, "rb") as g:
                f.write(g.read())
        f.truncate(1 << 20)
    write(f"{root}/bench/bench.py", PYTHON_BENCH)
    for name, script in JOBS.items():
        write(f"{root}/bench/{name}",
              f"export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C PYTHONDONTWRITEBYTECODE=1\n{script}\n")
    package(tmp, "wslx-bench", f"{root}/bench/bench.deb",
            files=[("usr/share/wslx-bench", p) for p in sorted(glob.glob(f"{root}/usr/lib/python3*/*.py"))])
    repository(tmp, root)
    ext4(root, disk)
    return root, disk


def login_disk(tmp, tar):
    """An ext4 image of the root file system with systemd, as after an installation, root without a password."""
    root, disk = f"{tmp}/systemd", f"{tmp}/login-disk"
    unpack(tar, root)
    # Without its own identity it would be a first boot, which sets up more and asks.
    write(f"{root}/etc/machine-id", hashlib.sha256(b"wslx bench").hexdigest()[:32] + "\n")
    write(f"{root}/etc/hostname", "bench\n")
    write(f"{root}/etc/fstab", "/dev/sda / ext4 noatime 0 0\n")
    with open(f"{root}/etc/shadow", encoding="ascii") as f:
        accounts = f.read().split("\n")
    accounts = ["root::" + a.split(":", 2)[2] if a.startswith("root:") else a for a in accounts]
    write(f"{root}/etc/shadow", "\n".join(accounts))
    write(f"{root}/root/.profile", AT_LOGIN)
    ext4(root, disk)
    subprocess.check_call(["rm", "-rf", root])
    return disk
