"""The check that `encode_targets`, `losses` and `decode` mean the same lanes, made on outputs that no network gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from detectors.base import Batch, Detector
from harness.conformance.checks import f1_of
from harness.conformance.contracts import gives_lanes
from harness.conformance.decoding import check_again, check_decoding, fault_in, own_copy
from harness.conformance.subject import Arm, Subject, Unmet, told
from harness.conformance.whereabouts import Offset, offset_of, whereabouts
from harness.inference.predict import decoded
from harness.lanes import Lane, Points

STEPS = 400

LOOKS = 50
"""The outputs are decoded every so many steps, and done when they give the labels."""


EDGE = 1e-4
"""How near to 0 and 1 a value may come that is to stay between them."""


@dataclass(frozen=True)
class Way:
    """How outputs are moved: by Adam, whose learning rate falls from `first` to `last`.

    bounded: what lies in (0, 1) in every value, as probabilities do, stays there.
    """

    name: str
    first: float
    last: float
    bounded: bool


WAYS = (Way("steps", 0.3, 0.003, bounded=False), Way("short steps", 0.02, 0.0002, bounded=True))
"""Outputs have no unit in common. Long steps carry pixels and logits far; where coordinates are shares of the image's width, whose
lanes they would throw out of it, and where a loss fails on what is no probability, there are short ones.
"""


@dataclass(frozen=True)
class End:
    """Where outputs end: the best F1@50 that was seen, after how many steps it was, the outputs, and the lanes that they decode to.

    fault: the first that was seen in a lane.
    """

    f1: float
    steps: int
    outputs: Any
    lanes: list[list[Lane]]
    fault: str | None


def round_trip(subject: Subject, arm: Arm) -> str:
    """The outputs that minimise `losses` decode to the labels: encode_targets, losses and decode mean the same lanes.

    The outputs are freed from the network and moved down the gradient of the losses alone, in one way and, where that doesn't lead to
    the labels, in the other. There the further promises of `decode` are looked at.
    """
    gives_lanes(subject)
    detector = subject.build().train()
    batch = subject.batch(detector, count=4)
    with torch.no_grad():
        leaves, tree = pytree.tree_flatten(detector(batch.images))
    if not any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
        raise Unmet("forward gives no float tensor in lists, tuples or mappings; give outputs in those")
    seen: list[str] = []
    ends: list[End] = []
    for way in WAYS:
        try:
            end = _moved(subject, detector, batch, (leaves, tree), way)
        except Unmet:
            raise
        except Exception as error:  # noqa: BLE001 - a loss may refuse outputs that no network gives, and the line says so
            seen.append(f"{way.name} of the outputs end in {told(error)}")
            continue
        seen.append(f"F1@50 {end.f1:.3f} after {end.steps} {way.name} of the outputs")
        ends.append(end)
        if end.f1 >= subject.demands.f1 or end.fault is not None:
            break
    if not ends:
        raise Unmet(f"{'; '.join(seen)}; below {subject.demands.f1}")
    end = max(ends, key=lambda one: one.f1)
    check_again(detector, end.outputs, batch.geometries, end.lanes)
    if end.f1 >= subject.demands.f1 and end.fault is None:
        offset = _offset(subject, batch, end)
        check_decoding(detector, end.outputs, batch.geometries, end.lanes, subject.samples.size)
        return "; ".join([*reversed(seen), *([] if offset is None else [str(offset)])])
    said = end.fault or f"{'; '.join(seen)}; below {subject.demands.f1}"
    if end.f1 < subject.demands.f1:
        labels = [subject.samples.labels[name] for name in batch.ids]
        lanes = [[Lane(points) for lane in image if len(points := _finite(lane)) > 1] for image in end.lanes]
        said += f"; {whereabouts(lanes, labels, batch.geometries, lambda found: _f1(subject, batch, found))}"
    raise Unmet(said)


def _offset(subject: Subject, batch: Batch, end: End) -> Offset | None:
    """How far the lanes are off as a whole. Unmet where that is more than a fault of rounding."""
    offset = offset_of(end.lanes, [subject.samples.labels[name] for name in batch.ids], batch.geometries)
    if offset is not None and offset.systematic:
        raise Unmet(
            f"decoded lanes are {offset}, right of and below the labels where positive: pixel centres are at whole numbers, see "
            "docs/add-a-detector.md"
        )
    return offset


def _f1(subject: Subject, batch: Batch, lanes: Sequence[Sequence[Lane]]) -> float:
    """F1@50 of the lanes of a batch, of those that can be scored."""
    whole = [[lane for lane in image if len(lane) > 1 and np.isfinite(lane.points).all()] for image in lanes]
    return f1_of(subject, [whole[index] for index in np.argsort(batch.ids)])


def _finite(lane: Lane) -> Points:
    return lane.points[np.isfinite(lane.points).all(axis=1)]


def _moved(
    subject: Subject, detector: Detector, batch: Batch, outputs: tuple[list[Any], pytree.TreeSpec], way: Way
) -> End:
    """Where outputs, leaves and structure, can be moved."""
    leaves, tree = outputs
    variables = {
        place: leaf.float().clone().requires_grad_()
        for place, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    }
    inside = [value for value in variables.values() if way.bounded and bool(((value > 0) & (value < 1)).all())]

    def shown() -> Any:
        return pytree.tree_unflatten([variables.get(place, leaf) for place, leaf in enumerate(leaves)], tree)

    optimizer = torch.optim.Adam(list(variables.values()), lr=way.first)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, way.last)
    f1, steps, fault = 0.0, 0, None
    lanes: list[list[Lane]] = []
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        terms = detector.losses(shown(), batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for value in inside:
                value.clamp_(EDGE, 1 - EDGE)
        # Those that have given the labels go on all the same: only at the end of the way can be told how far lanes are off.
        if step % LOOKS == 0 and (f1 < subject.demands.f1 or step == STEPS):
            with torch.no_grad():
                lanes = decoded(detector.eval(), own_copy(shown()), batch.geometries)
            detector.train()
            fault = fault or fault_in(lanes, detector)
            if f1 < subject.demands.f1:
                f1, steps = _f1(subject, batch, lanes), step
    return End(f1, steps, own_copy(shown()), lanes, fault)
