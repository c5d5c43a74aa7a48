"""docs/method.md: it names every option of a method and of an oracle, and those of an oracle with their defaults."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

from harness.methods.config import OracleConfiguration, RegularizedConfiguration

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
    defaults = OracleConfiguration(name="mim:resnet18").model_dump(mode="json", exclude={"name", "file", "patch_unit"})
    assert {key: json.loads(text) for key, text in said.items()} == defaults


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
