"""Predictions that are somebody's already: whoever hands in a copy of other rows is accepted with that said.

Two rows are alike if their predictions have one hash; or, where lanes stand in another order or were moved by a hair, if every sum of
every scope is the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.files.stored import sha256_of_json
from harness.records.counts import OverlapScores
from harness.records.record import Evaluation, Record, Submission, read_sound_records


def known_predictions(results: Path, suite: str, name: str) -> dict[str, str]:
    """`traces` of predictions -> where they are, of all published or submitted below `results` but the submission `suite/name`."""
    own = results / "submissions" / suite / name
    folders = [*results.glob("*/records"), *results.glob("submissions/*/*/records")]
    found: dict[str, str] = {}
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder.parent.name != suite, folder)):
        if folder.parent != own:
            records, _ = read_sound_records(sorted(folder.glob("*.json")))
            place = folder.parent.relative_to(results).as_posix()
            for record, one in predicted(records):
                for trace in traces(one):
                    found.setdefault(trace, f"{place}, {record.id}, {one.name}")
    return found


def predicted(records: Sequence[Record]) -> Iterator[tuple[Record, Evaluation | Submission]]:
    """Everything in records that rests on predictions with a lane in them; those without are all alike."""
    for record in records:
        for evaluation in record.evaluations:
            if evaluation.total.predictions:
                yield record, evaluation
        for submission in record.submissions:
            yield record, submission


def traces(one: Evaluation | Submission) -> tuple[str, ...]:
    """What gives a copy away: the hash of the predictions; then that of all sums, whatever the corruption, if any lane was found."""
    if isinstance(one, Submission) or not lanes_found(one):
        return (one.predictions_sha256,)
    sums = one.model_dump(mode="json", include={"dataset_sha256", "split", "metric", "total", "scenarios"})
    return one.predictions_sha256, sha256_of_json(sums)


def lanes_found(evaluation: Evaluation) -> int:
    """Lanes of the labels that an evaluation counts as found, at the lowest threshold of its metric."""
    total = evaluation.total
    return total.true_positives[0] if isinstance(total, OverlapScores) else total.matched


def copies(records: Sequence[Record], known: Mapping[str, str]) -> list[str]:
    """What is to be said of records whose predictions are known, or stand under several of them; a line each of the two."""
    elsewhere: list[str] = []
    within: dict[str, list[str]] = defaultdict(list)
    for record, one in predicted(records):
        here, found = f"{record.id}, {one.name}", traces(one)
        within[found[-1]].append(here)
        if found[0] in known:
            elsewhere.append(f"{here} are {known[found[0]]}")
        elif found[-1] in known:
            elsewhere.append(f"{here} have every sum of {known[found[-1]]}")
    twice = [places for places in within.values() if len(places) > 1]
    told = [f"predictions copied or repeated, {len(elsewhere)} times: {elsewhere[0]}"] if elsewhere else []
    return told + (
        [f"equal predictions or sums under several names, {len(twice)} times: {'; '.join(twice[0][:2])}"]
        if twice
        else []
    )
