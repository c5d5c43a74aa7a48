"""docs/follow-ups.md on suite `oracles`: three gains, two differences, what was expected of them, and what the pages make of them."""

from __future__ import annotations

import csv
from statistics import median

import pytest

from harness.records.record import Record, read_records
from harness.report.claim import Claim
from harness.report.statistics import holm
from tests.docs.suite_pages import ROOT, Suite, claims_of, difference, more_loss, told

ORACLES = Suite("oracles", "Towards three oracles", {}, 0)
VARIANTS = {"samiro": "small oracle", "samiro_drawn": "network as drawn", "samiro_larger": "larger oracle"}
QUESTIONS = {
    ("samiro_drawn", "samiro"): "network as drawn, beside the small oracle",
    ("samiro_larger", "samiro"): "larger oracle, beside the small one",
}


@pytest.fixture(scope="module")
def lines() -> dict[tuple[str, str], dict[str, str]]:
    """The lines of the published leaderboard, by kind and method."""
    with (ORACLES.folder / "leaderboard.csv").open() as stream:
        return {(line["kind"], line["method"]): line for line in csv.DictReader(stream)}


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return read_records(ORACLES.folder / "records")


@pytest.fixture(scope="module")
def claims() -> dict[tuple[str, str], Claim]:
    """The two differences that the suite's file asks for."""
    return claims_of(ORACLES, "resa_micro", QUESTIONS)


def shown(records: list[Record], method: str, kind: str) -> list[float]:
    """A diagnostic of all taps and seeds at the last step."""
    return [
        value
        for record in records
        if record.identity.method == method and record.training
        for key, value in record.training.final_diagnostics.items()
        if key.partition("/")[0] == kind
    ]


@pytest.mark.parametrize("method", VARIANTS)
def test_gains_transfer_and_pull_are_those_of_the_publication(
    method: str, lines: dict[tuple[str, str], dict[str, str]], records: list[Record]
) -> None:
    gain, cells = lines["gain", method], ORACLES.row(VARIANTS[method])
    assert cells[1:3] == [
        f"{float(lines[kind, name]['f1_50']):.2f}" for kind, name in (("baseline", "baseline"), ("method", method))
    ]
    assert cells[3] == told(gain, "f1_50", 2)
    p = float(gain["p_holm"])
    assert cells[4] == ("< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0"))
    assert cells[5:8] == [told(gain, score, 1) for score in ("no_line", "curve", "f1_75")]
    r2, pull = (shown(records, method, kind) for kind in ("r2", "gradient_ratio"))
    assert cells[8] == f"{min(r2):.2f} to {max(r2):.2f}".replace("0.", ".")
    assert cells[9] == f"{100 * min(pull):.0f} to {100 * max(pull):.0f} %"
    assert (gain["verdict"] in ("better", "worse")) == ORACLES.is_bold(VARIANTS[method])


def test_the_two_questions_have_their_p_over_the_two(claims: dict[tuple[str, str], Claim]) -> None:
    levels = [claim.p for claim in claims.values() if claim.p is not None]
    for (pair, claim), p, adjusted in zip(claims.items(), levels, holm(levels), strict=True):
        cells = ORACLES.row(QUESTIONS[pair])
        scores = [score[0] for score in (claim.baseline, claim.method)]
        assert cells[1:3] == [f"{100 * score.mean:.2f}" for score in scores if score is not None]
        assert cells[3] == difference(claim, "f1_50", 2)
        decimals = len(cells[4]) - 1
        assert decimals >= 2
        assert cells[4:6] == [f"{value:.{decimals}f}".removeprefix("0") for value in (p, adjusted)]
        assert cells[6:] == [difference(claim, key, 1) for key in ("no_line", "curve", "f1_75")]
        assert ORACLES.is_bold(QUESTIONS[pair]) == (adjusted < 0.05)


def test_what_the_questions_came_to_is_told_with_its_bounds(claims: dict[tuple[str, str], Claim]) -> None:
    page = " ".join(ORACLES.page.split())
    drawn, larger = claims.values()
    found, other = larger.differences[0], drawn.differences[0]
    assert found is not None
    assert other is not None
    assert other.half_widths is not None
    assert (found.comparison.differences > 0).sum() == 5
    assert f"It is less by {difference(larger, 'f1_50', 1).lstrip('+')}, with every one of the five seeds." in page
    ends = [100 * (other.half_widths.total + sign * other.comparison.mean) for sign in (-1, 1)]
    assert f"as expected: {difference(drawn, 'f1_50', 1)}." in page
    assert f"allows {ends[0]:.1f} points in favour of the small one and {ends[1]:.1f} against it." in page


def test_losses_costs_and_flags_are_those_of_the_publication(
    lines: dict[tuple[str, str], dict[str, str]], records: list[Record]
) -> None:
    page = " ".join(ORACLES.page.split())
    gain = lines["gain", "samiro_larger"]
    assert {lines["gain", method]["verdict"] for method in VARIANTS} == {"worse"}
    assert f"SAMIRO is {told(gain, 'f1_50', 1)} from the baseline, *worse*" in page
    assert f"In F1@75 it loses {told(gain, 'f1_75', 1).lstrip('-')}." in page
    more = {method: more_loss(ORACLES, "resa_micro", method) for method in VARIANTS}
    assert min(map(min, more.values())) > 0
    small, drawn, larger = (f"by {min(values):.0f} to {max(values):.0f} %" for values in more.values())
    assert (
        f"{small} towards the small oracle, {drawn} towards the network as drawn and {larger} towards the larger"
        in page
    )
    ratios = [
        median(record.step_cost.ratio for record in records if record.identity.method == method and record.step_cost)
        for method in ("samiro", "samiro_larger")
    ]
    assert (
        f"A step takes {ratios[0]:.2f} times the baseline's towards the small oracle and {ratios[1]:.2f} times" in page
    )
    drifting = sum(any("drift" in timed.flags for timed in record.throughput) for record in records)
    assert f"of the times at inference {drifting} in {len(records)} carry" in page


def test_other_pages_have_what_came(
    claims: dict[tuple[str, str], Claim], lines: dict[tuple[str, str], dict[str, str]]
) -> None:
    pages = {
        name: " ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/method.md", "docs/suites.md")
    }
    losses = [f"{-float(lines['gain', method]['f1_50']):.1f}" for method in ("samiro_larger", "samiro")]
    drawn, larger = (difference(claim, "f1_50", 1) for claim in claims.values())
    levels = holm([claim.p for claim in claims.values() if claim.p is not None])
    assert f"[loses {losses[0]} instead of {losses[1]}](" in pages["README.md"]
    assert (
        f"less by {larger.lstrip('+')}; between a network as drawn and the small oracle no difference is seen ({drawn})"
        in pages["README.md"]
    )
    assert f"By Holm over both p is {levels[1]:.3f} and {levels[0]:.2f}".replace("0.", ".") in pages["README.md"]
    assert (
        f"no difference was seen ({drawn}), but a larger oracle, which knows more of lanes, cost it {larger.lstrip('+')} less."
        in pages["docs/method.md"]
    )
    for page in ("docs/method.md", "docs/suites.md"):
        assert f"{losses[0]} points instead of {losses[1]}" in pages[page]
