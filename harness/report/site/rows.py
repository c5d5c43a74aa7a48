"""The rows of a section as the page shows them: texts as in the tables, the numbers behind them, and where dots lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.files.stored import sha256_of_text
from harness.records.counts import f1_score
from harness.records.record import Evaluation, Record
from harness.report.arms import Arm
from harness.report.badge import VERDICTS
from harness.report.cells import count_decimals, difference_text, method_text, score_text
from harness.report.columns import LOWER_IS_BETTER, Column
from harness.report.cost_cells import marked_timing_cells
from harness.report.costs import Timing
from harness.report.leaderboard import Leaderboard, Section
from harness.report.rows import Difference, Gain, Row, Score
from harness.report.scored import SectionKey
from harness.report.text import number, one_line, points

KINDS = dict(zip(VERDICTS, ("better", "worse", "even"), strict=True))
"""How the page's style sheet calls a verdict; all else is `none`."""


@dataclass(frozen=True)
class Figure:
    """A cell: its text, and the number that it is sorted by (None: blank, and last in either direction)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class HeatCell:
    """A scenario's score or gain. share: strength of its colour in [0, 1], negative where the method is worse. note: the interval."""

    text: str
    share: float | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class RowView:
    """One row of a section. values: the headline score of each seed, in points. latency: the median, marked where it can't be relied
    on. scenarios: scores; changes: gains.
    """

    id: str
    arm: Arm
    detector: str
    family: str
    backbone: str
    method: str
    method_name: str
    rank: Figure
    why_unranked: str
    score: Figure
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    sd: Figure
    change: Figure
    verdict: str
    verdict_kind: str
    further: tuple[Figure, ...]
    timing: Timing | None
    latency: Figure
    scenarios: tuple[HeatCell, ...]
    changes: tuple[HeatCell, ...]
    gain: Gain | None


def row_id(arm: Arm, key: SectionKey) -> str:
    """What a row is called in links: stable as long as its first record and the evaluation are."""
    return sha256_of_text(f"{arm.records[0].id}/{key.evaluation}/{key.dataset_sha256}")[:10]


def evaluation_of(record: Record, key: SectionKey) -> Evaluation | None:
    """What a record shows in a section, None if it isn't in it."""
    return next((found for found in record.evaluations if found.name == key.evaluation), None)


def scenario_places(section: Section) -> list[int]:
    """Which columns are of one scenario."""
    return [place for place, column in enumerate(section.columns) if column.scenario is not None]


def further_places(section: Section) -> list[int]:
    """Which columns are of the whole split, the headline aside."""
    return [place for place, column in enumerate(section.columns) if place and column.scenario is None]


def rows_of(section: Section, board: Leaderboard) -> tuple[RowView, ...]:
    """The rows of a section in the order of its table."""
    gains = {id(gain.arm): gain for gain in section.gains}
    shades = Shades(section)
    return tuple(row_view(row, gains.get(id(row.arm)), section, board, shades) for row in section.rows)


def row_view(row: Row, gain: Gain | None, section: Section, board: Leaderboard, shades: Shades) -> RowView:
    """One row with its gain, if there is one."""
    arm, headline = row.arm, section.headline
    timing = board.timings[arm].get(section.timing) if section.timing else None
    meta = arm.records[0].identity.detector_meta
    return RowView(
        id=row_id(arm, section.key),
        arm=arm,
        detector=one_line(arm.detector),
        family=one_line(str(meta.get("family") or "")),
        backbone=one_line(str(meta.get("backbone") or "")),
        method=one_line(method_text(row)),
        method_name=one_line(arm.method),
        rank=Figure(str(row.rank or ""), row.rank),
        why_unranked=one_line("; ".join(row.unranked)),
        score=score_figure(headline, row.headline),
        seeds=row.seeds,
        values=seed_values(arm, section),
        sd=Figure(points(row.seed_sd), None if row.seed_sd is None else row.seed_sd * 100),
        change=change_figure(headline, gain.headline if gain else None),
        verdict=one_line(gain.verdict) if gain else "",
        verdict_kind=KINDS.get(gain.verdict, "none") if gain else "",
        further=tuple(score_figure(section.columns[place], row.scores[place]) for place in further_places(section)),
        timing=timing,
        latency=Figure(marked_timing_cells(timing)[1], timing.p50 if timing else None),
        scenarios=tuple(shades.score(place, row.scores[place]) for place in scenario_places(section)),
        changes=tuple(
            shades.change(place, gain.differences[place] if gain else None) for place in scenario_places(section)
        ),
        gain=gain,
    )


def seed_values(arm: Arm, section: Section) -> tuple[float, ...]:
    """The headline score of each seed in points, as its record states it."""
    found = [evaluation_of(record, section.key) for record in arm.records]
    scores = [getattr(evaluation.total, section.headline.kind) for evaluation in found if evaluation is not None]
    return tuple(score * section.headline.factor for score in scores if score is not None)


def overlap_curve(evaluation: Evaluation) -> tuple[float | None, ...]:
    """F1 in points at the ten thresholds of IoU; empty for a metric that has none."""
    total = evaluation.total
    found = getattr(total, "true_positives", ())
    scores = [f1_score(value, total.labels, total.predictions) for value in found]
    return tuple(None if score is None else round(score * 100, 2) for score in scores)


def score_figure(column: Column, score: Score | None) -> Figure:
    """A mean score as a cell."""
    return Figure(score_text(column, score), score.mean * column.factor if score else None)


def change_figure(column: Column, difference: Difference | None) -> Figure:
    """A gain as a cell, with its interval."""
    value = difference.comparison.mean * column.factor if difference else None
    return Figure(minus(difference_text(column, difference)), value)


def minus(text: str) -> str:
    """A number's text with a true minus sign."""
    return text.replace("-", "−")


class Shades:
    """How strongly the cells of a section's heat maps are coloured: shares of the section's own range, counts by themselves."""

    def __init__(self, section: Section) -> None:
        """Find the ranges."""
        self._columns: Sequence[Column] = section.columns
        self._low: dict[bool, float] = {}
        self._high: dict[bool, float] = {}
        self._widest: dict[bool, float] = {}
        for counted in (False, True):
            places = [place for place in scenario_places(section) if (section.columns[place].factor == 1.0) is counted]
            means = [score.mean for row in section.rows for place in places if (score := row.scores[place])]
            changes = [
                abs(part.comparison.mean)
                for gain in section.gains
                for place in places
                if (part := gain.differences[place])
            ]
            self._low[counted], self._high[counted] = min(means, default=0.0), max(means, default=0.0)
            self._widest[counted] = max(changes, default=0.0)

    def score(self, place: int, score: Score | None) -> HeatCell:
        """A scenario's score: the better, the stronger."""
        column = self._columns[place]
        if score is None:
            return HeatCell("", None)
        counted = column.factor == 1.0
        span = self._high[counted] - self._low[counted]
        share = (score.mean - self._low[counted]) / span if span else 0.5
        better = 1.0 - share if column.kind in LOWER_IS_BETTER else share
        text = number(score.mean, count_decimals(score.mean)) if counted else number(score.mean * column.factor, 1)
        return HeatCell(minus(text), round(better, 2))

    def change(self, place: int, difference: Difference | None) -> HeatCell:
        """A scenario's gain: positive where the method is better."""
        column = self._columns[place]
        if difference is None:
            return HeatCell("", None)
        counted = column.factor == 1.0
        mean, widest = difference.comparison.mean, self._widest[counted]
        share = mean / widest if widest else 0.0
        value = mean * column.factor
        text = number(value, count_decimals(value) if counted else 1, sign=True)
        half = difference.half_widths
        note = f"± {number(half.total * column.factor, 1)}" if half else ""
        return HeatCell(minus(text), round(-share if column.kind in LOWER_IS_BETTER else share, 2), note)
