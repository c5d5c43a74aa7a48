"""What a submission's statement may say."""

from __future__ import annotations

import pytest

from harness.errors import InputError
from harness.files.validation import validated
from harness.publishing.statement import Statement

STATED = {
    "suite": "mini",
    "name": "alice",
    "who": "Alice",
    "record_version": 1,
    "metrics": [],
    "commits": [],
    "cells": 1,
}


@pytest.mark.parametrize("contact", ["https://example.org/alice?a=b", "alice@example.org"])
def test_an_address_of_the_web_or_of_mail_is_a_contact(contact: str) -> None:
    assert validated(Statement, {**STATED, "contact": contact}, where="--contact").contact == contact


@pytest.mark.parametrize("contact", ["nonsense", "http://example.org", "javascript:alert(1)", "a@example.org\n", ""])
def test_another_contact_is_told_in_words_what_is_wanted(contact: str) -> None:
    with pytest.raises(InputError) as caught:
        validated(Statement, {**STATED, "contact": contact}, where="--contact")
    assert str(caught.value) == (
        f"--contact: key 'contact': {contact!r} is neither an https:// address nor one of mail"
    )
