"""A native detector beside its upstream model, with the same weights and the same frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from detectors.base import Detector
from detectors.checkpoints import import_checkpoint, renamed
from detectors.meta import Form
from detectors.registry import detector_class
from detectors.upstream.checkouts import checked_commit, find_checkout
from detectors.upstream.reference import Difference, Polyline, Reference, Unavailable
from detectors.upstream.references import REFERENCES
from detectors.upstream.repositories import REPOSITORIES, Repository
from detectors.upstream.running import training_without_dropout
from harness.errors import InputError, did_you_mean
from harness.files.scratch import scratch_folder
from harness.inference.detector import with_confidence_threshold
from harness.lanes import Lane
from harness.parity.layers import (
    DISTURBANCE,
    DRAWS,
    Draws,
    Layer,
    gradient_layer,
    image_layer,
    lanes_layer,
    loss_layers,
    raw_layers,
    worst_loss,
)
from harness.parity.shown import TRAINING_FRAMES, Shown, batch_of, frames_for, unusual_labels
from harness.parity.weights import randomise
from harness.pytorch.random_state import random_state, set_random_state
from harness.pytorch.weightless import weightless
from harness.training.determinism import seed_everything

SEED = 0

MOST_LANES = 6
"""The threshold for random weights leaves about so many lanes an image, where there are as many."""


@dataclass(frozen=True)
class Parity:
    """What was found of one detector in one form. commit: the checkout's, as text; differences: the documented ones."""

    detector: str
    form: Form
    repository: Repository
    commit: str
    layers: tuple[Layer, ...]
    differences: dict[str, Difference]

    @property
    def holds(self) -> bool:
        """Whether no layer differs by more than it may; what couldn't be compared says why."""
        return not any(layer.outcome == "differs" for layer in self.layers)


def reference_class(name: str) -> type[Reference]:
    """The reference of a variant; InputError for one that has none."""
    if name not in REFERENCES:
        detector_class(name)
        raise InputError(f"detector {name!r} has no upstream model to compare: {did_you_mean(name, list(REFERENCES))}")
    module, attribute = REFERENCES[name].split(":")
    found: type[Reference] = getattr(import_module(module), attribute)
    return found


def forms_of(name: str, form: str | None) -> list[Form]:
    """The dataset forms in which a variant can be compared: the one that is asked for, else all. InputError where there is none."""
    offered = reference_class(name).variants[name]
    if form is not None and form not in offered:
        raise InputError(
            f"detector {name!r} has no upstream configuration for {form!r}: {did_you_mean(form, list(offered))}"
        )
    return [one for one in offered if form in (None, one)]


def parity(name: str, form: Form, folder: Path, report: Callable[[Layer], None] | None = None) -> Parity:
    """Compare a variant in one dataset form with its upstream model, from a checkout at `folder` or in it under its own name.

    report: called after each layer. Raises InputError where the checkout can't be used; warns where it is at another commit.
    """
    build = reference_class(name)
    checkout = find_checkout(folder, build.repository)
    commit = checked_commit(checkout, build.repository)
    layers: list[Layer] = []
    with _own_randomness(), scratch_folder() as scratch:
        seed_everything(SEED)
        try:
            reference = build(checkout, name, form)
            reference.make_comparable()
        except ModuleNotFoundError as error:
            raise InputError(
                f"{checkout}: its code needs the package {error.name}: install it, or name a folder that has it in PYTHONPATH"
            ) from error
        for layer in compared_layers(reference, name, form, scratch):
            layers.append(layer)
            if report is not None:
                report(layer)
    known, described = REPOSITORIES[build.repository], "unknown" if commit is None else str(commit)
    return Parity(name, form, known, described, tuple(layers), dict(build.differences))


def compared_layers(reference: Reference, name: str, form: Form, scratch: Path) -> Iterator[Layer]:
    """The layers one after the other. A model that doesn't take upstream's weights has only the first."""
    plain = detector_class(name)
    shown = frames_for(_blank(name, form), scratch)
    randomise(reference.model, lambda: reference.forward(reference.normalised(shown.images)))
    try:
        detector = imported(reference, name, form, scratch)
    except InputError as error:
        yield Layer("state dict", "differs", None, None, "", str(error))
        return
    yield Layer(
        "state dict", "agrees", None, None, "", f"{len(reference.model.state_dict())} entries, strictly imported"
    )
    differences = reference.differences
    yield from _attempted("image", lambda: [_image(reference, shown)])
    normalised = reference.normalised(shown.images)
    with torch.no_grad():
        theirs, ours = reference.forward(normalised), detector(shown.images)

    moved = _draws(lambda images: reference.raw(reference.forward(images)), normalised)
    yield from _attempted(
        "raw outputs", lambda: raw_layers(reference.raw(theirs), reference.ours(ours), moved, differences)
    )
    yield from _attempted("lanes", lambda: _lanes(reference, detector, theirs, ours, shown.size))
    yield from _losses(reference, detector, shown, plain.checkpoint_names)


def imported(reference: Reference, name: str, form: Form, scratch: Path) -> Detector:
    """Our detector with the reference's weights, which go through a file as a released checkpoint does."""
    path = scratch / "upstream.pt"
    torch.save({"model": reference.model.state_dict()}, path)
    return import_checkpoint(name, form, path)


def _blank(name: str, form: Form) -> Detector:
    """The detector for its geometry alone, without memory for its weights."""
    build = detector_class(name)
    with weightless():
        return build(build.metas[name], form)


def _image(reference: Reference, shown: Shown) -> Layer:
    theirs = torch.cat([reference.prepared(frame) for frame in shown.frames])
    black, white = (
        reference.normalised(torch.full((1, 3, *shown.images.shape[-2:]), level, dtype=torch.uint8))
        for level in (0, 255)
    )
    grey = (white - black) / 255.0
    ours, turned = reference.normalised(shown.images), reference.normalised(shown.images.flip(1))
    return image_layer(theirs, ours, turned, grey, reference.differences)


def _lanes(reference: Reference, detector: Detector, theirs: Any, ours: Any, size: tuple[int, int]) -> list[Layer]:
    """`lanes` in upstream's convention of coordinates, and `lanes as decoded` where ours has another one."""
    drawn = reference.drawn()
    if drawn is not None:
        theirs, ours = drawn
    elif reference.threshold is not None:
        reference.threshold = chosen_threshold(detector, ours, size)
        detector = with_threshold(detector, reference.threshold)
    upstream = reference.lanes(theirs)
    decoded = _decoded(detector, ours, size, len(upstream))
    written = [[reference.written(lane) for lane in lanes] for lanes in decoded]
    layers = [lanes_layer("lanes", upstream, written, reference.differences)]
    if type(reference).written is not Reference.written:
        layers.append(lanes_layer("lanes as decoded", upstream, decoded, reference.differences))
    return layers


def _decoded(detector: Detector, outputs: Any, size: tuple[int, int], count: int) -> list[list[Polyline]]:
    found = detector.decode(outputs, [detector.geometry_of(size)] * count)
    return [[lane.points.astype(np.float64) for lane in lanes] for lanes in found]


def chosen_threshold(detector: Detector, outputs: Any, size: tuple[int, int]) -> float:
    """A score that leaves some lanes in each image and none so near to it that rounding decides: the middle of a wide gap."""
    count = len(next(value for value in _tensors(outputs)))
    everything = with_threshold(detector, 0.0).decode(outputs, [detector.geometry_of(size)] * count)
    scores = np.sort([lane.score for lanes in everything for lane in lanes if lane.score is not None])[::-1]
    if len(scores) < 2:
        return 0.0
    wanted = min(MOST_LANES * count, max(1, 2 * len(scores) // 3))
    near = range(max(0, wanted // 2), min(len(scores) - 1, wanted + wanted // 2))
    best = max(near, key=lambda index: scores[index] - scores[index + 1], default=0)
    return float((scores[best] + scores[best + 1]) / 2)


def with_threshold(detector: Detector, threshold: float) -> Detector:
    """The same detector with another confidence threshold."""
    changed = type(detector)(with_confidence_threshold(detector.meta, threshold), detector.form)
    changed.load_state_dict(detector.state_dict())
    return changed.eval()


def _tensors(outputs: Any) -> Iterator[Tensor]:
    from torch.utils import _pytree as pytree

    yield from (leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor))


def _losses(
    reference: Reference, detector: Detector, shown: Shown, names: tuple[tuple[str, str], ...]
) -> Iterator[Layer]:
    images, labels = shown.images[:TRAINING_FRAMES], shown.labels[:TRAINING_FRAMES]
    normalised, differences = reference.normalised(images), reference.differences
    try:
        theirs = reference.losses(normalised, labels)
    except Unavailable as reason:
        yield Layer("losses", "unavailable", None, None, "relative", str(reason))
        return
    ours = our_losses(detector, images, labels, shown.size)
    moved = _draws(partial(reference.losses, labels=labels), normalised)
    yield from loss_layers(theirs, ours, moved, differences)
    yield from _attempted("gradient", lambda: [_gradient(reference, detector, normalised, labels, theirs, ours, names)])
    for what, odd in unusual_labels(labels, shown.size).items():
        with torch.no_grad():
            native = our_losses(detector, images, odd, shown.size)
        try:
            with torch.no_grad():
                upstream = reference.losses(normalised, odd)
        except Exception as error:  # noqa: BLE001 - what upstream's code makes of labels that it doesn't expect is a finding
            said = " ".join(str(error).split())
            detail = said if isinstance(error, Unavailable) else f"upstream fails: {type(error).__name__}: {said}"
            yield Layer(f"losses, {what}", "unavailable", None, None, "relative", detail)
            continue
        yield worst_loss(what, upstream, native, _draws(partial(reference.losses, labels=odd), normalised), differences)


def _draws(upstream: Callable[[Tensor], dict[str, Tensor]], images: Tensor) -> Draws:
    """What upstream makes of disturbed images, without gradients; made once, when it is asked for."""

    @cache
    def drawn() -> list[dict[str, Tensor]]:
        with torch.no_grad():
            return [upstream(one) for one in _disturbed(images)]

    return drawn


def _disturbed(images: Tensor) -> Iterator[Tensor]:
    """Images with about what rounding does to them, `DRAWS` times, the same of the same images."""
    generator = torch.Generator().manual_seed(SEED)
    for _ in range(DRAWS):
        yield images * (1.0 + DISTURBANCE * torch.randn(images.shape, generator=generator))


def our_losses(
    detector: Detector, images: Tensor, labels: Sequence[Sequence[Lane]], size: tuple[int, int]
) -> dict[str, Tensor]:
    """The loss terms of a batch in training mode without dropout."""
    batch = batch_of(detector, images, labels, size)
    with training_without_dropout(detector):
        return detector.losses(detector(images), batch)


def _gradient(
    reference: Reference,
    detector: Detector,
    images: Tensor,
    labels: Sequence[Sequence[Lane]],
    theirs: dict[str, Tensor],
    ours: dict[str, Tensor],
    names: tuple[tuple[str, str], ...],
) -> Layer:
    """Of the summed loss, with respect to the backbone's first convolution that learns. images: as upstream normalises them."""
    backbone = detector.get_submodule(detector.backbone_path)
    convolutions = ((name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    first = next(name for name, module in convolutions if module.weight.requires_grad)
    place = f"{detector.backbone_path}.{first}.weight".lstrip(".")
    upstream = renamed(reference.model.state_dict(keep_vars=True), names, where=Path("upstream"))[place]
    native = detector.get_parameter(place)

    def moved() -> Iterator[Tensor]:
        return (_of_sum(reference.losses(one, labels), upstream) for one in _disturbed(images))

    return gradient_layer(_of_sum(theirs, upstream), _of_sum(ours, native), moved, reference.differences)


def _of_sum(terms: Mapping[str, Tensor], parameter: Tensor) -> Tensor:
    total = sum(terms.values(), torch.zeros(()))
    if not total.requires_grad:
        raise Unavailable("upstream's losses have no gradient")
    (found,) = torch.autograd.grad(total, [parameter])
    return found


def _attempted(name: str, layers: Callable[[], list[Layer]]) -> list[Layer]:
    try:
        return layers()
    except Unavailable as reason:
        return [Layer(name, "unavailable", None, None, "", str(reason))]


@contextmanager
def _own_randomness() -> Iterator[None]:
    before = random_state()
    try:
        yield
    finally:
        set_random_state(before)
