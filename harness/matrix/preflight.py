"""What a plan needs before anything runs (data, weights, oracles, memory, room on the disk) and what it costs. Nothing is made."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.cell.artefacts import image_size_of, open_part, oracle_name, oracle_phase
from harness.cell.checkpoint import CHECKPOINT_FILE
from harness.cell.phases import phase_state, read_json
from harness.files.stored import sha256_of_text
from harness.lanes import plain_geometry
from harness.matrix.budget import BuildCosts, Cost, costs_of
from harness.matrix.build_pricing import built_rates, costs_of_builds, frames_of
from harness.matrix.builds import Rendering, builds_of
from harness.matrix.data import Need, data_needs
from harness.matrix.plan import AnyCell, CellState, Plan
from harness.matrix.pricing import (
    Machine,
    Price,
    Rates,
    machines_that_know,
    on_gpu,
    priced,
    recorded_machine,
    recorded_rates,
)
from harness.programs.cell import ProgramCell
from harness.rendered.spec import RenderSpec
from harness.suite import Cell
from harness.training.augmentation import reduced_size
from harness.training.cache import GIGABYTE
from harness.weights.cache import weights_state
from harness.weights.oracles import oracle_state

BYTES_A_PIXEL = 0.27
"""Of a rendered dataset on the disk, masks and labels included: 157 MB for the mini suite's 630 frames of 1640x590."""

SHARED_MEMORY = Path("/dev/shm")
"""Where Linux has the memory through which batches come from the processes that load them."""

BATCHES_AHEAD = 2
"""How many batches each of these may have there: torch's default `prefetch_factor`."""


@dataclass(frozen=True)
class Preflight:
    """All needs of a plan, and what its cells still cost. problems: lines on what couldn't be looked at.

    prices: of the training of those that are to be trained. costs: of all that aren't done. builds: what is built before them, and its
    costs. warnings: lines on what is odd, though it is there. elsewhere: the machines whose records have prices of those that have
    none. priced_on: whose prices these are, where it is another machine than this.
    """

    needs: tuple[Need, ...]
    prices: Mapping[str, Price]
    problems: tuple[str, ...]
    costs: Mapping[str, Cost]
    builds: BuildCosts = ()
    warnings: tuple[str, ...] = ()
    elsewhere: tuple[Machine, ...] = ()
    priced_on: Machine | None = None

    @property
    def missing(self) -> tuple[Need, ...]:
        """What has to be there before anything can run."""
        return tuple(need for need in self.needs if need.missing)


def preflight(plan: Plan, probed: Rates | None = None, machine: str | None = None) -> Preflight:
    """Look at everything that a plan needs, and price its cells by a probe (if one was made) and the records of earlier ones.

    machine: the name of the one that the prices are of, as records have it; None: this one. InputError if no record is of it.
    """
    left = [*(state.cell for state in plan.pending), *(cell for cell, _ in plan.unavailable)]
    # The time measurement takes steps of the training.
    trained = {
        state.cell.id
        for state in plan.pending
        if all(stand.state == "done" for phase, stand in state.states if phase.name in {"train", "time"})
    }
    data = data_needs(plan.suite, left, plan.results, plan.problems, trained)
    recorded, built = recorded_rates(plan.results), built_rates(plan.results)
    before = [] if probed is None else [probed]
    priced_on = None if machine is None else recorded_machine(recorded, machine)
    untrained = plan.untrained
    training_images = {need.name: need.images["train"] for need in data if "train" in need.images}
    prices = priced(
        untrained,
        training_images,
        [*before, recorded],
        predicted_images(untrained, {need.name: need.images for need in data}),
        priced_on,
    )
    # What nobody counts the steps of has no price on any machine.
    unpriced = [cell for cell in untrained if (price := prices[cell.id]).seconds is None and price.steps is not None]
    kept = sum(price.disk_bytes for price in prices.values())
    meanwhile = max((price.training_bytes for price in prices.values()), default=0)
    builds = builds_of(plan.results, plan.pending)
    disk = disk_need(plan.results, [build.spec for build in builds if isinstance(build, Rendering)], kept, meanwhile)
    return Preflight(
        (
            *data,
            *weights_needs(untrained),
            *oracle_needs(plan),
            *checkpoint_needs(plan.pending),
            *program_needs(left),
            *memory_needs(untrained, training_images),
            disk,
        ),
        prices,
        (*recorded.problems, *built.problems),
        costs_of(plan, prices, priced_on),
        costs_of_builds(builds, plan.suite.training, [*before, built], priced_on),
        (*(line for need in data for line in need.warnings), *shared_memory_warnings(untrained)),
        machines_that_know(unpriced, recorded),
        priced_on,
    )


def predicted_images(cells: Iterable[Cell], images: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """How many images each cell predicts, by its id: those of all its evaluations. images: dataset -> split -> how many it has."""
    return {
        cell.id: sum(
            images.get(part.dataset or cell.identity.dataset, {}).get(part.split, 0)
            for part in cell.evaluations.values()
        )
        for cell in cells
    }


def weights_needs(cells: Iterable[Cell]) -> list[Need]:
    """The weights that the backbones of some cells start from, and those of their oracles, each once."""
    needs: dict[str, Need] = {}
    for cell in cells:
        oracle = [] if cell.oracle_with_weights is None else [oracle_state(cell.oracle_with_weights)]
        for state in (weights_state(cell.meta, cell.form), *oracle):
            if state.state != "none":
                detail = state.fix or f"{state.path}, sha256 {state.sha256}"
                needs.setdefault(state.name, Need("weights", state.name, state.state == "missing", detail))
    return list(needs.values())


def oracle_needs(plan: Plan) -> list[Need]:
    """The oracles of cells that are to be trained which were pre-trained on other images than a real dataset lists now, each once.

    Their phase goes by the dataset's name; what was looked at is on the card (`identity_of_images` of harness/training/pretraining.py).
    A picture that was replaced under its name isn't noticed, here as elsewhere.
    """
    needs: dict[str, Need | None] = {}
    for state in plan.pending:
        cell = state.cell
        if not isinstance(cell, Cell) or state.states[0][1].state == "done" or cell.oracle is None:
            continue
        source, part = cell.oracle.dataset, cell.oracle_dataset
        if source is None or part is None or part.rendered is not None:
            continue
        phase = oracle_phase(plan.results, oracle_name(cell), cell.oracle, part)
        if phase.name in needs:
            continue
        needs[phase.name] = None
        if phase_state(phase).state not in {"done", "stale"}:  # a stale one may be accepted after this
            continue
        frames = open_part(plan.results, source, part).frames("train")
        listed = sha256_of_text("\n".join(f"{frame.clip}/{frame.image.name}" for frame in frames))
        if read_json(phase.folder / "oracle.json").get("data", {}).get("list_sha256") != listed:
            detail = (
                f"{phase.folder}: was pre-trained on another list of images than split train of {source} has now; move the folder "
                "away: it is pre-trained anew then"
            )
            needs[phase.name] = Need("oracle", phase.name, True, detail)
    return [need for need in needs.values() if need is not None]


def checkpoint_needs(pending: Iterable[CellState]) -> list[Need]:
    """The checkpoints that are gone of cells that are trained, but not yet predicted or timed: freed, or left on another machine."""
    needs = []
    for state in pending:
        (train, trained), *others = state.states
        unmade = [
            phase.name for phase, stand in others if stand.state != "done" and not phase.name.startswith("score-")
        ]
        checkpoint = train.folder / CHECKPOINT_FILE
        if isinstance(state.cell, Cell) and trained.state == "done" and unmade and not checkpoint.is_file():
            detail = (
                f"{checkpoint} is gone, and {unmade[0]} needs it; bring it back, leave the cell out by --skip, or move {train.folder} "
                "away: the cell is trained anew then"
            )
            needs.append(Need("checkpoint", state.cell.id, True, detail))
    return needs


def program_needs(cells: Iterable[AnyCell]) -> list[Need]:
    """What the programs of some cells are started with, each once."""
    needs: dict[str, Need] = {}
    for cell in cells:
        if isinstance(cell, ProgramCell):
            described, name = cell.described, cell.identity.detector
            word = described.program.command[0]
            found = shutil.which(word if os.sep not in word else str(described.folder / word))
            detail = (
                found
                or f"{described.file}: key 'command': {word} isn't there or can't be run; give a program, or the interpreter of its "
                "environment"
            )
            needs.setdefault(name, Need("program", name, found is None, detail))
    return list(needs.values())


def memory_needs(cells: Iterable[Cell], training_images: Mapping[str, int]) -> list[Need]:
    """What the decoded training images of each detector and dataset would fill, beside what a cell may keep of them.

    Never missing: what isn't kept is decoded again. training_images: how many a dataset has; of others nothing is said.
    """
    needs: dict[str, Need] = {}
    for cell in cells:
        dataset = cell.identity.dataset
        name = f"{dataset} {cell.identity.detector}"
        if name not in needs and dataset in training_images:
            wanted = decoded_bytes(cell, training_images[dataset])
            allowed = round(cell.training.cache_gigabytes * GIGABYTE)
            told = f"decoded training images take {gigabytes(wanted)}, of which a cell keeps "
            told += "all" if wanted <= allowed else f"{gigabytes(allowed)} and decodes the others every time"
            needs[name] = Need("memory", name, False, f"{told} (training.cache_gigabytes)")
    return list(needs.values())


def shared_memory_warnings(cells: Iterable[Cell]) -> list[str]:
    """A line on each detector whose batches shared memory may have no room for, as many as its loader processes have there at most.

    The lanes and targets of a batch, which are small beside its images, aren't counted.
    """
    if not SHARED_MEMORY.is_dir():
        return []
    free, told = shutil.disk_usage(SHARED_MEMORY).free, {}
    for cell in cells:
        recipe, size = cell.configuration.recipe, cell.configuration.input
        # A GPU makes the network's views of the decoded images itself.
        plain = 3 * math.prod(size.network) * recipe.batch_size
        batch = decoded_bytes(cell, recipe.batch_size) if on_gpu(cell.training.device) else plain
        wanted, fitting = cell.training.workers * BATCHES_AHEAD * batch, free // (BATCHES_AHEAD * batch)
        if wanted > free:
            told[cell.identity.detector] = (
                f"detector {cell.identity.detector}: batches of {recipe.batch_size} images from {cell.training.workers} processes that "
                f"load them take up to {gigabytes(wanted)} of shared memory, and {SHARED_MEMORY} has {gigabytes(free)} left: give it "
                f"more, or the suite at most {fitting} 'training.workers'"
            )
    return list(told.values())


def decoded_bytes(cell: Cell, images: int) -> int:
    """What so many training images of a cell take when they are decoded."""
    size = cell.configuration.input
    frame = image_size_of(cell.dataset) or size.frame
    height, width = reduced_size(plain_geometry(frame, size.crop_of(frame), size.network))
    return 3 * height * width * images


def disk_need(results: Path, renderings: Iterable[RenderSpec], kept: int, meanwhile: int) -> Need:
    """Room for cells that are to keep so many bytes, and for the datasets that are rendered before.

    meanwhile: bytes that the largest training takes while it runs. How many run at once is the engine's to say: there must be room for
    one of them.
    """
    wanted = kept + int(sum(BYTES_A_PIXEL * spec.width * spec.height * frames_of(spec) for spec in renderings))
    place = next(folder for folder in (results.absolute(), *results.absolute().parents) if folder.is_dir())
    disk = shutil.disk_usage(place)
    if not disk.total:
        told = f"{results} cannot be written: {place} is no folder on a disk; give another --results folder"
        return Need("disk", str(results), True, told)
    free = disk.free
    told = f"about {gigabytes(wanted)} will be kept below {results}"
    told += f", and up to {gigabytes(meanwhile)} for every training while it runs" if meanwhile else ""
    told += f"; {gigabytes(free)} are free"
    short = wanted + meanwhile > free
    told += ": make room, or give another --results folder" if short else ""
    return Need("disk", str(results), short, told)


def gigabytes(count: int) -> str:
    """A number of bytes as people say it."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{max(1, round(count / 1e6))} MB"
