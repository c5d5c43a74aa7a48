"""The page's figures for papers, as SVG and PNG: gains with intervals, seeds as dots, scenarios, scores against latency.

Matplotlib draws them from the same figures and verdicts as the tables; equal records give equal bytes with one version of it.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.files.stored import written_aside
from harness.report.cells import verdict_text
from harness.report.columns import COUNTED
from harness.report.leaderboard import Leaderboard, Section
from harness.report.section_text import section_title
from harness.report.site.plots import (
    BOTTOM,
    LEFT,
    PLOT_HEIGHT,
    PLOT_WIDTH,
    RIGHT,
    TOP,
    doubts_of,
    front_of,
    in_points,
    latency_axes,
    latency_of,
    legend_of,
    timed_rows,
)
from harness.report.site.rows import RowView, rows_of, scenario_places
from harness.sums import added_in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = ("gains", "seeds", "scenarios", "latency")
ENDINGS = ("svg", "png")
ROWS_LIMIT = 60
"""Rows that one figure shows, the first of the table; its title says so where there are more."""

NAME_SIZE = 7.0
"""Of a name beside its point, in points: as large against the axes as on the page, where names are placed."""

INK, WEAK = "#1c1c19", "#8a8a82"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.edgecolor": WEAK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "samiro-bench",
    "svg.fonttype": "path",
    "mathtext.default": "regular",
}


def figure_names(number: int) -> dict[str, tuple[str, ...]]:
    """What the figures of a section are called, by its place on the page and by what they show."""
    return {kind: tuple(f"{number}-{kind}.{ending}" for ending in ENDINGS) for kind in KINDS}


def write_figures(folder: Path, board: Leaderboard) -> list[Path]:
    """Write the figures of every section into `folder`, each atomically; what a section has no data for is left out."""
    import matplotlib

    written = []
    with matplotlib.rc_context(STYLE):
        for number, section in enumerate(board.shown, start=1):
            rows = rows_of(section, board)
            for kind, draw in zip(KINDS, (gains, seeds, scenarios, latency), strict=True):
                drawn = draw(section, rows)
                for name in figure_names(number)[kind]:
                    if drawn is not None:
                        written.append(folder / name)
                        save(drawn, written[-1])
    return written


def save(figure: Figure, path: Path) -> None:
    """Write a figure without a date or a name of the program, so that it changes with its data only."""
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with written_aside(path) as aside:
        figure.savefig(aside, format=path.suffix[1:], dpi=160, metadata=metadata, bbox_inches="tight")


def new(
    section: Section, rows: int, of: int, *, width: float = 6.4, height: float | None = None
) -> tuple[Figure, Axes]:
    """A figure with a line for each of some rows, or of a height in inches, titled by its section."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height or 0.9 + 0.26 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    shown = f" ({rows} of {of} rows)" if rows < of else ""
    axes.set_title(plain(section_title(section)) + shown, loc="left", fontsize=9)
    return figure, axes


def plain(text: str) -> str:
    """A text that matplotlib takes literally: dollar signs begin mathematics."""
    return "".join(sign for sign in text if sign.isprintable()).replace("$", r"\$")[:100]


def name_of(row: RowView) -> str:
    """How a row is called beside an axis."""
    return plain(f"{row.detector}, {row.method}")


def named(axes: Axes, names: Sequence[str]) -> None:
    """Lines from top to bottom, with their names."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color="#dcdcd4", linewidth=0.6)
    axes.set_axisbelow(True)


def gains(section: Section, rows: Sequence[RowView]) -> Figure | None:
    """The forest plot: gains with their intervals, paired seeds as dots, verdicts at the edge."""
    judged = [row for row in rows if row.gain is not None and row.gain.headline is not None]
    if not judged:
        return None
    shown = judged[:ROWS_LIMIT]
    figure, axes = new(section, len(shown), len(judged))
    named(axes, [name_of(row) for row in shown])
    axes.axvline(0.0, color=WEAK, linewidth=0.9)
    for place, row in enumerate(shown):
        assert row.gain is not None
        mean, low, high, each = in_points(row.gain)
        axes.plot([low, high], [place, place], color=INK, linewidth=1.3, solid_capstyle="butt")
        axes.plot(each, [place + 0.27] * len(each), ".", color=WEAK, markersize=4)
        axes.plot([mean], [place], "s", color=INK, markersize=4.5)
        told = f" {plain(verdict_text(row.gain))}"
        axes.text(1.0, place, told, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.set_xlabel(f"gain in {section.headline.title} over the baseline, points (95 % intervals; dots: paired seeds)")
    return figure


def seeds(section: Section, rows: Sequence[RowView]) -> Figure | None:
    """The headline score of every seed, and the means."""
    scored = [row for row in rows if row.values]
    if not scored:
        return None
    shown = scored[:ROWS_LIMIT]
    figure, axes = new(section, len(shown), len(scored))
    named(axes, [name_of(row) for row in shown])
    for place, row in enumerate(shown):
        axes.plot(row.values, [place] * len(row.values), "o", color=WEAK, markersize=4)
        axes.plot(
            [added_in_order(row.values) / len(row.values)], [place], "|", color=INK, markersize=11, markeredgewidth=1.6
        )
    axes.set_xlabel(f"{section.headline.title}, points (dots: seeds; bars: means)")
    return figure


def scenarios(section: Section, rows: Sequence[RowView]) -> Figure | None:
    """The heat map of scenarios; counts have a scale of their own."""
    titles = [plain(section.columns[place].title) for place in scenario_places(section)]
    if not titles or not rows:
        return None
    shown = rows[:ROWS_LIMIT]
    figure, axes = new(section, len(shown), len(rows), width=2.4 + 0.62 * len(titles))
    shares = [[cell.share if cell.share is not None else float("nan") for cell in row.scenarios] for row in shown]
    axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.8, aspect="auto")
    for place, row in enumerate(shown):
        for column, cell in enumerate(row.scenarios):
            axes.text(column, place, cell.text, ha="center", va="center", fontsize=7.5, color=INK)
    axes.set_yticks(range(len(shown)), [name_of(row) for row in shown])
    axes.set_xticks(range(len(titles)), titles, rotation=30, ha="right")
    counts = [
        f"{plain(section.columns[place].title)}: counts"
        for place in scenario_places(section)
        if section.columns[place].kind in COUNTED
    ]
    axes.set_xlabel("; ".join([f"{section.headline.title}, points", *counts, "the darker, the better"]))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def latency(section: Section, rows: Sequence[RowView]) -> Figure | None:
    """Scores against median latency, with the front of the ranked rows and, below, what the marks and the front are.

    Axes are the page's, and names stand where they do there: beside their points, as far as they cover nothing.
    """
    from matplotlib.patheffects import withStroke

    placed = latency_of(rows)
    if placed is None:
        return None
    timed = timed_rows(rows)
    figure, axes = new(section, len(timed), len(timed), height=3.6)
    across, up = latency_axes(timed)
    if across.logarithmic:
        axes.set_xscale("log")
    axes.set(xlim=(across.low, across.high), ylim=(up.low, up.high))
    front = front_of(timed)
    if front:
        ends = ([time for _, time, _ in front], [score for *_, score in front])
        axes.step(
            [*ends[0], across.high], [*ends[1], ends[1][-1]], where="post", color=WEAK, linewidth=1, linestyle="--"
        )
    for row, time, score in timed:
        shape, fill = "s" if row.arm.is_baseline else "o", "none" if doubts_of(row) else "full"
        axes.plot([time], [score], shape, color=INK, markersize=5, fillstyle=fill)
    for point in placed.points:
        if point.name is not None:
            x, y, text = point.name
            at = (x - LEFT) / (PLOT_WIDTH - RIGHT - LEFT), (PLOT_HEIGHT - BOTTOM - y) / (PLOT_HEIGHT - BOTTOM - TOP)
            name = axes.text(*at, plain(text), transform=axes.transAxes, fontsize=NAME_SIZE)
            name.set_path_effects([withStroke(linewidth=2, foreground="white")])  # a line behind it stays behind it
    axes.grid(color="#dcdcd4", linewidth=0.6)
    axes.set_axisbelow(True)
    label = f"p50 latency, ms ({section.timing.protocol})" if section.timing else "p50 latency, ms"
    told = textwrap.wrap(" ".join(legend_of(timed)), 90)
    axes.set_xlabel("\n".join([label, *(plain(line) for line in told)]))
    axes.set_ylabel(f"{section.headline.title}, points")
    return figure
