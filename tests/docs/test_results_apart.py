"""docs/results.md on the four rows whose oracle is drawn apart: figures of this publication and of the run before it."""

from __future__ import annotations

import re
from statistics import mean

import pytest

from harness.records.oracles import began_as_its_oracle
from harness.records.record import Record, read_records
from tests.docs.suite_pages import ROOT, SCENARIOS, Suite, diagnostics, more_loss, section, told

ROWS = {"resa_micro": "RESA", "ufldv2_micro": "UFLDv2", "condlanenet_micro": "CondLaneNet", "laneatt_micro": "LaneATT"}
HEADING = "Hard rendered roads, reduced for a CPU"
WITH_LANES = [name for name in SCENARIOS if name != "cross_fp"]
APART, BEFORE = (Suite(name, HEADING, ROWS, 0) for name in ("apart", "rendered-reduced"))


def level(value: str) -> str:
    """A p as the page writes it."""
    return "< .001" if float(value) < 0.001 else f"{float(value):.3f}".removeprefix("0")


def line_of(table: str, start: str) -> list[str]:
    """The cells of the line that begins so, of the table whose head begins so, without emphasis."""
    rows = APART.page.partition(table)[2].partition("\n\n")[0].splitlines()
    (found,) = [row for row in rows if row.strip().startswith(f"| {start} |")]
    return [cell.strip() for cell in found.strip().strip("|").split("|")]


@pytest.mark.parametrize("detector", ROWS)
def test_a_rows_scores_gain_and_levels_are_the_published_ones(detector: str) -> None:
    gain, baseline, method = (APART.lines(kind)[detector] for kind in ("gain", "baseline", "method"))
    cells = line_of("| F1@50 |", ROWS[detector])
    assert cells[1:4] == [f"{float(value):.2f}" for value in (baseline["f1_50"], baseline["f1_50_sd"], method["f1_50"])]
    bold = "**" if gain["verdict"] in ("better", "worse") else ""
    assert cells[4] == f"{bold}{told(gain, 'f1_50', 2)}{bold}"
    assert cells[5:7] == [level(gain["p"]), level(gain["p_holm"])]
    assert cells[7] == f"{float(gain['detectable']):.1f}"
    assert cells[8:10] == [told(gain, score, 1) for score in ("no_line", "curve")]


@pytest.mark.parametrize("detector", ROWS)
def test_the_readme_has_the_same_row_in_short(detector: str) -> None:
    gain, baseline, method = (APART.lines(kind)[detector] for kind in ("gain", "baseline", "method"))
    found = diagnostics(APART)[detector, "r2"]
    bold = "**" if gain["verdict"] in ("better", "worse") else ""
    scores = [f"{float(line['f1_50']):.1f}" for line in (baseline, method)]
    r2 = " to ".join(f"{value:.2f}"[1:] for value in (min(found), max(found)))
    cells = [ROWS[detector], *scores, f"{bold}{told(gain, 'f1_50', 1)}{bold}", level(gain["p_holm"]), r2]
    assert f"| {' | '.join(cells)} |" in (ROOT / "README.md").read_text()


def test_the_mean_over_detectors_and_the_interval_for_a_new_one_are_the_tables() -> None:
    table = (APART.folder / "leaderboard.md").read_text().partition("## Methods over all rows")[2]
    (row,) = [line for line in table.splitlines() if line.startswith("| samiro ")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    low, high = (f"{float(bound):+.1f}" for bound in cells[7].split(" to "))
    said = f"The mean over detectors is {float(cells[4]):.1f}, and the prediction interval for a new detector runs from {low} to {high}"
    assert said in " ".join(APART.page.split())


@pytest.mark.parametrize("detector", ROWS)
def test_what_the_oracle_is_predicted_by_and_pulls_is_that_of_the_records(detector: str) -> None:
    found = diagnostics(APART)
    r2, pull = (re.findall(r"[\d.]+", cell) for cell in line_of("| F1@50 |", ROWS[detector])[10:])
    assert [f"{value:.2f}"[1:] for value in (min(found[detector, "r2"]), max(found[detector, "r2"]))] == r2
    pulls = found[detector, "gradient_ratio"]
    decimals = 0 if max(pulls) > 0.02 else 1
    assert [f"{100 * value:.{decimals}f}" for value in (min(pulls), max(pulls))] == pull


@pytest.mark.parametrize("detector", ROWS)
def test_the_gains_of_both_runs_with_five_seeds_stand_side_by_side(detector: str) -> None:
    cells = line_of("| gain in F1@50 |", ROWS[detector])[-2:]
    for suite, cell in zip((BEFORE, APART), cells, strict=True):
        gain = suite.lines("gain")[detector]
        bold = "**" if gain["verdict"] in ("better", "worse") else ""
        assert cell == f"{bold}{told(gain, 'f1_50', 2)}{bold}"


def records_of(detector: str, method: str) -> dict[int, Record]:
    """The records of a row, by seed."""
    return {
        record.identity.seed: record
        for record in read_records(APART.folder / "records")
        if (record.identity.detector, record.identity.method) == (detector, method)
    }


def r2(record: Record) -> float:
    """At the last step, the mean over taps."""
    assert record.training is not None
    return mean(value for key, value in record.training.final_diagnostics.items() if key.startswith("r2"))


def test_seed_zero_is_not_an_odd_one_any_more() -> None:
    page = " ".join(section("Seed 0, where oracle and detector began alike").split())
    records, gains = records_of("resa_micro", "samiro"), gains_of("resa_micro")
    first, *others = [r2(records[seed]) for seed in range(5)]
    assert min(others) < first < max(others)
    assert min(gains) < gains[0] < max(gains)
    assert f"RESA's R^2 at seed 0 is {first:.2f} there, beside {min(others):.2f} to {max(others):.2f}".replace(
        "0.", "."
    ) in page.replace("0.", ".")
    assert f"its loss {-gains[0]:.1f}, beside {-max(gains[1:]):.1f} to {-min(gains[1:]):.1f}" in page
    sides = [told(suite.lines("gain")["resa_micro"], "f1_50", 1).lstrip("-") for suite in (APART, BEFORE)]
    assert f"Over all seeds it loses {sides[0]}, where it had lost {sides[1]}." in page
    assert not any(map(began_as_its_oracle, read_records(APART.folder / "records")))


def test_the_rows_stand_in_the_order_of_their_pulls() -> None:
    found = diagnostics(APART)
    pulls = {detector: 100 * mean(found[detector, "gradient_ratio"]) for detector in ROWS}
    order = sorted(ROWS, key=lambda detector: -pulls[detector])
    gains = [float(APART.lines("gain")[detector]["f1_50"]) for detector in order]
    assert gains == sorted(gains)
    *some, last = (f"{pulls[detector]:.1f}" for detector in order)
    assert f"(here {', '.join(some)} and {last} %, the middle two hardly apart)" in " ".join(APART.page.split())


def test_those_that_lose_end_with_a_higher_loss_of_their_own_in_every_pair_and_laneatt_with_a_lower_one() -> None:
    more = {detector: more_loss(APART, detector) for detector in ROWS}
    assert {detector for detector in ROWS if min(more[detector]) > 0} == {*ROWS} - {"laneatt_micro"}
    assert max(more["laneatt_micro"]) < 0
    assert (
        "the three that lose also end with a higher loss of their own on their training images (the detector's loss, mean of steps "
        "600 to 660), in all five seeds, and LaneATT with a lower one in all five"
    ) in " ".join(APART.page.split())
    verdicts = {detector: line["verdict"] for detector, line in APART.lines("gain").items()}
    assert verdicts == {detector: "worse" for detector in ROWS} | {"laneatt_micro": "better"}


def test_what_it_costs_and_how_hard_it_is_are_the_tables_figures() -> None:
    page = " ".join(APART.page.split())
    steps, inference = (
        [float(APART.lines("method")[detector][key]) for detector in ROWS] for key in ("step_ratio", "inference_ratio")
    )
    assert f"takes {min(steps):.2f} to {max(steps):.2f} times as long. The attention" in page
    assert f"uncompiled, takes {min(inference):.2f} to {max(inference):.2f} times as long" in page
    baselines = APART.lines("baseline")
    lowest = min(float(baselines[detector][name]) for detector in ROWS for name in WITH_LANES)
    highest = max(float(baselines[detector][name]) for detector in ROWS for name in WITH_LANES)
    assert f"scenarios range from {lowest:.0f} (`no line`, LaneATT) to {highest:.0f}." in page
    spread = [float(baselines[detector]["f1_50_sd"]) for detector in ROWS]
    assert f"seed SDs are {min(spread):.1f} to {max(spread):.1f};".replace("0.", ".") in page
    assert f"the best detector has {max(float(baselines[detector]['f1_75']) for detector in ROWS):.0f}." in page


def test_the_scenarios_that_are_named_have_their_gains() -> None:
    page, gains, before = " ".join(APART.page.split()), APART.lines("gain"), BEFORE.lines("gain")
    assert all(float(gains["resa_micro"][name]) < 0 for name in WITH_LANES)
    for detector, named in (
        ("resa_micro", ["curve", "no_line"]),
        ("condlanenet_micro", ["curve", "dazzle", "crowded"]),
    ):
        assert sorted(WITH_LANES, key=lambda name: float(gains[detector][name]))[: len(named)] == named
    condlanenet, laneatt = gains["condlanenet_micro"], gains["laneatt_micro"]
    assert f"`dazzle` ({told(condlanenet, 'dazzle', 1)}) and `crowded` ({told(condlanenet, 'crowded', 1)})" in page
    arrows = [told(lines["laneatt_micro"], "arrow", 1) for lines in (gains, before)]
    assert (
        f"`arrow` ({arrows[0]}; {arrows[1]} in the run before) and in `crowded` ({told(laneatt, 'crowded', 1)})" in page
    )
    assert f"in `no line` it has {told(laneatt, 'no_line', 1)}." in page
    for key, detector, says in (
        ("f1_75", "resa_micro", "RESA loses"),
        ("f1_75", "ufldv2_micro", "UFLDv2"),
        ("f1_75", "laneatt_micro", "LaneATT gains"),
    ):
        assert f"{says} {told(gains[detector], key, 1).lstrip('+-')}" in page
    assert f"CondLaneNet's {told(condlanenet, 'f1_75', 1)} has zero in its interval" in page
    assert float(condlanenet["f1_75_low"]) < 0 < float(condlanenet["f1_75_high"])


def gains_of(detector: str) -> list[float]:
    """In F1@50, in points, by seed."""
    arms = [records_of(detector, method) for method in ("samiro", "baseline")]
    scores = [[100 * float(arm[seed].evaluations[0].total.f1_50 or 0) for seed in range(5)] for arm in arms]
    return [more - less for more, less in zip(*scores, strict=True)]
