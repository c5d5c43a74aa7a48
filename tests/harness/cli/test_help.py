"""What `--help` shows of every command: an example, and the text as it is written."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
import typer
from rich.text import Text

from harness.cli.main import VERBS


def commands_of(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What can be called below a command, each with its words."""
    inner = getattr(command, "commands", None)
    if not inner:
        yield words, command
        return
    for name, one in inner.items():
        yield from commands_of(one, (*words, name))


WHOLE = {verb: typer.main.get_command(import_module(module).app) for verb, (module, _) in VERBS.items()}
COMMANDS = [found for verb, command in WHOLE.items() for found in commands_of(command, (verb,))]


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=[" ".join(words) for words, _ in COMMANDS])
def test_every_command_has_an_example_and_no_text_that_is_taken_for_markup(
    words: tuple[str, ...], command: Any
) -> None:
    texts = [command.help, command.epilog or "", *(getattr(option, "help", None) or "" for option in command.params)]
    assert any(f"Example: samiro-bench {' '.join(words)}" in text for text in texts)
    # typer hands them to rich, which takes [word] for a style and drops it.
    assert [text for text in texts if Text.from_markup(text).plain != text] == []


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_offers_the_installation_of_a_completion(verb: str) -> None:
    assert [option.name for option in WHOLE[verb].params if "completion" in (option.name or "")] == []
