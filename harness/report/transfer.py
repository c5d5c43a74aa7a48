"""What detectors score on other datasets than they were trained on: the headline figures of sections, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.arms import Arm
from harness.report.leaderboard import Section, headline_keys
from harness.report.rows import Gain, Row
from harness.report.scored import SectionKey


@dataclass(frozen=True, eq=False)
class Transfer:
    """tested: one section a column, of any training set, that says dataset, split and headline. arms: in the order of training sets.

    rows and gains: (arm, column) -> what the section of its training set shows.
    """

    tested: tuple[Section, ...]
    arms: tuple[Arm, ...]
    rows: Mapping[tuple[Arm, int], Row]
    gains: Mapping[tuple[Arm, int], Gain]


def transfer_of(sections: Sequence[Section]) -> Transfer | None:
    """Trained on x, tested on y, of the clean headline sections; None where each dataset is only tested by its own detectors."""
    judged = headline_keys([section.key for section in sections])
    shown = [section for section in sections if section.key in judged]
    if all(section.key.trained_on == section.key.dataset for section in shown):
        return None
    tested: dict[tuple[str, ...], Section] = {}
    for section in sorted(shown, key=lambda section: tested_as(section.key)):
        tested.setdefault(tested_as(section.key), section)
    columns = {name: index for index, name in enumerate(tested)}
    rows: dict[tuple[Arm, int], Row] = {}
    gains: dict[tuple[Arm, int], Gain] = {}
    for section in shown:
        column = columns[tested_as(section.key)]
        rows |= {(row.arm, column): row for row in section.rows}
        gains |= {(gain.arm, column): gain for gain in section.gains}
    arms = sorted({arm for arm, _ in rows}, key=place)
    return Transfer(tuple(tested.values()), tuple(arms), rows, gains)


def tested_as(key: SectionKey) -> tuple[str, ...]:
    """What stands in one column: a split of a dataset by a metric."""
    return key.dataset, key.split, key.metric, key.dataset_sha256


def place(arm: Arm) -> tuple[str, str, str, bool, str, str]:
    """Where an arm stands: by training set and detector, those that may be compared together, the baseline first."""
    return arm.trained_on, arm.detector, arm.pairs_with, not arm.is_baseline, arm.method, arm.variant
