"""Cores and memory, by the files of the kernel: made up as cgroups(7) and proc(5) have them, and real ones where we may make some."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.processes import limits
from harness.processes.limits import available_cores, available_memory, control_groups, hold_threads

MEBIBYTE = 2**20


def made_up(
    folder: Path, monkeypatch: pytest.MonkeyPatch, *, groups: str, mounts: str, files: Mapping[str, str]
) -> None:
    """A process of 64 cores that the kernel tells this of; `{}` in mounts is the folder, `files` lie in it."""
    process = folder / "proc"
    process.mkdir()
    (process / "cgroup").write_text(groups)
    (process / "mountinfo").write_text(mounts.replace("{}", str(folder)))
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(limits, "PROCESS", process)
    monkeypatch.setattr(limits, "bound_cores", lambda: 64)


SECOND = "29 23 0:26 / {}/all rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
FIRST = (
    "30 29 0:27 / {}/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
    "31 29 0:28 / {}/memory rw - cgroup cgroup rw,memory\n"
    "25 1 8:1 / / rw - ext4 /dev/root rw\n"
)
NO_LIMIT = str(2**63 - 4096)


@pytest.mark.parametrize(
    ("files", "cores", "memory"),
    [
        ({"cpu.max": "400000 100000\n", "memory.max": f"{512 * MEBIBYTE}\n"}, 4, 512 * MEBIBYTE),
        ({"cpu.max": "250000 100000\n", "memory.max": "max\n"}, 2, None),
        ({"cpu.max": "50000 100000\n"}, 1, None),
        ({"cpu.max": "max 100000\n"}, 64, None),
        ({"cpu.max": "9900000 100000\n"}, 64, None),
        ({}, 64, None),
    ],
)
def test_a_container_of_version_2_has_what_its_own_group_allows(
    files: dict[str, str], cores: int, memory: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = available_memory()
    inside = {f"all/{name}": text for name, text in {"cgroup.procs": "1\n", **files}.items()}
    made_up(tmp_path, monkeypatch, groups="0::/\n", mounts=SECOND, files=inside)
    assert available_cores() == cores
    assert available_memory() == (memory or machine)


def test_the_narrowest_limit_of_the_groups_around_a_job_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_up(
        tmp_path,
        monkeypatch,
        groups="0::/slurm/job_7/step_0\n",
        mounts=SECOND,
        files={
            "all/slurm/cpu.max": "max 100000\n",
            "all/slurm/job_7/cpu.max": "300000 100000\n",
            "all/slurm/job_7/step_0/cpu.max": "max 100000\n",
            "all/slurm/job_7/memory.max": f"{64 * MEBIBYTE}\n",
            "all/slurm/job_7/step_0/memory.max": f"{96 * MEBIBYTE}\n",
            "all/slurm/job_8/cpu.max": "100000 100000\n",
        },
    )
    assert (available_cores(), available_memory()) == (3, 64 * MEBIBYTE)


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/docker/1f", "/docker/1f"),  # the mount shows the container's own group
        ("/docker/1f", "/"),  # and so here, where paths are those of outside
        ("/../../docker/1f", "/"),  # a process that came in from outside of the container's namespace
        ("/", "/"),
    ],
)
def test_a_container_of_version_1_has_what_its_group_allows_however_the_path_is_told(
    path: str, root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(
        tmp_path,
        monkeypatch,
        groups=f"9:memory:{path}\n4:cpu,cpuacct:{path}\n1:name=systemd:/other\n",
        mounts=FIRST.replace(" / {}/", f" {root} {{}}/"),
        files={
            "cpu/cpu.cfs_quota_us": "200000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{128 * MEBIBYTE}\n",
        },
    )
    assert (available_cores(), available_memory()) == (2, 128 * MEBIBYTE)


def test_version_1_without_limits_leaves_the_machine_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = available_memory()
    made_up(
        tmp_path,
        monkeypatch,
        groups="9:memory:/\n4:cpu,cpuacct:/\n",
        mounts=FIRST,
        files={
            "cpu/cpu.cfs_quota_us": "-1\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": f"{NO_LIMIT}\n",
        },
    )
    assert (available_cores(), available_memory()) == (64, machine)


@pytest.mark.parametrize(
    "mount",
    [
        "40 23 0:40 / /scratch rw - tmpfs  rw\n",  # mounted as `mount -t tmpfs "" /scratch`
        "41 23 8:3 / /media/a\x0cb\u2028c\rd rw - ext4 /dev/sdb rw\n",  # the kernel writes only blank, tab, newline and \\ otherwise
        "a line of a later kernel\n",
    ],
)
def test_odd_mounts_beside_the_groups_change_nothing(
    mount: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"all/cpu.max": "400000 100000\n", "all/memory.max": f"{512 * MEBIBYTE}\n"}
    made_up(tmp_path, monkeypatch, groups="0::/\n", mounts=mount + SECOND, files=files)
    assert (available_cores(), available_memory()) == (4, 512 * MEBIBYTE)


@pytest.mark.parametrize("odd", ["", "unknown", "0 0", "100000", "max"])
def test_a_limit_that_cannot_be_read_is_none(odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = available_memory()
    files = {"all/cpu.max": odd, "all/memory.max": odd if odd.isalpha() else ""}
    made_up(tmp_path, monkeypatch, groups="0::/\n", mounts=SECOND, files=files)
    assert (available_cores(), available_memory()) == (64, machine)


@pytest.mark.parametrize(("given", "cores"), [("3", 3), ("128", 64), ("", 64), ("3(x2)", 64)])
def test_a_job_of_slurm_has_the_cores_that_it_was_given_also_where_it_is_bound_to_none(
    given: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_up(tmp_path, monkeypatch, groups="0::/\n", mounts=SECOND, files={})
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", given)
    assert available_cores() == cores


def test_a_system_without_groups_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PROCESS", tmp_path / "nowhere")
    assert available_cores() == len(os.sched_getaffinity(0))
    assert available_memory() == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_threads_are_held_to_a_quota_and_else_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    del os.environ["OMP_NUM_THREADS"]
    made_up(tmp_path, monkeypatch, groups="0::/\n", mounts=SECOND, files={"all/cpu.max": "max 100000\n"})
    hold_threads()
    assert "OMP_NUM_THREADS" not in os.environ
    (tmp_path / "all/cpu.max").write_text("300000 100000\n")
    hold_threads()
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    hold_threads()
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_a_real_group_holds_a_process_to_its_quota() -> None:
    tree = next(iter(control_groups("cpu")), None)
    if tree is None or not os.access(tree, os.W_OK):
        pytest.skip("no control groups that may be made here")
    group = tree / f"samiro-bench-test-{os.getpid()}"
    try:
        group.mkdir()
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("100000 100000")
        elif (group / "cpu.cfs_quota_us").exists():
            (group / "cpu.cfs_quota_us").write_text("100000")
        else:
            pytest.skip("groups made here have no quota of CPU time")
    except OSError as error:
        pytest.skip(f"no control groups may be made here ({error.strerror})")
    else:
        program = (
            f"open({str(group / 'cgroup.procs')!r}, 'w').write('0')\n"
            "from harness.processes.limits import available_cores, bound_cores\n"
            "print(available_cores(), bound_cores())"
        )
        run = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True)
        assert run.stdout.split() == ["1", str(len(os.sched_getaffinity(0)))], run.stderr
    finally:
        if group.is_dir():
            group.rmdir()
