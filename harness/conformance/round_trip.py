"""The check that `encode_targets`, `losses` and `decode` mean the same lanes, made on outputs that no network gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from detectors.base import Batch, Detector
from harness.conformance.checks import check_lanes, f1_of, told
from harness.conformance.subject import Arm, Subject, Unmet

STEPS = 400

LOOKS = 50
"""The outputs are decoded every so many steps, and done when they give the labels."""


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


def round_trip(subject: Subject, arm: Arm) -> str:
    """The outputs that minimise `losses` decode to the labels: encode_targets, losses and decode mean the same lanes.

    The outputs are freed from the network and moved down the gradient of the losses alone, in one way and, where that doesn't lead to
    the labels, in the other.
    """
    detector = subject.build().train()
    batch = subject.batch(detector, count=4)
    with torch.no_grad():
        leaves, tree = pytree.tree_flatten(detector(batch.images))
    if not any(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
        raise Unmet("forward gives no float tensor in lists, tuples or mappings; give outputs in those")
    seen: list[str] = []
    for way in WAYS:
        try:
            f1, steps = _moved(subject, detector, batch, (leaves, tree), way)
        except Unmet:
            raise
        except Exception as error:  # noqa: BLE001 - a loss may refuse outputs that no network gives, and the line says so
            seen.append(f"{way.name} of the outputs end in {told(error)}")
            continue
        seen.append(f"F1@50 {f1:.3f} after {steps} {way.name} of the outputs")
        if f1 >= subject.demands.f1:
            return "; ".join(reversed(seen))
    raise Unmet(f"{'; '.join(seen)}; below {subject.demands.f1}")


def _moved(
    subject: Subject, detector: Detector, batch: Batch, outputs: tuple[list[Any], pytree.TreeSpec], way: Way
) -> tuple[float, int]:
    """The F1@50 to which outputs, leaves and structure, can be moved, and after how many steps."""
    leaves, tree = outputs
    variables: dict[int, Tensor] = {}
    inside: set[int] = set()
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor) and leaf.is_floating_point():
            start = leaf.float().clone()
            if way.bounded and bool(((start > 0) & (start < 1)).all()):
                inside.add(place)
                start = start.logit()
            variables[place] = start.requires_grad_()

    def shown() -> Any:
        free = {place: value.sigmoid() if place in inside else value for place, value in variables.items()}
        return pytree.tree_unflatten([free.get(place, leaf) for place, leaf in enumerate(leaves)], tree)

    optimizer = torch.optim.Adam(list(variables.values()), lr=way.first)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, way.last)
    order = np.argsort(batch.ids)
    f1 = 0.0
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        terms = detector.losses(shown(), batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % LOOKS == 0:
            with torch.no_grad():
                lanes = detector.eval().decode(shown(), batch.geometries)
            detector.train()
            check_lanes(lanes, detector)
            f1 = f1_of(subject, [lanes[index] for index in order])
            if f1 >= subject.demands.f1:
                return f1, step
    return f1, STEPS
