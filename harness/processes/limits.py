"""How much of the machine this process may use: a container or a batch system may give it less than the machine has.

They hold processes to their share by control groups (cgroups(7)), of which the machine's own counts of cores and bytes know nothing.
Slurm without them only says what a job was given.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

PROCESS = Path("/proc/self")
"""What the kernel tells of this process."""

GROUP_LINE = re.compile(r"^\d+:(.*?):(.*)$", re.MULTILINE)
"""Controllers and path of a group, cgroups(7): 4:cpu,cpuacct:/docker/1234, in version 2 0::/docker/1234."""

MOUNT_LINE = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .*?- (cgroup2?) \S* (.*)$", re.MULTILINE)
"""Root, place, version and options of a tree, proc(5): 36 25 0:30 ROOT PLACE OPTIONS ... - TYPE SOURCE OPTIONS. SOURCE may be empty."""


def available_cores() -> int:
    """The CPU cores that this process may use, at least 1: those that it is bound to, or as many as its quota of CPU time is worth.

    In a job of Slurm no more than were given to it on this node, which it isn't held to everywhere.

    A share of a core counts for none beside whole ones: 2.5 are 2.
    """
    quotas = [quota for folder in control_groups("cpu") if (quota := quota_of(folder)) is not None]
    given = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return max(1, int(min([bound_cores(), *quotas, *([int(given)] if given.isdecimal() else [])])))


def hold_threads() -> None:
    """Have OpenMP, so torch, start no more threads than there are cores for it: by itself it knows nothing of quotas."""
    cores = available_cores()
    if cores < bound_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def bound_cores() -> int:
    """The CPU cores that this process is bound to, where the system can bind it; else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """The bytes of main memory that this process may use, with all that shares it: the machine's, or the limit of a group."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [limit for folder in control_groups("memory") if (limit := memory_limit_of(folder)) is not None]
    return min([machine, *limits])


def control_groups(controller: str) -> Iterator[Path]:
    """The folders of the groups that this process is in, from its own up, as far as they can be seen from here: each may have a limit.

    controller: `cpu` or `memory`; in version 1 each has a tree of its own, in version 2 all have one. None on a system without them.
    """
    groups: dict[str, str] = {}
    for controllers, path in GROUP_LINE.findall(text_of(PROCESS / "cgroup")):
        groups |= dict.fromkeys(controllers.split(","), path)
    for root, place, form, options in MOUNT_LINE.findall(text_of(PROCESS / "mountinfo")):
        if form == "cgroup2" or controller in options.split(","):
            own = groups.get("" if form == "cgroup2" else controller)
            if own is not None:
                yield from seen_below(Path(place), root, own)


def seen_below(place: Path, root: str, path: str) -> Iterator[Path]:
    """A group and those that it lies in, up to the place where the group `root` is mounted."""
    # A container may see its group as the root, and be told the path that it has outside.
    inside = path.startswith(root) and ".." not in path
    group = place / path.removeprefix(root).strip("/") if inside else place
    if not group.is_dir():
        group = place
    while True:
        yield group
        if group == place:
            return
        group = group.parent


def quota_of(group: Path) -> float | None:
    """How many cores' time a group may use; None is no limit.

    Linux, Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    told = words_of(group / "cpu.max") or words_of(group / "cpu.cfs_quota_us") + words_of(group / "cpu.cfs_period_us")
    if len(told) != 2 or not all(word.isdecimal() and int(word) for word in told):  # max, -1
        return None
    return int(told[0]) / int(told[1])


def memory_limit_of(group: Path) -> int | None:
    """How many bytes a group may use; None is no limit. Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst."""
    told = words_of(group / "memory.max") or words_of(group / "memory.limit_in_bytes")
    return int(told[0]) if told and told[0].isdecimal() else None


def words_of(path: Path) -> list[str]:
    """The words of a file; none where the system has no such file for us."""
    return text_of(path).split()


def text_of(path: Path) -> str:
    """The text of a file as it is, for a mount's name may hold all sorts of white space; none where there is no such file for us."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""
