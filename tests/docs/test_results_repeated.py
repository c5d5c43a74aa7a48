"""docs/follow-ups.md on suite `repeated`: its three differences, what they cost, and what the pages make of them."""

from __future__ import annotations

import csv

import pytest

from harness.records.record import Record, read_records
from harness.report.claim import Claim
from harness.report.statistics import holm
from tests.docs.suite_pages import ROOT, Suite, claims_of, difference

REPEATED = Suite("repeated", "LaneATT's gain once more, beside attention alone", {}, 0)
ROWS = {
    ("samiro", "baseline"): "SAMIRO, beside the baseline",
    ("attention_only", "baseline"): "attention alone, beside the baseline",
    ("samiro", "attention_only"): "SAMIRO, beside attention alone",
}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_records(REPEATED.folder / "records")


@pytest.fixture(scope="module")
def claims() -> dict[tuple[str, str], Claim]:
    """The three differences that the suite's file asks for."""
    return claims_of(REPEATED, "laneatt_micro", ROWS)


def test_the_table_has_the_three_differences_and_their_p_over_the_three(claims: dict[tuple[str, str], Claim]) -> None:
    levels = [claim.p for claim in claims.values() if claim.p is not None]
    for (pair, claim), p, adjusted in zip(claims.items(), levels, holm(levels), strict=True):
        cells = REPEATED.row(ROWS[pair])
        scores = [score[0] for score in (claim.baseline, claim.method)]
        assert cells[1:3] == [f"{100 * score.mean:.2f}" for score in scores if score is not None]
        assert cells[3] == difference(claim, "f1_50", 2)
        decimals = len(cells[4]) - 1
        assert cells[4:6] == [f"{value:.{decimals}f}".removeprefix("0") for value in (p, adjusted)]
        assert cells[6:] == [difference(claim, key, 1) for key in ("no_line", "curve", "f1_75")]
        assert REPEATED.is_bold(ROWS[pair]) == (adjusted < 0.05)


def test_what_mutual_information_adds_is_told_with_its_bound_and_the_seeds_that_gain(
    claims: dict[tuple[str, str], Claim],
) -> None:
    page = " ".join(REPEATED.page.split())
    parts = {pair: claim.differences[0] for pair, claim in claims.items()}
    added = parts["samiro", "attention_only"]
    assert added is not None
    assert added.half_widths is not None
    assert (
        f"attention does alone is {difference(claims['samiro', 'attention_only'], 'f1_50', 1)}: nothing that is seen"
        in page
    )
    assert 0.4 < 100 * (added.comparison.mean + added.half_widths.total) <= 0.505
    ahead = [int((part.comparison.differences > 0).sum()) for part in parts.values() if part is not None]
    assert ahead[:2] == [8, 9]
    # What the suite's file expected of SAMIRO's gain.
    gains = [100 * part.comparison.mean for part in parts.values() if part is not None]
    assert 0.3 <= gains[0] <= 1.2
    assert 0.3 <= gains[1] <= 1.2


def test_costs_transfer_and_flags_are_those_of_the_publication(records: list[Record]) -> None:
    page = " ".join(REPEATED.page.split())
    with (REPEATED.folder / "leaderboard.csv").open() as stream:
        rows = {row["method"]: row for row in csv.DictReader(stream) if row["kind"] == "method"}
        steps = [f"{float(rows[method]['step_ratio']):.2f}" for method in ("attention_only", "samiro")]
        deployed = [f"{float(rows[method]['inference_ratio']):.2f}" for method in ("samiro", "attention_only")]
    assert f"A step takes {steps[0]} times the baseline's with attention alone and {steps[1]} times with SAMIRO" in page
    assert f"both take {deployed[0]} to {deployed[1]} times" in page
    drifting = sum(any("drift" in timed.flags for timed in record.throughput) for record in records)
    assert f"the other times {drifting} in {len(records)} carry" in page
    shown = [
        (key.partition("/")[0], value)
        for record in records
        if record.identity.method == "samiro" and record.training is not None
        for key, value in record.training.final_diagnostics.items()
    ]
    r2, pull = ([value for name, value in shown if name == kind] for kind in ("r2", "gradient_ratio"))
    assert f"(R^2 {min(r2):.2f} to {max(r2):.2f}, pull".replace("0.", ".") in page
    assert f"pull {100 * min(pull):.1f} to {100 * max(pull):.1f} %)" in page


def test_readme_and_method_page_have_both_gains(claims: dict[tuple[str, str], Claim]) -> None:
    told = {pair: difference(claim, "f1_50", 1) for pair, claim in claims.items()}
    samiro, attention = told["samiro", "baseline"].lstrip("+"), told["attention_only", "baseline"].lstrip("+")
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"[gains {samiro}](" in readme
    assert f"{attention} with attention alone: mutual information adds {told['samiro', 'attention_only']}." in readme
    method = " ".join((ROOT / "docs/method.md").read_text().split())
    assert f"[it gains {attention} and SAMIRO {samiro}](" in method
