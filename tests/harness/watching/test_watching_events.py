"""Events are lines that a reader can follow while they are written, whatever becomes of the writer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from harness.errors import InputWarning
from harness.watching.events import (
    SCHEMA,
    Ended,
    EventFile,
    EventReader,
    Progress,
    Queued,
    RunEvent,
    RunStarted,
    Started,
    as_line,
    run_name,
)

TIME = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def progress(step: int, run: str = "r") -> Progress:
    return Progress(time=TIME + timedelta(seconds=step), run=run, job="a", phase="train", step=step, total=10**9)


def steps(events: list[RunEvent]) -> list[int]:
    return [event.step for event in events if isinstance(event, Progress)]


def test_an_event_is_one_line_of_json_that_says_its_kind_its_time_and_its_run() -> None:
    event = Ended(time=TIME, run="r", job="a\nb", state="failed", kind="error", message='broke "here"\n', log="l.log")
    line = as_line(event)
    assert line.count(b"\n") == 1
    read = json.loads(line)
    assert (read["event"], read["time"], read["run"]) == ("ended", "2026-01-02T03:04:05Z", "r")
    assert read["message"] == 'broke "here"\n'
    first = RunStarted(time=TIME, run="r", suite="s", engine="local", host="h", pid=1, cells=2, done=0)
    assert json.loads(as_line(first))["events_schema"] == SCHEMA


def test_a_reader_gets_each_event_once_and_run_after_run(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    assert list(EventReader(tmp_path / "nowhere").read()) == []
    first, second = EventFile(tmp_path / "1.jsonl"), EventFile(tmp_path / "2.jsonl")
    second.write([progress(3, "2")])
    first.write([progress(1, "1"), progress(2, "1")])
    assert steps(list(reader.read())) == [1, 2, 3]
    assert list(reader.read()) == []
    first.write([progress(4, "1")])
    assert steps(list(reader.read())) == [4]


def test_a_torn_last_line_waits_for_its_end_and_is_passed_over_if_it_never_comes(tmp_path: Path) -> None:
    path, reader = tmp_path / "r.jsonl", EventReader(tmp_path)
    path.write_bytes(as_line(progress(1)) + as_line(progress(2))[:20])
    assert steps(list(reader.read())) == [1]
    with open(path, "ab") as stream:
        stream.write(as_line(progress(2))[20:])
    assert steps(list(reader.read())) == [2]
    with open(path, "ab") as stream:
        stream.write(as_line(progress(3))[:20] + b"\n" + as_line(progress(4)) + b'{"event": "of a later version"}\n')
    assert steps(list(reader.read())) == [4]
    assert reader.skipped == 2


def test_what_a_full_disk_tore_leaves_the_next_line_whole_and_warns_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EventFile(tmp_path / "r.jsonl")
    file.write([progress(1)])
    real = os.write

    def full(descriptor: int, text: bytes) -> int:
        real(descriptor, text[:15])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.watching.events.os.write", full)
    with pytest.warns(InputWarning, match=r"r\.jsonl: events can't be written .No space left"):
        file.write([progress(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        file.write([progress(3)])
    monkeypatch.setattr("harness.watching.events.os.write", real)
    file.write([progress(4)])
    assert steps(list(EventReader(tmp_path).read())) == [1, 4]


def test_lines_are_whole_while_another_process_writes_them(tmp_path: Path) -> None:
    count = 2000
    program = (
        "import sys; from pathlib import Path; from datetime import datetime, UTC\n"
        "from harness.watching.events import EventFile, Progress\n"
        "file = EventFile(Path(sys.argv[1]))\n"
        f"for step in range({count}):\n"
        "    file.write([Progress(time=datetime.now(UTC), run='r', job='a', phase='train', step=step, note='x' * 300)])\n"
    )
    reader, seen = EventReader(tmp_path), []
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "r.jsonl")]) as writer:
        while writer.poll() is None:
            seen += steps(list(reader.read()))
    seen += steps(list(reader.read()))
    assert writer.returncode == 0
    assert seen == list(range(count))
    assert reader.skipped == 0


def test_runs_sort_by_their_start() -> None:
    names = [run_name() for _ in range(3)]
    assert names == sorted(names)
    assert all("/" not in name and name.endswith(f"-{os.getpid()}") for name in names)


def test_a_queued_job_says_what_it_is(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "r.jsonl")
    file.write(
        [Queued(time=TIME, run="r", job="time c", kind="time", alone=True), Started(time=TIME, run="r", job="c")]
    )
    queued, started = EventReader(tmp_path).read()
    assert isinstance(queued, Queued)
    assert (queued.kind, queued.alone, queued.expected_seconds) == ("time", True, None)
    assert isinstance(started, Started)
