"""The checks, each a promise of an adapter: a function that gives a line on what it saw, or raises Unmet or NotApplicable."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from detectors.backbones import whole_network
from detectors.base import Batch, Detector, tap_module
from detectors.meta import Data, DetectorMeta
from detectors.pretrained import start_backbone
from harness.conformance.augmented import follows_augmentation
from harness.conformance.contracts import check_terms
from harness.conformance.decoding import check_lanes
from harness.conformance.other_process import same_in_another_process
from harness.conformance.samples import hostile_labels
from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.seeds import check_seeds
from harness.conformance.subject import CPU, Arm, NotApplicable, Subject, Unmet, told
from harness.conformance.waits import host_waits, told_waits
from harness.files.validation import validated
from harness.inference.detector import load_detector
from harness.inference.predict import Settings, decoded, predict
from harness.lanes import Lane
from harness.methods.samiro import TERM
from harness.methods.taps import as_map, tap_grids, token_shape
from harness.pytorch.held_state import changed_tensors, held_state
from harness.training.checkpoint import save_inference_checkpoint
from harness.weights.cache import published_name

STEPS = 300
"""Steps to overfit in, where the adapter's recipe is in epochs: those of a whole dataset say nothing about eight images."""

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
    if type(detector).geometry_of is not Detector.geometry_of:
        raise Unmet(
            "geometry_of is overridden; say by `input` how frames enter, which is what prices and transfer go by too"
        )
    count = f"{sum(parameter.numel() for parameter in detector.parameters()):,} parameters"
    if subject.configuration.weights != "imagenet":
        return count
    # Whether the adapter's part of the published network has its places needs no weights to tell.
    name = published_name(meta.backbone)
    shapes = {key: value.shape for key, value in whole_network(meta.backbone).state_dict().items()}
    start_backbone(detector, {key: torch.zeros(shape) for key, shape in shapes.items()}, where=Path(name))
    return f"{count}, starts from {name}"


def targets(subject: Subject, arm: Arm) -> str:
    """Targets are named arrays whose shapes and types are those of any labels; they are the same twice, follow the augmentation, and
    labels stay as they are.
    """
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
    follows_augmentation(detector, samples)
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
    images, labels = batch.images.clone(), {name: value.clone() for name, value in _labels(batch).items()}
    terms = model(batch)
    if not torch.equal(images, batch.images):
        raise Unmet("forward changes the images in place; copy them")
    for name, value in _labels(batch).items():
        if not torch.equal(labels[name].nan_to_num(nan=-1e9), value.nan_to_num(nan=-1e9)):
            raise Unmet(f"losses changes {name} of the batch in place; copy it")
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
    """The inference model, written as a checkpoint, loads strictly into a detector built anew, gives the same outputs, and predicting
    leaves it as it was.
    """
    detector = subject.settled(arm)
    before = held_state(detector)
    facts = {
        "detector": subject.adapter.meta.name,
        "form": subject.form,
        "meta": subject.adapter.meta.model_dump(mode="json"),
        "method": subject.method(arm).model_dump(mode="json", by_alias=True),
    }
    origin = subject.adapter.origin
    path = subject.folder / f"{arm}.safetensors"
    save_inference_checkpoint(path, detector, facts | ({} if origin is None else {"origin": origin}))
    batch = subject.batch(detector)
    with torch.no_grad():
        expected, again = detector(batch.images), detector(batch.images)
        unlike = any(not torch.equal(*pair) for pair in _tensor_pairs(expected, again))
        if unlike and not changed_tensors(detector, before):
            raise Unmet(
                "in eval mode forward gives other outputs of the same images a second time: dropout or another draw is on, or it keeps "
                "something between calls"
            )
        found = load_detector(path, adapter=subject.name)(batch.images)
        if not unlike and any(not torch.equal(*pair) for pair in _tensor_pairs(expected, found)):
            raise Unmet("the loaded detector gives other outputs: a tensor that matters isn't a parameter or buffer")
        decoded(detector, expected, batch.geometries)  # which may change the outputs in place
    if changed := changed_tensors(detector, before):
        raise Unmet(
            f"predicting changes {changed[0]}: scores would depend on what was predicted before; change it in training only"
        )
    return f"{len(detector.state_dict())} tensors"


def batch_invariance(subject: Subject, arm: Arm) -> str:
    """In eval mode an image's outputs don't depend on the images beside it, and decoding takes whatever a fresh network says."""
    detector = subject.settled(arm)
    batch = subject.batch(detector)
    with torch.no_grad():
        together = detector(batch.images)
        check_lanes(decoded(detector, together, batch.geometries), detector)
        worst = 0.0
        for index in range(2):
            alone = detector(batch.images[index : index + 1])
            for pair in _pairs_of_image(together, alone, index, len(batch.ids)):
                worst = max(worst, _distance(*pair))
    if worst > RELATIVE_ERROR:
        raise Unmet(f"outputs of an image alone and in a batch differ by {worst:.2g} of the largest")
    return f"largest difference {worst:.1g} of the largest output"


def determinism(subject: Subject, arm: Arm) -> str:
    """Built and trained twice from one seed, the weights are equal bit for bit; also where the training was killed in between, and
    where another process builds them. Another seed gives other ones.
    """
    if arm == "baseline":
        check_seeds(subject)
    states = []
    for attempt in ("first", "second", "killed"):
        model, label = subject.model(arm, steps=2), f"determinism-{arm}-{attempt}"
        if attempt == "killed":
            subject.train(model, steps=2, label=label, last=1)
            model = subject.model(arm, steps=2)
        subject.train(model, steps=2, label=label)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
    for state, what in zip(states[1:], ("", ", of which the second was taken after a kill"), strict=True):
        differing = [name for name, value in states[0].items() if not torch.equal(value, state[name])]
        if differing:
            said = f"{len(differing)} tensors differ after two steps from one seed{what}, first {differing[0]!r}"
            if what:
                said += "; what changes from step to step has to be a buffer"
            raise Unmet(said)
    if arm == "baseline":
        same_in_another_process(subject)
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


def bfloat16(subject: Subject, arm: Arm) -> str:
    """Under autocast to bfloat16, in which a suite may train and predict, losses and gradients are finite, and lanes are decoded."""
    model = subject.model(arm)
    batch = subject.batch(model.detector, count=2)
    with torch.autocast(CPU.type, torch.bfloat16):
        terms = model(batch)
    _finite_gradients(terms, model)
    detector = model.inference_model().eval()
    with torch.no_grad():
        with torch.autocast(CPU.type, torch.bfloat16):
            outputs = detector(batch.images)
        check_lanes(decoded(detector, outputs, batch.geometries), detector)
    kinds = {str(leaf.dtype).removeprefix("torch.") for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)}
    return f"outputs of {', '.join(sorted(kinds))}"


def one_device(subject: Subject, arm: Arm) -> str:
    """On a device that isn't the host's, losses, gradients and lanes take nothing that lies on the host. Seen without a GPU.

    How often the forward and the losses make the host wait for that device is told, not judged.
    """
    model = subject.model(arm)
    batch = subject.batch(model.detector, count=2)
    with second_device():
        model.to(SECOND_DEVICE)
        there = batch.to(SECOND_DEVICE)
        with host_waits() as waits:
            terms = model(there)
        _finite_gradients(terms, model)
        detector = model.inference_model().eval()
        with torch.no_grad():
            check_lanes(decoded(detector, detector(there.images), batch.geometries), detector)
    return "; ".join([f"{len(terms)} losses, their gradients and the lanes", *told_waits(waits)])


def overfits(subject: Subject, arm: Arm) -> str:
    """Trained by its recipe on the frames alone, it finds their lanes."""
    steps = subject.demands.steps or subject.configuration.recipe.steps or STEPS
    model = subject.model(arm, steps=steps)
    subject.train(model, steps=steps, label=f"overfit-{arm}")
    detector = model.inference_model()
    lanes = predict(detector, [frame.image for frame in subject.samples.frames], Settings(CPU))
    check_lanes(lanes, detector)
    f1 = f1_of(subject, lanes)
    if f1 < subject.demands.f1:
        raise Unmet(f"F1@50 {f1:.3f} after {steps} steps, below {subject.demands.f1}")
    return f"F1@50 {f1:.3f} after {steps} steps"


def f1_of(subject: Subject, lanes: Sequence[Sequence[Lane]]) -> float:
    """F1 at IoU 0.5 of the lanes found in the first frames."""
    return subject.samples.score(lanes, Path(tempfile.mkdtemp(dir=subject.folder)))


def _finite_gradients(terms: dict[str, Tensor], module: nn.Module) -> None:
    """Terms must be finite scalars, and so must be the gradients that they give, of which there must be one."""
    check_terms(terms)
    for name, term in terms.items():
        if not bool(torch.isfinite(term)):
            raise Unmet(f"loss term {name!r} is {float(term.detach())}, not a finite scalar")
    module.zero_grad()
    torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if not gradients:
        raise Unmet("no parameter gets a gradient")
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise Unmet(f"the gradient of {name!r} isn't finite")


def _labels(batch: Batch) -> dict[str, Tensor]:
    """All tensors of a batch but its images, as an adapter calls them."""
    named = {f"batch.targets[{name!r}]": value for name, value in batch.targets.items()}
    own = ("lanes", "lane_counts", "point_counts")
    return named | {f"batch.{name}": getattr(batch, name) for name in own}


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


def _pairs_of_image(together: Any, alone: Any, index: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The tensors that a batch of `count` images gives for that of `index`, beside those of the image alone: its part of each tensor,
    or its entry of a list of one entry an image, which may be as long as what is found in the image.
    """
    if isinstance(together, Mapping) and isinstance(alone, Mapping) and together.keys() == alone.keys():
        for key, value in together.items():
            yield from _pairs_of_image(value, alone[key], index, count)
    elif isinstance(together, list | tuple) and isinstance(alone, list | tuple) and len(together) == len(alone):
        for pair in zip(together, alone, strict=True):
            yield from _pairs_of_image(*pair, index, count)
    elif (
        isinstance(together, list | tuple)
        and isinstance(alone, list | tuple)
        and (count, 1) == (len(together), len(alone))
    ):
        yield from _tensor_pairs(together[index], alone[0])
    else:
        for whole, part in _tensor_pairs(together, alone):
            if whole.ndim and len(whole) == count and len(part) == 1:
                yield whole[index : index + 1], part


def _distance(first: Tensor, second: Tensor) -> float:
    """The largest difference over the largest value."""
    if first.shape != second.shape:
        raise Unmet(f"outputs of shapes {tuple(first.shape)} and {tuple(second.shape)} for the same image")
    if not first.numel():
        return 0.0
    return float((first.double() - second.double()).abs().max() / first.double().abs().max().clamp(min=1e-12))
