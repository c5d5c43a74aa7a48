"""The tables of what lies beyond a clean test on the own dataset, as plain strings: robustness and transfer."""

from __future__ import annotations

from harness.report.cells import Table, difference_text, method_text, score_text
from harness.report.leaderboard import Leaderboard
from harness.report.robustness import Robustness
from harness.report.rows import Gain, Row
from harness.report.section_text import unranked_notes
from harness.report.text import number
from harness.report.transfer import Transfer, transfer_of

HOW_TO_READ_ROBUSTNESS = """\
The frames of the clean split again, corrupted before any detector sees them, and alike for all detectors. A corruption's column
is the mean over its severities, the first the mean over all corruptions; Δ is paired as above, with the same intervals and never
a verdict. leaderboard.csv has every severity by itself."""

HOW_TO_READ_TRANSFER = """\
Rows by the dataset that was trained on, columns by the dataset that was tested on, each in its own headline score. Frames of another
dataset are cropped so that the horizon lies where it lay in training; lanes are scored in pixels of the tested frame."""


def robustness_table(found: Robustness) -> Table:
    """What is left of the scores under corruptions; under each method its paired difference."""
    header = ("Detector", "Method", *(column.title for column in found.columns), "Seeds", "Seed SD")
    rows = []
    for item in (item for group in found.groups for item in group):
        if isinstance(item, Row):
            cells = [score_text(column, score) for column, score in zip(found.columns, item.scores, strict=True)]
            sd = item.headline.sd if item.headline else None
        else:
            cells = [
                difference_text(column, part) for column, part in zip(found.columns, item.differences, strict=True)
            ]
            sd = item.headline.comparison.seed_sd if item.headline else None
        tail = (str(len(item.seeds)), number(sd * 100 if sd is not None else None, 2))
        rows.append((item.arm.detector, method_text(item), *cells, *tail))
    return Table(robustness_title(found), header, tuple(rows), 2)


def robustness_title(found: Robustness) -> str:
    """Dataset, split and metric, and what else sets a table apart."""
    place = found.conditions.place
    trained = f", trained on {place.trained_on}" if place.trained_on != place.dataset else ""
    return f"{place.dataset}, {place.split}: {place.metric}{trained}"


def robustness_notes(found: Robustness) -> list[str]:
    """The severities of each corruption, and which rows are missing or not ranked."""
    severities = {
        name.replace("_", " "): ", ".join(map(str, sorted(sections)))
        for name, sections in found.conditions.corrupted.items()
    }
    told = [f"{name}: severities {listed}." for name, listed in severities.items()]
    if len(set(severities.values())) == 1:
        told = [f"Severities of each corruption: {next(iter(severities.values()))}."]
    rows = [item for group in found.groups for item in group if isinstance(item, Row)]
    told += unranked_notes(rows)
    gains = [item for group in found.groups for item in group if isinstance(item, Gain)]
    told += [f"Δ {gain.arm.name}: pairs not used: {'; '.join(gain.not_used)}." for gain in gains if gain.not_used]
    return [*told, *(f"{arm.name}: lacks some of these conditions." for arm in found.left_out)]


def transfer_tables(board: Leaderboard) -> list[Table]:
    """The table of transfer; none where nothing was tested on another dataset."""
    found = transfer_of(board.sections)
    return [] if found is None else [transfer_table(found)]


def transfer_table(found: Transfer) -> Table:
    """Trained on x, tested on y; under each method its paired difference."""
    headers = [f"{section.key.dataset}, {section.key.split}: {section.headline.title}" for section in found.tested]
    rows = []
    for arm in found.arms:
        shown = {index: found.rows.get((arm, index)) for index in range(len(found.tested))}
        gained = {index: found.gains.get((arm, index)) for index in range(len(found.tested))}
        for items in (shown, gained):
            first = next((item for item in items.values() if item is not None), None)
            if first is not None:
                cells = ["" if item is None else headline_text(found, index, item) for index, item in items.items()]
                rows.append((arm.trained_on, arm.detector, method_text(first), *cells, str(len(first.seeds))))
    return Table("Transfer", ("Trained on", "Detector", "Method", *headers, "Seeds"), tuple(rows), 3)


def headline_text(found: Transfer, column: int, item: Row | Gain) -> str:
    """The headline score of a row, or its difference."""
    headline = found.tested[column].headline
    return score_text(headline, item.headline) if isinstance(item, Row) else difference_text(headline, item.headline)
