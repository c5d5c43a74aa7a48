"""`samiro-bench bench` as its users read it, on an engine that only fails."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness import matrix
from harness.cli.main import main
from harness.engines.base import Outcome
from harness.engines.slurm import slurm_scheduler
from harness.errors import InputError


@pytest.mark.parametrize(
    ("kinds", "code", "said"),
    [
        (("input", "input"), 2, "jobs failed; mend what is named above, then the same command tries them again"),
        (("input", "error"), 1, "jobs failed; the same command tries them again"),
    ],
)
def test_the_closing_line_says_what_helps(
    kinds: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = [Outcome(f"job {n}", "failed", kind=kind, message="no good") for n, kind in enumerate(kinds)]  # type: ignore[arg-type]
    monkeypatch.setattr(matrix, "run", lambda *_: ended)
    assert main(["bench", "smoke", "--results", str(tmp_path)]) == code
    shown = capsys.readouterr()
    assert "2 of " in shown.out
    assert said in shown.out
    assert "job 1: no good" in shown.err


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
