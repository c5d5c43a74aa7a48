"""The tables of what lies beyond a clean test on the own dataset, as plain strings: robustness and transfer."""

from __future__ import annotations

from harness.report.cells import difference_text, figure_texts, method_text, score_text
from harness.report.leaderboard import Leaderboard
from harness.report.robustness import Robustness
from harness.report.rows import Gain, Row
from harness.report.section_text import title_of, unlike_machine_notes, unpaired_notes, unranked_notes
from harness.report.table import Table
from harness.report.text import points
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
    for item in found.items:
        tail = (str(len(item.seeds)), points(item.seed_sd))
        rows.append((item.arm.detector, method_text(item), *figure_texts(found.columns, item), *tail))
    return Table(title_of(found.conditions.place), header, tuple(rows), 2)


def robustness_notes(found: Robustness) -> list[str]:
    """The severities of each corruption, which rows are missing or not ranked, and which pairs not used or of unlike machines."""
    severities = {
        name.replace("_", " "): ", ".join(map(str, sorted(sections)))
        for name, sections in found.conditions.corrupted.items()
    }
    told = [f"{name}: severities {listed}." for name, listed in severities.items()]
    if len(set(severities.values())) == 1:
        told = [f"Severities of each corruption: {next(iter(severities.values()))}."]
    told += unranked_notes(found.rows) + unpaired_notes(found.gains) + unlike_machine_notes(found.gains)
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
