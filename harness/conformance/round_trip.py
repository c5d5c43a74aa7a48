"""The check that `encode_targets`, `losses` and `decode` mean the same lanes, made on outputs that no network gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from detectors.base import Batch, Detector
from harness.conformance.checks import f1_of
from harness.conformance.decoding import check_decoding, check_lanes
from harness.conformance.subject import Arm, Subject, Unmet, told
from harness.inference.predict import decoded

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


def round_trip(subject: Subject, arm: Arm) -> str:
    """The outputs that minimise `losses` decode to the labels: encode_targets, losses and decode mean the same lanes.

    The outputs are freed from the network and moved down the gradient of the losses alone, in one way and, where that doesn't lead to
    the labels, in the other. There the further promises of `decode` are looked at.
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
    order = np.argsort(batch.ids)
    f1 = 0.0
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        terms = detector.losses(shown(), batch)
        torch.stack([term.float() for term in terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for value in inside:
                value.clamp_(EDGE, 1 - EDGE)
        if step % LOOKS == 0:
            with torch.no_grad():
                lanes = decoded(detector.eval(), shown(), batch.geometries)
                check_lanes(lanes, detector)
                f1 = f1_of(subject, [lanes[index] for index in order])
                if f1 >= subject.demands.f1:
                    check_decoding(detector, shown(), batch.geometries, lanes, subject.samples.size)
                    return f1, step
            detector.train()
    return f1, STEPS
