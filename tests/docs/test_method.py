"""docs/method.md: it names every option of a method and of an oracle, and those of an oracle with their defaults."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path

import pytest

from detectors.meta import Normalisation
from detectors.registry import detector_class, detector_meta
from harness.methods.config import OracleConfiguration, RegularizedConfiguration
from harness.methods.oracle import Oracle, drawn_backbone, oracle_taps
from harness.methods.pairing import paired
from harness.methods.regularizer import VARIANCES
from harness.training.optimization import learning_rate_factor

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs/method.md").read_text(encoding="utf-8")


def test_the_page_names_every_option() -> None:
    methods = [field.alias or name for name, field in RegularizedConfiguration.model_fields.items()]
    oracles = [name for name in OracleConfiguration.model_fields if name not in {"name", "file"}]
    assert [key for key in (*methods, *oracles) if f"`{key}`" not in PAGE] == []


def test_the_defaults_of_an_oracle_are_the_codes() -> None:
    (table,) = re.findall(
        r"^An oracle that is made here.*?^\| key .*?\n\|[-|]+\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL
    )
    said = {}
    for line in table.splitlines():
        keys, defaults, _ = (cell.strip() for cell in line.strip("|").split("|"))
        said |= dict(zip(re.findall(r"`(\w+)`", keys), re.split(r", (?![^\[]*\])", defaults), strict=True))
    assert said.pop("patch_unit") == "the deepest stride"
    fields = OracleConfiguration.model_fields
    defaults = {key: field.default for key, field in fields.items() if key not in ("name", "file", "patch_unit")}
    assert {key: json.loads(text) for key, text in said.items()} == json.loads(json.dumps(defaults))


def test_that_a_row_of_another_lambda_tells_nothing_of_the_oracle_is_said_with_the_ablations_figures() -> None:
    with (ROOT / "results/ablation/leaderboard.csv").open(encoding="utf-8") as stream:
        below = {
            line["method"]: f"{-float(line['f1_50']):.1f}"
            for line in csv.DictReader(stream)
            if (line["kind"], line["trained_on"], line["against"]) == ("method_difference", "roads", "samiro_random")
        }
    ratio, fixed = below["samiro_ratio"], below["samiro"]
    said = f"is {ratio} below the drawn oracle's row, whose lambda is fixed, and SAMIRO with that lambda {fixed}."
    assert said in " ".join((ROOT / "docs/statistics.md").read_text(encoding="utf-8").split())


def test_what_samiro_has_beyond_its_controls_in_the_ablation_is_what_its_table_says() -> None:
    with (ROOT / "results/ablation/leaderboard.csv").open(encoding="utf-8") as stream:
        beyond = {
            line["against"]: f"{float(line['f1_50']):+.2f} ± {float(line['f1_50_high']) - float(line['f1_50']):.2f}"
            for line in csv.DictReader(stream)
            if (line["kind"], line["dataset"], line["method"]) == ("method_difference", "roads", "samiro")
            and line["trained_on"] == "roads"
        }
    assert len(beyond) == 6
    assert (
        f"SAMIRO is {beyond['samiro_random']} from the random oracle, {beyond['samiro_shuffled']} from the shuffled one and "
        f"{beyond['samiro_init']} from the own start (and {beyond['attention_only']} from attention alone)"
    ) in " ".join(PAGE.split())


@pytest.mark.parametrize("name", ["resa_micro", "scnn_micro", "laneatt_micro"])
def test_the_detectors_that_never_meet_an_oracles_deeper_stages_are_those_that_the_page_names(name: str) -> None:
    backbone = drawn_backbone("resnet_micro", seed=0)
    oracle = Oracle(backbone, oracle_taps(backbone), Normalisation())
    assert {oracle.partner(tap) for tap in detector_class(name)(detector_meta(name), "culane").taps()} == {0, 1}


def test_how_far_the_variance_comes_in_a_training_of_a_micro_variant_is_as_the_page_says() -> None:
    recipe = detector_class("resa_micro")(detector_meta("resa_micro"), "culane").configuration.recipe
    learning_rate = RegularizedConfiguration(oracle="any").learning_rate
    assert learning_rate is not None

    def reached(variance: str, steps: int, *, direction: int) -> float:
        start, floor = VARIANCES[variance]
        way = learning_rate * sum(learning_rate_factor(recipe, step, steps) for step in range(steps))
        return math.log1p(math.exp(math.log(math.expm1(start - floor)) + direction * way)) + floor

    assert reached("unit", 220, direction=-1) == pytest.approx(0.8, abs=0.05)
    assert reached("unit", 660, direction=-1) == pytest.approx(0.5, abs=0.05)
    assert reached("miro", 220, direction=-1) == pytest.approx(0.07, abs=0.005)
    assert reached("miro", 220, direction=1) == pytest.approx(0.14, abs=0.005)


def test_by_depth_resas_third_stage_meets_the_oracles_third_on_the_coarser_grid() -> None:
    detector = detector_class("resa_micro")(detector_meta("resa_micro"), "culane")
    backbone = drawn_backbone("resnet_micro", seed=0)
    oracle = Oracle(backbone, oracle_taps(backbone), Normalisation())
    pairs = paired(detector, oracle, detector.taps(), by="depth")
    assert [(pair.index, pair.tap.stride, pair.oracle_tap.stride) for pair in pairs] == [
        (0, 4, 4),
        (1, 8, 8),
        (2, 8, 16),
    ]
    assert pairs[2].common == pairs[2].oracle_grid
