"""What a submission is: a publication without its page, and a statement of who gives it and what it holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, StringConstraints

from harness.files.stored import write_text
from harness.files.yaml import Dumper
from harness.records.counts import Stored

STATEMENT_FILE = "submission.yaml"
SUITE_FILE = "suite.yaml"
"""The suite's file as it was run: for readers, no figure rests on it."""

Stated = Literal[
    "No image and no label of a licensed dataset is in this submission, and whoever submits it may give it under this licence."
]
STATED: Stated = get_args(Stated)[0]

SLUG = r"^[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?$"
"""Names of submissions: they are folders, parts of links and of branches."""

CONTACT = (
    r"https://[^\W_][\w.-]*(:[0-9]{1,5})?([/?#][\w.~/%#?&=+@:;,!'()-]*)?"
    r"|[\w+][\w.+'&#%=/!-]*@[^\W_][\w-]*(\.[\w-]+)+"
)
"""Addresses of the web and of mail, which become links: letters and digits of most scripts, and the signs that neither Markdown nor a
spreadsheet takes for its own. What else an address has can be written as %XX.
"""

HEAD = "# Written by `samiro-bench submit`: who gives these rows, and what they are. docs/publish.md says what is checked.\n"


def is_submission(folder: Path) -> bool:
    """Whether a publication is somebody's submission: those have neither a page nor a place in the README."""
    return (folder / STATEMENT_FILE).exists()


def visible(text: str) -> str:
    """The text; ValueError if something in it can't be seen or turns its direction."""
    if not text.isprintable():
        raise ValueError(f"can't be {text!a:.60}: write it with letters, digits, signs and plain spaces alone")
    return text


def address(text: str) -> str:
    """The text; ValueError if it is no address of the web or of mail."""
    if not re.fullmatch(CONTACT, text):
        raise ValueError(
            f"{text!a:.60} is neither an https:// address nor one of mail of letters, digits and the signs that are safe in tables; "
            "write others of an https:// address as %XX"
        )
    return text


class Statement(Stored):
    """Who submits what. cells: how many records. commits: those of the harness that made them; None of one without version control.

    contact: an address of the web or of mail.
    """

    suite: str
    name: Annotated[str, StringConstraints(pattern=SLUG)]
    who: Annotated[str, StringConstraints(min_length=1, max_length=100, strip_whitespace=True), AfterValidator(visible)]
    contact: Annotated[str, StringConstraints(max_length=200), AfterValidator(address)]
    licence: Literal["Apache-2.0"] = "Apache-2.0"
    statement: Stated = STATED
    record_version: int = Field(ge=1, le=1_000)
    metrics: tuple[str, ...]
    commits: tuple[str | None, ...]
    cells: int = Field(ge=1, le=1_000_000)


def write_statement(folder: Path, statement: Statement) -> None:
    """Write `submission.yaml`."""
    body = yaml.dump(statement.model_dump(mode="json"), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1_000)
    write_text(folder / STATEMENT_FILE, HEAD + body)
