"""What the cells of a plan still cost: hours of GPUs (of cores, on a CPU) and room on the disk.

Training is priced by records or a probe (`harness.matrix.pricing`), what is built before it by artefacts or a probe
(`harness.matrix.build_pricing`); prediction, scoring and timing by what they took on the same machine in cells of the same detector
and dataset that are done. What none of them tells has no price: nothing here guesses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from harness.matrix.builds import Build, Rendering
from harness.matrix.plan import AnyCell, CellState, Plan
from harness.matrix.pricing import Machine, Price, machines_of
from harness.records.environment import cpu_name
from harness.report.text import counted
from harness.suite import Cell

Unit = Literal["GPU-hours", "CPU-hours"]


@dataclass(frozen=True)
class Cost:
    """What one cell still costs. training, rest: seconds until it is trained, and of all else; None where nobody knows.

    devices: how many GPUs, or cores, it has meanwhile. disk_bytes: what it will have written.
    """

    training: float | None
    rest: float | None
    devices: int
    unit: Unit
    disk_bytes: int

    @property
    def seconds(self) -> float:
        """Seconds that are known of."""
        return (self.training or 0.0) + (self.rest or 0.0)

    @property
    def hours(self) -> float:
        """Hours of its devices that are known of."""
        return self.seconds * self.devices / 3600

    @property
    def unknown(self) -> bool:
        """Whether it costs more than is known."""
        return self.training is None or self.rest is None


BuildCosts = Sequence[tuple[Build, Cost | None]]
"""What has to be built before cells can run, each with its cost; None: nobody knows."""


def costs_of(plan: Plan, prices: Mapping[str, Price], machine: Machine | None = None) -> dict[str, Cost]:
    """The cost of each cell that isn't done, by its id, on a machine; None: on this one. prices: of those that are to be trained."""
    cells = (*(state.cell for state in plan.pending), *(cell for cell, _ in plan.unavailable))
    machines = machines_of((cell.training.device for cell in cells), machine)
    took = {name: seconds_taken(plan.cells, name) for name in {found.name for found in machines.values()}}
    # What touches no GPU is filed under the processor, also beside a GPU: a program's phases, and a scoring by itself.
    by_processor = seconds_taken(plan.cells, cpu_name()) if machine is None else {}
    costs = {}
    for state in plan.pending:
        cell, runs_on = state.cell, machines[state.cell.training.device]
        rest: float | None = 0.0
        for phase, stand in state.states:
            if phase.name != "train" and stand.state != "done":
                key = (cell.identity.dataset, cell.identity.detector, phase.name)
                seconds = took[runs_on.name].get(key)
                if seconds is None and (phase.name.startswith("score-") or not isinstance(cell, Cell)):
                    seconds = by_processor.get(key)
                rest = None if rest is None or seconds is None else rest + seconds
        trained = not isinstance(cell, Cell) or state.states[0][1].state == "done"
        costs[cell.id] = cost_of(cell, runs_on, prices.get(cell.id), 0.0 if trained else None, rest)
    return costs | {
        cell.id: cost_of(cell, machines[cell.training.device], prices.get(cell.id), None, None)
        for cell, _ in plan.unavailable
    }


def cost_of(cell: AnyCell, machine: Machine, price: Price | None, training: float | None, rest: float | None) -> Cost:
    """A cell's cost on a machine. training: its seconds where they need no price."""
    processes = cell.identity.processes
    return Cost(
        training=training if training is not None or price is None else price.seconds,
        rest=rest,
        devices=processes if machine.gpu else processes * cell.training.threads,
        unit="GPU-hours" if machine.gpu else "CPU-hours",
        disk_bytes=0 if price is None else price.disk_bytes,
    )


def seconds_taken(cells: Iterable[CellState], machine: str | None = None) -> dict[tuple[str, str, str], float]:
    """(dataset, detector, phase) -> the median of what the phase took in the cells where it is done: on one machine, by its name, or on
    whichever it was.
    """
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for state in cells:
        identity = state.cell.identity
        for phase, stand in state.states:
            if stand.state == "done" and stand.seconds is not None and machine in (None, stand.machine):
                found[identity.dataset, identity.detector, phase.name].append(stand.seconds)
    return {key: median(values) for key, values in found.items()}


LONG_SECONDS = 3600.0
LONG_STEPS = 5000
"""What takes longer, or trains for more steps of unknown length, is worth a question."""


def is_long(costs: Mapping[str, Cost], prices: Iterable[Price], builds: BuildCosts = ()) -> bool:
    """Whether some cells, with what is built before them, take so long that a user on a terminal is asked first."""
    unpriced = [price.steps for price in prices if price.seconds is None]
    steps = sum(count for count in unpriced if count is not None)
    known = [*costs.values(), *(cost for _, cost in builds if cost is not None)]
    return sum(cost.seconds for cost in known) > LONG_SECONDS or None in unpriced or steps > LONG_STEPS


def job_seconds(plan: Plan, prices: Mapping[str, Price], builds: BuildCosts = ()) -> dict[str, float]:
    """What the jobs of a plan will take, by their names, as far as it is known; see `harness.matrix.jobs.jobs_of`.

    Nobody knows on which machines a cluster runs them: what the same took on any counts.
    """
    took = seconds_taken(plan.cells)
    found = {build.job: cost.seconds for build, cost in builds if cost is not None}
    for state in plan.pending:
        identity = state.cell.identity
        left = [phase.name for phase, stand in state.states if stand.state != "done" and phase.name != "train"]
        seconds = {name: took.get((identity.dataset, identity.detector, name)) for name in left}
        timing = seconds.pop("time", None)
        if timing is not None:
            found[f"time {state.cell.id}"] = timing
        price = prices.get(state.cell.id)
        parts = [*seconds.values(), *([] if price is None else [price.seconds])]
        known = [part for part in parts if part is not None]
        if parts and len(known) == len(parts):
            found[state.cell.id] = sum(known)
    return found


def cost_line(costs: Mapping[str, Cost], prices: Iterable[Price], suite: str, builds: BuildCosts = ()) -> str:
    """What of a plan is still to be done and what that takes, in a line. suite: its name on the command line."""
    to_train = list(prices)
    told = f"to do: {counted(len(costs), 'cell')}, {len(to_train)} of them to train"
    if any(cost.seconds for cost in costs.values()):
        told += f"; {told_hours(costs.values())}"
        training = sum(cost.training or 0.0 for cost in costs.values())
        bases = {basis: sum(price.basis == basis for price in to_train) for basis in ("records", "probe")}
        sources = ", ".join(f"{count} by {basis}" for basis, count in bases.items() if count)
        share = 100 * training / sum(cost.seconds for cost in costs.values())
        told += f" ({share:.0f} % training{f': {sources}' if sources else ''})"
    known = [entry for entry in builds if entry[1] is not None]
    told += f"; before that: {told_builds(known)}" if known else ""
    unscored = sum(cost.rest is None for cost in costs.values())
    if unscored:
        told += f"; predicting, scoring and timing of {unscored} aren't in it: no cell like them is known to be done on such a machine"
    unpriced = sum(price.seconds is None for price in to_train)
    unknown = [entry for entry in builds if entry[1] is None]
    without = [*([counted(unpriced, "training")] if unpriced else []), *([told_builds(unknown)] if unknown else [])]
    if without:
        told += f"; without a price: {', '.join(without)}; "
        told += f"`samiro-bench plan {suite} --probe` times a little of each kind where it is run"
    return told


def told_builds(builds: BuildCosts) -> str:
    """How many datasets and oracles there are among some builds, and the hours that are known of either."""
    told = []
    for noun, to_do, renders in (("dataset", "to render", True), ("oracle", "to make", False)):
        costs = [cost for build, cost in builds if isinstance(build, Rendering) is renders]
        known = [cost for cost in costs if cost is not None]
        if costs:
            told.append(f"{counted(len(costs), noun)} {to_do}{f' ({told_hours(known)})' if known else ''}")
    return ", ".join(told)


def told_costs(costs: Collection[Cost]) -> str:
    """What some cells that aren't done still cost together, and of how many of them that isn't wholly known."""
    if not costs:
        return "nothing"
    cells, unknown = counted(len(costs), "cell"), sum(cost.unknown for cost in costs)
    told = f"{cells}, {told_hours(costs)}" if any(cost.seconds for cost in costs) else cells
    return f"{told} ({unknown} without a whole price)" if unknown else told


def told_hours(costs: Collection[Cost]) -> str:
    """The hours that are known of some cells, unit by unit."""
    units = dict.fromkeys(cost.unit for cost in costs)
    sums = ((unit, sum(cost.hours for cost in costs if cost.unit == unit)) for unit in units)
    return " and ".join(f"{hours(amount)} {unit}" for unit, amount in sums)


def hours(amount: float) -> str:
    """A number of hours, precise enough to plan with."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.1f}" if amount >= 1 else f"{amount:.2g}"
