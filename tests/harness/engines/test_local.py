"""The local engine runs jobs in processes of their own, in the order of their needs, and tells how each ended."""

from __future__ import annotations

import errno
import importlib
import io
import os
import queue
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from harness.engines import local
from harness.engines.base import Job, Resources
from harness.engines.local import LocalEngine, News, read_lines
from harness.engines.room import Gpu, Machine, named_gpus
from harness.errors import InputWarning
from harness.processes.progress import Event, stopping
from tests.harness.engines.notes import Notes


def engine(tmp_path: Path, slots: int = 2, pauses: tuple[float, ...] = ()) -> LocalEngine:
    return LocalEngine(Machine(cores=slots, memory_gigabytes=8), tmp_path / "logs", threads=1, pauses=pauses)


def test_a_job_starts_only_when_what_it_needs_is_done(jobs: ModuleType, tmp_path: Path) -> None:
    todo = [
        Job("last", partial(jobs.touch, tmp_path / "last"), needs=("first", "second")),
        Job("first", partial(jobs.touch, tmp_path / "first")),
        Job("second", partial(jobs.touch, tmp_path / "second"), needs=("first",)),
    ]
    notes = Notes()
    outcomes = engine(tmp_path).run(todo, notes)
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    assert notes.order == ["+first", "-first", "+second", "-second", "+last", "-last"]
    assert {event.note for event in notes.events} == {"note"}
    assert "noise" in (tmp_path / "logs" / "first.log").read_text()


def test_modules_of_the_folder_that_it_is_started_in_are_not_taken(
    jobs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started_in = tmp_path / "started in"
    (started_in / "harness/engines").mkdir(parents=True)
    for name in ("pickle.py", "harness/__init__.py", "harness/engines/__init__.py", "harness/engines/worker.py"):
        (started_in / name).write_text(f"raise SystemExit({name!r})")
    monkeypatch.chdir(started_in)
    (outcome,) = engine(tmp_path).run([Job("job", partial(jobs.touch, tmp_path / "file"))], Notes())
    assert (outcome.state, outcome.message) == ("done", "")


def test_an_exclusive_job_runs_alone(jobs: ModuleType, tmp_path: Path) -> None:
    todo = [
        Job("a", partial(jobs.wait, tmp_path / "a", 0.3)),
        Job("alone", partial(jobs.wait, tmp_path / "alone", 0.3), exclusive=True),
        Job("b", partial(jobs.wait, tmp_path / "b", 0.3)),
    ]
    engine(tmp_path, slots=3).run(todo, Notes())
    begin, end = map(float, (tmp_path / "alone").read_text().split())
    for name in "ab":
        other_begin, other_end = map(float, (tmp_path / name).read_text().split())
        assert other_end <= begin or other_begin >= end


def test_exclusive_jobs_that_others_need_come_before_all_others_and_those_that_none_needs_after_them(
    jobs: ModuleType, tmp_path: Path
) -> None:
    """Renderings and time measurements: a rendering behind trainings would leave cores idle until the last of them has ended."""
    touch = partial(partial, jobs.touch)
    todo = [
        Job("render", touch(tmp_path / "render"), exclusive=True),
        Job("train", touch(tmp_path / "train"), needs=("render",)),
        Job("time", touch(tmp_path / "time"), needs=("train",), exclusive=True),
        Job("train again", touch(tmp_path / "again"), needs=("render",)),
        Job("render elsewhere", touch(tmp_path / "elsewhere"), exclusive=True),
        Job("train there", touch(tmp_path / "there"), needs=("render elsewhere",)),
    ]
    notes = Notes()
    engine(tmp_path).run(todo, notes)
    begun = [entry[1:] for entry in notes.order if entry[0] == "+"]
    assert begun == ["render", "render elsewhere", "train", "train again", "train there", "time"]


def test_a_failed_job_skips_those_behind_it_and_no_others(jobs: ModuleType, tmp_path: Path) -> None:
    todo = [
        Job("broken", jobs.bad_input),
        Job("behind", partial(jobs.touch, tmp_path / "behind"), needs=("broken",)),
        Job("further behind", partial(jobs.touch, tmp_path / "further"), needs=("behind",)),
        Job("apart", partial(jobs.touch, tmp_path / "apart")),
    ]
    outcomes = engine(tmp_path).run(todo, Notes())
    assert [outcome.state for outcome in outcomes] == ["failed", "skipped", "skipped", "done"]
    assert (outcomes[0].kind, outcomes[0].message) == ("input", "x.jpg: truncated; restore it")


def test_what_a_job_warns_of_is_warned_of_here_and_stands_in_its_log(jobs: ModuleType, tmp_path: Path) -> None:
    with pytest.warns(InputWarning) as said:
        engine(tmp_path).run([Job("odd", jobs.odd_input)], Notes())
    told = [str(one.message) for one in said if one.category is InputWarning]
    assert told == ["x.txt: two points in one place"]
    log = (tmp_path / "logs" / "odd.log").read_text()
    assert log.startswith("warning: x.txt: two points in one place\n")
    assert "UserWarning: something about a library" in log


@pytest.fixture
def adapter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of somebody's, whose import warns where it is imported by a job's process."""
    (tmp_path / "somebodys_adapter.py").write_text(
        "import sys, warnings\nfrom harness.errors import InputWarning\n"
        "if 'pytest' not in sys.modules:\n    warnings.warn('an old adapter', InputWarning)\n"
        "def task(report): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delitem(sys.modules, "somebodys_adapter", raising=False)
    return importlib.import_module("somebodys_adapter")


def test_what_a_jobs_modules_warn_of_when_they_are_imported_is_told_too(adapter: ModuleType, tmp_path: Path) -> None:
    with pytest.warns(InputWarning, match="^an old adapter$"):
        (outcome,) = engine(tmp_path).run([Job("old", adapter.task)], Notes())
    assert outcome.state == "done"


def test_a_job_whose_module_is_not_there_says_which(
    adapter: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
    (outcome,) = engine(tmp_path).run([Job("lost", adapter.task)], Notes())
    assert (outcome.state, outcome.kind) == ("failed", "error")
    assert outcome.message == "ModuleNotFoundError: No module named 'somebodys_adapter'"
    assert "Traceback" in (tmp_path / "logs" / "lost.log").read_text()


def test_errors_and_signals_are_told_and_the_traceback_is_in_the_log(jobs: ModuleType, tmp_path: Path) -> None:
    outcomes = engine(tmp_path).run([Job("bug", jobs.bug), Job("die", jobs.die), Job("leave", jobs.leave)], Notes())
    assert (outcomes[0].kind, outcomes[0].message) == ("error", "ZeroDivisionError: ouch")
    assert "Traceback" in Path(outcomes[0].log).read_text()
    assert outcomes[1].kind == "infrastructure"
    assert "SIGKILL" in outcomes[1].message
    assert (outcomes[2].kind, outcomes[2].message) == ("error", "SystemExit: 3")
    assert "Traceback" in Path(outcomes[2].log).read_text()


def test_a_process_that_ends_before_it_has_read_its_job_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "worker_command", lambda: [sys.executable, "-c", "raise SystemExit(3)"])
    (outcome,) = engine(tmp_path).run([Job("large", partial(print, "more than a pipe holds" * 10_000))], Notes())
    assert (outcome.kind, outcome.message) == ("error", "its process ended with exit code 3")


def test_a_line_that_was_torn_when_its_process_was_killed_is_no_news() -> None:
    news: News = queue.Queue()
    read_lines("job", io.BytesIO(b'{"event": {}}\n{"eve'), news)
    assert [news.get(), news.get()] == [("job", b'{"event": {}}\n'), ("job", None)]


def test_a_job_gets_its_slots_device_and_the_suites_threads(jobs: ModuleType, tmp_path: Path) -> None:
    machine = Machine(cores=1, memory_gigabytes=8, gpus=(Gpu("3", 24.0),))
    LocalEngine(machine, tmp_path / "logs", threads=5).run(
        [Job("env", partial(jobs.environment, tmp_path / "env"), resources=Resources(gpu=True))], Notes()
    )
    assert (tmp_path / "env").read_text() == "5 3"


LATE = "import sys, time\nif sys.argv[:1] == ['-m']: time.sleep(1.5)\n"
"""A sitecustomize.py by which programs that are run as modules, as workers are, begin late: as on a machine that is busy."""


def members(session: int) -> list[int]:
    """The processes of a session that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(folder.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel tells a process that its parent died")
@pytest.mark.parametrize("late", [False, True], ids=["begun", "beginning"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_when_the_engine_is_stopped_or_killed_its_jobs_end_too(
    jobs: ModuleType, tmp_path: Path, how: int, late: bool
) -> None:
    """Also a job whose process is still loading its modules when that happens."""
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from functools import partial
        from pathlib import Path
        import jobs
        from harness.engines.base import Job
        from harness.engines.local import LocalEngine
        from harness.engines.room import Machine
        class Quiet:
            def started(self, job): pass
            def event(self, event): pass
            def ended(self, outcome): pass
        class Telling(LocalEngine):
            def start(self, *given):
                try:
                    return super().start(*given)
                finally:
                    print("has a process", flush=True)
        Telling(Machine(1, 8), Path({str(tmp_path)!r}), 1).run(
            [Job("lasts", partial(jobs.lasts, Path({str(tmp_path / "begun")!r}), 60))], Quiet())
    """)
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(LATE if late else "")
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parent}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "has a process\n"
    deadline = time.monotonic() + 50
    while not late and not (tmp_path / "begun").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(how)
    process.wait(50)
    while members(process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert members(process.pid) == []
    assert (tmp_path / "begun").exists() is not late


class Stopping(Notes):
    """Presses Ctrl-C at the first step."""

    def event(self, event: Event) -> None:
        super().event(event)
        if event.phase == "steps":
            raise KeyboardInterrupt


def test_an_error_that_compiled_code_makes_of_an_interrupt_is_no_news(jobs: ModuleType, tmp_path: Path) -> None:
    notes = Stopping()
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path).run([Job("compiled", jobs.turns_an_interrupt_into_an_error)], notes)
    assert [event.phase for event in notes.events] == ["steps", "stops"]


def test_what_goes_wrong_while_a_job_is_stopped_is_told(jobs: ModuleType, tmp_path: Path) -> None:
    notes = Stopping()
    with pytest.raises(KeyboardInterrupt):
        engine(tmp_path).run([Job("full", partial(jobs.keeps_no_checkpoint, 0.2))], notes)
    assert [event.phase for event in notes.events] == ["steps", "stops", "stopped"]
    assert notes.events[1].note == "without a checkpoint, so what it was at begins anew; Ctrl-C again ends it at once"
    assert notes.events[-1].note == "not as it should: /here: No space left on device"
    assert "No space left on device" in (tmp_path / "logs" / "full.log").read_text()


class Unheard(Notes):
    """Whose terminal is gone: nothing can be told any more."""

    def event(self, event: Event) -> None:
        super().event(event)
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_terminal_that_is_gone_ends_jobs_as_ctrl_c_does_after_a_checkpoint(jobs: ModuleType, tmp_path: Path) -> None:
    job = Job("steps", partial(jobs.keeps_checkpoints, tmp_path / "kept", 0.2))
    with pytest.raises(OSError, match="Input/output error"):
        engine(tmp_path).run([job], Unheard())
    assert (tmp_path / "kept").read_text() == "1"


def interrupted(tmp_path: Path, seconds: float, presses: int) -> tuple[float, str]:
    """Press Ctrl-C so often while a job takes steps; how long the end took, and what was said until then."""
    program = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from functools import partial
        from pathlib import Path
        import jobs
        from harness.engines.base import Job
        from harness.engines.local import LocalEngine
        from harness.engines.room import Machine
        class Telling:
            def started(self, job): pass
            def event(self, event): print(event.phase, event.note, flush=True)
            def ended(self, outcome): pass
        LocalEngine(Machine(1, 8), Path({str(tmp_path)!r}), 1).run(
            [Job("steps", partial(jobs.keeps_checkpoints, Path({str(tmp_path / "kept")!r}), {seconds}))], Telling())
    """)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL, process_group=0
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    began = time.monotonic()
    for _ in range(presses):
        # As a terminal does it: to the whole group.
        os.killpg(process.pid, signal.SIGINT)
        while not said.endswith("ends it at once\n"):
            line = process.stdout.readline()
            assert line, f"it ended unasked: {said}"
            said += line
    said += process.communicate(timeout=60)[0]
    assert process.returncode == -signal.SIGINT
    return time.monotonic() - began, said


def test_ctrl_c_stops_after_a_checkpoint(jobs: ModuleType, tmp_path: Path) -> None:
    _, said = interrupted(tmp_path, 0.3, presses=1)
    assert "stops after a checkpoint; Ctrl-C again ends it at once" in said
    assert int((tmp_path / "kept").read_text()) >= 1


@pytest.mark.parametrize(
    ("last", "how"),
    [
        (None, "without a checkpoint"),
        (Event("job", "train", 3, 10), "after a checkpoint"),
        (Event("job", "train", 10, 10), "without a checkpoint"),
        (Event("job", "pretrain", 3, 10), "after a checkpoint"),
        (Event("job", "validate", 3, 10), "without a checkpoint"),
        *((Event("job", phase, 3, 10), "without a checkpoint") for phase in ("render", "predict", "score", "time")),
    ],
)
def test_only_trainings_are_said_to_stop_after_a_checkpoint(last: Event | None, how: str) -> None:
    said = stopping("job", last, "ends it at once")
    assert said.note.startswith(how)
    assert said.note.endswith("; Ctrl-C again ends it at once")


def test_ctrl_c_twice_stops_at_once(jobs: ModuleType, tmp_path: Path) -> None:
    seconds, _ = interrupted(tmp_path, 50, presses=2)
    assert seconds < 50
    assert not (tmp_path / "kept").exists()


def test_memory_below_a_gigabyte_is_told_in_figures_that_say_something(jobs: ModuleType, tmp_path: Path) -> None:
    part = Resources(memory_gigabytes=0.5)
    todo = [Job(name, partial(jobs.touch, tmp_path / name), resources=part) for name in "ab"]
    with pytest.warns(InputWarning, match=r"of 0\.684 GB what runs counts for 0\.5, and it for 0\.5; "):
        LocalEngine(Machine(2, 0.68359), tmp_path / "logs", threads=1).run(todo, Notes())


def test_terabytes_of_memory_are_told_in_plain_figures(jobs: ModuleType, tmp_path: Path) -> None:
    part = Resources(memory_gigabytes=1500)
    todo = [Job(name, partial(jobs.touch, tmp_path / name), resources=part) for name in "ab"]
    with pytest.warns(InputWarning, match=r"of 2,015 GB what runs counts for 1,500, and it for 1,500; "):
        LocalEngine(Machine(2, 2015.4), tmp_path / "logs", threads=1).run(todo, Notes())


def test_that_memory_leaves_gpus_idle_is_told_once(jobs: ModuleType, tmp_path: Path) -> None:
    large = Resources(gpu=True, cache_gigabytes=5)
    todo = [Job(name, partial(jobs.touch, tmp_path / name), resources=large) for name in "abc"]
    machine = Machine(1, 8, (Gpu("0", 24.0), Gpu("1", 24.0)))
    with pytest.warns(InputWarning) as told:
        outcomes = LocalEngine(machine, tmp_path / "logs", threads=1).run(todo, Notes())
    assert [outcome.state for outcome in outcomes] == ["done"] * 3
    (warning,) = told
    text = "b waits for memory, though a GPU is free: of 8 GB what runs counts for 5, and it for 5; "
    assert str(warning.message).startswith(text)
    assert "less 'training.cache_gigabytes'" in str(warning.message)
    stated = [replace(job, resources=Resources(gpu=True, cache_gigabytes=1, memory_gigabytes=5)) for job in todo[:2]]
    with pytest.warns(
        InputWarning, match=r"and it for 5; say by 'resources\.memory_gigabytes' what a cell really takes"
    ):
        LocalEngine(machine, tmp_path / "logs", threads=1).run(stated, Notes())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LocalEngine(Machine(1, 8, machine.gpus[:1]), tmp_path / "logs", threads=1).run(todo, Notes())


def test_gpus_are_called_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [gpu.name for gpu in named_gpus([8, 8])] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert [gpu.name for gpu in named_gpus([8, 8, 8])] == ["4", "6", "7"]
    assert [gpu.name for gpu in named_gpus([8, 8])] == ["4", "6"], "where the last is no GPU"


def test_small_jobs_share_a_gpu_while_they_run_and_a_large_one_has_it_alone(jobs: ModuleType, tmp_path: Path) -> None:
    small = Resources(gpu=True, gpu_memory_gigabytes=10)
    todo = [
        Job("a", partial(jobs.wait, tmp_path / "a", 0.6), resources=small),
        Job("b", partial(jobs.wait, tmp_path / "b", 0.6), resources=small),
        Job("large", partial(jobs.wait, tmp_path / "large", 0.1), resources=Resources(gpu=True)),
    ]
    LocalEngine(Machine(1, 8, (Gpu("0", 24.0),)), tmp_path / "logs", threads=1).run(todo, Notes())
    (a, b, large) = (tuple(map(float, (tmp_path / name).read_text().split())) for name in ("a", "b", "large"))
    assert max(a[0], b[0]) < min(a[1], b[1])
    assert large[0] >= max(a[1], b[1])
