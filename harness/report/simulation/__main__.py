"""The tables of docs/statistics.md, made anew."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import pandas as pd
import typer

from harness.report.simulation.drawn import FEW_CLIPS, GRID, ONE_SEED, UNEVEN_CLIPS, Setting
from harness.report.simulation.measured import REGIMES, Found, Measured, Share, measure, power, predicted
from harness.report.simulation.rivals import BY_NUMBER


class Part(StrEnum):
    """A table, or all of them."""

    grid = "grid"
    rivals = "rivals"
    few = "few"
    one = "one"
    uneven = "uneven"
    power = "power"
    prediction = "prediction"
    all = "all"


Lines = Iterator[Sequence[str]]


app = typer.Typer(add_completion=False)


@app.command(epilog="Example: python -m harness.report.simulation grid --matrices 500")
def main(
    part: Annotated[Part, typer.Argument(help="Which table.")] = Part.all,
    matrices: Annotated[int, typer.Option(min=16, help="Simulated test sets a setting.")] = 2000,
    seed: Annotated[int, typer.Option(help="Of the random numbers.")] = 0,
) -> None:
    """Simulate, and print the tables as Markdown. The same numbers and seed give the same bytes."""
    for name, table in TABLES.items():
        if part in (Part.all, name):
            header, *lines = table(matrices, seed)
            frame = pd.DataFrame(lines, columns=list(header), dtype=str)
            print(frame.to_markdown(index=False, disable_numparse=True), end="\n\n")
            sys.stdout.flush()


def grid(matrices: int, seed: int) -> Lines:
    """Coverage and family-wise error in the sixteen settings."""
    yield *SETTING, "variance by seeds, clips, both", "coverage", "family-wise error", "half-width"
    for setting in GRID:
        found = measure(setting, matrices, seed)
        shares = ", ".join(f"{share:.0%}" for share in found.variance_shares)
        yield (
            *setting_cells(setting),
            shares,
            percent(found.ours.coverage),
            percent(found.ours.family_error),
            points(found.ours),
        )


def rivals(matrices: int, seed: int) -> Lines:
    """The usual recipes over the same settings, a quarter of the test sets each."""
    yield "procedure", "coverage, min to max", "family-wise error, max", "half-width, 3 seeds, 60 clips, seeds dominate"
    found = [measure(setting, matrices // 4, seed, rivals=matrices // 4) for setting in GRID]
    procedures: Mapping[str, list[Found]] = {
        **{name: [one.rivals[name] for one in found] for name in found[0].rivals},
        "quadrature": [one.ours for one in found],
    }
    for name, ours in procedures.items():
        covered = sorted((one.coverage for one in ours), key=lambda share: share.value)
        worst = max((one.family_error for one in ours), key=lambda share: share.value)
        yield name, f"{percent(covered[0])} to {percent(covered[-1])}", percent(worst), points(ours[0])


def few(matrices: int, seed: int) -> Lines:
    """Coverage in scenarios with few clips."""
    yield *SETTING, "coverage", "half-width"
    for setting in FEW_CLIPS:
        found = measure(setting, matrices, seed)
        yield *setting_cells(setting), percent(found.ours.coverage), points(found.ours)


def one(matrices: int, seed: int) -> Lines:
    """Coverage of the clip interval of one seed, whose networks are held fixed."""
    yield *SETTING, "coverage, no gain", "coverage, gain of 0.3 logits"
    for setting in ONE_SEED:
        found: list[Measured] = [measure(setting, matrices, seed, gain=gain) for gain in (0.0, 0.3)]
        yield *setting_cells(setting), *(percent(one.ours.coverage) for one in found)


def uneven(matrices: int, seed: int) -> Lines:
    """Where the grid ends: clips that are all that matters, and very uneven ones; beside the interval that counts all clips alike."""
    yield *SETTING, "coverage", "family-wise error", "by the number of clips: coverage", "family-wise error "
    for setting in UNEVEN_CLIPS:
        found = measure(setting, matrices // 2, seed, rivals=matrices // 2)
        other = found.rivals[BY_NUMBER]
        shares = (found.ours.coverage, found.ours.family_error, other.coverage, other.family_error)
        yield *setting_cells(setting), *(percent(share) for share in shares)


def powers(matrices: int, seed: int) -> Lines:
    """Whether the detectable difference is seen four times in five."""
    yield *SETTING, "detectable", "true gain", "told from 0"
    for setting in (setting for setting in GRID if setting.clips == 60):
        found = power(setting, matrices // 4, seed)
        yield (
            *setting_cells(setting),
            f"{found.detectable * 100:.2f}",
            f"{found.true * 100:.2f}",
            percent(found.separated),
        )


def prediction(matrices: int, seed: int) -> Lines:
    """What the prediction interval of a method's summary is worth; twice the test sets, which are quickly drawn."""
    yield (
        "variance by seeds, both",
        "detectors",
        "between-detector SD",
        "coverage of a new detector's gain",
        "says it improves, mean gain 0",
    )
    for regime in REGIMES:
        found = predicted(regime, 2 * matrices, seed)
        yield (
            f"{regime.by_seeds:.0%}, {regime.by_both:.0%}",
            str(regime.detectors),
            f"{regime.between:g}",
            percent(found.coverage),
            percent(found.improves),
        )


SETTING = ("seeds", "clips", "dominates")

TABLES: Mapping[Part, Callable[[int, int], Lines]] = {
    Part.grid: grid,
    Part.rivals: rivals,
    Part.few: few,
    Part.one: one,
    Part.uneven: uneven,
    Part.power: powers,
    Part.prediction: prediction,
}


def setting_cells(setting: Setting) -> tuple[str, str, str]:
    """The first cells of a setting's line."""
    return str(setting.seeds), f"{setting.clips} {setting.sizes}", setting.mix.name


def percent(share: Share) -> str:
    """A share and its Monte-Carlo standard error, in percent."""
    return f"{share.value * 100:.1f} ± {share.error * 100:.1f}"


def points(found: Found) -> str:
    """A half-width in points."""
    return f"{found.half_width * 100:.2f}"


if __name__ == "__main__":
    app()
