"""Parts that can be asked for before they can be run: told by `plan`, refused by `bench`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import main
from harness.errors import InputError
from harness.matrix.plan import make_plan
from harness.programs.cell import program_cells
from harness.suite import Choice, Suite, cells_of, load_suite, not_yet, refuse_not_yet, suite_names, tier_of

pytestmark = pytest.mark.usefixtures("remembering")

SPLITS = {"train": {"frames": 4}, "test": {"frames": 4}}

ASKS_FOR_MUCH: dict[str, Any] = {
    "datasets": {name: {"rendered": {"seed": seed, "splits": SPLITS}} for name, seed in (("roads", 1), ("paths", 2))},
    "evaluations": {
        "test": None,
        "fog": {"corruption": {"name": "fog"}, "trained_on": "roads"},
        "elsewhere": {"dataset": "roads", "trained_on": "paths"},
    },
}


def asking_a_program(loading: Callable[..., Suite]) -> Suite:
    """The suite with a program beside the trained detectors, which alone asks for what can't be done."""
    return loading(**ASKS_FOR_MUCH, detectors={"ufldv2_micro": None, "tea.yaml": None})


def keys(suite: Suite, **choice: Any) -> list[str]:
    cells = [*cells_of(suite, Choice(**choice)), *program_cells(suite, Choice(**choice))]
    return [part.key for part in not_yet(suite, cells)]


def test_only_what_the_chosen_cells_need_is_told(loading: Callable[..., Suite]) -> None:
    suite = asking_a_program(loading)
    assert keys(suite) == ["evaluations.fog.corruption", "evaluations.elsewhere.dataset"]
    assert not_yet(suite, cells_of(suite)) == ()
    assert not_yet(suite, program_cells(suite, Choice(only=["dataset=roads"])))[0].key == "evaluations.fog.corruption"
    assert keys(loading()) == []


@pytest.mark.parametrize(
    ("evaluations", "advice"),
    [
        (ASKS_FOR_MUCH["evaluations"], "every cell asks for it: take it out in a copy of the suite"),
        ({"test": None, "fog": ASKS_FOR_MUCH["evaluations"]["fog"]}, "--only runs cells without"),
    ],
)
def test_a_refusal_advises_what_helps_where_all_are_programs(
    loading: Callable[..., Suite], evaluations: dict[str, Any], advice: str
) -> None:
    alone: dict[str, Any] = {"detectors": {"tea.yaml": None}, "methods": {"baseline": None}, "oracles": {}}
    suite = loading(**{**ASKS_FOR_MUCH, **alone, "evaluations": evaluations})
    with pytest.raises(InputError, match=advice):
        refuse_not_yet(suite, program_cells(suite, Choice(only=["dataset=roads"])))


def test_bench_refuses_with_the_sentences_of_plan_before_any_work(
    loading: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = asking_a_program(loading)
    monkeypatch.chdir(tmp_path)
    assert main(["plan", suite.file, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["not_yet"]
    assert [part["key"] for part in told] == keys(suite)
    assert main(["plan", suite.file]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("'")[1] for line in shown[: len(told)]] == keys(suite)
    assert main(["bench", suite.file]) == 2
    (refusal,) = capsys.readouterr().err.splitlines()
    assert all(part["key"] in refusal and part["why"] in refusal for part in told)
    assert "--only runs cells without" in refusal
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_plans_without_any_dataset(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("CULANE", "TUSIMPLE", "LLAMAS"):
        monkeypatch.setenv(f"SAMIRO_BENCH_DATA_{variable}", str(tmp_path / "nowhere"))
    suite = load_suite(name)
    plan = make_plan(suite, tmp_path / "results")
    assert {cell.id for cell in plan.all_cells} == {cell.id for cell in cells_of(suite)}
    real = {dataset for dataset, part in suite.datasets.items() if part.rendered is None}
    assert {cell.identity.dataset for cell, _ in plan.unavailable} == real
    assert all("nowhere: there is no such folder" in why for _, why in plan.unavailable)


@pytest.mark.parametrize("name", suite_names())
def test_every_shipped_suite_says_what_it_shows_and_how_many_trainings_it_costs(name: str) -> None:
    suite = load_suite(name)
    head = [
        line for line in Path(suite.file).read_text().split("\ntitle:")[0].splitlines() if not line.startswith("# yaml")
    ]
    assert len(head) >= 1
    assert all(line.startswith("# ") for line in head)
    cells = cells_of(suite)
    assert len(cells) <= 4 or f"# Costs {len(cells)} trainings" in "\n".join(head)
    for tier, count in Counter(tier_of(suite, cell.identity) for cell in cells).items():
        assert tier is None or re.search(rf"\b{tier} {count}\b", "\n".join(head))


def test_missing_data_is_a_state_of_a_plan_and_refused_by_bench(
    loading: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS_ABROAD", str(tmp_path / "nowhere"))
    rendered = {"rendered": {"seed": 1, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}
    datasets = {"here": rendered, "abroad": {"form": "culane", "root": "roads_abroad"}}
    suite = loading(datasets=datasets, oracles={}, methods={"baseline": None}, detectors={"ufldv2_micro": None})
    assert main(["plan", suite.file, "--json"]) == 0
    cells = json.loads(capsys.readouterr().out)["cells"]
    assert [cell["state"] for cell in cells] == ["missing", "data missing"]
    assert str(tmp_path / "nowhere") in cells[1]["why"]
    assert main(["status", suite.file, "--json"]) == 0
    assert [cell["state"] for cell in json.loads(capsys.readouterr().out)["cells"]] == ["missing", "data missing"]
    assert main(["bench", suite.file]) == 2
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert not list((tmp_path / "results").rglob("phase.json"))


def test_a_dry_run_is_a_plan_and_leaves_nothing(
    loading: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = loading()
    monkeypatch.chdir(tmp_path)
    assert main(["plan", suite.file, "--only", "method=samiro"]) == 0
    planned = capsys.readouterr().out
    assert main(["bench", suite.file, "--only", "method=samiro", "--dry-run"]) == 0
    assert capsys.readouterr().out == planned
    assert "-samiro-" in planned
    assert "-baseline-" not in planned
    assert list(tmp_path.iterdir()) == []
