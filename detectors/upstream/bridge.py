"""Upstream's own model, losses and decoding, from the user's checkout, as an adapter like any other: the third-party code itself.

What a bridge takes from ours is what the harness owns: how a frame becomes an image of the network's size, the recipe, and the encoding
of labels, of which parity shows that it is upstream's. Everything between image tensor and written lane is upstream's code.
"""

from __future__ import annotations

import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal
from unittest import mock

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from detectors.base import Batch, Detector, Tap, normalise
from detectors.checkpoints import renamed
from detectors.meta import Data, DetectorMeta, Form
from detectors.parts.lane_rows import clipped
from detectors.registry import find_adapter
from detectors.upstream.checkouts import is_known, known_checkout, origin_of
from detectors.upstream.isolation import running_on
from detectors.upstream.reference import Polyline, Reference, UpstreamModel
from detectors.upstream.repositories import REPOSITORIES
from harness.errors import InputError
from harness.lanes import Geometry, Lane, near_to_far

NO_LICENCE = "none: runs from your own checkout only"
"""What is said of the licence of a repository that has none."""

SUFFIX = "_upstream"
"""How the name of a bridge ends whose beginning is that of our variant of the same configuration."""

Scored = tuple[Polyline, float]
"""A decoded lane (N, 2) in pixels of the configured frame, no shift by half a pixel taken out, and its score."""


class Options(Data):
    """start: whose random weights training starts from, `upstream`'s own or those that our variant draws from the same seed."""

    start: Literal["upstream", "native"] = "upstream"


class _Held:
    """Keeps what isn't part of a module out of its parameters, its state dict and its copies."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> _Held:
        return self


class Bridge(Detector):
    """An adapter around an `UpstreamModel`, which `reference` builds. Who derives from it says what its taps are and how labels are
    encoded. `labels` says in a word who encodes them, `departures` what of the code between image tensor and written lane isn't
    upstream's.
    """

    reference: ClassVar[type[UpstreamModel]]
    labels: ClassVar[str] = "its own encoder"
    departures: ClassVar[str] = ""
    architecture: ClassVar[type[Data]] = Data
    checkpoint_names: ClassVar[tuple[tuple[str, str], ...]] = ((r"^", "network."),)

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where there is no checkout, or another one, or its code needs a package that isn't installed."""
        super().__init__(meta, form)
        self.options_of(self.architecture)
        checkout = known_checkout(self.reference.repository)
        try:
            built = self.build(checkout)
        except (ImportError, FileNotFoundError) as error:
            raise InputError(f"{checkout}: {_lacking(error, checkout)}") from error
        except InputError:
            raise
        except Exception as error:
            # Of the code that this bridge knows that is a bug, which a traceback tells.
            if not is_known(self.reference.repository, checkout):
                raise InputError(f"{checkout}: {_broken(error, self.reference.repository)}") from error
            raise
        self._upstream = _Held(built)
        self.network: nn.Module = built.model

    @classmethod
    def origin(cls) -> dict[str, str]:
        """Repository and commit of the checkout whose code runs."""
        return origin_of(cls.reference.repository)

    def build(self, checkout: Path) -> UpstreamModel:
        """Upstream's model, with random weights."""
        return self.reference(checkout, native_name(self.meta), self.form)

    @property
    def upstream(self) -> Any:
        """What built the model. In a copy of the detector it runs the copy's model."""
        built = self._upstream.value
        built.model = self.network
        return built

    def forward(self, images: Tensor) -> Any:
        """uint8 RGB (B, 3, H, W) -> upstream's own outputs."""
        prepared = normalise(images, self.meta.normalisation)
        with self._telling(), running_on(images.device), self.upstream.upstream:
            return self.outputs(prepared)

    def losses(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Upstream's loss terms, weighted as in its sum, under the names of ours."""
        with self._telling(), running_on(batch.images.device), self.upstream.upstream:
            return self.terms(outputs, batch.targets)

    def decode(self, outputs: Any, geometries: Sequence[Geometry]) -> list[list[Lane]]:
        """Upstream's decoding and suppression; lanes of frames of another size than the configured one are scaled to it."""
        self.upstream.threshold = self.configuration.recipe.confidence_threshold
        with self._telling():
            found = self.scored_lanes(outputs)
        threshold, frame = self.upstream.threshold, self.frame
        return [
            [
                Lane(near_to_far(geometry.to_original(frame.to_network(points))), score)
                for points, score in lanes
                if len(points) > 1 and score >= threshold
            ]
            for lanes, geometry in zip(found, geometries, strict=True)
        ]

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """What upstream's code imports when it runs may be missing as well, which is told in a line."""
        try:
            yield
        except ImportError as error:
            checkout = self.upstream.upstream.checkout
            raise InputError(f"{checkout}: {_lacking(error, checkout)}") from error

    @cached_property
    def frame(self) -> Geometry:
        """How the configured frame enters the network."""
        return self.geometry_of(self.configuration.input.frame)

    def outputs(self, images: Tensor) -> Any:
        """Upstream's outputs for its float input; in training those that its loss takes."""
        return self.network(images)

    @abstractmethod
    def terms(self, outputs: Any, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Upstream's loss terms of outputs and of the targets that `encode_targets` gave."""

    @abstractmethod
    def scored_lanes(self, outputs: Any) -> list[list[Scored]]:
        """Lanes of each image in pixels of the configured frame, as upstream writes them, with scores in [0, 1]."""


class LabelledBridge(Bridge):
    """A bridge whose labels a detector of ours encodes, which `counterpart` gives, and which has its taps.

    `stages` are the paths of the taps' modules inside upstream's model, in the order of that detector's taps.
    """

    stages: ClassVar[tuple[str, ...]]

    def __init__(self, meta: DetectorMeta, form: Form) -> None:
        """Raises InputError where there is no checkout, or another one."""
        super().__init__(meta, form)
        # Its tensors would be for nothing: what is asked of it is what it knows of labels.
        with torch.device("meta"):
            self._native = _Held(self.counterpart())

    @abstractmethod
    def counterpart(self) -> Detector:
        """The detector of ours."""

    @property
    def native(self) -> Detector:
        """The same, without weights."""
        detector: Detector = self._native.value
        return detector

    def taps(self) -> tuple[Tap, ...]:
        """Upstream's modules of the stages that our detector taps."""
        found = zip(self.stages, self.native.taps(), strict=True)
        return tuple(
            Tap(f"network.{stage}", tap.channels, tap.stride, tap.layout, tap.prefix_tokens, tap.trainable)
            for stage, tap in found
        )

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, npt.NDArray[Any]]:
        """As our detector encodes them."""
        return self.native.encode_targets(lanes, geometry)


class PairedBridge(LabelledBridge):
    """A bridge beside our variant of the same configuration."""

    reference: ClassVar[type[Reference]]
    architecture: ClassVar[type[Data]] = Options

    def counterpart(self) -> Detector:
        """Our variant of the same name."""
        native = find_adapter(native_name(self.meta))
        return native.detector(native.meta, self.form)

    def build(self, checkout: Path) -> UpstreamModel:
        """Upstream's model, with random weights of its own or those of ours."""
        if Options(**self.configuration.architecture).start == "upstream":
            return super().build(checkout)
        # First, so that one seed draws what it draws for our variant.
        start = self.counterpart()
        with torch.random.fork_rng(devices=[]):
            built = super().build(checkout)
        copy_start(start, built.model, start.checkpoint_names)
        return built


def resnet_taps(path: str) -> tuple[Tap, ...]:
    """The four stages of a ResNet-18 or -34 whose module lies at `path` in upstream's model."""
    return tuple(Tap(f"network.{path}.layer{stage}", 32 * 2**stage, 2 * 2**stage) for stage in range(1, 5))


def dla_taps(path: str) -> tuple[Tap, ...]:
    """The same four strides of a DLA-34."""
    return tuple(Tap(f"network.{path}.level{level}", 16 * 2**level, 2**level) for level in range(2, 6))


def clipped_labels(bridge: Bridge, lanes: Sequence[Lane], geometry: Geometry) -> list[Polyline]:
    """Labels as the loaders of CLRNet and its descendants show them to their encoders: in network pixels, whose 0 is the centre of the
    frame's first; without points left of the frame or above it, if three are left then; the pieces that lie in the image.
    """
    top, left, _, _ = bridge.configuration.input.crop
    corner = bridge.frame.to_network([float(left), float(top)])
    found = []
    for lane in lanes:
        points = lane.points[np.isfinite(lane.points).all(axis=1)]
        points = points[(points >= 0).all(axis=1)]
        if len(points) >= 3:
            found += clipped(geometry.to_network(points) - corner, geometry.network)
    return found


def single(outputs: Any) -> Any:
    """Outputs of any structure with their floats in single precision."""
    return pytree.tree_map_only(Tensor, lambda value: value.float() if value.is_floating_point() else value, outputs)


def read_one_by_one(
    read: Callable[[Any], list[list[Polyline]]], parts: Iterable[Any], scores: Tensor
) -> list[list[Scored]]:
    """Lanes of upstream's reading of outputs, with scores (B, N): it is shown N parts of the outputs, each of one possible lane an
    image, as it doesn't say which of them a lane is.
    """
    images: list[list[Scored]] = [[] for _ in scores]
    for part, values in zip(parts, scores.T.tolist(), strict=True):
        for image, lanes, score in zip(images, read(part), values, strict=True):
            image += [(lane, score) for lane in lanes]
    return images


def scored_by_prediction(upstream: Any, head: Any, final: Tensor) -> list[list[Scored]]:
    """Lanes of a `head`'s last predictions, by `get_lanes` as CLRNet's code has it and what grew from it. It is to read the lanes of an
    image one by one, with their scores; and the datasets' writers are, likewise.
    """
    reading = head.predictions_to_pred

    def with_scores(predictions: Tensor, *image: Any) -> list[tuple[Any, float]]:
        scores = predictions[:, :2].softmax(dim=1)[:, 1].tolist()
        one_by_one = zip(predictions[:, None], scores, strict=True)
        return [(lane, score) for prediction, score in one_by_one for lane in reading(prediction, *image)]

    with upstream.upstream, mock.patch.object(head, "predictions_to_pred", with_scores):
        return [
            [(points, score) for lane, score in lanes for points in upstream.written_lanes([lane])]
            for lanes in upstream.decoded(final.float())
        ]


def _lacking(error: ImportError | FileNotFoundError, checkout: Path) -> str:
    """What a checkout's code couldn't be had for, and what to do."""
    if isinstance(error, FileNotFoundError):
        missing = Path(str(error.filename))
        name = missing.relative_to(checkout) if missing.is_relative_to(checkout) else missing
        return f"has no {name}; restore the checkout"
    top = (error.name or "").partition(".")[0]
    if not isinstance(error, ModuleNotFoundError) or (checkout / top).exists() or (checkout / f"{top}.py").exists():
        return f"its code can't be imported ({error}); restore the checkout, or check out the commit that is known"
    return f"its code needs the package {error.name}: install it, or name a folder that has it in PYTHONPATH"


def _broken(error: Exception, repository: str) -> str:
    """What a checkout's code failed with that isn't, unchanged, the code that a bridge knows."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    said = " ".join(f"{type(error).__name__}: {error}".split())
    return (
        f"its code can't be built ({said:.300}, {place}); check out {REPOSITORIES[repository].commit}, without changes"
    )


def native_name(meta: DetectorMeta) -> str:
    """The name of our variant of a bridge's configuration."""
    return meta.name.removesuffix(SUFFIX)


def bridged(
    metas: Mapping[str, DetectorMeta], names: Mapping[str, Sequence[Form]], paths: Mapping[str, str] | None = None
) -> dict[str, DetectorMeta]:
    """The metadata of bridges of some of our variants, `metas`, in the forms that there is an upstream configuration for.

    Facts, input and recipe are theirs; there are no options but a bridge's. paths: those of our modules that have a learning rate of
    their own -> those of upstream's.
    """
    found = {}
    for name, forms in names.items():
        configurations = {}
        for form in forms:
            ours = metas[name].configurations[form]
            factors = {
                f"network.{(paths or {})[path]}": factor for path, factor in ours.recipe.learning_rate_factors.items()
            }
            recipe = ours.recipe.model_copy(update={"learning_rate_factors": factors})
            configurations[form] = ours.model_copy(update={"architecture": {}, "weights": "none", "recipe": recipe})
        update = {"name": name + SUFFIX, "configurations": configurations}
        found[name + SUFFIX] = metas[name].model_copy(update=update)
    return found


def copy_start(ours: nn.Module, upstream: nn.Module, names: tuple[tuple[str, str], ...]) -> None:
    """Give upstream's model the weights of ours, entry by entry as `checkpoint_names` pairs them; entries of its own stay."""
    theirs = upstream.state_dict()
    paired = {renamed({key: value}, names, where=Path("upstream")).popitem()[0]: key for key, value in theirs.items()}
    state = ours.state_dict()
    upstream.load_state_dict({key: state[name] for name, key in paired.items() if name in state}, strict=False)
