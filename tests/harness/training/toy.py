"""A detector small enough to train in seconds: it learns where a bright line stands. Run as a script it trains, to be killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Augmentation, Configuration, DetectorMeta, InputSize, Normalisation, Recipe
from harness.datasets.base import Frame
from harness.errors import InputError
from harness.lanes import Geometry, Lane
from harness.methods.attach import attach
from harness.methods.base import ParameterGroup, TrainingModel
from harness.methods.config import method_configuration
from harness.methods.oracle import Oracle
from harness.processes.progress import Event
from harness.processes.stopping import stop_on_request
from harness.training.data import TrainingStream
from harness.training.determinism import make_deterministic, seed_everything
from harness.training.launch import launch
from harness.training.loop import train
from harness.training.plan import TrainingPlan, Validation
from harness.training.ranks import ALONE, Ranks

FRAME = (100, 200)
CROP = (20, 0, 100, 200)
NETWORK = (32, 64)
AUGMENTATION = Augmentation(flip=0.5, rotation=5, shift_x=0.05, scale=0.1, brightness=0.2, saturation=0.3)


def recipe(**changes: Any) -> Recipe:
    values = {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "cosine", "epochs": 1, "batch_size": 4}
    return Recipe(**{**values, "augmentation": AUGMENTATION, "clip_gradient_norm": 0.5, **changes})


def meta(network: tuple[int, int] = NETWORK) -> DetectorMeta:
    size = InputSize(frame=FRAME, crop=CROP, network=network)
    return DetectorMeta(
        name="toy",
        paper="none",
        year=2000,
        family="row-wise",
        backbone="none",
        upstream="none",
        licence="none",
        configurations={"culane": Configuration(input=size, recipe=recipe())},
    )


class ToyDetector(Detector):
    """Where does the (mean) lane stand, as a share of the width, and is there one? Dropout makes it depend on torch's generator."""

    metas: ClassVar = {"toy": meta()}

    def __init__(self, meta: DetectorMeta, form: Any = "culane", *, dropout: float = 0.1) -> None:
        super().__init__(meta, form)
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 5, stride=4, padding=2), nn.ReLU())
        self.drop = nn.Dropout(dropout)
        height, width = meta.configurations["culane"].input.network
        self.head = nn.Linear(16 * (height // 4) * (width // 4), 2)

    def taps(self) -> tuple[Tap, ...]:
        return (Tap("stem", 16, 4),)

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        places = [geometry.to_network(lane.points)[:, 0].mean() / geometry.network[1] for lane in lanes if len(lane)]
        place = np.array(np.mean(places) if places else 0.0, dtype=np.float32)
        return {"place": place, "present": np.array(bool(places), dtype=np.float32)}

    def forward(self, images: Tensor) -> Tensor:
        features = self.drop(self.stem(normalise(images, self.meta.normalisation)))
        return self.head(features.flatten(1))

    def losses(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        present = batch.targets["present"]
        square = (outputs[:, 0].float() - batch.targets["place"]) ** 2
        presence = nn.functional.binary_cross_entropy_with_logits(outputs[:, 1].float(), present)
        return {"place": (square * present).mean(), "presence": presence}

    def decode(self, outputs: Tensor, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        lanes = []
        for (place, presence), geometry in zip(outputs.float().tolist(), geometries, strict=True):
            height, width = geometry.network
            points = geometry.to_original([[place * width, height - 1], [place * width, 0]])
            score = float(torch.sigmoid(torch.tensor(presence)))
            lanes.append([Lane(points, score)] if score > 0.5 else [])
        return lanes


class ToyModel(TrainingModel):
    """A detector with one more parameter, which pulls itself to 3 with an optimizer of its own."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        self.extra = nn.Parameter(torch.zeros(()))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        losses = self.detector.losses(self.detector(batch.images), batch)
        return {**losses, "extra": 100.0 * (self.extra - 3.0) ** 2}

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return (
            ParameterGroup("detector", tuple(self.detector.parameters())),
            ParameterGroup("extra", (self.extra,), "adamw", 1e-2),
        )

    def diagnostics(self) -> dict[str, float]:
        return {"extra": self.extra.item()}

    def inference_model(self) -> Detector:
        return self.detector


def model(*, seed: int = 0, dropout: float = 0.1) -> ToyModel:
    seed_everything(seed)
    return ToyModel(ToyDetector(meta(), dropout=dropout))


def samiro(mode: str, steps: int) -> TrainingModel:
    """The toy in SAMIRO with an oracle of one drawn convolution; with `ratio` lambda is weighed anew in the last step."""
    seed_everything(0)
    detector = ToyDetector(meta(), dropout=0.0)
    torch.manual_seed(1)
    oracle = Oracle(OneMap(), (Tap("stem", 6, 4),), Normalisation())
    configuration = method_configuration("samiro", {"oracle": "any", "normalize": "none", "lambda_mode": mode})
    generator = torch.Generator().manual_seed(2)
    built = attach(detector, configuration, oracle=oracle, statistics=None, generator=generator, total_steps=steps)
    if mode == "ratio":
        built.weight.warm_up = steps - 1
    return built


class OneMap(nn.Module):
    """A network that gives one map of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 5, stride=4, padding=2)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.stem(images)]


class Roads:
    """Pictures with one bright upright line each, except every fifth, written into a folder; frames and their lanes."""

    def __init__(self, folder: Path, count: int = 10, suffix: str = ".jpg") -> None:
        generator = np.random.default_rng(7)
        height, width = FRAME
        self.frames = []
        self._lanes = {}
        for number in range(count):
            picture = generator.integers(0, 90, (height, width, 3), dtype=np.uint8)
            x = int(generator.integers(20, width - 20))
            name = f"{number:02}{suffix}"
            if number % 5 < 4:
                cv2.line(picture, (x, 20), (x, height - 1), (250, 250, 250), 5)
                self._lanes[name] = [Lane(np.array([[x, height - 1], [x, 60], [x, 20]], dtype=np.float32))]
            if not (folder / name).exists():  # several processes read the same
                cv2.imwrite(str(folder / name), picture)
            self.frames.append(Frame(name, folder / name, None, "clip"))

    def lanes(self, frame: Frame) -> list[Lane]:
        return self._lanes.get(frame.id, [])

    def stream(self, detector: Detector, **options: Any) -> TrainingStream:
        options = {"augmentation": AUGMENTATION, "batch_size": 4, "seed": 3, **options}
        return TrainingStream(self.frames, self.lanes, detector, **options)


def run(
    images: Path, folder: Path, *, steps: int, progress: Callable[[int, int, float], None] | None = None
) -> ToyModel:
    """One whole training with a checkpoint every third step."""
    roads = Roads(images)
    trained = model()
    plan = TrainingPlan(recipe(), steps, checkpoint_steps=3, log_every=1, diagnostics_every=4)
    stream = roads.stream(trained.detector)
    train(trained, stream.batches, plan, device=torch.device("cpu"), folder=folder, progress=progress)
    return trained


def share(
    images: Path, folder: Path, steps: int, dropout: float, options: dict[str, Any], ranks: Ranks, report: Any
) -> None:
    """What one of several processes does of such a training; with `fail` among the options one of them fails at that step."""
    make_deterministic(threads=1)
    options = {"micro_batch_size": 2, "checkpoint_steps": 3, "log_every": 1, **options}
    fail, mode, slow = options.pop("fail", None), options.pop("samiro", None), options.pop("slow", 0.0)
    trained: TrainingModel = samiro(mode, steps) if mode else model(dropout=dropout)
    roads = Roads(images)
    stream = roads.stream(trained.detector, share=(ranks.rank, ranks.count))
    seed_everything(ranks.seed(0))

    def batches(first: int, last: int) -> Any:
        for step, batch in enumerate(stream.batches(first, last), first + 1):
            if ranks.rank == ranks.count - 1 and fail and fail[1] == step:
                how(fail[0], batch)
            time.sleep(slow)
            yield batch

    plan = TrainingPlan(recipe(ema_decay=0.9), steps, **options)
    validation = None if mode else Validation(2, lambda model: float(model.detector.head.weight.detach().sum()))
    device = torch.device("cpu")
    train(
        trained, batches, plan, device=device, folder=folder, validation=validation, ranks=ranks,
        generator=torch.Generator().manual_seed(ranks.seed(7)),
        progress=lambda step, total, loss: report(Event("toy", "train", step, total, "")),
    )  # fmt: skip
    torch.save(trained.state_dict(), folder / ("end.pt" if ranks.first else f"end{ranks.rank}.pt"))


def how(kind: str, batch: Batch) -> None:
    """Fail: with bad input, with a fault, by a kill, by labels that aren't numbers, or by waiting for ever."""
    match kind:
        case "input":
            raise InputError("images/7.jpg: broken; mend it")
        case "error":
            raise ValueError("some fault")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "nan":
            batch.targets["present"][:] = float("nan")
        case "sleep":
            time.sleep(600)


if __name__ == "__main__":
    images, folder, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    stop_on_request()
    if len(sys.argv) == 4:
        make_deterministic(threads=1)
        run(images, folder, steps=steps, progress=lambda *_: time.sleep(0.02))
    else:
        processes, dropout, options = int(sys.argv[4]), float(sys.argv[5]), json.loads(sys.argv[6])
        Roads(images)
        work = partial(share, images, folder, steps, dropout, options)
        try:
            if processes == 1:
                work(ALONE, lambda event: print(event.step, flush=True))
            else:
                launch(work, processes, lambda event: print(event.step, flush=True), cuda=False)
        except KeyboardInterrupt:
            sys.exit(130)
        except Exception as error:
            sys.exit(f"{type(error).__name__}: {error}")
