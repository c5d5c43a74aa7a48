"""What every gain of a pilot's leaderboard says of the seeds that an experiment takes, as rows and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.report.cells import method_text
from harness.report.leaderboard import Leaderboard, Section
from harness.report.rows import Gain
from harness.report.sample_size import (
    CAUTION,
    MOST_SEEDS,
    SampleSize,
    least_detectable,
    noise_of,
    sample_size,
    why_no_noise,
)
from harness.report.section_text import section_title
from harness.report.statistics import POWER, SIGNIFICANCE, clips_text, lack_of_clips
from harness.report.table import Table
from harness.report.text import number, points


@dataclass(frozen=True)
class Planned:
    """What the gains that are asked for take of a row. Fractions, and hours.

    table: the section that the row stands in. pilot_pairs, pilot_clips, difference, seed_sd: what the pilot has and showed. sizes: a
    gain each. least: the smallest gain that any number of pairs would tell. hours_a_pair: both trainings, as the pilot's took; None
    where they were of several machines. why: what keeps the row from being a pilot, with nothing of the rest but its size; None where
    nothing does.
    """

    table: str
    detector: str
    method: str
    pilot_pairs: int
    pilot_clips: int
    difference: float | None = None
    seed_sd: float | None = None
    sizes: tuple[SampleSize, ...] = ()
    least: float | None = None
    hours_a_pair: float | None = None
    why: str | None = None


def planned_rows(board: Leaderboard, gains: Sequence[float], *, clips: float, rows: int) -> list[Planned]:
    """Every gain on clean images, table by table. gains: fractions. clips: times the pilot's. rows: over which Holm will adjust."""
    return [
        planned_row(board, section, gain, gains, clips, SIGNIFICANCE / rows)
        for section in board.shown
        for gain in section.gains
    ]


def title_of(section: Section) -> str:
    """The section's name, and what clips its pairs share."""
    return f"{section_title(section)}, {clips_text(section.clips, section.effective_clips)}"


def planned_row(
    board: Leaderboard, section: Section, gain: Gain, gains: Sequence[float], clips: float, significance: float
) -> Planned:
    """One of them. significance: of the first step of Holm's adjustment, which is the strictest."""
    named = Planned(title_of(section), gain.arm.detector, method_text(gain), len(gain.seeds), section.clips)
    if gain.headline is None:
        return replace(named, why="no labels")
    comparison = gain.headline.comparison
    if (why := why_no_noise(comparison)) is not None:
        return replace(named, why=why)
    noise = noise_of(comparison, clips)
    if (why := lack_of_clips(noise.clips, noise.effective_clips)) is not None:
        return replace(named, why=why)
    return replace(
        named,
        difference=comparison.mean,
        seed_sd=comparison.seed_sd,
        sizes=tuple(sample_size(comparison, asked, clips, significance) for asked in gains),
        least=least_detectable(noise, significance),
        hours_a_pair=hours_a_pair(board, gain),
    )


def hours_a_pair(board: Leaderboard, gain: Gain) -> float | None:
    """What the trainings of a pair took, in hours of one machine; None where the arms name none, several, or not the same."""
    costs = [cost for arm in (gain.arm, gain.baseline) for cost in board.training.get(arm, ())]
    if len(costs) != 2 or costs[0].machine != costs[1].machine:
        return None
    return sum(cost.seconds for cost in costs) / 3600


def table_of(planned: Sequence[Planned], gains: Sequence[float]) -> Table:
    """The rows of one table. gains: in points, as they were asked for."""
    asked = [title for gain in gains for title in (f"pairs for {gain:g}", f"cautious for {gain:g}")]
    header = ("Detector", "Method", "pilot pairs", "Δ", "SD of pairs", *asked, "least Δ", "h a pair")
    return Table(
        title=planned[0].table, header=header, rows=tuple(cells_of(row, gains) for row in planned), text_columns=2
    )


def cells_of(row: Planned, gains: Sequence[float]) -> tuple[str, ...]:
    """A row's cells; of one that is no pilot the reason stands behind its method."""
    if row.why is not None:
        return (row.detector, f"{row.method}: {row.why}", str(row.pilot_pairs), *[""] * (2 * len(gains) + 4))
    sizes = [pairs_text(pairs, size.hidden_by_clips) for size in row.sizes for pairs in (size.pairs, size.cautious)]
    shown = (
        points(row.difference, sign=True),
        points(row.seed_sd),
        *sizes,
        points(row.least),
        number(row.hours_a_pair, 2),
    )
    return (row.detector, row.method, str(row.pilot_pairs), *shown)


def pairs_text(pairs: int | None, hidden: bool) -> str:
    """A number of pairs; `clips` where these alone hide the gain, so that no number is enough."""
    if pairs is not None:
        return str(pairs)
    return "clips" if hidden else f"> {MOST_SEEDS}"


def notes_of(planned: Sequence[Planned], *, clips: float, rows: int) -> list[str]:
    """What the tables mean, a line each."""
    if not planned:
        return ["no row of it has a baseline to be held against: a pilot has both arms, with three seeds or more"]
    if all(row.why is not None for row in planned):
        return ["no row of it is a pilot: what each lacks stands behind its method"]
    on = "as many clips as the pilot's" if clips == 1 else f"{clips:g} times the pilot's clips"
    over = f", the strictest step of Holm's adjustment over {rows} rows" if rows > 1 else ""
    lines = [
        f"pairs: paired seeds, each a training of either arm, that tell a true gain from 0 with {POWER * 100:.0f} % probability at "
        f"{SIGNIFICANCE / rows:.3g}{over}, by what the pilot's pairs and clips vary by; cautious: by the upper limits of both, "
        f"enough after about {CAUTION * 100:.0f} % of pilots",
        f"on {on}; least Δ: the smallest gain that any number of pairs would tell, for all of them share the clips",
    ]
    if any(size.hidden_by_clips for row in planned for size in row.sizes):
        lines.append("clips: the gain is below the least Δ; --clips says what more of them would do")
    lines.append("h a pair: hours of training, both arms, on the pilot's machine; blank where it had several")
    lines.append("a pilot's seeds are in no later mean: fix the number, then train all pairs anew (docs/rules.md)")
    return lines
