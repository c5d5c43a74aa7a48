"""What cells will cost on a machine: training time as records or a short probe show it, and room on the disk.

Nothing here guesses: a cell that no record is like, and that wasn't probed, has no price in time.
"""

from __future__ import annotations

import json
import traceback
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import InputError
from harness.files.stored import sha256_of_json
from harness.methods.config import MADE_OF_IMAGES
from harness.pytorch.device import resolve_device
from harness.records.environment import cpu_name
from harness.suite import Cell, adapter_of, parameter_count

if TYPE_CHECKING:
    from detectors.base import Detector

MOMENTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Tensors of a parameter's size that an optimizer keeps in a training's checkpoint."""

BYTES_A_WEIGHT = 4
BYTES_A_PREDICTION = 512
"""Of one image on the disk: its share of the archive of predictions and of the counts, of which published rows take at most 282."""


@dataclass(frozen=True)
class Price:
    """What one cell costs: seconds of training (None: unknown) and where that figure comes from; bytes it will keep on the disk.

    training_bytes: what it takes besides while it trains. steps: of its training; None where the number of images isn't known.
    """

    seconds: float | None
    basis: Literal["records", "probe", "unknown"]
    disk_bytes: int
    training_bytes: int
    steps: int | None = None


@dataclass(frozen=True, order=True)
class Machine:
    """What a step's time depends on most: a GPU by its name, or the processor where there is none."""

    name: str
    gpu: bool


@dataclass(frozen=True)
class Rates:
    """Seconds a training step by `step_key`. machines: all that they are of. problems: records that couldn't be read, one line each."""

    seconds: Mapping[str, float]
    basis: Literal["records", "probe"]
    machines: tuple[Machine, ...] = ()
    problems: tuple[str, ...] = ()


def step_key(identity: Mapping[str, Any], machine: str) -> str:
    """What a step's time depends on, as one hash; `identity` is the JSON form of `records.Identity`."""
    parts = {key: identity[key] for key in ("detector_meta", "form", "precision", "threads")}
    method = identity["method_configuration"]
    parts["method"] = {key: value for key, value in method.items() if key not in ("oracle", "lambda")}
    parts["oracle"] = None if identity["oracle"] is None else network_of(identity["oracle"])
    # An identity leaves these out where they aren't used.
    parts |= {
        key: identity[key] for key in ("micro_batch_size", "channels_last", "compiled", "processes") if key in identity
    }
    return sha256_of_json({**parts, "batch": identity["recipe"]["batch_size"], "machine": machine})


def network_of(oracle: Mapping[str, Any]) -> str:
    """What of an oracle, as an identity says it, a step's time depends on: its network, not how that came by its weights."""
    if "shuffled" in oracle:
        return network_of(oracle["shuffled"])
    name = str(oracle["configuration"]["name"])
    kind, _, backbone = name.partition(":")
    return backbone if kind in MADE_OF_IMAGES else name


def this_machine(device: str) -> Machine:
    """What cells of a suite's `training.device` run on here."""
    if not on_gpu(device):
        return Machine(cpu_name(), gpu=False)
    import torch

    return Machine(torch.cuda.get_device_name(), gpu=True)


def machines_of(devices: Iterable[str], machine: Machine | None) -> dict[str, Machine]:
    """What cells run on, by their suites' `training.device`: a machine, or with None this one."""
    return {device: machine or this_machine(device) for device in set(devices)}


def recorded_machine(rates: Rates, name: str) -> Machine:
    """The machine of a name that rates are of; InputError with the names that there are for any other."""
    found = next((machine for machine in rates.machines if machine.name == name), None)
    if found is None:
        known = ", ".join(repr(machine.name) for machine in rates.machines) or "none at all"
        raise InputError(f"--machine: no record of these results is of {name!r}; those that are there: {known}")
    return found


def machines_that_know(cells: Iterable[Cell], rates: Rates) -> tuple[Machine, ...]:
    """The machines whose rates have a step of at least one of some cells."""
    identities = [cell.identity.model_dump(mode="json") for cell in cells]
    return tuple(
        machine
        for machine in rates.machines
        if any(step_key(identity, machine.name) in rates.seconds for identity in identities)
    )


def on_gpu(device: str) -> bool:
    """Whether cells of a suite's `training.device` run on a GPU here."""
    return resolve_device(device) != "cpu"


def recorded_rates(results: Path) -> Rates:
    """The rates that the records of all suites in a folder of runs show: the median over records of one key.

    A record's is the mean over its steps: steps that waited for their images are as much of a training's time as any.
    """
    found: dict[str, list[float]] = defaultdict(list)
    machines: set[Machine] = set()
    problems = []
    for path in sorted(results.glob("*/records/*.json")):
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["training"] is None:
                continue  # a program's: nothing was trained
            environment = value["environment"]
            gpu = environment["device"].lower() != "cpu"
            machine = Machine(environment["device" if gpu else "cpu"], gpu)
            training = value["training"]
            seconds = float(training["seconds"]) / int(training["steps"])
            found[step_key(value["identity"], machine.name)].append(seconds)
            machines.add(machine)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            problems.append(f"{path}: no price can be read from it ({type(error).__name__}: {error})")
    return Rates(
        {key: median(values) for key, values in found.items()}, "records", tuple(sorted(machines)), tuple(problems)
    )


def priced(
    cells: Collection[Cell],
    training_images: Mapping[str, int],
    rates: Sequence[Rates],
    evaluated: Mapping[str, int],
    machine: Machine | None = None,
) -> dict[str, Price]:
    """The price of each cell by its id, on a machine; None: on this one.

    training_images: of each dataset by its name; one that isn't named is unknown. evaluated: how many images each cell predicts, over
    all of its evaluations, by its id. rates: the first that knows a cell's step counts.
    """
    prices: dict[str, Price] = {}
    machines = machines_of((cell.training.device for cell in cells), machine)
    weights: dict[str, int] = {}
    for cell in cells:
        key = step_key(cell.identity.model_dump(mode="json"), machines[cell.training.device].name)
        known = next((rate for rate in rates if key in rate.seconds), None)
        images = training_images.get(cell.identity.dataset)
        # With its input: the layers of some detectors are as large as that.
        kind = f"{cell.adapter} {cell.form} {sha256_of_json(cell.identity.detector_meta)}"
        if kind not in weights:
            weights[kind] = parameters(cell)
        recipe = cell.configuration.recipe
        disk = weights[kind] * BYTES_A_WEIGHT + evaluated.get(cell.id, 0) * BYTES_A_PREDICTION
        # Its state is written beside the one before.
        copies = 1 + MOMENTS[recipe.optimizer] + (recipe.ema_decay is not None)
        state = 2 * weights[kind] * BYTES_A_WEIGHT * copies
        steps = recipe.total_steps(images) if images is not None else None
        if known is None or steps is None:
            prices[cell.id] = Price(None, "unknown", disk, state, steps)
        else:
            prices[cell.id] = Price(steps * known.seconds[key], known.basis, disk, state, steps)
    return prices


def parameters(cell: Cell) -> int:
    """Parameters of a cell's detector, counted without giving any of them memory. InputError, in a line, where it can't be built."""
    return parameter_count(cell.adapter, cell.meta, cell.form, lambda: built(cell))


def built(cell: Cell) -> Detector:
    """A cell's detector on torch's default device, its weights drawn. InputError, in a line, where it can't be built."""
    adapter = adapter_of(cell)
    try:
        return adapter.detector(cell.meta, cell.form)
    except InputError:
        raise
    except Exception as error:  # an adapter's code may raise anything
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise InputError(
            f"{cell.adapter}: can't be built for form {cell.form!r} ({type(error).__name__}: {error}; {last.filename}:{last.lineno}); "
            f"mend it, `samiro-bench detectors check {cell.adapter}` says what else is wrong"
        ) from error
