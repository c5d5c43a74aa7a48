"""`samiro-bench bench` as its users read it, on an engine that only fails."""

from __future__ import annotations

import errno
import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.cli import leaderboard
from harness.cli.main import main
from harness.cli.next_steps import program
from harness.engines.base import Listener, Outcome
from harness.engines.slurm import slurm_scheduler
from harness.errors import InputError
from harness.matrix import run as runs
from harness.matrix.plan import Plan
from tests.benchmarks.finished import finished


def ended(monkeypatch: pytest.MonkeyPatch, **kinds: str) -> None:
    """Have cells of the smoke suite, by their methods, and the jobs behind them end badly."""

    def run(plan: Plan, engine: object, listener: object) -> list[Outcome]:
        outcomes = []
        for state in plan.cells:
            kind = kinds.get(state.cell.identity.method)
            if kind is not None:
                told = {"kind": kind, "message": f"no good for {kind}", "log": "x.log"}
                outcomes.append(Outcome(state.cell.id, "failed", **told))  # type: ignore[arg-type]
                outcomes.append(Outcome(f"time {state.cell.id}", "skipped"))
        return outcomes

    monkeypatch.setattr(runs, "run", run)


@pytest.mark.parametrize(
    ("kinds", "code", "said"),
    [
        ({"baseline": "input", "samiro": "input"}, 2, "mend what is named above; then this tries them again:"),
        ({"baseline": "input", "samiro": "error"}, 1, "; this tries them again:"),
        ({"samiro": "infrastructure"}, 1, "; this tries them again:"),
    ],
)
def test_the_end_says_what_failed_and_why_and_the_command_that_tries_it_again(
    kinds: dict[str, str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended(monkeypatch, **kinds)
    assert main(["bench", "smoke", "--results", str(tmp_path)]) == code
    shown = capsys.readouterr()
    assert f"{len(kinds)} of {2 * len(kinds)} jobs failed, and {len(kinds)} that need them were left out; " in shown.out
    assert said in shown.out
    for kind in kinds.values():
        name = {"error": "code"}.get(kind, kind)
        log = "" if kind == "input" else " (log: x.log)"
        assert f": {name}: no good for {kind}{log}\n" in shown.err
    command = shown.out.rstrip("\n").splitlines()[-1].strip()
    assert "what to try next" not in shown.out
    chosen = "" if len(kinds) == 2 else " --only dataset=roads,detector=ufldv2_micro,method=samiro,seed=0"
    assert command == f"samiro-bench bench smoke --results {tmp_path}{chosen}"


def test_commands_to_copy_name_the_program_as_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "samiro-bench"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(tool), "bench"])
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert program() == str(tool), "as `make bench` calls it"
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    assert program() == "samiro-bench"
    monkeypatch.setattr(sys, "argv", ["/some/where/harness/cli/main.py", "bench"])
    assert program() == "samiro-bench"


def test_the_command_that_tries_again_has_the_options_of_the_one_that_ran_and_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended(monkeypatch, samiro="error")
    place = tmp_path / "my results"
    words = ["bench", "smoke", "--seeds", "3", "--results", str(place), "--resources", "cpus=1,slurm.comment=two words"]
    words += ["--yes", "--skip", "seed=2", "--skip", "method=baseline,seed=1"]
    assert main([*words, "--only", "seed=1"]) == 1
    command = shlex.split(capsys.readouterr().out.rstrip("\n").splitlines()[-1])
    assert command[: len(words) + 1] == ["samiro-bench", *words]
    assert main(command[1:]) == 1
    again = shlex.split(capsys.readouterr().out.rstrip("\n").splitlines()[-1])
    assert again == command  # all that was chosen failed: the choice is kept


def test_tables_of_all_cells_tell_which_of_those_that_were_not_run_do_not_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def shown(*_: object, outdated: Sequence[str]) -> bool:
        told.extend(outdated)
        return True

    monkeypatch.setattr(leaderboard, "show_leaderboard", shown)
    other = finished(tmp_path, 1).cells[1].phases.all()[0].folder / "phase.json"
    other.write_text(json.dumps(json.loads(other.read_text()) | {"fingerprint": {"harness/other.py": "other"}}))
    assert main(["bench", "mini", "--seeds", "1", "--results", str(tmp_path), "--only", "method=baseline"]) == 0
    (line,) = told
    assert line.startswith("1 of 4 cells doesn't hold any more, and the tables are of what they showed before")


def test_what_was_left_out_is_left_out_when_it_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where too many cells failed for all to be named."""
    ended(monkeypatch, samiro="error")
    words = ["bench", "smoke", "--seeds", "12", "--results", str(tmp_path), "--skip", "method=samiro,seed=3"]
    assert main(words) == 1
    assert shlex.split(capsys.readouterr().out.rstrip("\n").splitlines()[-1]) == ["samiro-bench", *words]


def test_a_folder_that_was_lost_is_what_is_told_and_not_what_is_missing_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(plan: Plan, engine: object, listener: Listener) -> list[Outcome]:
        (plan.results / plan.suite.name).rename(tmp_path / "mount")
        listener.ended(Outcome("cell", "failed", kind="input", message="x.jpg is missing; restore it"))
        return []

    monkeypatch.setattr(runs, "run", run)
    assert main(["bench", "smoke", "--results", str(tmp_path / "results")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"samiro-bench: {tmp_path}/results/smoke: vanished while this worked in it")


def test_what_failed_is_told_also_where_there_is_no_room_for_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device", "leaderboard.md")

    ended(monkeypatch, samiro="infrastructure")
    monkeypatch.setattr("harness.matrix.recorded.record_paths", lambda expected: [tmp_path])
    monkeypatch.setattr("harness.cli.leaderboard.show_leaderboard", full)
    assert main(["bench", "smoke", "--results", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "this tries them again:\n    samiro-bench bench smoke " in shown.out
    assert ": infrastructure: no good for infrastructure" in shown.err
    assert shown.err.endswith("samiro-bench: leaderboard.md: No space left on device\n")


@pytest.mark.parametrize(("engine", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_an_engine_whose_package_is_missing_says_what_to_install_in_one_line(
    engine: str,
    package: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def found(name: str) -> object:
        return None if name == package else find_spec(name)

    monkeypatch.setattr(f"harness.engines.{engine}.find_spec", found)
    assert main(["bench", "smoke", "--results", str(tmp_path), "--engine", engine]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"the package {package} isn't installed: pip install 'samiro-bench[{engine}]'" in line


def test_slurm_without_its_programs_says_where_it_can_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="submitit isn't installed: pip install 'samiro-bench[slurm]'")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        InputError, match="there is no sbatch here: run this where jobs are submitted, or say --engine local"
    ):
        slurm_scheduler(tmp_path, "mini", cpus=1, device="auto")


def test_the_help_of_bench_loads_none_of_the_heavy_packages() -> None:
    program = (
        "import sys; from harness.cli.main import main; main(['bench', '--help']); "
        "print(sorted({'torch', 'ray', 'submitit'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=True)
    assert "--engine" in run.stdout
    assert "--resources" in run.stdout
    assert run.stdout.strip().endswith("[]")
