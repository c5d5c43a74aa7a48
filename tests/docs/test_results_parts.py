"""docs/follow-ups.md on suite `parts`: its four differences, what was expected of them, and what the pages make of them."""

from __future__ import annotations

import csv
import statistics

import pytest

from harness.records.record import Record, read_records
from harness.report.claim import Claim
from harness.report.statistics import holm
from tests.docs.suite_pages import ROOT, Suite, claims_of, difference

PARTS = Suite("parts", "Which part of it costs RESA and UFLDv2", {}, 0)
DETECTORS = {"resa_micro": "RESA", "ufldv2_micro": "UFLDv2"}
ROWS = {
    ("samiro", "attention_only"): "SAMIRO, beside attention alone",
    ("attention_only", "baseline"): "attention alone, beside the baseline",
}
Question = tuple[str, str, str]


@pytest.fixture(scope="module")
def claims() -> dict[Question, Claim]:
    """The four differences that the suite's file asks for."""
    return {
        (detector, *pair): claim for detector in DETECTORS for pair, claim in claims_of(PARTS, detector, ROWS).items()
    }


def p_text(p: float) -> str:
    """Two digits that count."""
    return f"{p:.4f}".lstrip("0") if p < 0.01 else f"{p:.2f}".lstrip("0")


def half(claim: Claim) -> tuple[float, float, tuple[float, ...]]:
    """A difference in F1@50 in points: its mean, the half-width of its interval, and that of each seed."""
    part = claim.differences[0]
    assert part is not None
    assert part.half_widths is not None
    each = tuple(100 * float(value) for value in part.comparison.differences)
    return 100 * part.comparison.mean, 100 * part.half_widths.total, each


def step_ratios(records: list[Record], method: str) -> list[str]:
    """Of each detector what a step takes over the baseline's, as the publication's table has it: the CSV's four digits rounded again
    can be another number."""
    found = {
        detector: [
            record.step_cost.ratio
            for record in records
            if (record.identity.detector, record.identity.method) == (detector, method) and record.step_cost
        ]
        for detector in DETECTORS
    }
    return sorted(f"{statistics.median(ratios):.2f}" for ratios in found.values())


def test_the_table_has_the_four_differences_and_their_p_over_the_four(claims: dict[Question, Claim]) -> None:
    levels = [claim.p for claim in claims.values() if claim.p is not None]
    for ((detector, *pair), claim), p, adjusted in zip(claims.items(), levels, holm(levels), strict=True):
        start = f"{DETECTORS[detector]}: {ROWS[pair[0], pair[1]]}"
        cells = PARTS.row(start)
        scores = [score[0] for score in (claim.baseline, claim.method)]
        assert cells[1:3] == [f"{100 * score.mean:.2f}" for score in scores if score is not None]
        assert cells[3] == difference(claim, "f1_50", 2)
        assert cells[4:6] == [p_text(value) for value in (p, adjusted)]
        assert cells[6:] == [difference(claim, key, 1) for key in ("no_line", "curve", "f1_75")]
        assert PARTS.is_bold(start) == (adjusted < 0.05)


def test_the_publications_table_of_methods_has_what_mutual_information_adds(claims: dict[Question, Claim]) -> None:
    with (PARTS.folder / "leaderboard.csv").open() as stream:
        told = {
            (line["detector"], line["method"], line["against"]): (
                f"{float(line['f1_50']):+.2f} ± {float(line['f1_50_high']) - float(line['f1_50']):.2f}"
            )
            for line in csv.DictReader(stream)
            if line["kind"] == "method_difference"
        }
    assert told == {
        question: difference(claim, "f1_50", 2) for question, claim in claims.items() if question[1] == "samiro"
    }


def test_each_seed_loses_by_mutual_information_and_attention_alone_is_bounded_as_told(
    claims: dict[Question, Claim],
) -> None:
    page = " ".join(PARTS.page.split())
    costs = {detector: half(claims[detector, "samiro", "attention_only"]) for detector in DETECTORS}
    assert all(max(each) < 0 and len(each) == 5 for _, _, each in costs.values())
    (resa, *_), (ufldv2, *_) = costs.values()
    assert f"takes {-resa:.1f} points from RESA and {-ufldv2:.1f} from UFLDv2" in page
    alone = [half(claims[detector, "attention_only", "baseline"]) for detector in DETECTORS]
    losses = [f"{width - mean:.1f}" for mean, width, _ in alone]
    assert f"allows a loss of {losses[0]} points with RESA and {losses[1]} with UFLDv2" in page
    assert [f"{mean + width:.1f}" for mean, width, _ in alone] == ["0.3", "0.3"]
    assert "a gain of 0.3 at most in both" in page
    # What the suite's file expected.
    assert -5 <= resa <= -3
    assert -1 < ufldv2 < -0.85
    assert -0.5 <= alone[1][0] <= 1


def test_costs_transfer_flags_and_verdicts_are_those_of_the_publication() -> None:
    page = " ".join(PARTS.page.split())
    with (PARTS.folder / "leaderboard.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    gains = {line["detector"]: line for line in lines if (line["kind"], line["method"]) == ("gain", "samiro")}
    assert {line["verdict"] for line in gains.values()} == {"worse"}
    said = [
        f"{float(line['f1_50']):.1f} ± {float(line['f1_50_high']) - float(line['f1_50']):.1f}"
        for line in gains.values()
    ]
    assert f"is {said[0]} and {said[1]}, *worse* in both rows" in page
    records = read_records(PARTS.folder / "records")
    alone, whole = (" to ".join(step_ratios(records, method)) for method in ("attention_only", "samiro"))
    assert f"A step takes {alone} times the baseline's with attention alone and {whole} times with SAMIRO" in page
    drifting = sum(any("drift" in timed.flags for timed in record.throughput) for record in records)
    assert f"of the times at inference {drifting} in {len(records)} carry" in page
    told = []
    for detector in DETECTORS:
        shown = [
            (key.partition("/")[0], value)
            for record in records
            if (record.identity.detector, record.identity.method) == (detector, "samiro") and record.training
            for key, value in record.training.final_diagnostics.items()
        ]
        r2, pull = ([value for name, value in shown if name == kind] for kind in ("r2", "gradient_ratio"))
        ends = f"{min(r2):.2f} to {max(r2):.2f}".replace("0.", ".")
        told.append((ends, f"{100 * min(pull):.0f} to {100 * max(pull):.0f} %"))
    (resa, strong), (ufldv2, weak) = told
    assert f"(R^2 {resa} and pull {strong} with RESA, {ufldv2} and {weak} with UFLDv2)" in page


def test_readme_and_method_page_have_the_four(claims: dict[Question, Claim]) -> None:
    readme, method = (" ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/method.md"))
    told = [difference(claim, "f1_50", 1) for claim in claims.values()]
    costs = f"costs {told[0].lstrip('-')} and {told[2].lstrip('-')}]("
    assert costs in readme
    assert costs in method
    levels = holm([claim.p for claim in claims.values() if claim.p is not None])
    assert f"(p by Holm over four questions {p_text(levels[0])} and {p_text(levels[2])})" in readme
    assert f"which is {told[1]} and {told[3]} |" in readme
