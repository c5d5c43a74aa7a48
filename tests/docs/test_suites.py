"""docs/suites.md: its example loads and is what the page says, and the page names every key and every suite."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from detectors.meta import Augmentation, Data, Recipe
from harness.cli.main import main
from harness.methods.config import KINDS, ORACLE_KINDS
from harness.suite import Choice, cells_of, load_suite, suite_names, tier_of
from harness.suite.schema import (
    Condition,
    CorruptionPart,
    DatasetPart,
    EvaluationPart,
    FormOverrides,
    Inclusion,
    NamedDetectorPart,
    Suite,
    TrainingPart,
)
from tests.docs.pages import blocks

pytestmark = pytest.mark.usefixtures("remembering")

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/suites.md").read_text()
EXAMPLE, ROWS, TIERS = blocks(PAGE, "yaml")


def test_the_example_loads_and_has_the_cells_that_the_page_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(EXAMPLE)
    assert main(["plan", str(path), "--results", str(tmp_path / "results"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    counted = re.search(r"That is (\d+) cells", PAGE)
    assert counted is not None
    assert len(told["cells"]) == int(counted[1])
    assert {cell["state"] for cell in told["cells"]} == {"missing"}
    assert told["not_yet"] == []
    suite = load_suite(str(path))
    assert [part.recipe["steps"] for part in (suite.defaults, suite.detectors["resa_micro"])] == [220, 300]


def test_a_detector_stands_in_two_rows_as_the_page_has_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(EXAMPLE), **yaml.safe_load(ROWS), "include": []}, sort_keys=False))
    steps = {cell.identity.detector: cell.identity.recipe["steps"] for cell in cells_of(load_suite(str(path)))}
    assert steps == {"resa_micro": 220, "resa_long": 880}


def test_the_commands_of_the_page_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.yaml").write_text(EXAMPLE)
    monkeypatch.chdir(tmp_path)
    dry = ["bench", "mine.yaml", "--only", "detector=resa_*,method=samiro", "--only", "seed=0", "--dry-run"]
    assert " ".join(dry).replace("detector=resa_*,method=samiro", "'detector=resa_*,method=samiro'") in PAGE
    assert main(dry) == 0
    assert len(re.findall(r"roads-\w+-\w+-s\d-", capsys.readouterr().out)) == 3 + 3 - 1 + 2


@pytest.mark.parametrize(
    "part",
    [
        Suite,
        DatasetPart,
        NamedDetectorPart,
        FormOverrides,
        TrainingPart,
        EvaluationPart,
        CorruptionPart,
        Condition,
        Inclusion,
    ],
)
def test_the_page_names_every_key(part: type[Data]) -> None:
    keys = [name for name, field in part.model_fields.items() if not field.exclude]
    # The only choice there is needs no explanation.
    assert [key for key in keys if not re.search(rf"\b{key}\b", PAGE) and key != "selection"] == []


def test_the_keys_of_a_recipe_and_their_defaults_are_the_codes() -> None:
    (table,) = re.findall(r"^`recipe` has these keys.*?\n\|[-|]+\n(.*?)\n\n", PAGE, re.MULTILINE | re.DOTALL)
    said: dict[str, str] = {}
    for line in table.splitlines():
        keys, defaults, _ = (cell.strip() for cell in line.strip("|").split("|"))
        said |= dict(zip(re.findall(r"`(\w+)`", keys), re.split(r", (?![^\[]*\])", defaults), strict=True))
    assert said.keys() == Recipe.model_fields.keys()
    # Of `epochs` and `steps` one has to be given.
    optional = {name: field for name, field in Recipe.model_fields.items() if not field.is_required()}
    defaults = {name: field.default for name, field in optional.items() if name not in {"epochs", "steps"}}
    assert defaults.pop("augmentation") == Augmentation.model_validate(json.loads(said.pop("augmentation")))
    assert {key: json.loads(text) for key, text in said.items() if text != "-"} == json.loads(json.dumps(defaults))


def test_the_page_names_every_kind_and_every_suite() -> None:
    assert [kind for kind in KINDS if kind not in PAGE] == []
    assert [kind for kind, what in ORACLE_KINDS.items() if f"`{kind}{f':<{what}>' if what else ''}`" not in PAGE] == []
    assert [name for name in suite_names() if f"`{name}`" not in PAGE] == []


def test_the_page_counts_the_cells_of_every_tier() -> None:
    for name in suite_names():
        suite = load_suite(name)
        if suite.tiers:
            (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |")]
            counts = Counter(tier_of(suite, cell.identity) for cell in cells_of(suite))
            assert list(map(int, re.findall(r"\((\d+)(?: trainings)?\)", row))) == [
                counts[tier] for tier in suite.tiers
            ]


def test_the_tiers_of_the_page_are_ones_that_its_suite_could_have(tmp_path: Path) -> None:
    value = yaml.safe_load((ROOT / "suites/rendered.yaml").read_text())
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump({**value, **yaml.safe_load(TIERS)}, sort_keys=False))
    made, published = load_suite(str(path)), load_suite("rendered")
    assert len(cells_of(made, Choice(tier="B"))) > len(cells_of(made, Choice(tier="A"))) > 0
    assert [cell.id for cell in cells_of(made)] == [cell.id for cell in cells_of(published)]
