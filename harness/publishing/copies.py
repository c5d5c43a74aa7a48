"""Predictions that are somebody's already: whoever hands in a copy of other rows is accepted with that said.

Two rows are alike if their predictions have one hash; or, where lanes stand in another order or were moved by a hair, if every sum of
every scope is the same. Only the later one is told, by the order in which their archives came to the branch
(`harness.publishing.arrivals`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.files.stored import sha256_of_json
from harness.publishing.arrivals import NOT_YET, Arrivals, arrivals_in
from harness.records.counts import OverlapScores, Stored
from harness.records.record import Evaluation, Record, Submission, read_sound_records

PUBLISHED = -1
"""Where publications of the repository stand in the order: before all submissions."""


class Known(Stored):
    """Predictions that are there. came: their place in the order in which the branch got them."""

    where: str
    came: int


def known_predictions(results: Path, suite: str, name: str) -> dict[str, Known]:
    """`traces` of predictions -> the first of all published or submitted below `results` but in the submission `suite/name`.

    Publications that the branch hasn't are left out: they are one's own, and the check of a pull request doesn't know them. Without git
    all are taken, and all submissions came at once.
    """
    arrivals = arrivals_in(results)
    own = results / "submissions" / suite / name
    folders = [*results.glob("*/records"), *results.glob("submissions/*/*/records")]
    found: dict[str, Known] = {}
    for folder in sorted(folders, key=lambda folder: (len(folder.parts), folder.parent.name != suite, folder)):
        if folder.parent == own:
            continue
        records, _ = read_sound_records(sorted(folder.glob("*.json")))
        place = folder.parent.relative_to(results).as_posix()
        published = "/" not in place
        for record, one in predicted(records):
            archive = archive_name(record, one)
            came = came_of(arrivals, f"{place}/{archive}", folder.parent / archive)
            if published and arrivals is not None and came == NOT_YET:
                continue
            here = Known(where=f"{place}, {record.id}, {one.name}", came=PUBLISHED if published else came)
            for trace in traces(one):
                if trace not in found or here.came < found[trace].came:
                    found[trace] = here
    return found


def came_of(arrivals: Arrivals | None, path: str, file: Path) -> int:
    """The place of an archive in the order in which the branch got them; that of what it hasn't where git doesn't know."""
    return NOT_YET if arrivals is None else arrivals.place_of(path, file)


def places_of(results: Path, suite: str, name: str, folder: Path) -> dict[str, int]:
    """Archive -> its place in the order, of the submission `suite/name` as it lies in `folder`; only of those that the branch has."""
    arrivals = arrivals_in(results)
    files = {f"predictions/{path.name}": path for path in sorted((folder / "predictions").glob("*.npz"))}
    places = {path: came_of(arrivals, f"submissions/{suite}/{name}/{path}", file) for path, file in files.items()}
    return {path: place for path, place in places.items() if place != NOT_YET}


def archive_name(record: Record, one: Evaluation | Submission) -> str:
    """Where the predictions of a row lie in a publication."""
    return f"predictions/{record.id}.{one.name}.npz"


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


def copies(
    records: Sequence[Record], known: Mapping[str, Known], places: Mapping[str, int] = MappingProxyType({})
) -> list[str]:
    """What is to be said of records whose predictions are known, or stand under several of them; a line each of the three.

    places: where archives of these records stand in the order; one that isn't in it came last. Nothing is said of those that came
    before what is known, and of what came at once with it no more than that the two are equal.
    """
    later: list[str] = []
    together: list[str] = []
    within: dict[str, list[str]] = defaultdict(list)
    for record, one in predicted(records):
        here, found = f"{record.id}, {one.name}", traces(one)
        within[found[-1]].append(here)
        came = places.get(archive_name(record, one), NOT_YET)
        earlier = [trace for trace in found if trace in known and known[trace].came <= came]
        if not earlier:
            continue
        said, first = "are" if earlier[0] == found[0] else "have every sum of", known[earlier[0]]
        if first.came < came:
            later.append(f"{here} {said} {first.where}")
        else:
            together.append(f"{here} {'equal' if said == 'are' else said} {first.where}")
    twice = [alike for alike in within.values() if len(alike) > 1]
    told = {
        "predictions copied or repeated": later,
        "predictions equal to those of another submission, either of which may be the first": together,
        "equal predictions or sums under several names": ["; ".join(alike[:2]) for alike in twice],
    }
    return [f"{mark}, {len(lines)} times: {lines[0]}" for mark, lines in told.items() if lines]
