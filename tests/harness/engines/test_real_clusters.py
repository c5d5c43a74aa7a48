"""One small matrix on a real one-node Slurm, there disturbed, and on a real Ray: the results of an undisturbed run on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from harness.engines.base import Job, Resources
from harness.engines.cluster import ClusterEngine
from harness.engines.slurm import slurm_scheduler
from harness.engines.states import read_states, states_file
from harness.errors import InputError, InputWarning
from harness.processes.progress import WAITS, Event
from harness.records.record import Record, read_records
from tests.harness.engines.notes import Notes
from tests.harness.tiny import TINY, command, outcome, suite_folder

SUITE = (
    TINY.replace("{steps: 6, batch_size: 4}", "{steps: 150, batch_size: 2}").replace(
        "device: cpu}", "device: cpu, checkpoint_seconds: 0.1}"
    )
    + "resources: {hours: 1}\n"
)
SETUP = Path(__file__).resolve().parents[2] / "one_node_slurm.sh"

pytestmark = pytest.mark.slow


def said_by(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, text=True, capture_output=True, timeout=900)


def records(folder: Path) -> dict[str, Record]:
    return {record.identity.method: record for record in read_records(suite_folder(folder) / "records")}


def until(happens: Callable[[], object], process: subprocess.Popen[str], what: str, seconds: float = 300) -> None:
    """Wait for something while a process runs."""
    deadline = time.monotonic() + seconds
    while not happens():
        assert process.poll() is None, f"bench ended before {what}"
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the suite has run on this machine."""
    folder = tmp_path_factory.mktemp("local")
    (folder / "tiny.yaml").write_text(SUITE)
    run = said_by(command("bench", "tiny.yaml"), folder)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def with_artefacts(undisturbed: Path, folder: Path) -> Path:
    """A folder with the suite, its dataset and oracle, and no cell."""
    shutil.copytree(undisturbed / "results/local/artefacts", folder / "results/local/artefacts")
    (folder / "tiny.yaml").write_text(SUITE)
    return folder


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm of this one machine."""
    pytest.importorskip("submitit", reason="submitit isn't installed: pip install 'samiro-bench[slurm]'")
    folder = tmp_path_factory.mktemp("slurm")
    start = subprocess.run([str(SETUP), "start", str(folder)], text=True, capture_output=True, stdin=subprocess.DEVNULL)
    if start.returncode == 3:
        pytest.skip(f"no Slurm here: {start.stderr.strip()}")
    assert start.returncode == 0, start.stderr
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield
    finally:
        subprocess.run([str(SETUP), "stop", str(folder)], check=False)
        del os.environ["SLURM_CONF"]


def test_slurm_jobs_that_are_told_to_stop_and_then_pre_empted_go_on_from_their_checkpoints(
    undisturbed: Path, slurm: None, tmp_path: Path
) -> None:
    folder = with_artefacts(undisturbed, tmp_path)
    with open(folder / "said", "w") as said:
        bench = subprocess.Popen(
            command("bench", "tiny.yaml", "--engine", "slurm"), cwd=folder, stdout=said, stderr=said, text=True
        )
    cells = suite_folder(folder) / "cells"

    def attempts() -> int:
        """Of the cell that was started most often."""
        return max(path.read_text().count('"attempt"') for path in (suite_folder(folder) / "news").glob("roads-*"))

    def resumed() -> list[Path]:
        return [path for path in cells.glob("*/train.part/training.jsonl") if '"resumed"' in path.read_text()]

    try:
        # As at a time limit: submitit's signal, at which a job is stopped and queued again.
        until(lambda: list(cells.glob("*/train.part/training.safetensors")), bench, "a training was written down")
        states = read_states(states_file(suite_folder(folder)))
        status = json.loads(said_by(command("status", "tiny.yaml", "--json"), folder).stdout)
        subprocess.run(["scancel", "--signal=USR2", *(state.id for state in states.values())], check=True)
        until(resumed, bench, "a training went on")
        # Slurm's own pre-emption: a job that may take the machine from others.
        subprocess.run(
            ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"], check=True
        )
        until(lambda: attempts() == 3, bench, "a cell was started a third time")
        assert bench.wait(600) == 0, (folder / "said").read_text()
    finally:
        bench.kill()
        bench.wait()
    assert {state.engine for state in states.values()} == {"slurm"}
    # Both cells were one array.
    assert len({state.id.partition("_")[0] for state in states.values()}) == 1
    told = [cell["job"] for cell in status["cells"]]
    assert status["running"]
    assert any(job.startswith(f"slurm {next(iter(states.values())).id}: RUNNING on ") for job in told), told
    assert outcome(folder) == outcome(undisturbed)
    # Pre-empted before its next checkpoint, a training goes on from the one before, and counts once.
    assert max(record.training.resumed for record in records(folder).values()) >= 1
    assert read_states(states_file(suite_folder(folder))) == {}


def slurm_cluster(folder: Path) -> ClusterEngine:
    scheduler = slurm_scheduler(folder / "slurm", "tiny", cpus=1, device="auto")
    return ClusterEngine(scheduler, folder, threads=1, poll_seconds=0.5)


def queued(folder: Path, job: str) -> str:
    """Slurm's id of a job that is queued."""
    return read_states(states_file(folder))[job].id


def begins(path: Path) -> list[int]:
    """Where each attempt of a count began."""
    return [int(line) for line in path.with_suffix(".begins").read_text().split()]


def test_a_slurm_job_that_is_told_to_stop_then_pre_empted_then_queued_again_goes_on_each_time(
    jobs: ModuleType, slurm: None, tmp_path: Path
) -> None:
    counted = tmp_path / "counted"
    disturbances = [
        lambda: ["scancel", "--signal=USR2", queued(tmp_path, "count")],
        lambda: ["sbatch", "--partition=urgent", "--exclusive", "--output=/dev/null", "--wrap=sleep 1"],
        lambda: ["scontrol", "requeue", queued(tmp_path, "count")],
    ]
    disturbed: set[int] = set()

    def disturb(event: Event) -> None:
        attempt = len(begins(counted)) if counted.with_suffix(".begins").exists() else 0
        # Not before this attempt has got somewhere.
        ahead = attempt > 0 and int((counted.read_text() if counted.exists() else "") or 0) > begins(counted)[-1] + 2
        if ahead and event.phase == "count" and attempt not in disturbed and attempt <= len(disturbances):
            disturbed.add(attempt)
            subprocess.run(disturbances[attempt - 1](), check=True, capture_output=True)

    todo = [
        Job("count", partial(jobs.count, counted, 60), resources=Resources(hours=1)),
        Job("beside", partial(jobs.touch, tmp_path / "beside"), resources=Resources(hours=1)),
    ]
    notes = Notes(disturb)
    outcomes = slurm_cluster(tmp_path).run(todo, notes)
    assert [outcome.state for outcome in outcomes] == ["done", "done"], outcomes
    assert disturbed == {1, 2, 3}
    first, *others = begins(counted)
    assert first == 0
    assert len(others) == 3
    assert others == sorted(others)
    assert others[0] > 0
    assert counted.read_text() == "60"
    # Slurm's own words are passed on while a job waits to start again.
    assert any("PENDING" in event.note for event in notes.events if event.phase == WAITS)


def test_a_slurm_job_that_somebody_cancelled_failed_and_says_so(jobs: ModuleType, slurm: None, tmp_path: Path) -> None:
    def cancel(event: Event) -> None:
        if event.phase == "count" and event.step == 1:
            subprocess.run(["scancel", queued(tmp_path, "count")], check=True)

    todo = [Job("count", partial(jobs.count, tmp_path / "counted", 300)), Job("bug", jobs.bug)]
    cancelled, bug = slurm_cluster(tmp_path).run(todo, Notes(cancel))
    assert (cancelled.state, cancelled.kind) == ("failed", "scheduler")
    assert "slurm says: it is CANCELLED" in cancelled.message
    assert bug.message == "ZeroDivisionError: ouch"


def test_a_slurm_job_that_never_gets_further_within_its_time_limit_fails_and_says_so(
    jobs: ModuleType, slurm: None, tmp_path: Path
) -> None:
    told: list[Event] = []

    def end_leg(event: Event) -> None:
        if event.phase == "count" and told[-1].phase != "count":
            subprocess.run(["scancel", "--signal=USR2", queued(tmp_path, "count")], check=True)
        told.append(event)

    # With a limit of three minutes every signal may be that of the limit. The phase keeps nothing that this program knows of.
    todo = [Job("count", partial(jobs.count, tmp_path / "counted", 3000), resources=Resources(hours=0.05))]
    (outcome,) = slurm_cluster(tmp_path).run(todo, Notes(end_leg))
    assert (outcome.state, outcome.kind) == ("failed", "scheduler")
    limit = "its time limit (key 'hours': 0.05)"
    assert outcome.message.startswith(
        f"{limit} ended it 3 times in 'count', no further than before: give it more 'hours'"
    )
    again = f"met {limit}: is queued again, and begins count anew"
    assert [event.note for event in told if event.note.startswith("met")] == [again, again]


def test_slurm_jobs_that_were_cancelled_while_nobody_watched_are_submitted_again(
    jobs: ModuleType, slurm: None, tmp_path: Path
) -> None:
    def gone(event: Event) -> None:
        raise BrokenPipeError

    todo = [Job(f"count{n}", partial(jobs.count, tmp_path / f"counted{n}", 20)) for n in range(2)]
    with pytest.raises(BrokenPipeError), pytest.warns(InputWarning, match="the same command follows it"):
        slurm_cluster(tmp_path).run(todo, Notes(gone))
    subprocess.run(["scancel", "--me"], check=True)
    assert len(read_states(states_file(tmp_path))) == 2
    outcomes = slurm_cluster(tmp_path).run(todo, Notes())
    assert [outcome.state for outcome in outcomes] == ["done", "done"]


def test_jobs_are_submitted_from_within_a_job_of_other_tasks_and_memory(
    jobs: ModuleType, slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {
        "JOB_ID": "1",
        "NTASKS": "64",
        "NPROCS": "64",
        "MEM_PER_CPU": "1",
        "CPUS_PER_TASK": "64",
        "DISTRIBUTION": "x",
    }
    for name, value in own.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    (outcome,) = slurm_cluster(tmp_path).run([Job("touch", partial(jobs.touch, tmp_path / "touched"))], Notes())
    assert outcome.state == "done", outcome
    assert os.environ["SLURM_NTASKS"] == "64"


def test_ctrl_c_leaves_no_job_in_slurms_queue(jobs: ModuleType, slurm: None, tmp_path: Path) -> None:
    def interrupt(event: Event) -> None:
        if event.phase == "count":
            raise KeyboardInterrupt

    todo = [Job(f"count{n}", partial(jobs.count, tmp_path / f"counted{n}", 300)) for n in range(4)]
    with pytest.raises(KeyboardInterrupt):
        slurm_cluster(tmp_path).run(todo, Notes(interrupt))
    left = subprocess.run(["squeue", "--me", "--noheader"], text=True, capture_output=True, check=True)
    assert left.stdout == ""


def test_what_sbatch_does_not_take_is_one_line(jobs: ModuleType, slurm: None, tmp_path: Path) -> None:
    job = Job("count", partial(jobs.count, tmp_path / "counted", 1), resources=Resources(slurm={"partition": "none"}))
    with pytest.raises(InputError, match=r"sbatch takes no job like count .*invalid partition specified: none"):
        slurm_cluster(tmp_path).run([job], Notes())


def test_ray_on_this_machine_gives_the_same_results_also_from_the_folder_of_another_checkout(
    undisturbed: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="ray isn't installed: pip install 'samiro-bench[ray]'")
    folder = with_artefacts(undisturbed, tmp_path)
    (folder / "harness").mkdir()
    (folder / "harness/__init__.py").write_text("raise ImportError('of another checkout')")
    python, *words = command("bench", "tiny.yaml", "--engine", "ray")
    run = said_by([python, "-P", *words], folder)  # as the program samiro-bench is started
    assert run.returncode == 0, run.stdout + run.stderr
    assert outcome(folder) == outcome(undisturbed)
