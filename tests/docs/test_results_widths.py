"""docs/follow-ups.md on suites `capacity` and `wider`: what a wider backbone changes, and what the pages make of it."""

from __future__ import annotations

from statistics import mean

import pytest
from scipy import stats

from detectors.registry import find_adapter
from harness.records.record import read_records
from tests.docs.suite_pages import CAPACITY, ROOT, SCENARIOS, WIDER, Suite, diagnostics, told

WIDTHS = pytest.mark.parametrize("suite", [CAPACITY, WIDER], ids=lambda suite: suite.name)


def test_how_little_the_interval_of_the_wider_backbone_excludes_zero_by_is_its_ends() -> None:
    (line,) = CAPACITY.lines("gain_difference").values()
    low, high = (f"{float(line[f'f1_50_{end}']):.1f}".removeprefix("0") for end in ("low", "high"))
    page = " ".join(CAPACITY.page.split())
    assert f"by little: {low} to {high}." in page
    assert f"`normal` ({told(line, 'normal', 1)}) don't show it" in page
    clear = [
        name
        for name in ("f1_75", "mf1", *SCENARIOS)
        if float(line[f"{name}_low"]) > 0 or float(line[f"{name}_high"]) < 0
    ]
    assert clear == ["normal"]


@WIDTHS
def test_what_is_added_to_the_points_that_a_baseline_lacks_is_told_for_both_widths(suite: Suite) -> None:
    lacking = [100 - float(suite.lines("baseline")[detector]["f1_50"]) for detector in suite.rows]
    losses = [-float(suite.lines("gain")[detector]["f1_50"]) for detector in suite.rows]
    narrow, wide = (100 * loss / lack for loss, lack in zip(losses, lacking, strict=True))
    page = " ".join(suite.page.split())
    assert f"adds {narrow:.0f} % on the narrow backbone and {wide:.0f} % on the wide one" in page
    by_ceiling, all_of_it = losses[0] * (1 - lacking[1] / lacking[0]), losses[0] - losses[1]
    assert f"lose {by_ceiling:.1f} of the {all_of_it:.1f} points less" in page
    assert (by_ceiling < all_of_it / 2) == ("which is less than half, and lies within the interval" in page)
    (line,) = suite.lines("gain_difference").values()
    assert float(line["f1_50_low"]) < by_ceiling < float(line["f1_50_high"])
    assert (suite is CAPACITY) == (f"The {losses[1]:.1f} points that remain" in page)


@WIDTHS
def test_what_the_interval_is_without_pairing_is_told_beside_it(suite: Suite) -> None:
    scores = {
        (record.identity.detector, record.identity.method, record.identity.seed): 100 * float(score)
        for record in read_records(suite.folder / "records")
        if (score := record.evaluations[0].total.f1_50) is not None
    }
    narrow, wide = (
        [scores[detector, "samiro", seed] - scores[detector, "baseline", seed] for seed in range(5)]
        for detector in suite.rows
    )
    correlation = stats.pearsonr(narrow, wide).statistic
    welch = stats.ttest_ind(wide, narrow, equal_var=False)
    low, high = welch.confidence_interval()
    page = " ".join(suite.page.split())
    assert f"(correlation {correlation:.2f} over five)".replace("0.", ".") in page
    begins = "just below 0" if -0.05 < low < 0 else f"{low:.1f}"
    interval = f"seeds alone give an interval from {begins} to {high:.1f} (Welch, p {welch.pvalue:.3f})"
    assert interval.replace("p 0.", "p .") in page


@WIDTHS
def test_how_large_the_networks_are_is_what_they_have(suite: Suite) -> None:
    sizes = []
    for name in suite.rows:
        adapter = find_adapter(name)
        detector = adapter.detector(adapter.meta, "culane")
        sizes.append([sum(p.numel() for p in part.parameters()) / 1e6 for part in (detector, detector.backbone)])
    (narrow, small), (wide, large) = sizes
    page = " ".join(suite.page.split())
    assert f"{large:.2f} million weights instead of {small:.2f}" in page
    assert f"{narrow:.2f} and {wide:.2f} million parameters" in page


@WIDTHS
def test_transfer_and_pull_of_both_widths_are_the_means_of_the_records(suite: Suite) -> None:
    found = diagnostics(suite)
    r2, pull = ([mean(found[detector, key]) for detector in suite.rows] for key in ("r2", "gradient_ratio"))
    page = " ".join(suite.page.split())
    assert f"(R^2 {r2[0]:.2f} and {r2[1]:.2f} in the mean".replace("0.", ".") in page
    assert f"({100 * pull[0]:.0f} and {100 * pull[1]:.0f} %)" in page


def test_what_shows_that_the_widest_backbone_loses_less_is_what_excludes_zero() -> None:
    (line,) = WIDER.lines("gain_difference").values()
    page = " ".join(WIDER.page.split())
    low, high = (float(line[f"f1_50_{end}"]) for end in ("low", "high"))
    assert f"planned difference is {low:.1f} to {high:.1f}." in page
    assert 1 < float(line["f1_50"]) < 4, "what the suite's file had expected"
    clear = [
        name
        for name in ("f1_75", "mf1", *SCENARIOS)
        if float(line[f"{name}_low"]) > 0 or float(line[f"{name}_high"]) < 0
    ]
    assert clear == ["mf1", "crowded", "shadow", "no_line"]
    for name in ("crowded", "shadow"):
        assert f"`{name}` ({told(line, name, 1)})" in page


def test_the_readme_has_the_difference_and_both_losses() -> None:
    readme = (ROOT / "README.md").read_text()
    (line,) = CAPACITY.lines("gain_difference").values()
    losses = [f"{-float(gain['f1_50']):.1f}" for gain in map(CAPACITY.lines("gain").get, CAPACITY.rows) if gain]
    difference = told(line, "f1_50", 1).removeprefix("+")
    assert f"[{losses[1]} instead of {losses[0]}](" in readme
    assert f"less by {difference} (seeds paired);" in readme
    assert f"{difference} of {losses[0]} points" in " ".join(CAPACITY.page.split())
    for page in ("method.md", "suites.md"):
        assert f"{difference} of {losses[0]} points" in " ".join((ROOT / "docs" / page).read_text().split())


def test_the_readme_has_the_difference_of_the_widest_backbone_and_both_losses() -> None:
    readme = (ROOT / "README.md").read_text()
    (line,) = WIDER.lines("gain_difference").values()
    losses = [f"{-float(gain['f1_50']):.1f}" for gain in map(WIDER.lines("gain").get, WIDER.rows) if gain]
    wider = told(line, "f1_50", 1).removeprefix("+")
    assert f"[{losses[1]} instead of {losses[0]}](docs/follow-ups.md#on-a-backbone-four" in readme
    assert f"less by {wider}, as had been expected |" in readme
    assert f"By {wider} of {losses[0]} points" in (ROOT / "docs/suites.md").read_text()
