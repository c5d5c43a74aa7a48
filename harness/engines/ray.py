"""Ray: on the cluster that RAY_ADDRESS names, else on this machine for as long as the run takes."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

from harness.engines.base import Job
from harness.engines.cluster import SchedulerState
from harness.engines.room import GIGABYTE
from harness.engines.spool import GRACE_SECONDS, SpooledJob
from harness.errors import InputError
from harness.processes.faults import worded

MISSING = "--engine ray: the package ray isn't installed: pip install 'samiro-bench[ray]'"

POLL_SECONDS = 1.0
"""How often jobs are looked at."""

CONNECT_SECONDS = 10.0
"""How long the head of a cluster has to answer."""

RETRIES = 20
"""How often a job starts again whose machine or process was lost; it goes on from its checkpoint."""


class RayScheduler:
    """Submits to the cluster that this process is connected to. cpus: cores a process where none are stated."""

    name = "ray"
    survives = False

    def __init__(self, cpus: int, nodes: Sequence[dict[str, float]]) -> None:
        self.cpus = cpus
        self.nodes = nodes
        self.gpus = any(node.get("GPU", 0) for node in nodes)
        self.references: dict[str, Any] = {}

    def submit(self, jobs: Sequence[SpooledJob]) -> list[Mapping[str, str]]:
        """See `harness.engines.cluster.Scheduler.submit`. InputError where no machine is large enough for a job."""
        import ray

        # All before any starts: a job that fits nowhere would wait for ever.
        options = [self.options(job.job) for job in jobs]
        remote: Any = ray.remote  # its annotations know no options that are computed
        run, found = away_from(os.getcwd()), {}
        for job, needs in zip(jobs, options, strict=True):
            reference = remote(max_calls=1, max_retries=RETRIES, **needs)(run).remote(pickle.dumps(job))
            self.references[reference.hex()] = reference
            found[job.job.name] = reference.hex()
        return [found]

    def options(self, job: Job) -> dict[str, float]:
        """What Ray is told of a job. One that has to be alone takes all cores of the largest machine that it fits."""
        needs = job.resources
        asked = {
            "CPU": float(needs.cpus or self.cpus * needs.processes),
            "GPU": float(needs.processes if needs.gpu and self.gpus else 0),
            "memory": (needs.memory_gigabytes or 0.0) * GIGABYTE,
        }
        if job.exclusive and needs.cpus is None:
            asked["CPU"] = 1.0
        large = [node for node in self.nodes if all(node.get(kind, 0) >= amount for kind, amount in asked.items())]
        if not large:
            told = f"{asked['CPU']:g} cores, {asked['GPU']:g} GPUs, {asked['memory'] / GIGABYTE:g} GB of memory"
            raise InputError(
                f"--engine ray: {job.name} needs {told}, and no machine of the cluster has that: see the suite's 'resources' and "
                "'training.processes', or --resources"
            )
        if job.exclusive:
            asked["CPU"] = max(node["CPU"] for node in large)
        return {"num_cpus": asked["CPU"], "num_gpus": asked["GPU"], "memory": asked["memory"]}

    def states(self, ids: Collection[str]) -> dict[str, SchedulerState]:
        """See `harness.engines.cluster.Scheduler.states`."""
        import ray

        names = {self.references[identifier]: identifier for identifier in ids}
        over, _ = ray.wait(list(names), num_returns=len(names), timeout=0, fetch_local=False)
        found = {identifier: SchedulerState("", over=False) for identifier in ids}
        for reference in over:
            try:
                ray.get(reference)
                text, decided = "over", False
            except ray.exceptions.RayTaskError as error:
                # Not the worker's own fault, which it tells itself: it couldn't be started there.
                why = worded(error.cause if isinstance(error.cause, Exception) else error)
                text, decided = f"over: {why}, on {error.ip}; every machine needs the same folders and packages", False
            except ray.exceptions.RayError as error:
                text, decided = " ".join(str(error).split())[:300], isinstance(error, ray.exceptions.TaskCancelledError)
            found[names[reference]] = SchedulerState(text, over=True, decided=decided)
        return found

    def cancel(self, ids: Collection[str]) -> None:
        """See `harness.engines.cluster.Scheduler.cancel`."""
        import ray

        references = [self.references[identifier] for identifier in ids]
        for force in (False, True):
            if references:
                for reference in references:
                    # An ended one can't be cancelled.
                    with suppress(ValueError):
                        ray.cancel(reference, force=force)
                _, references = ray.wait(references, num_returns=len(references), timeout=2 * GRACE_SECONDS)


def away_from(folder: str) -> Callable[[bytes], int]:
    """What Ray calls on a machine of the cluster with a pickled job.

    Ray has its processes look for modules first in the `folder` that this one was started in, which may be another checkout. A function
    inside a function travels by value, so nothing of ours is imported before it has put that right.
    """

    def run(job: bytes) -> int:
        if sys.path[0] == folder:
            del sys.path[0]
        code: int = pickle.loads(job)()
        return code

    return run


def refuse_unheard(address: str) -> None:
    """InputError where nobody listens at HOST:PORT, which Ray itself tries for a quarter of an hour; other forms are left to it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--engine ray: RAY_ADDRESS={address}: nobody answers there ({error}); `ray start --head` says which address it is, and "
            "without RAY_ADDRESS Ray is started here"
        ) from error


def ray_scheduler(cpus: int, device: str) -> RayScheduler:
    """Connect to Ray, or start it here. InputError, one line, where it is missing or can't be reached, or GPUs are not there."""
    if find_spec("ray") is None:
        raise InputError(MISSING)
    # A private run on one's own machine needs no web page and reports to nobody.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    address = os.environ.get("RAY_ADDRESS")
    refuse_unheard(address or "")
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        else:
            ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--engine ray: RAY_ADDRESS={address or ''}: {reason}; if that cluster asks for a token, say RAY_AUTH_MODE=token; else "
            "start one with `ray start --head`, or unset RAY_ADDRESS"
        ) from error
    nodes: Any = ray.nodes  # untyped
    scheduler = RayScheduler(cpus, [node["Resources"] for node in nodes() if node["Alive"]])
    if device == "cuda" and not scheduler.gpus:
        raise InputError(
            "--engine ray: key 'training.device' is 'cuda', but the cluster has no GPU: say 'auto' or 'cpu'"
        )
    return scheduler
