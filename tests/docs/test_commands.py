"""Every command of the documentation is run by a test, or says why not; then at least the real command line takes its words.

A command without an entry in `HOW` fails, and so does an entry without a command. Commands on suites of the project have their
conditions looked up besides, without planning anything.
"""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

from tests.docs import commands
from tests.docs.commands import ROOT
from tests.docs.how import HOW, PAGES, WHOLE_PAGES, ByTests

# The suites whose conditions are looked up stay as they are: each asks torch of its detectors once.
pytestmark = pytest.mark.usefixtures("remembering")


def documented() -> dict[str, list[str]]:
    """Command -> the pages that it is on, but for those that a test runs as a whole."""
    found: dict[str, list[str]] = {}
    for name, page in PAGES.items():
        for command in commands.fenced_commands(page) if name not in WHOLE_PAGES else ():
            found.setdefault(command, []).append(name)
    return found


@pytest.mark.parametrize("name", WHOLE_PAGES)
def test_a_page_that_is_run_as_a_whole_is_read_by_its_test(name: str) -> None:
    path, _, function = WHOLE_PAGES[name].partition("::")
    assert function in functions(path)
    assert f'"{name}"' in (ROOT / path).read_text()
    for command in commands.fenced_commands(PAGES[name]):
        words = commands.called_words(command)
        if words is not None:
            commands.parse(words)


def test_every_command_of_the_documentation_has_an_entry_and_every_entry_a_command() -> None:
    there = documented()
    assert len(there) > 80
    assert [command for command in there if command not in HOW] == []
    assert [command for command in HOW if command not in there] == []


@pytest.mark.parametrize("name", PAGES)
def test_commands_stand_in_blocks_that_are_looked_at(name: str) -> None:
    assert commands.stray_commands(PAGES[name]) == []


@pytest.mark.parametrize("command", [command for command in HOW if commands.called_words(command) is not None])
def test_the_command_line_takes_the_words_of_a_command(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = commands.called_words(command)
    commands.parse(words)
    commands.look_up(words)


def test_a_renamed_option_a_lost_verb_and_a_condition_that_fits_nothing_are_noticed() -> None:
    for wrong in ("bench mini --sede 3", "data rendre roads", "bench mini --engine moon"):
        with pytest.raises(Exception, match=r"sede|rendre|moon"):
            commands.parse(wrong.split())
    with pytest.raises(Exception, match="clrnet"):
        commands.look_up(["bench", "paper", "--resources", "detector=clrnet_*,hours=3"])


@pytest.mark.parametrize("name", PAGES)
def test_commands_within_the_text_are_taken_as_far_as_they_are_written_out(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in commands.inline_commands(PAGES[name]):
        try:
            commands.parse(commands.called_words(command.partition(" > ")[0].replace("...", "")))
        except Exception as error:
            # "`data render` draws roads" names a verb and leaves its arguments to --help.
            if type(error).__name__ != "MissingParameter":
                pytest.fail(f"`{command}`: {error}")


@cache
def functions(path: str) -> set[str]:
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("command", "how"), [(c, h) for c, h in HOW.items() if isinstance(h, ByTests)])
def test_the_test_that_an_entry_names_is_there_and_holds_verb_and_options(command: str, how: ByTests) -> None:
    text = ""
    for place in how.where:
        path, _, name = place.partition("::")
        assert name in functions(path), place
        text += (ROOT / path).read_text()
    words = commands.called_words(command) or shlex.split(command)[:2]
    verb = [word for word in words[:2] if re.fullmatch(r"[a-z-]+", word)]
    sought = [*verb, *(word for word in words if word.startswith("--"))]
    sought = [word for word in sought if not (ROOT / "suites" / f"{word}.yaml").is_file()]
    assert [word for word in sought if word not in text] == []


@pytest.mark.parametrize("command", [c for c in HOW if c.split()[0] == "make"])
def test_a_target_of_make_is_there(command: str) -> None:
    """`make --dry-run` knows target and variables, and runs nothing."""
    words = shlex.split(command.partition("&&")[0])
    asked = subprocess.run([*words, "--dry-run"], cwd=ROOT, text=True, capture_output=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
