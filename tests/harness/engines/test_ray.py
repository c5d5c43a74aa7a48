"""What Ray is told of a job and where its processes look for modules, without a cluster; on a real one: `test_real_clusters.py`."""

from __future__ import annotations

import pickle
import socket
import sys
from functools import partial
from pathlib import Path

import pytest

from harness.engines.base import Job, Resources
from harness.engines.ray import RayScheduler, away_from, refuse_unheard
from harness.engines.room import GIGABYTE
from harness.errors import InputError

SMALL = {"CPU": 8.0, "memory": 32.0 * GIGABYTE}
LARGE = {"CPU": 16.0, "GPU": 1.0, "memory": 64.0 * GIGABYTE}


@pytest.mark.parametrize(
    ("job", "cores", "gpus", "gigabytes"),
    [
        (Job("a", print), 3, 0, 0),
        (Job("a", print, resources=Resources(processes=2, cpus=5, memory_gigabytes=2)), 5, 0, 2),
        (Job("a", print, resources=Resources(gpu=True)), 3, 1, 0),
        (Job("a", print, exclusive=True), 16, 0, 0),
        (Job("a", print, exclusive=True, resources=Resources(cpus=9)), 16, 0, 0),
    ],
)
def test_a_job_that_has_to_be_alone_takes_all_cores_of_a_machine(
    job: Job, cores: float, gpus: float, gigabytes: float
) -> None:
    options = RayScheduler(3, [SMALL, LARGE]).options(job)
    assert options == {"num_cpus": cores, "num_gpus": gpus, "memory": gigabytes * GIGABYTE}


@pytest.mark.parametrize(
    "needs", [Resources(cpus=17), Resources(processes=2, gpu=True), Resources(gpu=True, memory_gigabytes=65)]
)
def test_a_job_that_fits_no_machine_is_refused_and_does_not_wait_for_ever(needs: Resources) -> None:
    with pytest.raises(InputError, match=r"a needs .*, and no machine of the cluster has that"):
        RayScheduler(3, [SMALL, LARGE]).options(Job("a", print, resources=needs))


def test_modules_of_the_folder_that_it_is_started_in_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = away_from(str(tmp_path)), str(tmp_path)
    with pytest.raises((AttributeError, pickle.PicklingError)):  # so Ray sends it by value
        pickle.dumps(run)
    # Ray puts it before all others; where it is the checkout that is installed, it stands there once more.
    monkeypatch.setattr(sys, "path", [folder, *sys.path, folder])
    for _ in range(2):
        assert run(pickle.dumps(partial(int, "7"))) == 7
        assert sys.path.index(folder) == len(sys.path) - 1


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "nowhere.invalid:{}"])
def test_an_address_at_which_nobody_listens_is_told_at_once(address: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refuse_unheard(f"127.0.0.1:{port}")
        refuse_unheard("auto")
    with pytest.raises(InputError, match=r"RAY_ADDRESS=\S+: nobody answers there"):
        refuse_unheard(address.format(port))


def test_a_machine_on_which_a_job_cannot_start_is_told_with_what_is_missing_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ray = pytest.importorskip("ray", reason="ray isn't installed: pip install 'samiro-bench[ray]'")

    def get(reference: object) -> None:
        cause = ModuleNotFoundError("No module named 'harness'")
        raise ray.exceptions.RayTaskError("run", "a traceback", cause, ip="node7")

    monkeypatch.setattr(ray, "wait", lambda names, **_: (names, []))
    monkeypatch.setattr(ray, "get", get)
    scheduler = RayScheduler(3, [SMALL])
    scheduler.references["7"] = "reference"
    found = scheduler.states(["7"])["7"]
    assert (found.over, found.decided) == (True, False)
    assert found.text.startswith("over: ModuleNotFoundError: No module named 'harness', on node7; every machine needs")
