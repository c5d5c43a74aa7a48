"""Statements that aren't so or have another form are refused by key; no text turns, hides or becomes markup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.publishing.checksums import write_sums
from harness.publishing.examine import Verdict, examine
from harness.publishing.expected import ExpectedSuite
from harness.publishing.review import Review, lines_of, to_summary
from harness.publishing.statement import STATEMENT_FILE, Statement
from harness.publishing.submissions import to_index
from tests.harness.publishing.forging import BOUNDS, changed, sealed, told, trained

pytestmark = pytest.mark.usefixtures("labelled_once")


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"cells": 4}, "key 'cells' is 4, and it is 1"),
        ({"suite": "paper"}, "key 'suite' is 'paper', and it is 'mini'"),
        ({"name": "bob"}, "key 'name' is 'bob', and it is 'alice'"),
        ({"metrics": ("culane/official-2",)}, "key 'metrics'"),
        ({"commits": ("0" * 40,)}, "key 'commits'"),
        ({"record_version": 1}, "key 'record_version' is 1, and it is 2"),
    ],
)
def test_a_statement_that_is_not_so_is_refused(
    alice: Path, suite: ExpectedSuite, stated: dict[str, object], said: str
) -> None:
    sealed(alice, **stated)
    assert said in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("contact", "javascript:alert(1)"),
        ("contact", 'https://x"onload="'),
        ("contact", "https://github.com@evil.example/"),
        ("who", "two\nlines"),
        ("who", "x" * 101),
        ("who", " "),
        ("licence", "all rights reserved"),
        ("statement", "maybe"),
    ],
)
def test_a_statement_of_another_form_is_refused_by_key(alice: Path, suite: ExpectedSuite, key: str, value: str) -> None:
    path = alice / STATEMENT_FILE
    lines = [line for line in path.read_text().splitlines() if not line.startswith(f"{key}:")]
    path.write_text("\n".join([*lines, f"{key}: {json.dumps(value)}"]))
    write_sums(alice)
    assert f"key '{key}'" in told(examine(alice, "alice", suite, BOUNDS))


@pytest.mark.parametrize(
    "contact",
    ["https://example.org:8443/~alice?x=1#a", "https://example.org", "https://example.org/@alice", "a.b@c.org"],
)
def test_addresses_are_contacts(contact: str) -> None:
    own = {"suite": "mini", "name": "alice", "who": "Zoë Ångström-李", "contact": contact}
    rest = {"record_version": 2, "metrics": (), "commits": (None,), "cells": 1}
    assert Statement.model_validate({**own, **rest}).contact == contact


def test_html_in_texts_shows_as_text(alice: Path, suite: ExpectedSuite) -> None:
    html = "<img src=x onerror=alert(1)>|[x](javascript:y)"
    changed(alice, lambda record: record.model_copy(update={"flags": (f"stale {html}",)}))
    sealed(alice, who=html)
    found = examine(alice, "alice", suite, BOUNDS)
    assert found.reasons == ()
    assert html in (found.who or "")
    forged = Verdict(reasons=(html, "::add-mask::x", "##[group]"), who=html)
    for text in (
        to_index([Review("mini", "alice", found)]),
        to_index([Review("mini", "alice", forged)]),
        to_summary([Review("mini", html, forged)]),
        (alice / "leaderboard.md").read_text(),
    ):
        assert "<img" not in text
        assert "[x](javascript" not in text
    assert all(line.startswith(("mini/", "- ")) for line in lines_of([Review("mini", "alice", forged)]))


def test_tables_of_another_version_are_refused_with_what_makes_them_again_from_the_rows(
    alice: Path, suite: ExpectedSuite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(shown := "<!-- leaderboard:alice -->\nof a suite of that name\n<!-- /leaderboard:alice -->\n")
    words = ["publish", str(alice), "--tables", "--readme", str(readme)]
    table, files = (alice / "leaderboard.md").read_text(), {*alice.rglob("*")}
    (alice / "leaderboard.md").write_text(table.replace("# ", "# As an older version put it: ", 1))
    write_sums(alice)
    again = "samiro-bench publish results/submissions/mini/alice --tables"
    first, *differing = examine(alice, "alice", suite, BOUNDS).reasons
    assert first == f"its rows are sound, but not its tables; if another version packed it: `{again}`"
    assert len(differing) == 1
    assert "As an older version put it" in differing[0]
    assert main(words) == 0, capsys.readouterr().err
    assert readme.read_text() == shown
    assert (alice / "leaderboard.md").read_text() == table
    assert {*alice.rglob("*")} == files, "a submission has no page"
    assert examine(alice, "alice", suite, BOUNDS).reasons == ()
    changed(alice, lambda record: trained(record, images=1))
    assert again not in told(examine(alice, "alice", suite, BOUNDS)), (
        "rows that aren't sound are more than their tables"
    )
    assert main(words) == 2


def test_the_page_of_submissions_says_whether_all_rows_were_verified() -> None:
    def line(**said: Any) -> str:
        return to_index([Review("mini", "alice", Verdict(**said))]).splitlines()[-1]

    link = "[alice](mini/alice/leaderboard.md)"
    assert line(reasons=(), rows=2, verified=2) == f"| mini | {link} |  |  | 2 | verified |"
    assert line(reasons=(), rows=2, verified=1, marks=("one", "two")) == (
        f"| mini | {link} |  |  | 2 | unverified here: one; two |"
    )
    assert line(reasons=("one", "two")) == "| mini | alice |  |  | 0 | refused: one |"


@pytest.mark.parametrize(
    "sign", ["\u202e", "\u2066", "\u200f", "\u200b", "\u2028", "\x9b", "\U000e0041", "\xad", "\ufeff"]
)
def test_signs_that_turn_or_hide_text_reach_no_reader(alice: Path, suite: ExpectedSuite, sign: str) -> None:
    path = alice / STATEMENT_FILE
    path.write_text(path.read_text().replace("Alice Example", json.dumps(f"Alice{sign}Example")), encoding="utf-8")
    write_sums(alice)
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert "key 'who'" in said
    assert said.isascii()
    sealed(alice)
    with open(alice / "SHA256SUMS", "a", encoding="utf-8") as stream:
        stream.write(f"{'0' * 64}  x{sign}y\n")
    said = told(examine(alice, "alice", suite, BOUNDS))
    assert "SHA256SUMS" in said
    assert said.isprintable() or all(line.isprintable() for line in said.splitlines())
