"""A matrix of tiny cells, killed at random moments and begun again; a program of its own: chaos.py FOLDER SEED KILLS CELLS.

Everything is the real thing but that processes are forks of this one, which has loaded all modules (a cell of a second would else
wait three for torch), that a dataset of a few frames is rendered in one process, and that times are measured with an iteration.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

SUITE = """
title: Chaos
datasets:
  roads:
    rendered:
      seed: 7
      difficulty: 0.2
      width: 820
      height: 295
      splits: {{train: {{frames: 4, frames_per_clip: 2}}, test: {{frames: 4, frames_per_clip: 2}}}}
oracles:
  small:
    dataset: roads
    configuration: {{name: "mim:resnet_micro", steps: 3, batch_size: 2, image_size: [64, 160], recalibration_batches: 1}}
detectors:
  ufldv2_micro:
    recipe: {{steps: 6, batch_size: 2}}
methods:
  baseline:
  samiro: {{oracle: small}}
seeds: {seeds}
training: {{threads: 1, device: cpu, checkpoint_seconds: 0.02}}
throughput: lane-latency/1-short
"""
METHODS = 2
GAPS = 40
"""So many kills fall into the work of an undisturbed matrix, in the mean: some hit a `bench` that has just begun, most a cell."""
PAUSES = (0.1,) * 1000
"""Workers are killed far more often here than the pauses between real attempts allow for."""


class Forked:
    """What the local engine uses of `subprocess.Popen`, for a worker that is a fork of this process."""

    def __init__(self, command: list[str], *, stderr: IO[bytes], env: Mapping[str, str], **_: Any) -> None:
        from harness.engines import worker

        reads, job = os.pipe()
        said, writes = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            os.close(reads)
            os.close(writes)
            self.stdin, self.stdout = os.fdopen(job, "wb"), os.fdopen(said, "rb")
            return
        code = 70
        try:
            for number, descriptor in enumerate((reads, writes, stderr.fileno())):
                os.dup2(descriptor, number)
            # As in a process that is started anew; a lock that the parent holds would else be held by its workers.
            os.closerange(3, 4096)
            os.environ.update(env)
            sys.stdin, sys.stderr = os.fdopen(0), os.fdopen(2, "w")
            code = worker.main(float(command[-2]), int(command[-1]))
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        return self._waited(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._waited(os.WNOHANG if deadline else 0)) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("worker", timeout or 0)
            time.sleep(0.005)
        return code

    def _waited(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def load() -> None:
    """Load what benches and workers load, and put the small things in the place of the large ones."""
    from harness.pytorch.torchvision_guard import ensure_torchvision

    ensure_torchvision()
    import timm  # noqa: F401

    import harness.cell.predict
    import harness.cell.score
    import harness.cell.step_cost
    import harness.cell.train
    import harness.cli.bench
    import harness.cli.display
    import harness.cli.failures
    import harness.cli.leaderboard
    import harness.matrix.preflight
    import harness.matrix.run
    import harness.rendered.dataset
    import harness.report.leaderboard
    import harness.report.tables
    import harness.report.terminal
    import harness.training.pretraining  # noqa: F401 - all of them
    from harness.cell import artefacts
    from harness.engines import choice, local
    from harness.throughput.protocol import PROTOCOLS
    from harness.training import step_cost

    # Of the engine alone: others start programs.
    local.subprocess = SimpleNamespace(  # type: ignore[attr-defined]
        Popen=Forked, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired
    )
    artefacts.available_cores = lambda: 1
    step_cost.BLOCKS = step_cost.WARM_STEPS = 1
    short = PROTOCOLS["lane-latency/1-short"]
    counts = [name for name in vars(short) if name.endswith("iterations")]
    PROTOCOLS["lane-latency/1-short"] = replace(short, **dict.fromkeys(counts, 1))  # type: ignore[arg-type]
    engine = choice.ENGINES["local"]
    choice.ENGINES["local"] = lambda suite, folder: replace(engine(suite, folder), pauses=PAUSES)  # type: ignore[type-var]


def begin(folder: Path) -> int:
    """A `bench` of the suite in a folder, in a process of its own; its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        from harness.cli.main import main

        os.setpgid(0, 0)
        os.chdir(folder)
        log = os.open("bench.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        code = main(["bench", "chaos.yaml"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def children(pid: int) -> list[int]:
    """The processes that a process started and that live."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def spent(pid: int) -> float:
    """Seconds of a core that a process and its children have used: how far they are, however busy the machine is."""
    ticks = 0
    for member in (pid, *children(pid)):
        with suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            # proc(5): 14 and 15 are its own, 16 and 17 of children that have ended; the first two are cut off.
            ticks += sum(int(word) for word in fields[11 : 15 if member == pid else 13])
    return ticks / os.sysconf("SC_CLK_TCK")


def ended(pid: int, work: float, seconds: float = 600) -> int | None:
    """The exit code of a process, None where it hasn't ended before it has used `work` seconds of a core, or so many have passed."""
    began, deadline = spent(pid), time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if spent(pid) - began > work or time.monotonic() > deadline:
            return None
        time.sleep(0.005)


def kill(pid: int, whom: str, draws: random.Random) -> str:
    """Kill a bench, one of its workers, or all of them; whom in the end, for there may be no worker."""
    workers = children(pid)
    victims = {"parent": [pid], "worker": workers and [draws.choice(workers)], "both": [pid, *workers]}[whom] or [pid]
    for victim in victims:
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
    return whom if workers else "parent"


def disturbed(place: Path, suite: str, kills: int, gap: float, draws: random.Random) -> tuple[list[str], list[str]]:
    """Finish matrices, each in a folder of its own, until so many kills are made; the folders, and whom each kill hit.

    gap: seconds of a core between kills, in the mean of an exponential distribution, for which every moment is as good as any other.
    """
    folders: list[str] = []
    made: list[str] = []
    while len(made) < kills:
        folder = place / f"disturbed-{len(folders)}"
        folder.mkdir()
        (folder / "chaos.yaml").write_text(suite)
        folders.append(folder.name)
        code = None
        while code is None:
            pid = begin(folder)
            while code is None and len(made) < kills:
                code = ended(pid, draws.expovariate(1 / gap))
                if code is None:
                    made.append(kill(pid, draws.choice(("parent", "worker", "both")), draws))
                    if made[-1] != "worker":
                        os.waitpid(pid, 0)
                        break
            else:
                code = ended(pid, math.inf, math.inf) if code is None else code
        if code:
            sys.exit(f"{folder}: bench ended with {code}: {(folder / 'bench.log').read_text()[-2000:]}")
    return folders, made


def main(place: Path, seed: int, kills: int, cells: int) -> None:
    """Print what was done as a JSON object."""
    load()
    suite = SUITE.format(seeds=cells // METHODS)
    calm = place / "undisturbed"
    calm.mkdir(parents=True)
    (calm / "chaos.yaml").write_text(suite)
    began = time.monotonic()
    _, status, used = os.wait4(begin(calm), 0)
    seconds, work = time.monotonic() - began, used.ru_utime + used.ru_stime
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{calm}: bench ended with {code}: {(calm / 'bench.log').read_text()[-2000:]}")
    began = time.monotonic()
    folders, made = disturbed(place, suite, kills, work / GAPS, random.Random(seed))
    print(
        json.dumps(
            {
                "undisturbed_seconds": seconds,
                "disturbed_seconds": time.monotonic() - began,
                "undisturbed_core_seconds": work,
                "folders": folders,
                "kills": made,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(word) for word in sys.argv[2:]))
