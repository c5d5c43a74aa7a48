"""How far ours and upstream's are apart in each layer of the comparison, and whether that is near enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from detectors.upstream.reference import Difference, Polyline
from harness.parity.lanes import compared

Outcome = Literal["agrees", "documented", "differs", "unavailable"]
"""Within the tolerance; beyond it, as a documented difference says; beyond what is allowed; not compared, for a reason."""

IMAGE = 0.5
"""Mean difference in grey levels."""

RAW = 1e-4
LOSS = 1e-4
"""Relative, or `MOVED` times what upstream's own moves by under `DISTURBANCE`, where that is more: statistics of small
batches, layer upon layer, carry rounding far.
"""

GRADIENT = 1e-2
"""Of the length of the difference to upstream's length, or `MOVED` times what upstream's own gradient moves by, where that is more."""

DISTURBANCE = 1e-5
MOVED = 3.0
"""Rectifiers near zero open or close by rounding, so that the gradient of a deep network jumps. Its images are disturbed by this share
of their values, about what rounding does to the outputs; so many times as far as upstream's gradient then moves ours may be from it.
"""

DRAWS = 5
"""Disturbances, of which the one that moves upstream's own furthest counts. A normal draw is more than `MOVED` times another in every
fifth case, the largest of five in one of two hundred.
"""

Draws = Callable[[], Iterable[Mapping[str, Tensor]]]
"""Gives upstream's tensors of images that are disturbed anew each time; called where ours are further away than the plain tolerance."""

LANES = 0.1
"""Pixels of the original frame."""


@dataclass(frozen=True)
class Layer:
    """One layer of one detector. value: how far apart, in `unit`; None where nothing could be compared. detail: what was seen."""

    name: str
    outcome: Outcome
    value: float | None
    tolerance: float | None
    unit: str
    detail: str = ""


def judged(
    name: str, value: float, tolerance: float, unit: str, detail: str, differences: Mapping[str, Difference]
) -> Layer:
    """The layer with its outcome: by the tolerance, and beyond it by the documented difference, where there is one."""
    if value <= tolerance:
        return Layer(name, "agrees", value, tolerance, unit, detail)
    documented = differences.get(name)
    if documented is None:
        return Layer(name, "differs", value, tolerance, unit, detail)
    within = documented.within is None or value <= documented.within
    return Layer(name, "documented" if within else "differs", value, documented.within, unit, detail)


def incomparable(name: str, detail: str) -> Layer:
    """A layer in which the two can't even be compared, for which nothing is an excuse."""
    return Layer(name, "differs", None, None, "", detail)


def only_one(name: str, theirs: Mapping[str, object]) -> str:
    """Whose it is."""
    return f"only {'upstream' if name in theirs else 'ours'} has {name}"


def image_layer(
    theirs: Tensor, ours: Tensor, reversed_ours: Tensor, grey: Tensor, differences: Mapping[str, Difference]
) -> Layer:
    """Prepared images (B, 3, h, w): upstream's, ours, ours with the channels the other way round. grey: of each channel, what one
    grey level is in them.

    Where ours is nearer with its channels reversed, their order is wrong, and the layer differs whatever the tolerance.
    """
    if theirs.shape != ours.shape:
        return incomparable("image", f"{shape(theirs)} upstream, {shape(ours)} ours")
    apart = ((theirs - ours) / grey).abs()
    turned = float(((theirs - reversed_ours) / grey).abs().mean())
    value = float(apart.mean())
    detail = (
        f"{100 * float((apart > 1.5).float().mean()):.2g} % of values differ by more than one level, the largest by "
        f"{float(apart.max()):.0f}; mean with channels reversed {turned:.2g}"
    )
    if turned <= value:
        return Layer("image", "differs", value, IMAGE, "grey levels", f"order of channels: {detail}")
    return judged("image", value, IMAGE, "grey levels", detail, differences)


def raw_layers(
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    moved: Draws,
    differences: Mapping[str, Difference],
) -> list[Layer]:
    """The largest difference of each tensor as a share of its largest magnitude. moved: upstream's of disturbed images."""
    layers = []
    for name in _names(theirs, ours):
        if name in theirs and name in ours:
            layers.append(_raw_layer(name, theirs[name].double(), ours[name].double(), moved, differences))
        else:
            layers.append(incomparable(f"raw {name}", only_one(name, theirs)))
    return layers


def _raw_layer(
    name: str,
    theirs: Tensor,
    ours: Tensor,
    moved: Draws,
    differences: Mapping[str, Difference],
) -> Layer:
    layer = f"raw {name}"
    if theirs.shape != ours.shape:
        return incomparable(layer, f"{shape(theirs)} upstream, {shape(ours)} ours")
    if not theirs.isfinite().all() or theirs.max() == theirs.min():
        return incomparable(layer, f"{shape(theirs)}: upstream's says nothing, it is constant or not finite")
    largest = float(theirs.abs().max())
    value, detail, tolerance = (
        float((theirs - ours).abs().max()) / largest,
        f"{shape(theirs)}, largest {largest:.3g}",
        RAW,
    )
    if value > RAW and layer not in differences:
        by_itself = furthest(float((theirs - one[name].double()).abs().max()) / largest for one in moved())
        detail, tolerance = f"{detail}; upstream's own moves by {by_itself:.2g}", widened(RAW, by_itself)
    return judged(layer, value, tolerance, "relative", detail, differences)


def gradient_layer(
    theirs: Tensor, ours: Tensor, moved: Callable[[], Iterable[Tensor]], differences: Mapping[str, Difference]
) -> Layer:
    """Two gradients, by direction and length. moved: upstream's of disturbed images, called as `Draws` is."""
    length = float(theirs.norm())
    if theirs.shape != ours.shape or not length:
        return incomparable("gradient", f"{shape(theirs)} upstream, {shape(ours)} ours; upstream's length {length:.3g}")
    detail, tolerance = f"{shape(theirs)}, length {length:.3g}", GRADIENT
    value = float((theirs - ours).norm()) / length
    if not value <= GRADIENT:
        by_itself = furthest(float((theirs - one).norm()) / length for one in moved())
        detail, tolerance = f"{detail}; upstream's own moves by {by_itself:.2g}", widened(GRADIENT, by_itself)
    return judged("gradient", value, tolerance, "relative", detail, differences)


def lanes_layer(
    name: str,
    theirs: Sequence[Sequence[Polyline]],
    ours: Sequence[Sequence[Polyline]],
    differences: Mapping[str, Difference],
) -> Layer:
    """Lanes of some images, in the same pixels: as many in each, and how far upstream's points are from ours at most."""
    found = compared(theirs, ours)
    detail = f"{found.matched} lanes with {found.points} points in {len(theirs)} images"
    if found.unmatched:
        return incomparable(name, f"{detail}; {found.unmatched} lanes have no counterpart")
    if not found.matched:
        return incomparable(name, "no lane on either side: nothing was compared")
    return judged(name, found.largest, LANES, "px", f"{detail}, mean {found.mean:.2g} px", differences)


def loss_layers(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], moved: Draws, differences: Mapping[str, Difference]
) -> list[Layer]:
    """Each term by itself. moved: upstream's of disturbed images, by which its own rounding is known."""
    layers = []
    for name in _names(theirs, ours):
        if name in theirs and name in ours:
            value, tolerance = _loss(name, theirs, ours, moved)
            detail = f"{float(theirs[name].detach()):.5g}"
            layers.append(judged(f"loss {name}", value, tolerance, "relative", detail, differences))
        else:
            layers.append(incomparable(f"loss {name}", only_one(name, theirs)))
    return layers


def worst_loss(
    labels: str,
    theirs: Mapping[str, Tensor],
    ours: Mapping[str, Tensor],
    moved: Draws,
    differences: Mapping[str, Difference],
) -> Layer:
    """All terms of one set of unusual labels as one layer: the one that is furthest apart.

    Ours have to be finite, whatever is documented, and terms that a documented difference isn't about have to agree. moved: upstream's
    of disturbed images.
    """
    name = f"losses, {labels}"
    odd = set(theirs) ^ set(ours)
    if odd:
        return incomparable(name, f"only one side has {', '.join(sorted(odd))}")
    if broken := sorted(term for term, value in ours.items() if not bool(value.detach().isfinite().all())):
        return incomparable(name, f"ours isn't finite: {', '.join(broken)}")
    documented = differences.get(name)
    about = set() if documented is None else set(documented.terms) or set(theirs)
    detail = ", ".join(f"{term} {float(value.detach()):.4g}" for term, value in theirs.items())

    def layer(terms: set[str], known: Mapping[str, Difference]) -> Layer:
        apart = {term: _loss(term, theirs, ours, moved) for term in theirs if term in terms}
        worst = max(apart, key=lambda term: apart[term][0] / apart[term][1])
        return judged(name, *apart[worst], "relative", f"{detail}; furthest: {worst}", known)

    plain = set(theirs) - about
    layers = [layer(terms, known) for terms, known in ((plain, {}), (about & set(theirs), differences)) if terms]
    return next((one for one in layers if one.outcome == "differs"), layers[-1])


def _loss(term: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], moved: Draws) -> tuple[float, float]:
    """How far apart the two of a term are, and how far they may be."""
    value = relative(theirs[term], ours[term])
    if value <= LOSS or not np.isfinite(value):
        return value, LOSS
    return value, widened(LOSS, furthest(relative(theirs[term], one[term]) for one in moved()))


def furthest(distances: Iterable[float]) -> float:
    """The largest of those that are finite, 0 where none is: what isn't finite excuses nothing."""
    return max((distance for distance in distances if np.isfinite(distance)), default=0.0)


def widened(tolerance: float, by_itself: float) -> float:
    """The tolerance, or `MOVED` times what upstream's own moves by where that is more."""
    return max(tolerance, MOVED * by_itself)


def relative(theirs: Tensor, ours: Tensor) -> float:
    """The difference of two numbers as a share of the larger; infinite where one isn't finite."""
    first, second = float(theirs.detach()), float(ours.detach())
    if not (np.isfinite(first) and np.isfinite(second)):
        return float("inf")
    return abs(first - second) / max(abs(first), abs(second), 1e-12)


def shape(tensor: Tensor) -> str:
    """As a text, 2x3x288x800."""
    return "x".join(map(str, tensor.shape)) or "a number"


def _names(theirs: Mapping[str, object], ours: Mapping[str, object]) -> list[str]:
    return list(dict.fromkeys([*theirs, *ours]))
