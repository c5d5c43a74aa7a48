"""A few training steps of a cell, to see what one takes on this machine before anything long begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from detectors.base import Detector
from harness.cell.oracle import as_seen, oracle_like
from harness.cell.train import training_plan
from harness.conformance.samples import write_samples
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.matrix.pricing import Rates, step_key, this_machine
from harness.methods.attach import attach
from harness.methods.base import TrainingModel
from harness.methods.config import RegularizedConfiguration
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import target_statistics
from harness.processes.faults import OutOfMemory
from harness.pytorch.device import resolve_device
from harness.suite import Cell, adapter_of
from harness.training.data import TrainingStream
from harness.training.determinism import make_deterministic, seed_everything
from harness.training.loop import train
from harness.training.views import augmenting_device

STEPS = 4
"""Steps of a probe; the figure is their median, so that the first, which warms up and takes longest, isn't in it."""

IMAGES_ON_CPU = 4
"""Images of a probe's batch on a CPU: a whole batch of the largest networks may not fit, and time there grows with the images."""


def probed_rates(cells: Sequence[Cell], report: Callable[[str], None] | None = None) -> Rates:
    """The rates that a few steps of each kind of cell show on the cells' own device. report: called with each cell's id before.

    InputError, in a line, for a cell whose step doesn't fit into memory.
    """
    found: dict[str, float] = {}
    for cell in cells:
        key = step_key(cell.identity.model_dump(mode="json"), this_machine(cell.training.device).name)
        if key not in found:
            if report:
                report(cell.id)
            try:
                found[key] = probe(cell)
            except OutOfMemory as error:
                advice = f"give a 'training.micro_batch_size' below {error.size}, which `bench` finds by itself"
                if error.size == 1:
                    advice = "a single sample is too much for this device: give another one, or leave such cells out by --skip"
                raise InputError(f"--probe: {cell.id} runs {error}; {advice}") from error
    return Rates(found, "probe")


def probe(cell: Cell) -> float:
    """Seconds that a whole batch's step of a cell takes here, with random weights.

    Data comes from eight rendered frames, made ahead by as many loader processes as the cell has. What a training waits for its images
    isn't in the figure: for a slow disk, or where all processes together make them slower than the device takes them.
    """
    make_deterministic(threads=cell.training.threads)
    device = torch.device(resolve_device(cell.training.device))
    recipe = cell.configuration.recipe
    images = recipe.batch_size if device.type == "cuda" else min(recipe.batch_size, IMAGES_ON_CPU)
    seed_everything(0)
    detector = adapter_of(cell).detector(cell.meta, cell.form)
    with scratch_folder() as folder:
        samples = write_samples(folder / "samples", cell.configuration.input.frame)
        stream = TrainingStream(
            [samples.frames[number % len(samples.frames)] for number in range(images)],
            samples.lanes,
            detector,
            augmentation=recipe.augmentation,
            batch_size=images,
            seed=0,
            workers=cell.training.workers,
            pin_memory=device.type == "cuda",
            augment_on=augmenting_device(device),
        )
        changes = {"epochs": None, "steps": STEPS, "batch_size": images, "warmup_steps": 0}
        took = train(
            in_method(cell, detector, stream, device),
            stream.batches,
            replace(training_plan(cell, STEPS), recipe=recipe.model_copy(update=changes), tensorboard=False),
            device=device,
            folder=folder,
        )
    return took.seconds_per_step * recipe.batch_size / images


def in_method(cell: Cell, detector: Detector, stream: TrainingStream, device: torch.device) -> TrainingModel:
    """A detector in its cell's method, with an oracle of random weights: what it costs doesn't depend on them."""
    oracle, statistics = None, None
    if cell.oracle is not None:
        oracle = oracle_like(cell, detector).to(device)
        if isinstance(cell.method, RegularizedConfiguration) and cell.method.normalize != "none":
            images = next(stream.batches(0, 1)).images.to(device)
            statistics = target_statistics(oracle, tap_pairs(detector, oracle, cell.method), cell.method, [images])
    return attach(
        detector,
        cell.method,
        oracle=None if oracle is None else as_seen(cell, oracle),
        statistics=statistics,
        generator=torch.Generator().manual_seed(0),
        total_steps=STEPS,
    )
