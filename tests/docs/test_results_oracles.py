"""docs/follow-ups.md on the suites that ask what RESA is pulled towards and how, `oracles`, `drawn`, `stages`, `pretrained` and
`widths`: their gains and differences, and what the pages make of them."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median

import pytest

from harness.records.record import Record, read_records
from harness.report.claim import Claim
from harness.report.statistics import holm
from tests.docs.suite_pages import ROOT, SCENARIOS, Suite, claims_of, difference, more_loss, told


@dataclass(frozen=True)
class Towards:
    """A suite and its two tables. variants: method -> how the line of its gain begins; questions: a method and the one beside it ->
    how the line of their difference begins."""

    suite: Suite
    variants: dict[str, str]
    questions: dict[tuple[str, str], str]


ORACLES = Towards(
    Suite("oracles", "Towards three oracles", {}, 0),
    {"samiro": "small oracle", "samiro_drawn": "network as drawn", "samiro_larger": "larger oracle"},
    {
        ("samiro_drawn", "samiro"): "network as drawn, beside the small oracle",
        ("samiro_larger", "samiro"): "larger oracle, beside the small one",
    },
)
DRAWN = Towards(
    Suite("drawn", "Towards networks as drawn", {}, 0),
    {"samiro": "narrow network", "samiro_wide": "wide network", "samiro_weaker": "narrow network, lambda .066"},
    {
        ("samiro_wide", "samiro"): "wide network, beside the narrow one",
        ("samiro_weaker", "samiro"): "lambda .066, beside .1",
    },
)
STAGES = Towards(
    Suite("stages", "By depth, and with the gates out of the regularizer's terms", {}, 0),
    {"samiro": "as it was", "samiro_depth": "by depth", "samiro_weight": "gates out of it"},
    {
        ("samiro_depth", "samiro"): "by depth, beside by stride",
        ("samiro_weight", "samiro"): "gates out of it, beside in it",
    },
)
PRETRAINED = Towards(
    Suite("pretrained", "Towards a wide network, as drawn and pre-trained", {}, 0),
    {"samiro": "as drawn", "samiro_pretrained": "pre-trained"},
    {("samiro_pretrained", "samiro"): "pre-trained, beside as drawn"},
)
WIDTHS = Towards(
    Suite("widths", "Towards narrow and wide networks, one for each seed", {}, 0),
    {"samiro": "narrow networks", "samiro_wide": "wide networks"},
    {("samiro_wide", "samiro"): "wide, beside narrow"},
)
ALL = (ORACLES, DRAWN, STAGES, PRETRAINED, WIDTHS)


@cache
def lines_of(name: str) -> dict[tuple[str, str], dict[str, str]]:
    """The lines of a published leaderboard, by kind and method."""
    with (ROOT / "results" / name / "leaderboard.csv").open() as stream:
        return {(line["kind"], line["method"]): line for line in csv.DictReader(stream)}


@cache
def records_of(name: str) -> list[Record]:
    return read_records(ROOT / "results" / name / "records")


@cache
def claims_of_suite(name: str) -> dict[tuple[str, str], Claim]:
    """The differences that the suite's file asks for."""
    (towards,) = [towards for towards in ALL if towards.suite.name == name]
    return claims_of(towards.suite, "resa_micro", towards.questions)


def levels_of(name: str) -> list[tuple[float, float]]:
    """p of each of them, and adjusted over all."""
    levels = [claim.p for claim in claims_of_suite(name).values() if claim.p is not None]
    assert len(levels) == len(claims_of_suite(name))
    return list(zip(levels, holm(levels), strict=True))


def shown(name: str, method: str, kind: str) -> list[float]:
    """A diagnostic of all taps and seeds at the last step."""
    return [
        value
        for record in records_of(name)
        if record.identity.method == method and record.training
        for key, value in record.training.final_diagnostics.items()
        if key.partition("/")[0] == kind
    ]


def step_ratio(name: str, method: str) -> float:
    """How many times the baseline's time a step takes, the median over seeds."""
    return median(
        record.step_cost.ratio for record in records_of(name) if record.identity.method == method and record.step_cost
    )


def drifting(name: str) -> str:
    """In how many of the records a time at inference carries the flag."""
    records = records_of(name)
    return f"{sum(any('drift' in timed.flags for timed in record.throughput) for record in records)} in {len(records)}"


@pytest.mark.parametrize(("towards", "method"), [(towards, method) for towards in ALL for method in towards.variants])
def test_gains_transfer_and_pull_are_those_of_the_publication(towards: Towards, method: str) -> None:
    suite, start = towards.suite, towards.variants[method]
    lines, cells = lines_of(suite.name), suite.row(start)
    gain = lines["gain", method]
    assert cells[1:3] == [
        f"{float(lines[kind, name]['f1_50']):.2f}" for kind, name in (("baseline", "baseline"), ("method", method))
    ]
    assert cells[3] == told(gain, "f1_50", 2)
    p = float(gain["p_holm"])
    assert cells[4] == ("< .001" if p < 0.001 else f"{p:.3f}".removeprefix("0"))
    assert cells[5:8] == [told(gain, score, 1) for score in ("no_line", "curve", "f1_75")]
    r2, pull = (shown(suite.name, method, kind) for kind in ("r2", "gradient_ratio"))
    assert cells[8] == f"{min(r2):.2f} to {max(r2):.2f}".replace("0.", ".")
    assert cells[9] == f"{100 * min(pull):.0f} to {100 * max(pull):.0f} %"
    assert (gain["verdict"] in ("better", "worse")) == suite.is_bold(start)


@pytest.mark.parametrize("towards", ALL)
def test_the_questions_have_their_p_over_all_of_a_suite(towards: Towards) -> None:
    suite = towards.suite
    claims = claims_of_suite(suite.name)
    for (pair, claim), (p, adjusted) in zip(claims.items(), levels_of(suite.name), strict=True):
        cells = suite.row(towards.questions[pair])
        scores = [score[0] for score in (claim.baseline, claim.method)]
        assert cells[1:3] == [f"{100 * score.mean:.2f}" for score in scores if score is not None]
        assert cells[3] == difference(claim, "f1_50", 2)
        decimals = len(cells[4]) - 1
        assert decimals >= 2
        levels = [p] if len(claims) == 1 else [p, adjusted]  # one question has nothing to be adjusted for
        assert cells[4:-3] == [f"{value:.{decimals}f}".removeprefix("0") for value in levels]
        assert cells[-3:] == [difference(claim, key, 1) for key in ("no_line", "curve", "f1_75")]
        assert suite.is_bold(towards.questions[pair]) == (adjusted < 0.05)


def test_what_the_questions_of_oracles_came_to_is_told_with_its_bounds() -> None:
    page = " ".join(ORACLES.suite.page.split())
    drawn, larger = claims_of_suite("oracles").values()
    found, other = larger.differences[0], drawn.differences[0]
    assert found is not None
    assert other is not None
    assert other.half_widths is not None
    assert (found.comparison.differences > 0).sum() == 5
    assert f"It is less by {difference(larger, 'f1_50', 1).lstrip('+')}, with every one of the five seeds." in page
    ends = [100 * (other.half_widths.total + sign * other.comparison.mean) for sign in (-1, 1)]
    assert f"as expected: {difference(drawn, 'f1_50', 1)}." in page
    assert f"allows {ends[0]:.1f} points in favour of the small one and {ends[1]:.1f} against it." in page


def test_losses_costs_and_flags_of_oracles_are_those_of_the_publication() -> None:
    page, lines = " ".join(ORACLES.suite.page.split()), lines_of("oracles")
    gain = lines["gain", "samiro_larger"]
    assert {lines["gain", method]["verdict"] for method in ORACLES.variants} == {"worse"}
    assert f"SAMIRO is {told(gain, 'f1_50', 1)} from the baseline, *worse*" in page
    assert f"In F1@75 it loses {told(gain, 'f1_75', 1).lstrip('-')}." in page
    more = [more_loss(ORACLES.suite, "resa_micro", method) for method in ORACLES.variants]
    assert min(map(min, more)) > 0
    small, drawn, larger = (f"by {min(values):.0f} to {max(values):.0f} %" for values in more)
    assert (
        f"{small} towards the small oracle, {drawn} towards the network as drawn and {larger} towards the larger"
        in page
    )
    ratios = [step_ratio("oracles", method) for method in ("samiro", "samiro_larger")]
    assert (
        f"A step takes {ratios[0]:.2f} times the baseline's towards the small oracle and {ratios[1]:.2f} times" in page
    )
    assert f"of the times at inference {drifting('oracles')} carry" in page


def test_other_pages_have_what_came_of_oracles() -> None:
    lines = lines_of("oracles")
    pages = {
        name: " ".join((ROOT / name).read_text().split()) for name in ("README.md", "docs/method.md", "docs/suites.md")
    }
    losses = [f"{-float(lines['gain', method]['f1_50']):.1f}" for method in ("samiro_larger", "samiro")]
    drawn, larger = (difference(claim, "f1_50", 1) for claim in claims_of_suite("oracles").values())
    levels = [adjusted for _, adjusted in levels_of("oracles")]
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


def test_what_the_questions_of_drawn_came_to_is_told_with_its_bounds() -> None:
    page = " ".join(DRAWN.suite.page.split())
    wide, weaker = claims_of_suite("drawn").values()
    found = wide.differences[0]
    assert found is not None
    assert found.half_widths is not None
    assert f"RESA loses less by {difference(wide, 'f1_50', 1).lstrip('+')} than towards the narrow one." in page
    ends = [100 * (found.comparison.mean + sign * found.half_widths.total) for sign in (-1, 1)]
    assert f"it reaches from {ends[0]:.1f} to {ends[1]:.1f}" in page
    larger = claims_of_suite("oracles")["samiro_larger", "samiro"].differences[0]
    assert larger is not None
    assert ends[0] < 0 < 100 * larger.comparison.mean < ends[1]
    assert f"the {100 * larger.comparison.mean:.1f} points by which the larger oracle was cheaper" in page
    assert f"it loses less by {difference(weaker, 'f1_50', 1).lstrip('+')}**" in page
    assert min(adjusted for _, adjusted in levels_of("drawn")) > 0.05
    narrow, other, small = (fmean(shown("drawn", method, "gradient_ratio")) for method in DRAWN.variants)
    assert f"came out as planned, {small / narrow:.2f} of that with .1".replace("0.", ".") in page
    assert f"its pull is {100 * other:.1f} %, the narrow one's {100 * narrow:.1f} %." in page
    assert f"which pulls by {100 * small:.1f} %" in page
    ((_, between),) = claims_of(DRAWN.suite, "resa_micro", [("samiro_wide", "samiro_weaker")]).items()
    assert f"it loses less by {difference(between, 'f1_50', 1).lstrip('+')}. The suite didn't ask" in page


def test_losses_costs_and_flags_of_drawn_are_those_of_the_publication() -> None:
    page, lines = " ".join(DRAWN.suite.page.split()), lines_of("drawn")
    gains = {method: lines["gain", method] for method in DRAWN.variants}
    assert {line["verdict"] for line in gains.values()} == {"worse"}
    at_75 = sorted(-float(line["f1_75"]) for line in gains.values())
    assert f"in F1@75 by {at_75[0]:.1f} to {at_75[-1]:.1f}." in page
    larger = told(lines_of("oracles")["gain", "samiro_larger"], "f1_50", 1).lstrip("-")
    assert (
        f"Towards the larger oracle RESA lost {larger}, towards a network of the same width as drawn it loses" in page
    )
    assert f"it loses {told(gains['samiro_wide'], 'f1_50', 1).lstrip('-')} here." in page
    more = [more_loss(DRAWN.suite, "resa_micro", method) for method in DRAWN.variants]
    assert min(map(min, more)) > 0
    narrow, wide, weaker = (f"by {min(values):.0f} to {max(values):.0f} %" for values in more)
    assert (
        f"{narrow} towards the narrow network, {wide} towards the wide one and {weaker} with the smaller lambda" in page
    )
    ratios = [f"{step_ratio('drawn', method):.2f}" for method in DRAWN.variants]
    assert f"A step takes {ratios[0]}, {ratios[1]} and {ratios[2]} times the baseline's" in page
    assert f"of the times at inference {drifting('drawn')} carry" in page


def test_what_the_questions_of_stages_came_to_is_told_with_its_bounds() -> None:
    page = " ".join(STAGES.suite.page.split())
    depth, weight = claims_of_suite("stages").values()
    lost = float(lines_of("stages")["gain", "samiro"]["f1_50"])
    told_of = [difference(claim, "f1_50", 1).lstrip("+") for claim in (depth, weight)]
    assert (
        f"By depth it loses less by {told_of[0]} and with the gates out of the regularizer's terms by {told_of[1]}, where it "
        f"loses {told(lines_of('stages')['gain', 'samiro'], 'f1_50', 1).lstrip('-')}." in page
    )
    highest = []
    for claim in (depth, weight):
        found = claim.differences[0]
        assert found is not None
        assert found.half_widths is not None
        highest.append(100 * (found.comparison.mean + found.half_widths.total))
        if claim is depth:
            lowest = 100 * (found.comparison.mean - found.half_widths.total)
    assert f"The intervals end at {highest[0]:.1f} and {highest[1]:.1f}, a quarter of the loss and less." in page
    assert max(highest) < -lost / 4
    assert 1 < highest[0] < 2
    assert highest[1] < 1.5
    method = " ".join((ROOT / "docs/method.md").read_text().split())
    assert f"then, to within {-lowest:.1f} more and {highest[0]:.1f} points less." in method
    readme = " ".join((ROOT / "README.md").read_text().split())
    levels = [f"{adjusted:.2f}".removeprefix("0") for _, adjusted in levels_of("stages")]
    assert f"[less by {told_of[0]} with stages of the same depth and by {told_of[1]}](" in readme
    assert f"(p by Holm {levels[0]} and {levels[1]})" in readme


def test_losses_transfer_costs_and_flags_of_stages_are_those_of_the_publication() -> None:
    page, lines = " ".join(STAGES.suite.page.split()), lines_of("stages")
    gains = [lines["gain", method] for method in STAGES.variants]
    assert {line["verdict"] for line in gains} == {"worse"}
    assert all(float(line[score]) < 0 for line in gains for score in SCENARIOS if score != "cross_fp")
    scores = {
        (record.identity.method, record.identity.seed): float(score)
        for record in records_of("stages")
        if (score := record.evaluations[0].total.f1_50) is not None
    }
    assert all(scores[method, seed] < scores["baseline", seed] for method in STAGES.variants for seed in range(5))
    at_75 = sorted(-float(line["f1_75"]) for line in gains)
    assert f"and in F1@75, by {at_75[0]:.1f} to {at_75[-1]:.1f}." in page
    more = [more_loss(STAGES.suite, "resa_micro", method) for method in STAGES.variants]
    assert min(map(min, more)) > 0
    before, depth, weight = (f"{min(values):.0f} to {max(values):.0f} %" for values in more)
    assert f"by {before} as it was, by {depth} by depth and by {weight} with the gates out of the terms." in page
    ratios = [f"{step_ratio('stages', method):.2f}" for method in STAGES.variants]
    assert f"A step takes {ratios[0]}, {ratios[1]} and {ratios[2]} times the baseline's" in page
    assert f"of the times at inference {drifting('stages')} carry" in page
    by_stage = {
        method: [
            [record.training.final_diagnostics[f"r2/backbone.layer{stage}"] for stage in (1, 2, 3)]
            for record in sorted(records_of("stages"), key=lambda record: record.identity.seed)
            if record.identity.method == method and record.training
        ]
        for method in ("samiro", "samiro_depth")
    }
    depth, stride = (
        f"{min(third):.2f} to {max(third):.2f}".replace("0.", ".")
        for third in ([seed[2] for seed in by_stage[method]] for method in ("samiro_depth", "samiro"))
    )
    assert f"R^2 of the third stage is {depth} by depth and {stride} by stride." in page
    assert all(
        abs(one[stage] - other[stage]) < 0.02 for one, other in zip(*by_stage.values(), strict=True) for stage in (0, 1)
    )
    (apart,) = [
        line
        for line in csv.DictReader((ROOT / "results/apart/leaderboard.csv").open())
        if (line["kind"], line["detector"]) == ("gain", "resa_micro")
    ]
    first = gains[0]
    assert f"repeats `apart`'s ({told(apart, 'f1_50', 1)}) on other roads: {told(first, 'f1_50', 1)}, a little" in page


def pulls_at(method: str, step: int) -> tuple[list[float], list[float]]:
    """The ratios at the taps and in the weights of the detector that the trainings of `pretrained` logged at a step, of all seeds."""
    logs = sorted((ROOT / "results/pretrained/training").glob(f"hard-resa_micro-{method}-s*.jsonl"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    found = [line["diagnostics"] for line in lines if line["step"] == step and "diagnostics" in line]
    assert len(found) == 5
    taps = [value for ratios in found for key, value in ratios.items() if key.startswith("gradient_ratio/")]
    return taps, [ratios["weight_gradient_ratio/detector"] for ratios in found]


def test_what_the_question_of_pretrained_came_to_is_told_with_its_bounds() -> None:
    page = " ".join(PRETRAINED.suite.page.split())
    ((claim,), (drawn, learnt)) = (
        claims_of_suite("pretrained").values(),
        [told(lines_of("pretrained")["gain", method], "f1_50", 1).lstrip("-") for method in PRETRAINED.variants],
    )
    found, less = claim.differences[0], difference(claim, "f1_50", 1).lstrip("+")
    assert found is not None
    assert (found.comparison.differences > 0).sum() == 5
    assert (
        f"It loses {learnt} where it loses {drawn} towards the same network as drawn, less by {less}, with every one"
        in page
    )
    lost = [-float(lines_of("pretrained")["gain", method]["f1_50"]) for method in PRETRAINED.variants]
    assert 0.4 < lost[1] / lost[0] < 0.6
    assert 1 < 100 * found.comparison.mean < 3
    at_start, halfway, end = ([pulls_at(method, step) for method in PRETRAINED.variants] for step in (66, 330, 660))
    shares = [" and ".join(f"{100 * fmean(taps):.1f}" for taps, _ in pulls) for pulls in (at_start, halfway, end)]
    assert f"{shares[0]} % after a tenth of the steps, {shares[1]} % halfway and {shares[2]} % at the end" in page
    weights = [
        " and ".join(f"{fmean(ratios):.2f}".removeprefix("0") for _, ratios in pulls)
        for pulls in (at_start, halfway, end)
    ]
    assert f"of the detector it is {weights[0]}, {weights[1]}, {weights[2]} (means" in page
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"as it was drawn RESA loses {drawn}, towards the same one pre-trained [{learnt}](" in readme
    assert f"), less by {less} (p < .001)" in readme
    assert levels_of("pretrained")[0][0] < 0.001
    assert f"less by {less}" in " ".join((ROOT / "docs/suites.md").read_text().split())


def test_losses_costs_and_flags_of_pretrained_are_those_of_the_publication() -> None:
    page, lines = " ".join(PRETRAINED.suite.page.split()), lines_of("pretrained")
    gains = [lines["gain", method] for method in PRETRAINED.variants]
    assert {line["verdict"] for line in gains} == {"worse"}
    scores = {
        (record.identity.method, record.identity.seed): float(score)
        for record in records_of("pretrained")
        if (score := record.evaluations[0].total.f1_50) is not None
    }
    assert all(scores[method, seed] < scores["baseline", seed] for method in PRETRAINED.variants for seed in range(5))
    at_75 = [told(line, "f1_75", 1).lstrip("-") for line in gains]
    assert f"with every seed, and in F1@75 by {at_75[1]} and {at_75[0]}." in page
    drawn, learnt = (more_loss(PRETRAINED.suite, "resa_micro", method) for method in PRETRAINED.variants)
    assert min(drawn + learnt) > 0
    assert f"by {min(drawn):.0f} to {max(drawn):.0f} % towards the network as drawn" in page
    assert f"by {min(learnt):.1f} to {max(learnt):.0f} % towards the pre-trained one" in page
    ratios = [f"{step_ratio('pretrained', method):.2f}" for method in PRETRAINED.variants]
    assert f"A step takes {ratios[0]} and {ratios[1]} times the baseline's" in page
    assert f"of the times at inference {drifting('pretrained')} carry" in page


def test_the_ratios_of_the_page_on_the_method_are_those_of_the_published_logs() -> None:
    page, told_of = " ".join((ROOT / "docs/method.md").read_text().split()), []
    for step in (660, 330):
        both = [pulls_at(method, step) for method in PRETRAINED.variants]
        taps, weights = ([value for pulls in both for value in pulls[kind]] for kind in (0, 1))
        told_of += [f"{min(values):.2f} to {max(values):.2f}".replace("0.", ".") for values in (taps, weights)]
    assert f"ratio at RESA's taps is {told_of[0]} at the last step, and in the detector's weights {told_of[1]};" in page
    assert f"halfway it is {told_of[2]} and {told_of[3]}." in page


def test_what_the_question_of_widths_came_to_is_told_with_its_bounds() -> None:
    page = " ".join(WIDTHS.suite.page.split())
    (claim,) = claims_of_suite("widths").values()
    found, less = claim.differences[0], difference(claim, "f1_50", 1).lstrip("+")
    assert found is not None
    assert found.half_widths is not None
    assert f"RESA loses less by {less}, with six of the eight seeds." in page
    assert (found.comparison.differences > 0).sum() == 6
    ends = [100 * (found.comparison.mean + sign * found.half_widths.total) for sign in (-1, 1)]
    assert f"from {ends[0]:.1f} to {ends[1]:.1f}: it isn't told from zero, and it rules out the 3.6 points" in page
    assert ends[0] < 0 < 100 * found.comparison.mean < ends[1] < 3.6
    (larger,) = [one for pair, one in claims_of_suite("oracles").items() if pair[0] == "samiro_larger"]
    assert difference(larger, "f1_50", 1).startswith("+3.6 ")
    pulls = [100 * fmean(shown("widths", method, "gradient_ratio")) for method in ("samiro_wide", "samiro")]
    assert f"by {pulls[0]:.1f} % where the narrow ones pull by {pulls[1]:.1f} %" in page
    narrow, wide = (told(lines_of("widths")["gain", method], "f1_50", 1).lstrip("-") for method in WIDTHS.variants)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert f"hardly, it loses [{wide} instead of {narrow}](" in readme
    assert f"), less by {less} (p {claim.p:.2f})".replace("p 0.", "p .") in readme
    assert (
        f"[Hardly](follow-ups.md#towards-narrow-and-wide-networks-one-for-each-seed): less is lost by {less}"
        in " ".join((ROOT / "docs/suites.md").read_text().split())
    )
    assert f"with eight networks of each width, it is {less}." in " ".join(DRAWN.suite.page.split())


def test_every_seed_of_widths_has_networks_of_its_own_and_loses_towards_both() -> None:
    page, lines, records = " ".join(WIDTHS.suite.page.split()), lines_of("widths"), records_of("widths")
    weights = [one.sha256 for record in records for one in record.artefacts if one.kind == "oracle"]
    assert len(set(weights)) == len(weights) == 16
    scores = {(record.identity.method, record.identity.seed): record.evaluations[0].total.f1_50 for record in records}
    lost = [
        [100 * (scores["baseline", seed] - scores[method, seed]) for seed in range(8)]  # type: ignore[operator]
        for method in WIDTHS.variants
    ]
    ranges = [f"by {min(values):.1f} to {max(values):.1f}" for values in lost]
    assert f"every pair loses, {ranges[0]} points towards the narrow ones and {ranges[1]} towards the wide ones" in page
    assert min(map(min, lost)) > 0
    gains = [lines["gain", method] for method in WIDTHS.variants]
    assert {line["verdict"] for line in gains} == {"worse"}
    at_75 = [told(line, "f1_75", 1).lstrip("-") for line in gains]
    assert f"in F1@75 by {at_75[0]} and {at_75[1]}." in page
    narrow, wide = (more_loss(WIDTHS.suite, "resa_micro", method) for method in WIDTHS.variants)
    assert min(narrow + wide) > 0
    assert f"by {min(narrow):.0f} to {max(narrow):.0f} % towards the narrow networks" in page
    assert f"by {min(wide):.0f} to {max(wide):.0f} % towards the wide ones" in page
    ratios = [f"{step_ratio('widths', method):.2f}" for method in WIDTHS.variants]
    assert f"A step takes {ratios[0]} and {ratios[1]} times the baseline's" in page
    assert f"of the times at inference {drifting('widths')} carry" in page
