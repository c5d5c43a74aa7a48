"""Where the marks of the page's plots lie: gains with their intervals, seeds as dots, scores against latency. Pixels of the plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.report.cells import bounds
from harness.report.leaderboard import Leaderboard, Section, headline_sections
from harness.report.rows import Gain
from harness.report.site.rows import RowView, minus, row_id
from harness.report.site.scale import Scale, padded, tick_text
from harness.report.text import number, one_line
from harness.sums import added_in_order

WIDTH = 300
"""Of a strip of dots or a line of the forest plot; the page stretches it."""

OUTLYING = 4.0
"""Intervals that reach so many times farther than every seed's own gain are cut off there, and marked with an arrow."""

PLOT_WIDTH, PLOT_HEIGHT = 640, 330
LEFT, RIGHT, TOP, BOTTOM = 56, 24, 18, 48
"""Margins of the plot of scores against latency."""


@dataclass(frozen=True)
class Lettering:
    """How large the letters of labels are, roughly: a letter's width, and what reaches above and below the line that it stands on."""

    width: float
    above: float
    below: float


NAMES = Lettering(6.4, 10, 3)
"""At the style sheet's 11 px, on a wide window."""

RANKS = Lettering(12.6, 15, 4)
"""At the 17 px that a narrow window has, where a rank stands in for a name: `#` is a wide letter."""


APART = 2.0
"""How many times farther than its own point every other is from a label: one that stands over another's point is read as that one's."""


@dataclass(frozen=True)
class Tick:
    """A mark of an axis."""

    at: float
    text: str


@dataclass(frozen=True, eq=False)
class ForestLine:
    """A gain: its mean, the ends of its interval (None where there is none) and each seed's own gain."""

    gain: Gain
    row: str
    dataset: str
    headline: str
    mean: float
    low: float | None
    high: float | None
    cut_low: bool
    cut_high: bool
    dots: tuple[float, ...]
    change: str
    interval: str
    alone: bool


@dataclass(frozen=True)
class Forest:
    """All judged gains of a page on one axis, in points. headlines: the scores that they are gains in."""

    lines: tuple[ForestLine, ...]
    headlines: tuple[str, ...]
    ticks: tuple[Tick, ...]
    zero: float
    cut: bool


TimedRow = tuple[RowView, float, float]
"""A row, its median latency in milliseconds and its score in points."""


@dataclass(frozen=True, eq=False)
class Point:
    """A row of the plot of scores against latency. told: it in words. name, rank: as texts where they have room (x of the start, y,
    text).
    """

    row: RowView
    told: str
    x: float
    y: float
    name: tuple[float, float, str] | None
    rank: tuple[float, float, str] | None


@dataclass(frozen=True, eq=False)
class Latency:
    """Scores against latency. front: the corners of the line through the rows that none beats in both, empty without such rows.

    legend: what the marks and the line are, a sentence each.
    """

    points: tuple[Point, ...]
    front: str
    legend: tuple[str, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    logarithmic: bool


@dataclass(frozen=True)
class Strip:
    """Seeds of a row as dots on the axis of its section, and their mean."""

    dots: tuple[float, ...]
    mean: float


def forest_of(board: Leaderboard) -> Forest | None:
    """The forest plot of a board; None without any gain that is a number."""
    found = [
        (section, gain)
        for section in headline_sections(board.sections)
        for gain in section.gains
        if gain.headline is not None
    ]
    if not found:
        return None
    inner, outer = [0.0], [0.0]
    for _, gain in found:
        mean, low, high, seeds = in_points(gain)
        inner += [mean, *seeds]
        outer += [low, high]
    farthest = OUTLYING * max(map(abs, inner)) or 1.0
    low, high = padded([max(min(*outer, *inner), -farthest), min(max(*outer, *inner), farthest)], 0.04)
    scale = Scale(low, high, 4.0, WIDTH - 4.0)
    lines = tuple(forest_line(section, gain, scale) for section, gain in found)
    ticks = tuple(Tick(scale(value), tick_text(value)) for value in scale.ticks())
    headlines = tuple(sorted({line.headline for line in lines}))
    return Forest(lines, headlines, ticks, scale(0.0), any(line.cut_low or line.cut_high for line in lines))


def in_points(gain: Gain) -> tuple[float, float, float, list[float]]:
    """Mean, both ends of the interval (the mean where there is none) and each seed's gain, in points."""
    assert gain.headline is not None
    comparison, half = gain.headline.comparison, gain.headline.half_widths
    mean, width = comparison.mean * 100, half.total * 100 if half else 0.0
    return mean, mean - width, mean + width, [value * 100 for value in comparison.differences.tolist()]


def forest_line(section: Section, gain: Gain, scale: Scale) -> ForestLine:
    """One gain on the forest's axis."""
    assert gain.headline is not None
    mean, low, high, seeds = in_points(gain)
    half = gain.headline.half_widths
    return ForestLine(
        gain=gain,
        row=row_id(gain.arm, section.key),
        dataset=section.key.dataset,
        headline=section.headline.title,
        mean=scale(mean),
        low=scale(low) if half else None,
        high=scale(high) if half else None,
        cut_low=half is not None and low < scale.low,
        cut_high=half is not None and high > scale.high,
        dots=tuple(scale(value) for value in seeds),
        change=minus(number(mean, 2, sign=True)),
        interval=minus(bounds(gain.headline.comparison.mean, half.total)) if half else "",
        alone=half is not None and half.kind == "clip",
    )


def strips_of(rows: Sequence[RowView]) -> dict[str, Strip]:
    """The dots of every row of a section on one axis."""
    values = [value for row in rows for value in row.values]
    if not values:
        return {}
    scale = Scale(*padded(values, 0.04), 4.0, WIDTH / 2 - 4.0)
    return {
        row.id: Strip(tuple(scale(value) for value in row.values), scale(added_in_order(row.values) / len(row.values)))
        for row in rows
        if row.values
    }


def latency_of(rows: Sequence[RowView]) -> Latency | None:
    """Scores against median latency, of the rows that have both; None if there is none."""
    timed = timed_rows(rows)
    if not timed:
        return None
    across, up = latency_axes(timed)
    front = front_of(timed)
    placed = {row.id: (across(time), up(score)) for row, time, score in timed}
    best_first = [row for row, *_ in sorted(timed, key=lambda item: -item[2])]
    names = {row.id: f"{row.detector}, {row.method}" for row in best_first}
    ranks = {row.id: f"#{row.rank.text}" for row in best_first if row.rank.text}
    names_at, ranks_at = labels_of(names, placed, NAMES), labels_of(ranks, placed, RANKS)
    return Latency(
        points=tuple(
            Point(row, told(row), *placed[row.id], names_at.get(row.id), ranks_at.get(row.id)) for row, *_ in timed
        ),
        front=corners([placed[row.id] for row, *_ in front]),
        legend=legend_of(timed),
        x_ticks=tuple(Tick(across(value), tick_text(value)) for value in across.ticks(6)),
        y_ticks=tuple(Tick(up(value), tick_text(value)) for value in up.ticks(5)),
        logarithmic=across.logarithmic,
    )


def latency_axes(timed: Sequence[TimedRow]) -> tuple[Scale, Scale]:
    """The axes of latency and of scores, over the plot's pixels."""
    times = [time for _, time, _ in timed]
    logarithmic = far_apart(times)
    ends = (min(times) / 1.15, max(times) * 1.15) if logarithmic else padded(times, 0.12)
    across = Scale(max(ends[0], 1e-6), ends[1], LEFT, PLOT_WIDTH - RIGHT, logarithmic)
    return across, Scale(*padded([score for *_, score in timed], 0.12), PLOT_HEIGHT - BOTTOM, TOP)


def timed_rows(rows: Sequence[RowView]) -> list[TimedRow]:
    """The rows that have both, with their median latency and their score."""
    return [(row, row.timing.p50, row.score.value) for row in rows if row.timing and row.score.value is not None]


def far_apart(times: Sequence[float]) -> bool:
    """Whether a linear axis would crowd the short ones of some times."""
    return max(times) > 8 * min(times)


def told(row: RowView) -> str:
    """A row of the plot in words."""
    doubts = f" ({', '.join(doubts_of(row))})" if doubts_of(row) else ""
    return one_line(f"{row.detector}, {row.method}: {row.score.text} at {row.latency.text} ms{doubts}")


def front_of(timed: Sequence[TimedRow]) -> list[TimedRow]:
    """The Pareto front of the ranked rows whose times can be relied on: one that can't neither stands in it nor beats another."""
    return pareto([item for item in timed if item[0].rank.value is not None and not doubts_of(item[0])])


def doubts_of(row: RowView) -> tuple[str, ...]:
    """What speaks against a row's times."""
    return row.timing.doubts if row.timing else ()


def legend_of(timed: Sequence[TimedRow]) -> tuple[str, ...]:
    """What the marks of a plot are and what its line is, or why it has none, a sentence each; on paper as on the page."""
    sentences = ["Squares: baselines."] if any(row.arm.is_baseline for row, *_ in timed) else []
    doubts = sorted({doubt for row, *_ in timed for doubt in doubts_of(row)})
    if doubts:
        sentences.append(f"Hollow, with ‡ in the table: flagged times that can't be relied on ({', '.join(doubts)}).")
    return (*sentences, front_text(timed))


def front_text(timed: Sequence[TimedRow]) -> str:
    """What the line of a plot is, or why it has none."""
    ranked = [row for row, *_ in timed if row.rank.value is not None]
    if front_of(timed):
        of_which = " with times that can be relied on" if any(doubts_of(row) for row in ranked) else ""
        return f"The line is the Pareto front of the ranked rows{of_which}: no other of them is both faster and better."
    why = (
        "the times of all ranked rows are flagged, so that none is known to be faster" if ranked else "no row is ranked"
    )
    return f"No Pareto front: {why}."


def pareto(rows: Sequence[TimedRow]) -> list[TimedRow]:
    """The rows that no other beats in latency and score at once, from the fastest on; of equals the first."""
    front: list[TimedRow] = []
    for row in sorted(rows, key=lambda item: (item[1], -item[2])):
        if not front or row[2] > front[-1][2]:
            front.append(row)
    return front


def corners(points: Sequence[tuple[float, float]]) -> str:
    """A staircase from the first point to the last, and on to the right edge: what is reached with so much time."""
    if not points:
        return ""
    steps = [f"M{points[0][0]},{points[0][1]}"]
    steps += [f"H{x}V{y}" for x, y in points[1:]]
    return "".join(steps) + f"H{PLOT_WIDTH - RIGHT}"


def labels_of(
    texts: Mapping[str, str], placed: Mapping[str, tuple[float, float]], lettering: Lettering
) -> dict[str, tuple[float, float, str]]:
    """Texts beside their points, where they cover no other point or text and seem to be of none, the first ones first: x of the start,
    y, text.
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in placed.values()]
    found = {}
    for row, text in texts.items():
        x, y = placed[row]
        width = lettering.width * len(text)
        over, under = y - 10, y + 8 + lettering.above
        for left, base in ((x + 4, over), (x - 4 - width, over), (x + 4, under), (x - 4 - width, under)):
            box = (left, base - lettering.above, left + width, base + lettering.below)
            inside = box[0] > LEFT and box[2] < PLOT_WIDTH - 2 and box[1] > 2 and box[3] < PLOT_HEIGHT - BOTTOM
            own = distance(placed[row], box)
            apart = all(distance(at, box) >= APART * own for name, at in placed.items() if name != row)
            if inside and apart and not any(overlap(box, other) for other in taken):
                taken.append(box)
                found[row] = (round(left, 1), round(base, 1), text)
                break
    return found


def distance(point: tuple[float, float], box: tuple[float, float, float, float]) -> float:
    """From a point to the nearest of a box (left, top, right, bottom)."""
    (x, y), (left, top, right, bottom) = point, box
    return math.hypot(max(left - x, 0.0, x - right), max(top - y, 0.0, y - bottom))


def overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Whether two boxes (left, top, right, bottom) share anything."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
