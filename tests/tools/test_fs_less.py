# SPDX-License-Identifier: MIT
"""docs/differences.md says what our file servers keep less of POSIX, as tests/fs/less.py does, by which the servers' tests go."""
import pathlib
import re
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/fs"))
from less import LESS  # noqa: E402

LINES = [[c.strip() for c in line.split("|")[1:-1]] for line in (ROOT / "docs/differences.md").read_text().splitlines() if line.startswith("|")]
START = next(i for i, cells in enumerate(LINES) if cells[0] == "case")
HEAD = LINES[START]
ROWS = {cells[0].strip("`"): cells for cells in LINES[START + 2:] if len(cells) == len(HEAD) and cells[0].startswith("`")}


@pytest.mark.parametrize("server", LESS)
def test_the_page_lists_what_is_expected_to_fail(server):
    column = HEAD.index(server)
    assert {name for name, cells in ROWS.items() if cells[column] == "no"} == set(LESS[server])


@pytest.mark.parametrize("server", LESS)
def test_the_page_gives_the_reasons(server):
    for name, why in LESS[server].items():
        assert why in ROWS[name][-1], name


def test_what_is_expected_are_cases():
    cases = set(re.findall(r"^@case\ndef (\w+)", (ROOT / "tests/fs/posix.py").read_text(), re.M))
    assert len(cases) == 42
    for server, less in LESS.items():
        assert set(less) <= cases, server
