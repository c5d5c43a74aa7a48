"""An adapter under examination: what the checks build of it, show it and ask of it."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from detectors.base import Batch, Detector
from detectors.meta import Augmentation, Configuration, Form, Normalisation
from detectors.registry import Adapter, find_adapter
from harness.conformance.samples import Samples, write_samples
from harness.datasets.base import Frame
from harness.errors import InputError, did_you_mean
from harness.lanes import Lane
from harness.methods.attach import attach
from harness.methods.base import TrainingModel
from harness.methods.config import MethodConfiguration, RegularizedConfiguration, method_configuration
from harness.methods.oracle import Oracle, drawn_backbone, oracle_taps
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import target_statistics
from harness.training.data import TrainingStream
from harness.training.determinism import seed_everything
from harness.training.loop import train
from harness.training.plan import TrainingPlan

Arm = Literal["adapter", "baseline", "samiro"]
"""What a check is made of: the adapter by itself, or what a method makes of it."""

CPU = torch.device("cpu")
SEED = 0
ORACLE = "resnet_micro"
"""Backbone of the `random:` oracle of the SAMIRO arm."""


NOT_THE_ADAPTERS = (Path(torch.__file__).parent, Path(__file__).parent)
"""Folders whose code an adapter's error passes through."""


class Unmet(Exception):
    """An adapter doesn't keep a promise; the message says which and where."""


class NotApplicable(Exception):
    """A check can't be made here; the message says why."""


def told(error: Exception) -> str:
    """An error in words, with the place in the code that raised it; of what torch or a check raised, with the place that called it."""
    if isinstance(error, Unmet | InputError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if not any(Path(frame.filename).is_relative_to(folder) for folder in NOT_THE_ADAPTERS)
    ]
    frame = (own or frames)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


@dataclass(frozen=True)
class Demands:
    """What the two checks that train ask for. steps: None is the recipe's own. f1: at IoU 0.5."""

    steps: int | None = None
    f1: float = 0.95


@dataclass(frozen=True)
class Subject:
    """An adapter in one dataset form, under examination; made by `subject_of`. `folder` is where the checks may write."""

    name: str
    adapter: Adapter
    form: Form
    folder: Path
    demands: Demands

    @cached_property
    def samples(self) -> Samples:
        """The frames that are shown, in the proportions of the adapter's own."""
        return write_samples(self.folder / "samples", self.configuration.input.frame)

    @property
    def configuration(self) -> Configuration:
        """Input, architecture and recipe in this form."""
        return self.adapter.meta.configurations[self.form]

    def build(self, seed: int = SEED) -> Detector:
        """A fresh detector, the same at every call with one seed."""
        seed_everything(seed)
        return self.adapter.detector(self.adapter.meta, self.form)

    def method(self, arm: Arm) -> MethodConfiguration:
        """The method of an arm."""
        return (
            method_configuration("samiro", {"oracle": "random"}) if arm == "samiro" else method_configuration(arm, {})
        )

    def model(self, arm: Arm, *, steps: int = 1) -> TrainingModel:
        """A fresh detector in the method of an arm, with `steps` training steps to come; the same at every call."""
        detector, method = self.build(), self.method(arm)
        oracle, statistics = None, None
        if isinstance(method, RegularizedConfiguration):
            if not any(tap.trainable for tap in detector.taps()):
                raise NotApplicable("no tap trains, so there is nothing to regularize: baseline rows only")
            backbone = drawn_backbone(ORACLE, SEED)
            oracle = Oracle(backbone, oracle_taps(backbone), Normalisation())
            pairs = tap_pairs(detector, oracle, method)
            statistics = target_statistics(oracle, pairs, method, [self.batch(detector).images])
        generator = torch.Generator().manual_seed(SEED)
        model = attach(detector, method, oracle=oracle, statistics=statistics, generator=generator, total_steps=steps)
        seed_everything(SEED)
        return model.train()

    def stream(
        self, detector: Detector, lanes: Callable[[Frame], Sequence[Lane]] | None = None, count: int | None = None
    ) -> TrainingStream:
        """The first `count` frames (default: all) as batches of just these, without augmentation, with their own labels or others."""
        frames = self.samples.frames[:count]
        return TrainingStream(
            frames,
            lanes or self.samples.lanes,
            detector,
            augmentation=Augmentation(),
            batch_size=len(frames),
            seed=SEED,
        )

    def batch(
        self, detector: Detector, lanes: Callable[[Frame], Sequence[Lane]] | None = None, count: int | None = None
    ) -> Batch:
        """One batch of that."""
        return next(self.stream(detector, lanes, count).batches(0, 1))

    def settled(self, arm: Arm) -> Detector:
        """The inference model of an arm with statistics of batch normalisation from the frames; in eval mode."""
        model = self.model(arm)
        images = self.batch(model.detector).images
        with torch.no_grad():
            for _ in range(5):
                model.detector(images)
        return model.inference_model().eval()

    def train(self, model: TrainingModel, *, steps: int, label: str, last: int | None = None) -> None:
        """Train by the adapter's recipe, scaled to `steps` on the frames; `label` names its folder.

        last: end with the checkpoint of that step, as a training that was killed; the same label goes on from there.
        Of a few steps all are warm-up, where the recipe has one: at the full rate random weights may diverge at once.
        """
        recipe = self.configuration.recipe
        changes = {
            "epochs": None,
            "steps": steps,
            "batch_size": len(self.samples.frames),
            "warmup_steps": min(recipe.warmup_steps, steps // 10 or steps),
            "augmentation": Augmentation(),
        }
        plan = TrainingPlan(
            recipe.model_copy(update=changes), steps, checkpoint_seconds=math.inf, checkpoint_steps=last
        )
        folder = self.folder / label
        folder.mkdir(exist_ok=True)
        stream = self.stream(model.detector)

        def batches(first: int, end: int) -> Generator[Batch, None, None]:
            return stream.batches(first, end if last is None else last)

        train(model, batches, plan, device=CPU, folder=folder)


def subject_of(name: str, form: Form, folder: Path, demands: Demands | None = None) -> Subject:
    """The subject of a name or `path/to/file.py:Class`. InputError where there is no such adapter or form."""
    (form,) = forms_of(name, form)
    return Subject(name, find_adapter(name), form, folder, demands or Demands())


def forms_of(name: str, form: str | None) -> list[Form]:
    """The dataset forms to examine an adapter in: the one that is asked for, else all. InputError where it has no such form."""
    offered = list(find_adapter(name).meta.configurations)
    if form is not None and form not in offered:
        raise InputError(
            f"detector {name!r} has no configuration for form {form!r}: {did_you_mean(form, list(offered))}"
        )
    return [one for one in offered if form in (None, one)]
