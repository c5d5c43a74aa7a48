"""`samiro-bench review`: whether submissions are accepted. What CI runs on pull requests."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Json
from harness.errors import InputError

if TYPE_CHECKING:
    from harness.publishing.quarantine import Bounds
    from harness.publishing.review import Review

app = typer.Typer(add_completion=False)


@app.command(epilog="Example: samiro-bench review results/submissions/mini/alice")
def review(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Folders of submissions, .../SUITE/NAME.")
    ] = None,
    head: Annotated[
        str | None, typer.Option(metavar="COMMIT", help="Review what this commit of the repository here submits.")
    ] = None,
    base: Annotated[str, typer.Option(metavar="COMMIT", help="The commit that --head is compared with.")] = "HEAD",
    index: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Review all submissions below it, and write its README.md.")
    ] = None,
    seconds: Annotated[int, typer.Option(min=1, help="Seconds that one submission may take.")] = 600,
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Append what came out to it, in Markdown.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Score submissions again and accept or refuse each with reasons; exit code 1 if one is refused.

    Everything in them is taken for data: no code of theirs is imported, links are refused, time, memory and sizes are bounded.
    What they have to be is said by this repository's suites.
    """
    from harness.publishing.quarantine import Bounds
    from harness.publishing.review import lines_of, to_summary
    from harness.publishing.review import review as review_folder
    from harness.publishing.submissions import submissions_in, write_index

    if sum(given not in (None, []) for given in (paths, head, index)) != 1:
        raise InputError("give folders of submissions, or --head COMMIT, or --index FOLDER: one of the three")
    if index is not None and not index.is_dir():
        raise InputError(f"{index}: no such folder; give the one that holds submissions")
    bounds = Bounds(seconds=seconds)
    if head is not None:
        reviews = reviews_of_commit(base, head, bounds)
    else:
        reviews = [review_folder(path, bounds) for path in (submissions_in(index) if index else paths or [])]
    if index is not None:
        write_index(index, reviews)
    if summary is not None:
        with open(summary, "a", encoding="utf-8") as stream:
            stream.write(to_summary(reviews) or "No submission is changed.\n")
    if as_json:
        print(
            json.dumps(
                {"accepted": all(one.accepted for one in reviews), "submissions": [as_object(one) for one in reviews]}
            )
        )
    else:
        for line in lines_of(reviews) or ["no submission is changed: nothing to review" if head else "no submissions"]:
            typer.echo(line)
    return 0 if all(one.accepted for one in reviews) else 1


def reviews_of_commit(base: str, head: str, bounds: Bounds) -> list[Review]:
    """The review of what a commit submits; empty where that is nothing. One that changes the sender of what is there is refused."""
    from harness.publishing.pull_request import Refused, commit_of, extract, replaces_mark, submitting
    from harness.publishing.review import marked, refusal, refused_besides
    from harness.publishing.review import review as review_folder
    from harness.publishing.senders import sender_fault, sender_of

    here = Path.cwd()
    base, head = commit_of(here, base), commit_of(here, head)
    with tempfile.TemporaryDirectory() as place:
        found = None
        try:
            found = submitting(here, base, head)
            if found is None:
                return []
            folder = Path(place) / found.suite / found.name
            extract(here, head, found, folder, bounds)
        except Refused as error:
            where = ("this", "pull request") if found is None else (found.suite, found.name)
            return [refusal(*where, error.reasons)]
        reviewed = review_folder(folder, bounds)
        if not found.replaces:
            return [reviewed]
        stated = reviewed.verdict
        fault = sender_fault(sender_of(here, base, found), stated.who, stated.contact)
        reviewed = marked(reviewed, replaces_mark(found))
        return [reviewed if fault is None else refused_besides(reviewed, fault)]


def as_object(one: Review) -> dict[str, object]:
    """A review as JSON has it."""
    return {"suite": one.suite, "name": one.name, "accepted": one.accepted, **one.verdict.model_dump(mode="json")}
