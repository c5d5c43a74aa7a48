"""The shell commands of the documentation: what they are, and what the console command makes of their words without running them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from harness.cli.main import VERBS
from harness.suite import Choice, cells_of, load_suite, with_resources

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PROGRAM = "samiro-bench"
KNOWN = ("samiro-bench ", "make", "git ", "python", "pip ", ".venv/", "ray ", "tmux ", "export ", "cd ", "cp ", "tail ")
"""How lines begin that are commands, wherever they stand."""

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def without_comment(line: str) -> str:
    """A line of a shell without the comment at its end, and without white space around it."""
    quoted = re.sub(r"'[^']*'|\"[^\"]*\"", lambda found: "q" * len(found[0]), line)
    comment = re.search(r"(?:^|\s)#", quoted)
    return (line[: comment.start()] if comment else line).strip()


def fenced_commands(page: str) -> list[str]:
    """The commands of a page's `sh` blocks, comments taken off and continued lines joined."""
    found = []
    for language, text in FENCE.findall(page):
        if language == "sh":
            lines = re.sub(r"\\\n\s*", "", text).splitlines()
            found += [command for line in lines if (command := without_comment(line))]
    return found


def stray_commands(page: str) -> list[str]:
    """Lines that look like commands and stand in no `sh` block: in others but those of output (`text`), or indented."""
    others = [
        line for language, text in FENCE.findall(page) if language not in {"sh", "text"} for line in text.splitlines()
    ]
    rest = FENCE.sub("", page)
    indented = [line.strip() for line in rest.splitlines() if line.startswith("    ")]
    return [line for line in (*others, *indented) if line.startswith(KNOWN)]


def inline_commands(page: str) -> list[str]:
    """What stands between backquotes in running text and calls the console command with a verb, placeholders included."""
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", page))
    return [span for span in spans if span.startswith(f"{PROGRAM} ") and span.split()[1] in VERBS]


def called_words(command: str) -> list[str] | None:
    """The words after `samiro-bench` of a command, which may call it behind variables or in quotes; None if it calls something else."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    inner = [word for word in words if word.startswith(f"{PROGRAM} ")]
    if inner:
        return called_words(inner[0])
    return words[1:] if words and Path(words[0]).name == PROGRAM else None


def parse(words: Sequence[str]) -> None:
    """Let the real command line take the words, options and all, and run nothing. Raises what it raises for a wrong one."""
    if not words or words[0] in {"--help", "help"}:
        return
    parse_by(typer.main.get_command(import_module(VERBS[words[0]][0]).app), words[1:], None)


def parse_by(command: Any, words: Sequence[str], parent: Any) -> None:
    context = command.make_context(command.name or PROGRAM, list(words), parent=parent, resilient_parsing=False)
    if hasattr(command, "resolve_command"):
        _, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        parse_by(inner, rest, context)


def look_up(words: Sequence[str]) -> None:
    """For what works on a suite of the project: that its conditions fit cells, and its resources are some. Runs and plans nothing."""
    if words[0] not in {"bench", "plan", "status", "leaderboard"}:
        return
    suite = words[1] if len(words) > 1 and not words[1].startswith("-") else "mini"
    if suite.endswith(".yaml"):
        return
    given: dict[str, list[str]] = {
        option: [words[place + 1] for place, word in enumerate(words) if word == option]
        for option in ("--only", "--skip", "--resources")
    }
    loaded = with_resources(load_suite(suite), given["--resources"])
    assert cells_of(loaded, Choice(only=given["--only"], skip=given["--skip"]))
