# SPDX-License-Identifier: MIT
"""Completion in shells, with a wslx that knows two distributions and three that can be installed."""
import pathlib
import subprocess

import pytest

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "cli/completion"
WSLX = """#!/bin/sh
case "$*" in
*--online*) printf 'Debian\\nDebian-13\\nUbuntu\\n' ;;
--list*) printf 'deb\\nother\\n' ;;
esac
"""


@pytest.fixture
def env(tmp_path):
    (tmp_path / "wslx").write_text(WSLX)
    (tmp_path / "wslx").chmod(0o755)
    (tmp_path / "file.tar").write_text("")
    return {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}


def bash(env, *words):
    script = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _wslx; printf "%s\\n" "${COMPREPLY[@]}"'
    out = subprocess.run(["bash", "-c", script, FOLDER / "wslx.bash", *words], env=env, cwd=env["HOME"], check=True,
                         capture_output=True, text=True)
    assert not out.stderr
    return out.stdout.split()


@pytest.mark.parametrize("words, found", [
    (["wslx", "-d", ""], ["deb", "other"]),
    (["wslx", "-d", "o"], ["other"]),
    (["wslx", "--un"], ["--unregister", "--uninstall", "--unmount"]),
    (["wslx", "--unregister", "d"], ["deb"]),
    (["wslx", "--install", "Deb"], ["Debian", "Debian-13"]),
    (["wslx", "--install", "--na"], ["--name"]),
    (["wslx", "--manage", "deb", "--re"], ["--resize", "--rename"]),
    (["wslx", "--export", "deb", "f"], ["file.tar"]),
    (["wslx", "--export", "deb", "x", "--format", "tar."], ["tar.gz", "tar.xz", "tar.zst"]),
    (["wslx", "--shell-type", "l"], ["login"]),
    (["wslx", "diag", "re"], ["registers", "reclaim"]),
    (["wslx", "--list", "--q"], ["--quiet"]),
    (["wslx", "--shutdown", ""], ["--force"]),
])
def test_bash(env, words, found):
    assert sorted(bash(env, *words)) == sorted(found)


def test_every_verb_of_the_help_is_completed():
    """What wslx --help names as a verb, each shell's file names too."""
    help_text = (FOLDER.parent / "verb-help.c").read_text()
    verbs = {v for line in help_text.splitlines() for w in line.split() if line.startswith('\t"  ') and w.startswith("--")
             and len(w) > 3 and line.index(w) < 16 for v in w.strip(',').removesuffix('\\n"').split("|")}
    assert {"--list", "--import", "--export", "--manage", "--install"} <= verbs
    for file in ("wslx.bash", "_wslx", "wslx.fish"):
        text = (FOLDER / file).read_text()
        for verb in verbs:
            assert (verb if file != "wslx.fish" else verb[2:]) in text, f"{file}: {verb}"


@pytest.mark.parametrize("shell, file", [("zsh", "_wslx"), ("fish", "wslx.fish")])
def test_the_others_are_understood_by_their_shells(shell, file):
    subprocess.run([shell, "-n", FOLDER / file], check=True)
