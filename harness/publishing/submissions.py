"""results/submissions/README.md: what was submitted and accepted, made from reviews."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.files.stored import write_text
from harness.publishing.review import Review
from harness.report.text import markdown

INDEX = "README.md"

HEAD = """# Submissions

Rows that others measured, each in a folder of its own, with the records, counts and predictions that they rest on.
[docs/publish.md](../../docs/publish.md) says how one is made, what is checked, and what the states mean. `samiro-bench review --index
results/submissions` makes this page.
"""

COLUMNS = ("suite", "submission", "by", "contact", "rows", "state")


def submissions_in(folder: Path) -> list[Path]:
    """The folders of submissions, `SUITE/NAME`, below a folder; links are none, nor is what a killed `submit` left (`.NAME.*`)."""
    suites = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    return [
        path for suite in suites for path in sorted(suite.iterdir()) if path.is_dir() and not path.name.startswith(".")
    ]


def write_index(folder: Path, reviews: Sequence[Review]) -> Path:
    """Write the page of some submissions, which all lie below `folder`; returns its path."""
    write_text(folder / INDEX, to_index(reviews))
    return folder / INDEX


def to_index(reviews: Sequence[Review]) -> str:
    """The page."""
    if not reviews:
        return f"{HEAD}\nNone yet.\n"
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(cells_of(one) for one in reviews)]
    return f"{HEAD}\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cells_of(one: Review) -> tuple[str, ...]:
    """The cells of a submission's row; the link leads to its tables."""
    found = one.verdict
    suite, name = markdown(one.suite), markdown(one.name)
    link = f"[{name}]({one.suite}/{one.name}/leaderboard.md)" if one.accepted else name
    told = "; ".join(found.marks if one.accepted else found.reasons[:1])
    state = ("verified" if found.verified == found.rows else "unverified here") if one.accepted else "refused"
    said = (suite, link, *(markdown(text or "") for text in (found.who, found.contact)))
    return (*said, str(found.rows), state + (f": {markdown(told)}" if told else ""))
