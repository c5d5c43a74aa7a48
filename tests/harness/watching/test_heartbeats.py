"""Whoever runs says so in a file; whoever is gone is known by its silence."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from harness.engines.base import Job
from harness.processes.progress import Event, Report
from harness.watching.heartbeats import SILENT_SECONDS, Heartbeat, beating, kept_alive, read_heartbeats

BEATS = """
import sys, time
from pathlib import Path
from harness.watching.heartbeats import beating
with beating(Path(sys.argv[1]), "job", 0.05):
    print("beats", flush=True)
    time.sleep(60)
"""


def beat(age: float) -> Heartbeat:
    return Heartbeat(what="a", host="h", pid=1, beat=1, started=0.0, time=1000.0 - age)


@pytest.mark.parametrize(
    ("age", "liveness"),
    [
        (0.0, "alive"),
        (SILENT_SECONDS - 1, "alive"),
        (SILENT_SECONDS + 1, "silent"),
        (-SILENT_SECONDS + 1, "alive"),
        (-SILENT_SECONDS - 1, "clock"),
    ],
)
def test_a_beat_counts_until_it_is_old_and_a_wrong_clock_is_told(age: float, liveness: str) -> None:
    assert beat(age).liveness(1000.0) == liveness


def test_a_process_beats_while_it_runs_tells_its_last_news_and_leaves_nothing(tmp_path: Path) -> None:
    with beating(tmp_path / "alive" / "a.json", "a", 0.02) as news:
        first = read_heartbeats(tmp_path / "alive")["a"]
        assert (first.pid, first.phase) == (os.getpid(), "")
        news(Event("a", "train", 3, 10, "loss 1.0"))
        deadline = time.monotonic() + 30
        while (later := read_heartbeats(tmp_path / "alive")["a"]).step != 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (later.phase, later.step, later.total, later.note) == ("train", 3, 10, "loss 1.0")
        assert later.beat > first.beat
    assert list((tmp_path / "alive").iterdir()) == []


def test_a_killed_process_leaves_its_last_beat_which_grows_old(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", BEATS, str(tmp_path / "job.json")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"beats\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    left = read_heartbeats(tmp_path)["job"]
    assert left.pid == process.pid
    assert left.liveness(time.time() + 2 * SILENT_SECONDS) == "silent"


def test_work_goes_on_where_no_beat_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "alive").write_text("a file where the folder should be")
    with beating(tmp_path / "alive" / "a.json", "a", 0.01):
        pass
    assert read_heartbeats(tmp_path / "alive") == {}


def test_beats_that_find_no_room_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", full)
    with beating(tmp_path / "alive" / "a.json", "a", 0.01):
        pass
    assert list((tmp_path / "alive").iterdir()) == []


def test_what_is_no_heartbeat_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"what": "a"')
    (tmp_path / "other.json").write_text(json.dumps({"what": "a"}))
    (tmp_path / "whole.json").write_text(beat(0).model_dump_json())
    assert list(read_heartbeats(tmp_path)) == ["a"]
    assert read_heartbeats(tmp_path / "nowhere") == {}


def work(folder: Path, report: Report) -> None:
    report(Event("time a/b", "time", 1, 2))
    (folder / "seen").write_text(",".join(read_heartbeats(folder / "alive")))


def test_a_job_beats_wherever_it_runs_and_its_news_still_reach_its_engine(tmp_path: Path) -> None:
    job = Job("time a/b", partial(work, tmp_path))
    told: list[Event] = []
    kept = kept_alive(job, tmp_path / "alive")
    assert (kept.name, kept.needs, kept.resources) == (job.name, job.needs, job.resources)
    kept.task(told.append)
    assert (tmp_path / "seen").read_text() == "time a/b"
    assert told == [Event("time a/b", "time", 1, 2)]
    assert list((tmp_path / "alive").iterdir()) == []
