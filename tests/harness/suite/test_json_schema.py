"""The exported JSON Schema: current, and agreeing with what is accepted."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.main import main
from harness.errors import InputError
from harness.scaffold.write import write_scaffold
from harness.suite import cells_of, load_suite, suite_names
from harness.suite.json_schema import suite_schema

jsonschema = pytest.importorskip("jsonschema", reason="comes with the extra 'dev'")

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "docs/suite.schema.json"


@pytest.fixture(scope="module")
def validator() -> Any:
    kind = jsonschema.Draft202012Validator
    kind.check_schema(suite_schema())
    return kind(suite_schema())


def test_the_published_schema_is_current_and_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["suite", "schema"]) == 0
    assert FILE.read_text() == capsys.readouterr().out, "run: samiro-bench suite schema > docs/suite.schema.json"


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_fits_the_schema_and_points_its_editor_to_it(name: str, validator: Any) -> None:
    path = ROOT / "suites" / f"{name}.yaml"
    validator.validate(yaml.safe_load(path.read_text()))
    first = path.read_text().splitlines()[0]
    assert not first.startswith("# yaml") or (path.parent / first.partition("$schema=")[2]).resolve() == FILE


def test_a_scaffolded_suite_fits_the_schema(tmp_path: Path, validator: Any) -> None:
    write_scaffold("my_lanes", tmp_path)
    validator.validate(yaml.safe_load((tmp_path / "my_lanes.yaml").read_text()))


WHOLE = """
title: everything that has keys of its own
datasets:
  roads: {rendered: {seed: 1, splits: {train: {frames: 4, scenarios: {night: 1}}, test: {frames: 4}}}}
  rendered: {form: culane, root: culane}
oracles:
  small: {dataset: roads, configuration: {name: "mim:resnet_micro", steps: 2}}
defaults:
  recipe: {batch_size: 4, augmentation: {flip: 0.5}}
  forms: {culane: {recipe: {steps: 5}}}
detectors:
  ufldv2_micro: {input: {network: [128, 320]}, recipe: {augmentation: {flip: 0.1}}}
methods:
  baseline:
  strong: {kind: samiro, oracle: small, lambda: 1}
seeds: 2
exclude: [{method: strong, seed: 1}]
include: [{method: strong, seeds: 3}]
training: {threads: 2}
evaluations:
  test: {split: test}
  fog: {corruption: {name: fog, severities: [1, 2]}, trained_on: roads}
throughput: lane-latency/1-short
"""

FREE = {"datasets", "oracles", "detectors", "methods", "evaluations", "forms", "splits", "scenarios"}
"""Keys under which stand names of the user's, or values of an enumeration."""


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a mapping whose keys the harness has fixed."""
    if isinstance(value, list):
        return [place for number, item in enumerate(value) for place in places(item, (*path, number))]
    if not isinstance(value, dict):
        return []
    free = bool(path) and path[-1] in FREE
    return ([] if free else [path]) + [place for key, item in value.items() for place in places(item, (*path, key))]


@pytest.mark.parametrize("place", places(yaml.safe_load(WHOLE)), ids=lambda place: ".".join(map(str, place)) or "top")
def test_an_unknown_key_is_refused_at_every_depth_with_its_whole_path(
    place: tuple[Any, ...], validator: Any, tmp_path: Path
) -> None:
    value = copy.deepcopy(yaml.safe_load(WHOLE))
    inner = value
    for key in place:
        inner = inner[key]
    known = max(inner, key=len)
    inner[f"{known}z"] = inner[known]
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    key = ".".join(map(str, (*place, f"{known}z")))
    with pytest.raises(InputError, match=f"mine.yaml: unknown key '{key}': did you mean '{known}'"):
        load_suite(str(path))
    assert not validator.is_valid(value)


def test_the_whole_example_loads_and_fits(tmp_path: Path, validator: Any) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WHOLE)
    assert len(cells_of(load_suite(str(path)))) == 2 * (2 + 3 + 1 - 1)
    validator.validate(yaml.safe_load(WHOLE))
