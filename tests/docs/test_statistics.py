"""docs/statistics.md: its commands exist, and its tables are those that they make."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import nct, t

from harness.records.record import read_record
from harness.report.leaderboard import leaderboard
from harness.report.sample_size import at_upper_limits, detectable_with, noise_of
from harness.report.simulation.__main__ import TABLES, Part
from harness.report.simulation.drawn import FEW_CLIPS, GRID, ONE_SEED, UNEVEN_CLIPS
from harness.report.simulation.measured import REGIMES
from harness.report.simulation.rivals import RIVALS
from harness.report.statistics import Comparison, detectable_difference

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/statistics.md").read_text()
LINES = {
    Part.grid: len(GRID),
    Part.rivals: len(RIVALS) + 1,
    Part.few: len(FEW_CLIPS),
    Part.one: len(ONE_SEED),
    Part.uneven: len(UNEVEN_CLIPS),
    Part.power: sum(setting.clips == 60 for setting in GRID),
    Part.prediction: len(REGIMES),
}


def lines_of(part: Part) -> list[str]:
    """The lines of a table of the page, title and rule included."""
    return PAGE.split(f"<!-- {part} -->\n\n", 1)[1].split("\n\n", 1)[0].splitlines()


@pytest.mark.parametrize("part", TABLES)
def test_a_table_has_the_columns_and_lines_that_its_command_prints(part: Part) -> None:
    table = lines_of(part)
    assert len(table) == 2 + LINES[part]
    header = [cell.strip() for cell in table[0].strip("|").split("|")]
    made = TABLES[part](16, 0)
    assert header == [title.strip() for title in next(made)]
    if part is not Part.rivals:
        first = [cell.strip() for cell in table[2].strip("|").split("|")]
        assert first[0] == next(made)[0]


def test_every_table_is_named_as_a_part_of_the_command() -> None:
    assert all(f"`{part}`" in PAGE or f"simulation {part}" in PAGE for part in Part)


def test_all_sixteen_settings_cover_between_93_and_98_percent_and_err_in_at_most_5() -> None:
    """What the procedure has to hold, of the figures that the page shows; three Monte-Carlo standard errors are allowed."""
    for line in lines_of(Part.grid)[2:]:
        covered, errors = re.findall(r"([\d.]+) ± ([\d.]+)", line)
        assert 93 - 3 * float(covered[1]) <= float(covered[0]) <= 98 + 3 * float(covered[1]), line
        assert float(errors[0]) <= 5 + 3 * float(errors[1]), line


def test_what_is_said_of_the_prediction_interval_is_what_its_table_shows() -> None:
    covered: dict[str, list[float]] = {}
    improves: list[float] = []
    for line in lines_of(Part.prediction)[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        coverage, said = (float(cell.split(" ")[0]) for cell in cells[3:])
        for key in (cells[0], f"{cells[0]} of {cells[1]}"):
            covered.setdefault(key, []).append(coverage)
        improves.append(said)
    text = " ".join(PAGE.split("**Prediction interval.**")[1].split("<!-- prediction -->")[0].split())
    for share in ("50%, 0%", "95%, 0%", "40%, 30%"):
        assert f"covers {min(covered[share])} to {max(covered[share])} %" in text
    best, least = max(covered["95%, 0% of 5"]), min(covered["95%, 0% of 12"])
    assert f"with 5 detectors {best} at best, with 12 at least {least}" in text
    assert f"in {max(improves)} % at most" in text


def test_the_gains_that_seeds_alone_would_show_are_those_of_the_paired_t_test_and_of_the_leaderboard() -> None:
    seeds, shown = (
        [cell.strip() for cell in line.strip("|").split("|")[1:]]
        for line in PAGE.split("<!-- seeds -->\n\n", 1)[1].split("\n\n", 1)[0].splitlines()[::2]
    )
    for count, multiple in zip(map(int, seeds), map(float, shown), strict=True):
        shift, critical = multiple * count**0.5, t.ppf(0.975, count - 1)
        assert nct.sf(critical, count - 1, shift) == pytest.approx(0.8, abs=0.01)
        differences = np.arange(count, dtype=np.float64)
        alike = Comparison(differences, np.zeros(60), 60.0, 1 / count, 0.0, 0.0, None)
        assert detectable_difference(alike) == pytest.approx(multiple, abs=0.005)


@cache
def gains_of(suite: str) -> dict[tuple[str, str], Comparison]:
    """The headline differences of a publication, by detector and method."""
    folder = ROOT / "results" / suite / "records"
    board = leaderboard([read_record(path) for path in sorted(folder.glob("*.json"))], folder)
    return {
        (gain.arm.detector, gain.arm.method): gain.headline.comparison
        for section in board.shown
        for gain in section.gains
        if gain.headline is not None
    }


def test_what_pilots_promised_stands_beside_what_came() -> None:
    lines = PAGE.split("<!-- pilots -->\n\n", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    low = {"plain": 0, "cautious": 0}
    for row, pilot, of_pilot, then, of_run, *figures in table:
        detector, _, weight = row.partition(", lambda ")
        first, second = (
            # What `tuning` calls by its lambda is `samiro` elsewhere.
            gains_of(suite.strip("`"))[
                f"{detector.lower()}_micro",
                f"samiro_0{weight or '.1'}" if weight or suite == "`tuning`" else "samiro",
            ]
            for suite in (pilot, then)
        )
        assert of_pilot == f"{first.seeds}, {first.clips}"
        assert of_run == f"{second.seeds}, {second.clips}"
        more = second.clips / first.clips
        promised, careful, came = (
            detectable_with(noise_of(first, more), second.seeds),
            detectable_with(noise_of(at_upper_limits(first), more), second.seeds),
            detectable_difference(second),
        )
        assert came is not None
        shown = (first.seed_sd, second.seed_sd, promised, careful, came)
        assert figures == [f"{100 * value:.2f}" for value in shown if value is not None]
        low["plain"] += promised < came
        low["cautious"] += careful < came
    text = " ".join(PAGE.split())
    assert f"too low in {low['plain']} of {len(table)}, the cautious one in {low['cautious']}." in text
