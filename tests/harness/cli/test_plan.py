"""`samiro-bench plan` says where each cell stands and why, for the cells that one asks for; `bench` asks before something long."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from rich.console import Console

from harness.cell.phases import run_phase
from harness.cli import bench as bench_verb
from harness.cli.main import main
from harness.matrix.plan import make_plan
from harness.matrix.preflight import preflight
from harness.suite import Choice, load_suite
from harness.suite.load import SUITES

SUITE: dict[str, Any] = {
    "title": "Two",
    "datasets": {
        "roads": {"rendered": {"width": 820, "height": 295, "splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}
    },
    "detectors": {"ufldv2_micro": {"recipe": {"steps": 6, "batch_size": 4}}, "resa_micro": None},
    "methods": {"baseline": None},
    "evaluations": {"test": {"split": "test", "batch_size": 4}},
    "seeds": 2,
    "training": {"threads": 1, "device": "cpu"},
    "throughput": "lane-latency/1-short",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(SUITE, sort_keys=False))
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *options: str, verb: tuple[str, ...] = ("plan",)) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*verb, "two.yaml", "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_title_is_shown_as_it_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "two.yaml").write_text(yaml.safe_dump(SUITE | {"title": "[red]Two[/x]"}))
    assert main(["plan", "two.yaml"]) == 0
    assert "two: [red]Two[/x]" in capsys.readouterr().out


def test_a_folder_of_runs_may_lie_in_the_home_folder_and_is_never_an_empty_word(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert main(["plan", "two.yaml", "--results=~/runs"]) == 0
    assert f"kept below {folder}/home/runs" in capsys.readouterr().out
    assert main(["plan", "two.yaml", "--results", ""]) == 2
    assert "'--results': it is empty, as a variable without a value is" in capsys.readouterr().err


def finish(number: int, *, upto: str = "time") -> None:
    """Have the phases of one cell done, up to one of them."""
    for phase, _ in make_plan(load_suite("two.yaml"), Path("results/local")).cells[number].states:
        run_phase(phase, lambda folder: None)
        if phase.name == upto:
            return


def test_every_cell_has_its_state_and_from_where_it_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(0)
    finish(1, upto="predict-test")
    found = plan(capsys)
    assert [(cell["state"], cell["from"]) for cell in found["cells"]] == [
        ("done, record missing", None),
        ("partial, from score-test", "score-test"),
        ("missing", "train"),
        ("missing", "train"),
    ]
    assert found["cost"]["cells"] == 3
    assert found["cells"][1]["hours"] is not None
    assert found["cells"][2]["hours"] is None
    assert found["cells"][0]["unit"] is None
    assert found == plan(capsys, "--dry-run", verb=("bench",))


def test_a_plan_is_priced_on_a_machine_whose_records_are_here(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cell = make_plan(load_suite("two.yaml"), Path("results/local")).cells[0].cell
    record = {
        "identity": cell.identity.model_dump(mode="json"),
        "training": {"steps": 6, "seconds": 7200.0},
        "environment": {"device": "NVIDIA H200", "cpu": "Example CPU"},
    }
    path = Path("results/local/elsewhere/records/one.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record))
    here = plan(capsys)
    assert (here["priced_elsewhere"], here["cost"]["GPU-hours"]) == (["NVIDIA H200"], 0)
    assert main(["plan", "two.yaml"]) == 0
    assert "--machine 'NVIDIA H200'" in " ".join(capsys.readouterr().out.split())
    there = plan(capsys, "--machine", "NVIDIA H200")
    assert there["cost"]["GPU-hours"] == pytest.approx(
        2 * 2.0
    )  # both seeds of its detector; the other detector's are not known
    assert (there["priced_elsewhere"], there["priced_on"], here["priced_on"]) == ([], "NVIDIA H200", None)
    assert main(["plan", "two.yaml", "--machine", "NVIDIA H200"]) == 0
    assert "prices are of NVIDIA H200, by its records here" in " ".join(capsys.readouterr().out.split())
    assert main(["plan", "two.yaml", "--machine", "NVIDIA H100"]) == 2
    assert (
        "no record of these results is of 'NVIDIA H100'; those that are there: 'NVIDIA H200'" in capsys.readouterr().err
    )
    assert main(["plan", "two.yaml", "--machine", "NVIDIA H200", "--probe"]) == 2
    assert "give one of the two" in capsys.readouterr().err


def test_changed_code_is_named_by_its_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(0)
    path = next(Path("results/local/two/cells").glob("*/score-test/phase.json"))
    stored = json.loads(path.read_text())
    stored["fingerprint"]["harness/metrics/culane.py"] = "0" * 64
    path.write_text(json.dumps(stored))
    cell = plan(capsys, "--state", "stale")["cells"]
    assert [row["changed"] for row in cell] == [["harness/metrics/culane.py"]]
    assert cell[0]["why"] == "score-test: code changed since: harness/metrics/culane.py"


def test_a_changed_option_of_an_evaluation_is_named_by_its_key(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(0)
    changed = {**SUITE, "evaluations": {"test": {"split": "test", "batch_size": 2}}}
    Path("two.yaml").write_text(yaml.safe_dump(changed, sort_keys=False))
    row = plan(capsys)["cells"][0]
    assert row["state"] == "stale"
    assert row["why"] == "predict-test: made with other options: batch_size: 4 -> 2"
    assert row["from"] == "predict-test"


def test_a_changed_recipe_makes_a_cell_of_its_own_which_says_what_it_differs_in(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plan(capsys)["cells"][0]["name"]
    finish(0)
    detectors = {**SUITE["detectors"], "ufldv2_micro": {"recipe": {"steps": 9, "batch_size": 4}}}
    Path("two.yaml").write_text(yaml.safe_dump({**SUITE, "detectors": detectors}, sort_keys=False))
    row, other, *_ = plan(capsys)["cells"]
    assert row["state"] == "missing"
    assert row["why"] == f"{before} is there with other options: recipe.steps: 6 -> 9"
    assert other["why"] == ""


def test_only_and_skip_choose_the_cells(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [cell["name"] for cell in plan(capsys, "--skip", "seed=1,detector=resa_*")["cells"]]
    assert len(names) == 3
    assert not any("resa" in name and "-s1-" in name for name in names)
    (one,) = plan(capsys, "--only", "detector=resa_*", "--skip", "seed=1")["cells"]
    assert "resa_micro-baseline-s0" in one["name"]
    assert main(["plan", "two.yaml", "--skip", "seed=0", "--skip", "seed=1"]) == 2
    assert "--skip 'seed=1': leaves no cell of two: skip less" in capsys.readouterr().err
    assert main(["plan", "two.yaml", "--skip", "detector=resnet"]) == 2
    assert "--skip 'detector=resnet': key 'detector': no detector is called" in capsys.readouterr().err


def with_tiers(**tiers: list[dict[str, Any]]) -> None:
    Path("two.yaml").write_text(yaml.safe_dump({**SUITE, "tiers": tiers}, sort_keys=False))


def test_every_tier_says_where_it_stands_and_what_it_costs_by_itself_and_with_those_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [cell["name"] for cell in plan(capsys)["cells"]]
    assert plan(capsys)["tiers"] == []
    with_tiers(A=[{"detector": "ufldv2_*"}], B=[{"seed": 0}, {"detector": "*"}])
    finish(0)
    finish(1, upto="train")
    found = plan(capsys)
    assert [cell["name"] for cell in found["cells"]] == names
    a, b = found["tiers"]
    assert (a["name"], a["cells"], a["states"]) == ("A", 2, {"done": 1, "partial": 1})
    assert (b["name"], b["cells"], b["states"]) == ("B", 2, {"missing": 2})
    assert [tier["cost"]["cells"] for tier in (a, b)] == [1, 2]
    assert [tier["cost_with_earlier"]["cells"] for tier in (a, b)] == [1, 3]
    assert [tier["cost"]["cells_of_unknown_cost"] for tier in (a, b)] == [0, 2]
    assert b["cost_with_earlier"] == found["cost"]
    assert [tier["name"] for tier in plan(capsys, "--tier", "A")["tiers"]] == ["A"]
    assert [cell["name"] for cell in plan(capsys, "--tier", "A")["cells"]] == names[:2]
    assert main(["plan", "two.yaml"]) == 0
    told = capsys.readouterr().out
    first, second = (line for line in told.splitlines() if line.startswith("tier "))
    assert re.fullmatch(r"tier A: 2 cells: 1 done, 1 partial; to do: 1 cell(, \S+ CPU-hours)?", first)
    assert re.fullmatch(
        r"tier B: 2 cells: 2 missing; to do: 2 cells \(2 without a whole price\); with those before it: 3 cells(, \S+ CPU-hours)? "
        r"\(2 without a whole price\)",
        second,
    )


def test_cells_of_no_tier_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tiers(A=[{"seed": 0}], B=[{"seed": 1}])
    assert main(["plan", "two.yaml"]) == 0
    assert "of no tier" not in capsys.readouterr().out
    assert main(["plan", "two.yaml", "--seeds", "4"]) == 0
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("of no tier: "))
    assert told == "of no tier: 4 cells: 4 missing; run without --tier, or name their seeds in a tier"


def test_a_tier_that_there_is_not_is_bad_input_of_every_verb(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with_tiers(A=[{"detector": "ufldv2_*"}], B=[{"detector": "*"}])
    (folder / "picture.png").write_bytes(b"")
    verbs = {
        "plan": [], "bench": [], "status": [], "leaderboard": [], "publish": ["--no-readme"],
        "submit": ["--as", "me", "--who", "Me", "--contact", "https://example.org"],
    }  # fmt: skip
    for verb, others in verbs.items():
        assert main([verb, "two.yaml", "--tier", "a", *others]) == 2
        assert "two.yaml: key 'tiers': no tier is called 'a'" in capsys.readouterr().err


def test_commands_that_repeat_a_choice_keep_its_tier() -> None:
    words = bench_verb.words_of(
        "two", Choice(3, skip=["seed=1"], tier="A"), Path("results/local"), "local", None, yes=False
    )
    assert words[1:] == ["bench", "two", "--seeds", "3", "--tier", "A", "--skip", "seed=1"]


def test_json_of_bench_is_that_of_its_dry_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "two.yaml", "--json"]) == 2
    assert "goes with --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("terminal", "long", "answer", "asked", "goes_on"),
    [
        (True, True, False, True, False),
        (True, True, True, True, True),
        (True, False, False, False, True),
        (False, True, False, False, True),
    ],
)
def test_a_user_on_a_terminal_is_asked_before_something_long_and_nobody_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, long: bool, answer: bool, asked: bool, goes_on: bool
) -> None:
    made = make_plan(load_suite("two.yaml"), Path("results/local"))
    looked = preflight(made)
    if long:
        looked = replace(looked, prices={name: replace(price, steps=10**6) for name, price in looked.prices.items()})
    questions: list[str] = []

    def confirm(text: str, default: bool) -> bool:
        questions.append(text)
        return answer

    monkeypatch.setattr(typer, "confirm", confirm)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: terminal, raising=False)
    with open("/dev/null", "w", encoding="utf-8") as nowhere:
        console = Console(file=nowhere, force_terminal=terminal)
        assert bench_verb.agreed(made, looked, console) is goes_on
    assert bool(questions) is asked


def test_the_command_that_a_plan_names_is_taken_for_a_suite_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text((SUITES / "smoke.yaml").read_text())
    assert main(["plan", "mine.yaml"]) == 0
    assert "`samiro-bench plan mine.yaml --probe`" in capsys.readouterr().out
    assert main(["plan", "smoke"]) == 0
    assert "`samiro-bench plan smoke --probe`" in capsys.readouterr().out
