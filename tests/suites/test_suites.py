# SPDX-License-Identifier: MIT
"""The guest compiles real programs and passes their tests: with the results, test by test, of a native run.

The sources, the compiler and its options, the user and the folder are the same in both places. What the compiler makes is the
same too, to the byte. A test may give another result in the guest only if it is seen to give that result natively as well:
then the native run is repeated, the last times as slow as a guest.
"""
import collections
import os
import re
import shlex
import string
import time
import xml.etree.ElementTree as ET

import pytest

REPEAT = 6
PYTHON_MODULES = ["test_float", "test_decimal", "test_threading", "test_subprocess", "test_signal", "test_mmap"]


def source(variable):
    path = os.environ.get(variable)
    assert path, f"{variable} names no source tree"
    return path


def timed(place, function, *args):
    start = time.monotonic()
    result = function(place, *args)
    print(f"{place.name:8} {time.monotonic() - start:8.1f} s")
    return result


def differences(seen, guest):
    """Tests whose result in the guest none of the native runs has seen."""
    return sorted(name for name in {*guest, *seen[0]} if guest.get(name) not in [s.get(name) for s in seen])


def summary(results):
    # What follows the colon is details: why a test was skipped, what a program printed.
    return dict(collections.Counter(r.split(":")[0] for rs in results.values() for r in rs))


def compare(native, guest, function, *args):
    """function(place) gives {test: [results]}; the guest's agree with the native ones. Returns them."""
    seen = [timed(native, function, *args)]
    got = timed(guest, function, *args)
    assert got, "no results"
    print("native  ", summary(seen[0]))
    print("guest   ", summary(got))
    first = left = differences(seen, got)
    for i in range(REPEAT):
        if not left:
            break
        again = lambda: timed(native, function, *args)
        seen.append(again() if i < REPEAT // 2 else native.as_slow_as_a_guest(again))
        left = differences(seen, got)
    text = "\n".join(f"{name}: guest {got.get(name)}, native {[s.get(name) for s in seen]}" for name in first)
    assert not left, f"other results in the guest: {', '.join(left)}\n{text}"
    if first:
        print(f"not the same in each native run either:\n{text}")
    return got


def build(place, folder, script, limit, *products):
    """Runs a build in a folder; checksums of what it made."""
    status, log = place.run(f"cd ~/{folder} && {script}", limit)
    assert status == 0, f"{place.name}: {log[-3000:]}"
    return {f"{folder}/{p}": ["sha256: " + place.checksum(f"{folder}/{p}")] for p in products}


def zlib(place):
    place.put(source("WSLX_TEST_ZLIB"), "zlib")
    results = build(place, "zlib", "./configure && make -j2 && make -j2 infcover", 600,
                    "libz.a", "libz.so", "example64", "infcover")
    # One line a test, and a verdict for each way to link it.
    status, log = place.run("cd ~/zlib && make check", 300)
    results["make check"] = [f"exit status: {status}"]
    results["printed by make check"] = ["line: " + line for line in log.splitlines()]
    results.update((m[1], ["ok" if m[2] == "OK" else "fail"])
                   for m in re.finditer(r"^\s*\*\*\* (zlib .*test) (\w+) \*\*\*$", log, re.M))
    status, log = place.run("cd ~/zlib && ./infcover", 300)
    results["infcover"] = [f"exit status: {status}"]
    results["printed by infcover"] = ["line: " + line for line in log.splitlines()]
    return results


def test_zlib(native, guest):
    got = compare(native, guest, zlib)
    assert [got.get(name) for name in ("zlib test", "zlib shared test", "zlib 64-bit test")] == [["ok"]] * 3


# SQLite's "veryquick" tests, 150 thousand, by the first letter of the file's name, so that both processors have work
# to the end. Without a file that only rounds numbers, a hundred thousand of them, for minutes.
SQLITE_PARTS = string.ascii_lowercase + "0"
SQLITE_OMIT = "^round1"
SQLITE_PART = """
case $0 in 0) others=^[a-z];; *) others=^[^$0];; esac
mkdir ~/sqlite/part-$0
cd ~/sqlite/part-$0
QUICKTEST_OMIT="$others,%s" ../testfixture ../test/veryquick.test --output=log
""" % SQLITE_OMIT


def sqlite_results(log):
    """"NAME... Ok" for a test that passes. One that fails has lines "! NAME expected" and "! NAME got" instead of the "Ok"; a few
    print something of their own in between, so that what becomes of them is seen in the number of errors only."""
    results = collections.defaultdict(list)
    for line in log.splitlines():
        if m := re.match(r"(\S+)\.\.\. ?(Ok)?", line):
            results[m[1]].append("ok" if m[2] else "no Ok here")
        elif m := re.match(r"! (\S+) (got|expected):", line):
            results[m[1]].append("fail: " + line)
    return results


def sqlite_build(place):
    # Without the web pages, which are most of the package.
    place.put(source("WSLX_TEST_SQLITE"), "sqlite", "www", "debian", "doc", "art")
    return build(place, "sqlite", "./configure CFLAGS=-O1 && make -j2 testfixture", 1200, "sqlite3.c", "testfixture")


def sqlite(place):
    results = {}
    place.run(f"rm -rf ~/sqlite/part-*; echo {' '.join(SQLITE_PARTS)} | xargs -n 1 -P 2 sh -c {shlex.quote(SQLITE_PART)}", 1200)
    for part in SQLITE_PARTS:
        log = place.read(f"sqlite/part-{part}/log")
        end = re.findall(r"^(\d+) errors out of (\d+) tests", log, re.M)
        assert len(end) == 1, f"{place.name}: part {part} did not end: {log[-3000:]}"
        results[f"errors in part {part}"] = ["errors: " + end[0][0]]
        for name, value in sqlite_results(log).items():
            results.setdefault(name, []).extend(value)
    return results


def test_sqlite(native, guest):
    compare(native, guest, sqlite_build)
    # To agree on next to nothing would be no proof.
    assert summary(compare(native, guest, sqlite))["ok"] > 150000


def python(place, module):
    # The limit within is Python's own: it tells where the test was.
    command = f"python3 -m test -v --timeout 600 --junit-xml results.xml {module}"
    status, log = place.run(f"rm -rf ~/py; mkdir ~/py; cd ~/py; {command}", 1200)
    results = {"python3 -m test": [f"exit status: {status}"]}
    for case in ET.fromstring(place.read("py/results.xml")).iter("testcase"):
        result = "ok"
        for kind in ("skipped", "failure", "error"):
            if (why := case.find(kind)) is not None:
                result = f"{kind}: {why.text}" if kind == "skipped" else kind
        results.setdefault(case.get("name"), []).append(result)
    assert len(results) > 1, log[-3000:]
    return results


@pytest.mark.parametrize("module", PYTHON_MODULES)
def test_python(native, guest, module):
    assert summary(compare(native, guest, python, module))["ok"] > 20
