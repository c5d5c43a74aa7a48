"""docs/results.md: the figures of suites `schedule` and `capacity`, which have RESA in two rows, are those of their publications."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pytest
from scipy import stats

from detectors.registry import find_adapter
from harness.records.record import read_records

ROOT = Path(__file__).resolve().parents[2]
RESULTS = (ROOT / "docs/results.md").read_text()


@dataclass(frozen=True)
class Suite:
    """What the page says of a suite. heading: of its section; rows: detector in the publication -> how its line of the table begins;
    sign: of the page's difference, which is the second row's gain minus the first's, beside the publication's.
    """

    name: str
    heading: str
    rows: dict[str, str]
    sign: int

    @property
    def folder(self) -> Path:
        """The publication."""
        return ROOT / "results" / self.name

    @property
    def page(self) -> str:
        """The section."""
        return re.split(r"\n##+ ", RESULTS.partition(f"### {self.heading}\n")[2])[0]

    def lines(self, kind: str) -> dict[str, dict[str, str]]:
        """The lines of a kind in the published leaderboard, by detector."""
        with (self.folder / "leaderboard.csv").open() as stream:
            return {line["detector"]: line for line in csv.DictReader(stream) if line["kind"] == kind}

    def row(self, start: str) -> list[str]:
        """The cells of the page's table in a line that begins so, without emphasis."""
        (found,) = [line for line in self.page.splitlines() if line.startswith(f"| {start} |")]
        return [cell.strip().strip("*") for cell in found.strip("|").split("|")]


SCHEDULE = Suite(
    "schedule",
    "With half the steps, and with twice as many",
    {"resa_short": "330 steps", "resa_long": "1,320 steps"},
    -1,  # The table takes the long schedule's gain off the short one's.
)
CAPACITY = Suite(
    "capacity",
    "On a backbone twice as wide",
    {"resa_micro": "micro", "resa_micro_2x": "twice as wide"},
    1,
)
SUITES = (SCHEDULE, CAPACITY)
SCENARIOS = ("normal", "crowded", "dazzle", "shadow", "no_line", "arrow", "curve", "cross_fp", "night")
ROWS = [pytest.param(suite, detector, id=detector) for suite in SUITES for detector in suite.rows]


def told(line: dict[str, str], score: str, decimals: int, sign: int = 1) -> str:
    """A difference as the page writes it."""
    half = (float(line[f"{score}_high"]) - float(line[f"{score}_low"])) / 2
    return f"{sign * float(line[score]):+.{decimals}f} ± {half:.{decimals}f}"


@pytest.mark.parametrize(("suite", "detector"), ROWS)
def test_scores_and_gains_are_the_published_ones(suite: Suite, detector: str) -> None:
    gain, cells = suite.lines("gain")[detector], suite.row(suite.rows[detector])
    assert cells[1:3] == [f"{float(suite.lines(kind)[detector]['f1_50']):.2f}" for kind in ("baseline", "method")]
    assert cells[3] == told(gain, "f1_50", 2)
    if cells[4].startswith("< "):
        assert float(gain["p_holm"]) < float(cells[4].removeprefix("< "))
    else:
        assert cells[4] == f"{float(gain['p_holm']):.3f}".removeprefix("0")
    assert cells[5:8] == [told(gain, score, 1) for score in ("no_line", "curve", "f1_75")]
    assert gain["verdict"] == "worse"


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_the_difference_of_the_gains_is_the_published_one(suite: Suite) -> None:
    (line,) = suite.lines("gain_difference").values()
    assert [line["detector"], line["against"]] == [*suite.rows][:: suite.sign][::-1]
    cells = suite.row("the second minus the first")
    assert cells[3] == told(line, "f1_50", 2, suite.sign)
    assert cells[5:8] == [told(line, score, 1, suite.sign) for score in ("no_line", "curve", "f1_75")]
    assert f"mF1 ({told(line, 'mf1', 1, suite.sign)})" in suite.page


@pytest.mark.parametrize(("suite", "detector"), ROWS)
def test_what_the_oracle_is_predicted_by_and_pulls_is_that_of_the_records(suite: Suite, detector: str) -> None:
    found = diagnostics(suite)
    r2_found, pull_found = found[detector, "r2"], found[detector, "gradient_ratio"]
    r2, pull = (re.findall(r"[\d.]+", cell) for cell in suite.row(suite.rows[detector])[8:])
    assert [f"{value:.2f}"[1:] for value in (min(r2_found), max(r2_found))] == r2
    assert [f"{100 * value:.0f}" for value in (min(pull_found), max(pull_found))] == pull


def diagnostics(suite: Suite) -> dict[tuple[str, str], list[float]]:
    """What SAMIRO's arms showed at the last step, of all taps and seeds, by detector and kind."""
    found = defaultdict(list)
    for record in read_records(suite.folder / "records"):
        if record.identity.method == "samiro":
            assert record.training is not None
            for key, value in record.training.final_diagnostics.items():
                found[record.identity.detector, key.partition("/")[0]].append(value)
    return found


def more_loss(suite: Suite, detector: str) -> list[float]:
    """By how many percent the detector's own loss over the last tenth of the steps is higher in SAMIRO's arm, for each seed."""
    more = []
    for seed in range(5):
        own = []
        for method in ("samiro", "baseline"):
            (log,) = (suite.folder / "training").glob(f"hard-{detector}-{method}-s{seed}-*.jsonl")
            steps = [json.loads(line) for line in log.read_text().splitlines()]
            steps = [step for step in steps if "losses" in step]
            last = [step["losses"] for step in steps if step["step"] > 0.9 * steps[-1]["step"]]
            own.append(mean(losses["mask"] + losses["existence"] for losses in last))
        more.append(100 * (own[0] / own[1] - 1))
    return more


@pytest.mark.parametrize(
    ("suite", "detector", "where"),
    [
        (SCHEDULE, "resa_short", "with 330"),
        (SCHEDULE, "resa_long", "with 1,320"),
        (CAPACITY, "resa_micro", "on the narrow backbone"),
        (CAPACITY, "resa_micro_2x", "on the wide one"),
    ],
)
def test_a_detectors_own_loss_is_higher_in_all_pairs(suite: Suite, detector: str, where: str) -> None:
    more = more_loss(suite, detector)
    assert min(more) > 0
    assert f"by {min(more):.0f} to {max(more):.0f} % {where}" in " ".join(suite.page.split())


def test_how_much_of_the_loss_more_steps_can_give_back_is_the_end_of_the_interval() -> None:
    (line,) = SCHEDULE.lines("gain_difference").values()
    assert f"rules\n  out that more than {-float(line['f1_50_low']):.1f} of the points come back" in SCHEDULE.page


def test_how_little_the_interval_of_the_wider_backbone_excludes_zero_by_is_its_ends() -> None:
    (line,) = CAPACITY.lines("gain_difference").values()
    low, high = (f"{float(line[f'f1_50_{end}']):.1f}".removeprefix("0") for end in ("low", "high"))
    assert f"by little: {low} to {high}." in CAPACITY.page
    assert f"`normal` ({told(line, 'normal', 1)}) don't show it" in " ".join(CAPACITY.page.split())
    clear = [
        name
        for name in ("f1_75", "mf1", *SCENARIOS)
        if float(line[f"{name}_low"]) > 0 or float(line[f"{name}_high"]) < 0
    ]
    assert clear == ["normal"]


def test_what_is_added_to_the_points_that_a_baseline_lacks_is_told_for_both_widths() -> None:
    lacking = [100 - float(CAPACITY.lines("baseline")[detector]["f1_50"]) for detector in CAPACITY.rows]
    losses = [-float(CAPACITY.lines("gain")[detector]["f1_50"]) for detector in CAPACITY.rows]
    narrow, wide = (100 * loss / lack for loss, lack in zip(losses, lacking, strict=True))
    page = " ".join(CAPACITY.page.split())
    assert f"adds {narrow:.0f} % on the narrow backbone and {wide:.0f} % on the wide one" in page
    by_ceiling, all_of_it = losses[0] * (1 - lacking[1] / lacking[0]), losses[0] - losses[1]
    assert f"lose {by_ceiling:.1f} of the {all_of_it:.1f} points less" in page
    assert by_ceiling > all_of_it / 2
    assert f"The {losses[1]:.1f} points that remain" in page


def test_what_the_interval_is_without_pairing_is_told_beside_it() -> None:
    scores = {
        (record.identity.detector, record.identity.method, record.identity.seed): 100 * float(score)
        for record in read_records(CAPACITY.folder / "records")
        if (score := record.evaluations[0].total.f1_50) is not None
    }
    narrow, wide = (
        [scores[detector, "samiro", seed] - scores[detector, "baseline", seed] for seed in range(5)]
        for detector in CAPACITY.rows
    )
    correlation = stats.pearsonr(narrow, wide).statistic
    welch = stats.ttest_ind(wide, narrow, equal_var=False)
    low, high = (abs(end) if abs(end) < 0.05 else end for end in welch.confidence_interval())
    page = " ".join(CAPACITY.page.split())
    assert f"(correlation {correlation:.2f} over five)".replace("0.", ".") in page
    assert f"seeds alone give {low:.1f} to {high:.1f} (Welch, p {welch.pvalue:.3f})".replace("p 0.", "p .") in page


def test_how_large_the_networks_are_is_what_they_have() -> None:
    sizes = []
    for name in CAPACITY.rows:
        adapter = find_adapter(name)
        detector = adapter.detector(adapter.meta, "culane")
        sizes.append([sum(p.numel() for p in part.parameters()) / 1e6 for part in (detector, detector.backbone)])
    (narrow, small), (wide, large) = sizes
    page = " ".join(CAPACITY.page.split())
    assert f"{large:.2f} million weights instead of {small:.2f}" in page
    assert f"{narrow:.2f} and {wide:.2f} million parameters" in page


def test_transfer_and_pull_of_both_widths_are_the_means_of_the_records() -> None:
    found = diagnostics(CAPACITY)
    r2, pull = ([mean(found[detector, key]) for detector in CAPACITY.rows] for key in ("r2", "gradient_ratio"))
    assert f"(R^2 {r2[0]:.2f} and {r2[1]:.2f} in the mean".replace("0.", ".") in CAPACITY.page
    assert f"({100 * pull[0]:.0f} and {100 * pull[1]:.0f} %)" in CAPACITY.page


def test_how_many_times_drift_is_told() -> None:
    records = read_records(CAPACITY.folder / "records")
    drifting = sum(any("drift" in timed.flags for timed in record.throughput) for record in records)
    assert f"Of its times {drifting} in {len(records)} carry" in CAPACITY.page


def test_the_readme_has_the_difference_and_both_losses() -> None:
    readme = (ROOT / "README.md").read_text()
    (line,) = CAPACITY.lines("gain_difference").values()
    losses = [f"{-float(gain['f1_50']):.1f}" for gain in map(CAPACITY.lines("gain").get, CAPACITY.rows) if gain]
    difference = told(line, "f1_50", 1).removeprefix("+")
    assert f"[{losses[1]} instead of {losses[0]}](" in readme
    assert f"less by {difference}." in readme
    assert f"{difference} of {losses[0]} points" in CAPACITY.page
    for page in ("method.md", "suites.md"):
        assert f"{difference} of {losses[0]} points" in (ROOT / "docs" / page).read_text()
