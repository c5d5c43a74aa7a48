"""docs/results.md: the figures of suite `schedule` are those of its publication."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from harness.records.record import read_records

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results/schedule"
PAGE = (ROOT / "docs/results.md").read_text().partition("### With half the steps")[2].partition("\n## ")[0]
STEPS = {"resa_short": "330 steps", "resa_long": "1,320 steps"}


def lines(kind: str) -> dict[str, dict[str, str]]:
    """The lines of a kind in the published leaderboard, by detector."""
    with (PUBLISHED / "leaderboard.csv").open() as stream:
        return {line["detector"]: line for line in csv.DictReader(stream) if line["kind"] == kind}


def told(line: dict[str, str], score: str, decimals: int, sign: int = 1) -> str:
    """A difference as the page writes it."""
    half = (float(line[f"{score}_high"]) - float(line[f"{score}_low"])) / 2
    return f"{sign * float(line[score]):.{decimals}f} ± {half:.{decimals}f}"


def row(start: str) -> list[str]:
    """The cells of the page's table in a line that begins so, without emphasis."""
    (found,) = [line for line in PAGE.splitlines() if line.startswith(f"| {start} |")]
    return [cell.strip().strip("*") for cell in found.strip("|").split("|")]


@pytest.mark.parametrize("detector", STEPS)
def test_scores_and_gains_are_the_published_ones(detector: str) -> None:
    gain, cells = lines("gain")[detector], row(STEPS[detector])
    assert cells[1:3] == [f"{float(lines(kind)[detector]['f1_50']):.2f}" for kind in ("baseline", "method")]
    assert cells[3] == told(gain, "f1_50", 2)
    assert float(cells[4]) == pytest.approx(float(gain["p_holm"]), abs=5e-4)
    assert cells[5:8] == [told(gain, score, 1) for score in ("no_line", "curve", "f1_75")]
    assert gain["verdict"] == "worse"


def test_the_difference_of_the_gains_is_the_published_one() -> None:
    (line,) = lines("gain_difference").values()
    # The table takes the long schedule's gain off the short one's, the page the other way round.
    assert (line["detector"], line["against"]) == ("resa_short", "resa_long")
    cells = row("the second minus the first")
    assert cells[3] == told(line, "f1_50", 2, -1)
    assert cells[5:8] == [told(line, score, 1, -1) for score in ("no_line", "curve", "f1_75")]
    assert f"mF1 ({told(line, 'mf1', 1, -1)})" in PAGE
    assert f"rules\n  out that more than {-float(line['f1_50_low']):.1f} of the points come back" in PAGE


@pytest.mark.parametrize("detector", STEPS)
def test_what_the_oracle_is_predicted_by_and_pulls_is_that_of_the_records(detector: str) -> None:
    found = defaultdict(list)
    for record in read_records(PUBLISHED / "records"):
        if record.identity.detector == detector and record.identity.method == "samiro":
            assert record.training is not None
            for key, value in record.training.final_diagnostics.items():
                found[key.partition("/")[0]].append(value)
    r2, pull = (re.findall(r"[\d.]+", cell) for cell in row(STEPS[detector])[8:])
    assert [f"{value:.2f}"[1:] for value in (min(found["r2"]), max(found["r2"]))] == r2
    assert [f"{100 * value:.0f}" for value in (min(found["gradient_ratio"]), max(found["gradient_ratio"]))] == pull


@pytest.mark.parametrize(("detector", "least", "most"), [("resa_short", 1, 16), ("resa_long", 14, 23)])
def test_a_detectors_own_loss_is_higher_in_all_pairs(detector: str, least: int, most: int) -> None:
    more = []
    for seed in range(5):
        own = []
        for method in ("samiro", "baseline"):
            (log,) = (PUBLISHED / "training").glob(f"hard-{detector}-{method}-s{seed}-*.jsonl")
            steps = [json.loads(line) for line in log.read_text().splitlines()]
            steps = [step for step in steps if "losses" in step]
            last = [step["losses"] for step in steps if step["step"] > 0.9 * steps[-1]["step"]]
            own.append(mean(losses["mask"] + losses["existence"] for losses in last))
        more.append(100 * (own[0] / own[1] - 1))
    assert (round(min(more)), round(max(more))) == (least, most)
    assert f"by {least} to {most} % with" in PAGE
