"""`samiro-bench leaderboard` where the terminal or the installation lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from harness.cli import leaderboard as verb
from harness.matrix.recorded import SuiteCells
from harness.records.record import read_records
from harness.report.published import Published
from harness.suite.load import SUITES, load_suite

MINI = Path(__file__).resolve().parents[3] / "results" / "mini" / "records"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_of_another_encoding_shows_question_marks(tmp_path: Path, encoding: str) -> None:
    shutil.copytree(MINI, tmp_path / "mini" / "records")
    run = subprocess.run(
        [sys.executable, "-m", "harness.cli.main", "leaderboard", "mini", "--results", str(tmp_path)],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": encoding},
    )
    assert (run.returncode, run.stderr) == (0, b"")
    assert b"? samiro - baseline" in run.stdout


@pytest.mark.parametrize(("real", "told"), [(True, True), (False, False)])
def test_published_figures_that_are_not_at_hand_are_told_beside_real_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], real: bool, told: bool
) -> None:
    made: Any = SimpleNamespace(identity=SimpleNamespace(dataset_key={"real": "culane"} if real else {"rendered": "a"}))
    monkeypatch.setattr("harness.records.record.read_sound_records", lambda paths: ([made], []))
    monkeypatch.setattr(
        "harness.report.leaderboard.leaderboard", lambda *_, **__: SimpleNamespace(missing=(), left_out=())
    )
    monkeypatch.setattr("harness.report.published.read_published", Published)
    monkeypatch.setattr("harness.report.tables.write_leaderboard", lambda *_: ())
    monkeypatch.setattr("harness.report.site.page.write_page", lambda *_: tmp_path)
    monkeypatch.setattr("harness.report.terminal.print_leaderboard", lambda *_: None)
    monkeypatch.setattr("harness.matrix.recorded.strays", lambda expected: (0, []))
    assert verb.show_leaderboard(SuiteCells("suite", tmp_path, ()), Console())
    assert ("published figures: results/published isn't at hand" in capsys.readouterr().out) is told


def test_tables_of_a_tier_tell_which_tiers_they_leave_out(tmp_path: Path) -> None:
    tiers = "tiers: {A: [{method: baseline}], B: [{detector: resa_*}], C: [{detector: '*'}]}"
    (tmp_path / "tiered.yaml").write_text(f"{(SUITES / 'mini.yaml').read_text()}\n{tiers}\n")
    suite = load_suite(str(tmp_path / "tiered.yaml"))
    shutil.copytree(MINI, tmp_path / "mini" / "records")
    baselines: Any = tuple(
        SimpleNamespace(id=record.id, identity=record.identity)
        for record in read_records(MINI)
        if record.identity.method == "baseline"
    )
    for tier, left_out in (("A", ["B", "C"]), ("C", [])):
        later = verb.later_tiers(suite, tier)
        assert verb.show_leaderboard(SuiteCells("mini", tmp_path, baselines), Console(), left_out=later)
        table = (tmp_path / "mini" / "leaderboard.md").read_text()
        told = [line for line in table.splitlines() if "left out, these tables are of --tier" in line]
        assert told == [f"- tier {name}: left out, these tables are of --tier {tier}" for name in left_out]
