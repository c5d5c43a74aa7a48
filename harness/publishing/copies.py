"""Predictions that are somebody's already: whoever hands in a copy of other rows is accepted with that said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.records import Evaluation, Record, Submission, read_sound_records


def known_predictions(results: Path, suite: str, name: str) -> dict[str, str]:
    """sha256 of predictions -> where they are, of everything published or submitted below `results` but the submission `suite/name`."""
    own = results / "submissions" / suite / name
    folders = [*results.glob("*/records"), *results.glob("submissions/*/*/records")]
    found: dict[str, str] = {}
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder.parent.name != suite, folder)):
        if folder.parent != own:
            records, _ = read_sound_records(sorted(folder.glob("*.json")))
            place = folder.parent.relative_to(results).as_posix()
            for record, one in predicted(records):
                found.setdefault(one.predictions_sha256, f"{place}, {record.id}, {one.name}")
    return found


def predicted(records: Sequence[Record]) -> Iterator[tuple[Record, Evaluation | Submission]]:
    """Everything in records that rests on predictions with a lane in them; those without are all alike."""
    for record in records:
        for evaluation in record.evaluations:
            if evaluation.total.predictions:
                yield record, evaluation
        for submission in record.submissions:
            yield record, submission


def copies(records: Sequence[Record], known: Mapping[str, str]) -> list[str]:
    """What is to be said of records whose predictions are known, or stand under several of them; a line each of the two."""
    elsewhere: list[str] = []
    within: dict[str, list[str]] = defaultdict(list)
    for record, one in predicted(records):
        here = f"{record.id}, {one.name}"
        within[one.predictions_sha256].append(here)
        if one.predictions_sha256 in known:
            elsewhere.append(f"{here} are {known[one.predictions_sha256]}")
    twice = [places for places in within.values() if len(places) > 1]
    told = [f"predictions copied or repeated exactly, {len(elsewhere)} times: {elsewhere[0]}"] if elsewhere else []
    return told + (
        [f"equal predictions under several names, {len(twice)} times: {'; '.join(twice[0][:2])}"] if twice else []
    )
