"""What a submission's statement may say, and whose submission it makes one."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files.validation import validated
from harness.publishing.senders import check_sender
from harness.publishing.statement import STATEMENT_FILE, Statement, write_statement
from harness.report.text import csv_text, markdown

STATED = {
    "suite": "mini",
    "name": "alice",
    "who": "Alice",
    "record_version": 1,
    "metrics": [],
    "commits": [],
    "cells": 1,
}


@pytest.mark.parametrize(
    "contact",
    [
        "https://example.org/alice?a=b",
        "https://e.org/a,b;c=(d)!:@'&e#f",
        "https://müller.de/x/straße",
        "alice@example.org",
        "o'brien@e.org",
        "jörg.müller+a=b/c#d@müller.example",
    ],
)
def test_an_address_of_the_web_or_of_mail_is_a_contact(contact: str) -> None:
    assert validated(Statement, {**STATED, "contact": contact}, where="--contact").contact == contact


@pytest.mark.parametrize(
    "contact",
    [
        "nonsense", "http://example.org", "javascript:alert(1)", "a@example.org\n", "", "https://example.org@evil.org",
        "https://e.org/<b>", "https://e.org/a|b", "https://e.org/`a`", "https://e.org/$x$", "https://e.org/a b",
        'https://e.org/"', "https://e.org/[a](b)", "https://e.org/\\a", "https://e.org/\u202eb", "=a@e.org", "-a@e.org",
        "'a@e.org", "a,b@e.org", "a@b@e.org", "@e.org", "a@e",
    ],
)  # fmt: skip
def test_another_contact_is_told_in_words_what_is_wanted(contact: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(Statement, {**STATED, "contact": contact}, where="--contact")
    assert str(caught.value) == (
        f"--contact: key 'contact': {contact!a} is neither an https:// address nor one of mail of letters, digits and the signs "
        "that are safe in tables; write others of an https:// address as %XX"
    )


@pytest.mark.parametrize("contact", ["https://e.org/a,b;c=(d)!:@'&e#f", "o'brien@e.org", "jörg/c#d@müller.example"])
def test_a_contact_shows_as_itself_wherever_it_is_written(contact: str) -> None:
    assert html.unescape(markdown(contact)) == contact
    assert csv_text(contact) == contact


def test_a_submission_is_replaced_by_whoever_has_both_its_name_and_its_contact(tmp_path: Path) -> None:
    own = Statement.model_validate({**STATED, "contact": "alice@example.org", "metrics": (), "commits": ()})
    check_sender(tmp_path, own)
    write_statement(tmp_path, own)
    check_sender(tmp_path, own.model_copy(update={"cells": 2}))
    for other in ({"who": "Alicia"}, {"contact": "another.alice@example.org"}):
        with pytest.raises(InputError, match=r"is there already, of 'Alice', alice@example\.org; give another name"):
            check_sender(tmp_path, own.model_copy(update=other))
    (tmp_path / STATEMENT_FILE).write_text("torn")
    check_sender(tmp_path, own)
