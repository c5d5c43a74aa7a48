"""`samiro-bench status`: what runs is known from the folder alone, on this machine or on another."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from harness.cli import status as verb
from harness.cli.main import main
from harness.matrix.plan import make_plan
from harness.suite import Choice, load_suite
from harness.watching.board import BENCH
from harness.watching.events import (
    Ended,
    EventFile,
    Progress,
    Queued,
    RunEnded,
    RunEvent,
    RunStarted,
    Started,
    events_folder,
)
from harness.watching.heartbeats import SILENT_SECONDS, Heartbeat, alive_folder

RUN = "20260102T030405.000000-node-7"


@pytest.fixture(scope="module")
def cells() -> list[str]:
    return [state.cell.id for state in make_plan(load_suite("smoke"), Path("nowhere"), Choice(seeds=2)).cells]


def now() -> datetime:
    return datetime.now(UTC)


def events(results: Path, *more: RunEvent) -> None:
    EventFile(events_folder(results, "smoke") / f"{RUN}.jsonl").write(more)


def begin(results: Path, cells: list[str]) -> None:
    """A run on another machine: one cell done, one failed, one running, one queued."""
    head = RunStarted(time=now(), run=RUN, suite="smoke", engine="slurm", host="node", pid=7, cells=4, done=0)
    queued = [Queued(time=now(), run=RUN, job=cell, kind="cell", alone=False) for cell in cells]
    started = [Started(time=now(), run=RUN, job=cell) for cell in cells[:3]]
    ended = [
        Ended(time=now(), run=RUN, job=cells[0], state="done", seconds=60.0),
        Ended(time=now(), run=RUN, job=cells[1], state="failed", kind="error", message="broke"),
    ]
    progress = Progress(time=now(), run=RUN, job=cells[2], phase="train", step=1, total=60)
    events(results, head, *queued, *started, *ended, progress)


def beat(results: Path, what: str, age: float = 0.0, step: int = 0) -> None:
    said = Heartbeat(
        what=what, host="node", pid=8, beat=3, started=0, time=time.time() - age, phase="train", step=step, total=60
    )
    folder = alive_folder(results, "smoke")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{what.replace(' ', '-')}.json").write_text(said.model_dump_json())


def shown(results: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["status", "smoke", "--seeds", "2", "--json", "--results", str(results)]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_run_on_another_machine_is_seen_by_its_heartbeat(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, cells)
    beat(tmp_path, f"{BENCH}{RUN}")
    beat(tmp_path, cells[2], step=42)
    found = shown(tmp_path, capsys)
    assert found["running"] is True
    assert found["runs"] == [{"run": RUN, "host": "node", "pid": 7}]
    assert found["counts"] == {"queued": 1, "done": 1, "failed": 1, "running": 1}
    rows = {row["cell"]: row for row in found["cells"]}
    assert (rows[cells[2]]["state"], rows[cells[2]]["job"]) == ("running", "train 42/60 on node")
    assert found["eta_seconds"] is not None
    assert found["jobs_of_unknown_length"] <= 1


def test_a_run_whose_heart_stopped_is_not_running_and_its_jobs_are_lost(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = time.time()
    monkeypatch.setattr(time, "time", lambda: moment)  # on a busy machine seconds pass between the beat and the look
    begin(tmp_path, cells)
    for what in (f"{BENCH}{RUN}", cells[2]):
        beat(tmp_path, what, age=2 * SILENT_SECONDS)
    found = shown(tmp_path, capsys)
    assert (found["running"], found["runs"], found["eta_seconds"]) == (False, [], None)
    assert {row["cell"]: row["state"] for row in found["cells"]}[cells[2]] == "lost"
    assert main(["status", "smoke", "--results", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "bench on node (process 7, engine slurm" in out
    assert "ended without a word, silent for 120 s; the same `bench` goes on from there" in out


def test_a_host_whose_clock_is_ahead_is_told_also_where_a_job_alone_runs_there(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, cells)
    beat(tmp_path, f"{BENCH}{RUN}", age=SILENT_SECONDS / 2)
    assert main(["status", "smoke", "--results", str(tmp_path)]) == 0
    assert "ahead" not in capsys.readouterr().out
    beat(tmp_path, cells[2], age=-100 * SILENT_SECONDS)
    assert main(["status", "smoke", "--results", str(tmp_path)]) == 0
    assert re.search(r"(?m)^node: its clock is \d{4} s ahead of this machine's$", capsys.readouterr().out)


def test_a_job_of_a_cluster_outlives_the_bench_that_submitted_it(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begin(tmp_path, cells)
    beat(tmp_path, cells[2], step=50)
    found = shown(tmp_path, capsys)
    assert found["runs"] == []
    assert {row["cell"]: row["job"] for row in found["cells"]}[cells[2]] == "train 50/60 on node"


def test_why_a_cell_failed_is_shown_as_it_is(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "smoke").mkdir()
    (tmp_path / "smoke/outcomes.json").write_text(json.dumps({cells[0]: "[/x] [red]", cells[1]: "ends in a \\"}))
    assert main(["status", "smoke", "--seeds", "2", "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "[/x] [red]" in out
    assert "ends in a \\ " in out


def test_status_of_a_suite_that_never_ran_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(tmp_path, capsys)
    assert (found["running"], found["counts"]) == (False, {})
    assert {row["state"] for row in found["cells"]} == {"missing"}
    assert list(tmp_path.iterdir()) == [], "whoever looks writes nothing"


def test_missing_data_is_told_once_and_not_for_every_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", str(tmp_path / "unmounted"))
    assert main(["status", "culane", "--seeds", "1", "--results", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count("unmounted") == 1
    assert told.splitlines()[0].startswith("data missing: ")
    assert told.count("data missing │") > 2


def test_watching_follows_a_run_to_its_end(
    tmp_path: Path, cells: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verb, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(verb, "LINE_SECONDS", 0.0)
    begin(tmp_path, cells)
    beat(tmp_path, f"{BENCH}{RUN}")
    ends = [Ended(time=now(), run=RUN, job=cell, state="done", seconds=60.0) for cell in cells[2:]]
    looked, looks = verb.look, count(1)

    def look(*seen: Any) -> verb.Seen:
        if next(looks) == 3:
            events(tmp_path, *ends, RunEnded(time=now(), run=RUN, why="finished"))
        return looked(*seen)

    monkeypatch.setattr(verb, "look", look)
    assert main(["status", "smoke", "--seeds", "2", "--watch", "--results", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "smoke: 1 running, 1 queued, 1 done, 1 failed of 4 jobs; ETA" in out
    assert "idle" in out


def test_watching_what_does_not_run_ends_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "smoke", "--watch", "--results", str(tmp_path)]) == 0
    assert "smoke: no run is alive" in capsys.readouterr().err
