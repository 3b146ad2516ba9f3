# SPDX-License-Identifier: MIT
"""tools/dev/tally: what becomes of a suite's results."""
import json
import pathlib
import subprocess

TALLY = pathlib.Path(__file__).resolve().parents[2] / "tools/dev/tally"

JUNIT = """<testsuites><testsuite name="pytest">
<testcase classname="t.test_a" name="test_good"/>
<testcase classname="t.test_a" name="test_left_out"><skipped/></testcase>
<testcase classname="t.test_a" name="test_bad"><failure message="AssertionError: one&#10;  two">where</failure></testcase>
<testcase classname="t.test_a" name="test_broken"><error message="no fixture"/></testcase>
</testsuite></testsuites>"""


def tally(*paths):
    return subprocess.run([TALLY, *paths], capture_output=True, text=True, check=False, timeout=20)


def test_a_failure_is_told_with_its_reason(tmp_path):
    (tmp_path / "suite.junit").write_text(JUNIT)
    r = tally(tmp_path / "suite.junit")
    assert r.returncode == 1
    assert r.stdout.splitlines() == [
        "suite                    1 passed    2 failed    1 skipped",
        "    failed: t.test_a.test_bad: AssertionError: one two",
        "    failed: t.test_a.test_broken: no fixture",
        "1 passed, 2 failed"]


def test_a_program_without_points_is_told_with_what_it_said(tmp_path):
    tests = [{"name": "service", "result": "FAIL", "stdout": "..F.\nFAILED test_a.py::test_x - assert 1 == 2\n1 failed\n"},
             {"name": "tool", "result": "FAIL", "stdout": "a\nb\n", "stderr": "c\nno such file\n"},
             {"name": "mute", "result": "TIMEOUT"},
             {"name": "good", "result": "OK", "stdout": "FAILED nothing\n"}]
    (tmp_path / "unit.meson").write_text("".join(json.dumps(t) + "\n" for t in tests))
    r = tally(tmp_path / "unit.meson")
    assert r.returncode == 1
    assert r.stdout.splitlines() == [
        "unit                     1 passed    3 failed    0 skipped",
        "    failed: service: fail; FAILED test_a.py::test_x - assert 1 == 2",
        "    failed: tool: fail; b; c; no such file",
        "    failed: mute: timeout",
        "1 passed, 3 failed"]


def test_checks_and_broken_suites_count(tmp_path):
    (tmp_path / "lint.checks").write_text("ok one\nnoise\nok two\nFAILED three\n")
    (tmp_path / "lab.broken").write_text("no machine\n")
    (tmp_path / "none.junit").write_text("cut off")
    r = tally(tmp_path / "lint.checks", tmp_path / "lab.broken", tmp_path / "none.junit")
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "2 passed, 3 failed"
    assert "    failed: three" in r.stdout and "    failed: no machine" in r.stdout and "no results" in r.stdout


def test_nothing_is_no_success():
    r = tally()
    assert (r.returncode, r.stdout) == (1, "0 passed, 0 failed\n")
