"""The checks, each a promise of an adapter: a function that gives a line on what it saw, or raises Unmet or NotApplicable."""

from __future__ import annotations

import math
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from detectors.backbones import whole_network
from detectors.base import Detector, tap_module
from detectors.meta import Data, DetectorMeta
from detectors.pretrained import start_backbone
from harness.conformance.samples import hostile_labels
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.subject import CPU, Arm, NotApplicable, Subject, Unmet
from harness.errors import InputError
from harness.inference import load_detector, predict
from harness.lanes import Lane
from harness.methods.samiro import TERM
from harness.methods.taps import as_map, tap_grids, token_shape
from harness.training.checkpoint import save_inference_checkpoint
from harness.validation import validated
from harness.weights.cache import published_name

STEPS = 300
"""Steps to overfit in, where the adapter's recipe is in epochs: those of a whole dataset say nothing about eight images."""

NOT_THE_ADAPTERS = (Path(torch.__file__).parent, Path(__file__).parent)
"""Folders whose code an adapter's error passes through."""

RELATIVE_ERROR = 1e-3
"""How far two ways of computing the same fp32 outputs may lie apart, as a share of the largest of them."""


def metadata(subject: Subject, arm: Arm) -> str:
    """The metadata survives JSON, the architecture options are known ones, the detector can be built and its backbone started."""
    meta = subject.adapter.meta
    written = meta.model_dump_json()
    if DetectorMeta.model_validate_json(written).model_dump_json() != written:
        raise Unmet("`metas` changes on its way through JSON; give plain values (numbers, texts, lists, mappings)")
    architecture: type[Data] = subject.adapter.detector.architecture
    validated(architecture, subject.configuration.architecture, where="architecture")
    detector = subject.build()
    count = f"{sum(parameter.numel() for parameter in detector.parameters()):,} parameters"
    if subject.configuration.weights != "imagenet":
        return count
    # Whether the adapter's part of the published network has its places needs no weights to tell.
    name = published_name(meta.backbone)
    shapes = {key: value.shape for key, value in whole_network(meta.backbone).state_dict().items()}
    start_backbone(detector, {key: torch.zeros(shape) for key, shape in shapes.items()}, where=Path(name))
    return f"{count}, starts from {name}"


def targets(subject: Subject, arm: Arm) -> str:
    """Targets are named arrays whose shapes and types are those of any labels; they are the same twice, and labels stay as they are."""
    detector, samples = subject.build(), subject.samples
    geometry = detector.geometry_of(samples.size)
    shapes = None
    for frame in samples.frames:
        lanes = samples.lanes(frame)
        before = [lane.points.copy() for lane in lanes]
        found, again = detector.encode_targets(lanes, geometry), detector.encode_targets(lanes, geometry)
        shapes = shapes or _shapes(found)
        if _shapes(found) != shapes:
            raise Unmet(f"shapes follow the labels: {shapes}, then {_shapes(found)}; pad to a fixed shape")
        if any(not np.array_equal(kept, lane.points) for kept, lane in zip(before, lanes, strict=True)):
            raise Unmet("encode_targets changes the labels in place; copy them")
        if any(not np.array_equal(found[key], again[key], equal_nan=found[key].dtype.kind == "f") for key in found):
            raise Unmet("encode_targets gives other arrays for the same labels; it must not draw random numbers")
    return "; ".join(f"{key} {kind} {shape}" for key, (shape, kind) in (shapes or {}).items())


def hostile(subject: Subject, arm: Arm) -> str:
    """Labels that real files hold (empty, broken, outside, too many) give targets of the same shape and a finite loss."""
    detector, samples = subject.build().train(), subject.samples
    geometry = detector.geometry_of(samples.size)
    shapes = _shapes(detector.encode_targets(samples.lanes(samples.frames[0]), geometry))
    sets = hostile_labels(samples.size)
    for what, lanes in sets.items():
        try:
            found = _shapes(detector.encode_targets(lanes, geometry))
        except Exception as error:
            raise Unmet(f"encode_targets fails on {what}: {told(error)}") from error
        if found != shapes:
            raise Unmet(f"the targets of {what} have shapes {found}, not {shapes}")
        with np.errstate(invalid="ignore"):  # what isn't finite stays so on its way to network pixels
            batch = subject.batch(detector, lambda frame, lanes=lanes: lanes, 2)  # type: ignore[misc]
        try:
            _finite_gradients(detector.losses(detector(batch.images), batch), detector)
        except Exception as error:
            raise Unmet(f"with {what}: {told(error)}") from error
    return f"{len(sets)} kinds"


def taps(subject: Subject, arm: Arm) -> str:
    """Each tap fires once a forward, in order, with the stated channels, stride and layout, and isn't changed in place after."""
    detector = subject.build().train()
    stated = detector.taps()
    if not stated:
        raise NotApplicable("states no taps: baseline rows only")
    fired: list[tuple[str, Tensor, Tensor]] = []
    handles = []
    for tap in stated:

        def record(module: nn.Module, inputs: Any, output: Any, path: str = tap.path) -> None:
            if not isinstance(output, Tensor):
                raise Unmet(f"tap {path!r} gives a {type(output).__name__}, not a tensor")
            fired.append((path, output, output.detach().clone()))

        handles.append(tap_module(detector, tap).register_forward_hook(record))
    detector(subject.batch(detector).images)
    for handle in handles:
        handle.remove()
    if [path for path, _, _ in fired] != [tap.path for tap in stated]:
        raise Unmet(
            f"a forward fired {[path for path, _, _ in fired]}, but taps() states {[tap.path for tap in stated]}"
        )
    size = detector.configuration.input.network
    for tap, (_, output, kept) in zip(stated, fired, strict=True):
        if not torch.equal(output, kept):
            raise Unmet(
                f"tap {tap.path!r} is changed in place after it fired (inplace=True?): it couldn't be regularized"
            )
        found = as_map(output, tap, token_shape(tap, size))
        expected = (tap.channels, *(math.ceil(side / tap.stride) for side in size))
        if tuple(found.shape[1:]) != expected:
            raise Unmet(f"tap {tap.path!r} gives {tuple(found.shape[1:])} as (C, H, W), but states {expected}")
    tap_grids(detector, tuple(tap for tap in stated if tap.trainable))
    return ", ".join(f"{tap.path} {tap.channels} s{tap.stride}" for tap in stated)


def trains(subject: Subject, arm: Arm) -> str:
    """Losses are finite scalars, their gradients finite; SAMIRO starts from the baseline's very losses."""
    model = subject.model(arm)
    batch = subject.batch(model.detector)
    images = batch.images.clone()
    terms = model(batch)
    if not torch.equal(images, batch.images):
        raise Unmet("forward changes the images in place; copy them")
    _finite_gradients(terms, model)
    if arm == "samiro":
        plain = subject.model("baseline")(batch)
        own = {name: term for name, term in terms.items() if name != TERM}
        if list(own) != list(plain) or any(not torch.equal(own[name], plain[name]) for name in plain):
            raise Unmet(
                "the detector's losses differ from the baseline's before the first step; does forward count calls?"
            )
    idle = sum(p.grad is None for p in model.parameters() if p.requires_grad)
    note = f"; {idle} parameters get no gradient" if idle else ""
    return ", ".join(f"{name} {float(term.detach()):.3g}" for name, term in terms.items()) + note


def empty_labels(subject: Subject, arm: Arm) -> str:
    """A batch without any lane gives finite losses and gradients."""
    model = subject.model(arm)
    terms = model(subject.batch(model.detector, lambda frame: []))
    _finite_gradients(terms, model)
    return f"loss {sum(float(term.detach()) for term in terms.values()):.3g}"


def state_dict(subject: Subject, arm: Arm) -> str:
    """The inference model, written as a checkpoint, loads strictly into a detector built anew, and gives the same outputs."""
    detector = subject.settled(arm)
    facts = {
        "detector": subject.adapter.meta.name,
        "form": subject.form,
        "meta": subject.adapter.meta.model_dump(mode="json"),
        "method": subject.method(arm).model_dump(mode="json", by_alias=True),
    }
    origin = subject.adapter.origin
    path = subject.folder / f"{arm}.safetensors"
    save_inference_checkpoint(path, detector, facts | ({} if origin is None else {"origin": origin}))
    images = subject.batch(detector).images
    with torch.no_grad():
        expected, found = detector(images), load_detector(path, adapter=subject.name)(images)
    if any(not torch.equal(*pair) for pair in _tensor_pairs(expected, found)):
        raise Unmet("the loaded detector gives other outputs: a tensor that matters isn't a parameter or buffer")
    return f"{len(detector.state_dict())} tensors"


def batch_invariance(subject: Subject, arm: Arm) -> str:
    """In eval mode an image's outputs don't depend on the images beside it, and decoding takes whatever a fresh network says."""
    detector = subject.settled(arm)
    batch = subject.batch(detector)
    with torch.no_grad():
        together = detector(batch.images)
        check_lanes(detector.decode(together, batch.geometries), detector)
        worst = 0.0
        for index in range(2):
            alone = detector(batch.images[index : index + 1])
            for whole, part in _tensor_pairs(together, alone):
                if whole.ndim and len(whole) == len(batch.ids) and len(part) == 1:
                    worst = max(worst, _distance(whole[index : index + 1], part))
    if worst > RELATIVE_ERROR:
        raise Unmet(f"outputs of an image alone and in a batch differ by {worst:.2g} of the largest")
    return f"largest difference {worst:.1g} of the largest output"


def determinism(subject: Subject, arm: Arm) -> str:
    """Built and trained twice from one seed, the weights are equal bit for bit."""
    states = []
    for attempt in ("first", "second"):
        model = subject.model(arm, steps=2)
        subject.train(model, steps=2, label=f"determinism-{arm}-{attempt}")
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    differing = [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]
    if differing:
        raise Unmet(f"{len(differing)} tensors differ after two steps from one seed, first {differing[0]!r}")
    return f"{len(states[0])} tensors after two steps"


def device_agreement(subject: Subject, arm: Arm) -> str:
    """CPU and GPU give the same outputs, but for rounding."""
    if not torch.cuda.is_available():
        raise NotApplicable("no CUDA device here")
    detector = subject.settled(arm)
    images = subject.batch(detector).images
    kept = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.no_grad():
            expected = detector(images)
            found = pytree.tree_map_only(Tensor, Tensor.cpu, detector.cuda()(images.cuda()))
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = kept
    worst = max((_distance(*pair) for pair in _tensor_pairs(expected, found)), default=0.0)
    if worst > RELATIVE_ERROR:
        raise Unmet(f"outputs on CPU and GPU differ by {worst:.2g} of the largest")
    return f"largest difference {worst:.1g} of the largest output"


def one_device(subject: Subject, arm: Arm) -> str:
    """On a device that isn't the host's, losses, gradients and lanes take nothing that lies on the host. Seen without a GPU."""
    model = subject.model(arm)
    batch = subject.batch(model.detector, count=2)
    with second_device():
        model.to(SECOND_DEVICE)
        there = batch.to(SECOND_DEVICE)
        terms = model(there)
        _finite_gradients(terms, model)
        detector = model.inference_model().eval()
        with torch.no_grad():
            check_lanes(detector.decode(detector(there.images), batch.geometries), detector)
    return f"{len(terms)} losses, their gradients and the lanes"


def overfits(subject: Subject, arm: Arm) -> str:
    """Trained by its recipe on the frames alone, it finds their lanes."""
    steps = subject.demands.steps or subject.configuration.recipe.steps or STEPS
    model = subject.model(arm, steps=steps)
    subject.train(model, steps=steps, label=f"overfit-{arm}")
    detector = model.inference_model()
    lanes = predict(detector, [frame.image for frame in subject.samples.frames], device=CPU)
    check_lanes(lanes, detector)
    f1 = f1_of(subject, lanes)
    if f1 < subject.demands.f1:
        raise Unmet(f"F1@50 {f1:.3f} after {steps} steps, below {subject.demands.f1}")
    return f"F1@50 {f1:.3f} after {steps} steps"


def f1_of(subject: Subject, lanes: Sequence[Sequence[Lane]]) -> float:
    """F1 at IoU 0.5 of the lanes found in the first frames."""
    return subject.samples.score(lanes, Path(tempfile.mkdtemp(dir=subject.folder)))


def check_lanes(lanes: Sequence[Sequence[Lane]], detector: Detector) -> None:
    """What `decode` promises of every lane."""
    threshold = detector.configuration.recipe.confidence_threshold
    for lane in (lane for image in lanes for lane in image):
        if len(lane) < 2 or not np.isfinite(lane.points).all():
            raise Unmet(f"decode gives a lane of {len(lane)} points, or with some that aren't finite")
        if lane.score is None or not max(0.0, threshold) <= lane.score <= 1.0:
            raise Unmet(
                f"decode gives a lane of score {lane.score}; scores lie in [0, 1], above the threshold {threshold}"
            )
        if lane.points[0, 1] < lane.points[-1, 1]:
            raise Unmet("decode gives a lane from far to near; give it from near to far")


def _finite_gradients(terms: dict[str, Tensor], module: nn.Module) -> None:
    """Terms must be finite scalars, and so must be the gradients that they give, of which there must be one."""
    if not terms:
        raise Unmet("losses gives no term")
    for name, term in terms.items():
        if term.ndim or not bool(torch.isfinite(term)):
            shown = f"of shape {tuple(term.shape)}" if term.ndim else str(float(term.detach()))
            raise Unmet(f"loss term {name!r} is {shown}, not a finite scalar")
    module.zero_grad()
    torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if not gradients:
        raise Unmet("no parameter gets a gradient")
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise Unmet(f"the gradient of {name!r} isn't finite")


def _shapes(arrays: dict[str, Any]) -> dict[str, tuple[tuple[int, ...], str]]:
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic) or array.dtype == object:
            raise Unmet(f"target {name!r} is a {type(array).__name__}, not an array of numbers")
    return {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}


def _tensor_pairs(first: Any, second: Any) -> list[tuple[Tensor, Tensor]]:
    """The tensors of two outputs of one structure, side by side."""
    leaves, others = pytree.tree_leaves(first), pytree.tree_leaves(second)
    if len(leaves) != len(others):
        raise Unmet("outputs have another structure for the same kind of input")
    return [(a, b) for a, b in zip(leaves, others, strict=True) if isinstance(a, Tensor)]


def _distance(first: Tensor, second: Tensor) -> float:
    """The largest difference over the largest value."""
    if first.shape != second.shape:
        raise Unmet(f"outputs of shapes {tuple(first.shape)} and {tuple(second.shape)} for the same image")
    if not first.numel():
        return 0.0
    return float((first.double() - second.double()).abs().max() / first.double().abs().max().clamp(min=1e-12))


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
