"""A few frames rendered, and a few steps of an oracle's pre-training, to see what they take on this machine before all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial

import torch

from harness.conformance.samples import write_samples
from harness.files.scratch import scratch_folder
from harness.matrix.build_pricing import pretraining_key, rendering_key
from harness.matrix.builds import Build, Rendering
from harness.matrix.pricing import Rates, this_machine
from harness.matrix.probe import IMAGES_ON_CPU
from harness.methods.config import OracleConfiguration
from harness.metrics.canvas import IMAGE_SIZE
from harness.pytorch.device import resolve_device
from harness.records.environment import cpu_name
from harness.rendered.dataset import render_dataset
from harness.rendered.spec import RenderSpec
from harness.suite import TrainingPart
from harness.training.pretraining import PROGRESS_EVERY, pretrain

CLIPS = 9
"""Clips that are timed, after a first one, which compiles: about one of each of CULane's scenarios."""

FRAMES_PER_CLIP = 6
"""Frames of a clip at most: more of them take longer and say no more."""

BATCHES = 10
"""Batches that a `random:` oracle's normalisation is fitted to while it is timed."""


def probed_builds(
    builds: Iterable[Build], training: TrainingPart, report: Callable[[str], None] | None = None
) -> Rates:
    """The rates that short builds show, see `harness.matrix.build_pricing`. report: called with the job of each that is timed before.

    InputError, in a line, for an oracle whose options don't fit its backbone.
    """
    found: dict[str, float] = {}
    for build in builds:
        if isinstance(build, Rendering):
            key, measure = rendering_key(build.spec, cpu_name()), partial(seconds_a_frame, build.spec)
        else:
            configuration = build.oracle.configuration
            key = pretraining_key(configuration, training.threads, this_machine(training.device).name)
            measure = partial(seconds_a_step, configuration, training)
        if key not in found:
            if report:
                report(build.job)
            found[key] = measure()
    return Rates(found, "probe")


def seconds_a_frame(spec: RenderSpec) -> float:
    """Seconds of one core that a labelled frame of a dataset takes here, in its form, size, difficulty and length of clips."""
    length = min(next(iter(spec.splits.values())).frames_per_clip, FRAMES_PER_CLIP)
    shorter = {"test": {"frames": (1 + CLIPS) * length, "frames_per_clip": length}}
    times: list[tuple[int, float]] = []
    with scratch_folder() as folder:
        render_dataset(
            RenderSpec.model_validate({**spec.model_dump(), "splits": shorter}),
            folder / "dataset",
            workers=1,
            progress=lambda done, total: times.append((done, time.monotonic())),
        )
    (first, began), (last, ended) = times[0], times[-1]
    return (ended - began) / (last - first)


def seconds_a_step(configuration: OracleConfiguration, training: TrainingPart) -> float:
    """Seconds that a step of an oracle's pre-training takes here; of one that stays as it was drawn, a batch of its normalisation.

    Images are eight rendered frames: what a pre-training waits for the disk isn't in it.
    """
    device = torch.device(resolve_device(training.device))
    size = configuration.batch_size
    images = size if device.type == "cuda" else min(size, IMAGES_ON_CPU)
    short = configuration.model_copy(
        update={"batch_size": images, "steps": 2 * PROGRESS_EVERY, "recalibration_batches": BATCHES}
    )
    times: list[float] = []
    with scratch_folder() as folder:
        samples = write_samples(folder / "samples", IMAGE_SIZE)
        started = time.monotonic()
        pretrain(
            short,
            [frame.image for frame in samples.frames],
            clips=[frame.clip for frame in samples.frames],
            out=folder / "oracle.safetensors",
            device=device,
            threads=training.threads,
            workers=training.workers,
            # The loss that it is told waits for the device.
            progress=lambda step, total, loss: times.append(time.monotonic()),
        )
        whole = time.monotonic() - started
    seconds = (times[-1] - times[0]) / PROGRESS_EVERY if configuration.kind == "mim" else whole / BATCHES
    return seconds * size / images
