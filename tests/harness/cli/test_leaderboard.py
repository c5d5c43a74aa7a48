"""`samiro-bench leaderboard` where the terminal or the installation lacks something."""

from __future__ import annotations

import json
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
from harness.cli.main import main
from harness.errors import InputError
from harness.matrix.recorded import SuiteCells
from harness.records.record import read_records
from harness.report.published import Published
from harness.suite.load import SUITES, load_suite
from tests.benchmarks.finished import finished

MINI = Path(__file__).resolve().parents[3] / "results" / "mini" / "records"


# One of the two is enough where minutes count: neither has all the signs, and either asks for the same.
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("latin-1", marks=pytest.mark.slow)])
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
        "harness.report.leaderboard.leaderboard", lambda *_, **__: SimpleNamespace(missing=(), left_out=(), outdated=())
    )
    monkeypatch.setattr("harness.report.published.read_published", Published)
    monkeypatch.setattr("harness.report.tables.write_leaderboard", lambda *_: ())
    monkeypatch.setattr("harness.report.site.page.write_page", lambda *_: tmp_path)
    monkeypatch.setattr("harness.report.terminal.print_leaderboard", lambda *_: None)
    monkeypatch.setattr("harness.matrix.recorded.strays", lambda expected: (0, []))
    assert verb.show_leaderboard(SuiteCells("suite", tmp_path, ()), Console())
    assert ("published figures: results/published isn't at hand" in capsys.readouterr().out) is told


def test_whoever_may_only_read_the_results_sees_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*_: object) -> tuple[Path, ...]:
        raise InputError("give a file elsewhere") from PermissionError(13, "Permission denied")

    shutil.copytree(MINI, tmp_path / "mini" / "records")
    monkeypatch.setattr("harness.report.tables.write_leaderboard", refused)
    assert main(["leaderboard", "mini", "--results", str(tmp_path)]) == 2
    shown = capsys.readouterr()
    assert "ufldv2_micro" in shown.out
    folder = tmp_path / "mini"
    assert shown.err.startswith(
        f"samiro-bench: {folder}: takes no file (Permission denied): the tables above are whole"
    )
    assert f"copy {folder}/records to MINE/mini/records, and give --results MINE" in shown.err


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


def rewritten(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_rows_that_do_not_hold_any_more_are_told_with_their_cause(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = finished(tmp_path, 1)
    one, other = (state.phases.all()[0] for state in plan.cells[:2])
    (oracle,) = (phase for phase, _ in plan.artefacts if phase.folder.parent.name == "oracle")

    def told() -> str:
        assert main(["leaderboard", "mini", "--seeds", "1", "--results", str(tmp_path)]) == 0
        return capsys.readouterr().err

    def tables() -> dict[str, str]:
        written = (tmp_path / "mini" / name for name in ("leaderboard.md", "leaderboard.tex", "site/index.html"))
        return {path.name: path.read_text() for path in written}

    assert "warning" not in told()
    assert not any("Outdated" in text for text in tables().values())
    rewritten(oracle.folder / "phase.json", fingerprint={"harness/other.py": "other"})
    said = told()
    assert "warning: 2 of 4 cells don't hold any more" in said, "those that were trained with it"
    assert f"-samiro-s0-{plan.cells[1].cell.id[-10:]}: {oracle.name}: code changed since" in said
    assert "--redo-stale or --accept-stale" in said
    for name, text in tables().items():
        assert "Outdated" in text, name
        assert "2 of 4 cells don't hold any more" in text.replace("&#39;", "'").replace("\n", " "), name
    rewritten(oracle.folder / "phase.json", fingerprint=dict(oracle.fingerprint))
    rewritten(one.folder / "phase.json", key="other", options={**one.options, "content": "other labels"})
    said = told()
    assert (
        f"warning: 1 of 4 cells doesn't hold any more, and the tables are of what they showed before: {one.folder.parent.name}"
        in said
    )
    assert "train: made with other options: content: other labels ->" in said
    assert "`bench` makes them again" in said
    assert "--redo-stale" not in said
    rewritten(other.folder / "phase.json", fingerprint={"harness/other.py": "other"})
    said = told()
    assert "warning: 2 of 4 cells don't hold any more" in said
    assert "--redo-stale or --accept-stale" in said
    (other.folder / "phase.json").write_text("{")
    assert f"whether its cells still hold isn't known: {other.folder / 'phase.json'}" in told()
    shutil.rmtree(tmp_path / "mini/cells")  # as where records alone were copied
    assert "warning" not in told()
