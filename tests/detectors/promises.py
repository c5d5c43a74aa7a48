"""What every detector promises, asserted of one: each takes a detector or how to build it, whatever its outputs are called."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from detectors.base import Batch, Detector, tap_module
from detectors.meta import Form
from detectors.registry import detector_class, detector_meta
from harness.lanes import Geometry, Lane
from tests.detectors.roads import FRAME, batch_of, crossing, noise, road

Build = Callable[[int], Detector]
"""A detector from a seed."""


def size_of(name: str, form: Form) -> tuple[int, int]:
    """How many parameters a registered variant has, and how many entries its state dict."""
    with torch.device("meta"):
        detector = detector_class(name)(detector_meta(name), form)
    return sum(parameter.numel() for parameter in detector.parameters()), len(detector.state_dict())


def assert_taps(detector: Detector) -> None:
    """Every tap fires once in a forward pass and delivers what it states."""
    shapes: dict[str, list[tuple[int, ...]]] = {tap.path: [] for tap in detector.taps()}
    handles = [
        tap_module(detector, tap).register_forward_hook(
            lambda module, inputs, output, path=tap.path: shapes[path].append(tuple(output.shape))
        )
        for tap in detector.taps()
    ]
    with torch.no_grad():
        detector(noise(2))
    for handle in handles:
        handle.remove()
    assert shapes == {tap.path: [(2, tap.channels, 128 // tap.stride, 320 // tap.stride)] for tap in detector.taps()}


def assert_one_seed_gives_one_detector(build: Build) -> None:
    """Equal outputs from one seed, and other ones, each of them, from another."""
    with torch.no_grad():
        one, same, other = (tree_leaves(build(seed).eval()(noise(1))) for seed in (0, 0, 1))
    assert all(map(torch.equal, one, same))
    assert not any(map(torch.equal, one, other))


def assert_alike_in_any_batch(detector: Detector) -> None:
    """In evaluation no image changes what is seen in another."""
    with torch.no_grad():
        together = tree_leaves(detector.eval()(noise(3)))
        for index in range(3):
            alone = tree_leaves(detector(noise(3)[index : index + 1]))
            for value, among in zip(alone, together, strict=True):
                torch.testing.assert_close(value[0], among[index], atol=1e-4, rtol=1e-4)


def assert_restored_strictly(build: Build) -> None:
    """The state dict holds all that a trained detector is."""
    source, other = build(0), build(1)
    source(noise(2))  # moves the running statistics
    other.load_state_dict(source.state_dict(), strict=True)
    with torch.no_grad():
        before, after = tree_leaves(source.eval()(noise(2))), tree_leaves(other.eval()(noise(2)))
    assert all(map(torch.equal, before, after))


def finite_terms(detector: Detector, batch: Batch) -> dict[str, float]:
    """The terms of the loss, asserted to be finite scalars with finite gradients."""
    terms = detector.losses(detector(batch.images), batch)
    sum(terms.values(), torch.zeros(())).backward()
    assert all(term.shape == () and torch.isfinite(term) for term in terms.values()), terms
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in detector.parameters())
    detector.zero_grad()
    return {name: float(term.detach()) for name, term in terms.items()}


def unmoved(detector: Detector, batch: Batch, hiding: Iterable[torch.nn.Parameter], least: float = 0.0) -> set[str]:
    """The parameters without a gradient above `least` in a batch.

    hiding: what may start at zero (attention without a say, timm's last normalisation of every block) and hides what lies before it in
    the first step, so it is moved a little beforehand.
    """
    with torch.no_grad():
        for parameter in hiding:
            parameter.add_(0.01)
    sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
    return {name for name, p in detector.named_parameters() if p.grad is None or not p.grad.abs().max() > least}


def learned_by_heart(detector: Detector, steps: int, learning_rate: float) -> float:
    """F1 of eight drawn roads after so many steps on just them: lanes found within 15 px."""
    geometry = detector.geometry_of(FRAME)
    generator = np.random.default_rng(0)
    labels = [road(float(generator.uniform(-120, 120)), float(generator.uniform(-150, 150))) for _ in range(8)]
    labels[3], labels[5] = labels[3][1:3], []
    batch = batch_of(detector, labels, images=drawn(labels, geometry, generator))
    optimizer = torch.optim.AdamW(detector.train().parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        sum(detector.losses(detector(batch.images), batch).values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(detector.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return f1(detector.eval().decode(detector(batch.images), batch.geometries), labels)


def drawn(labels: list[list[Lane]], geometry: Geometry, generator: np.random.Generator) -> torch.Tensor:
    """Noise with bright lines of 5 px where the lanes are."""
    images = generator.integers(0, 120, (len(labels), 3, *geometry.network), dtype=np.uint8)
    columns = np.arange(geometry.network[1])
    for image, lanes in zip(images, labels, strict=True):
        for points in (geometry.to_network(lane.points) for lane in lanes):
            for row in range(geometry.network[0]):
                place = crossing(points, float(row))
                if place is not None:
                    image[:, row, np.abs(columns - place) <= 2.5] = 250
    return torch.from_numpy(images)


def f1(predictions: list[list[Lane]], labels: list[list[Lane]]) -> float:
    """F1 of lanes that are found within 15 px (mean distance in x over a label's rows, of which 80 % have to be there)."""
    matched = 0
    for found, truth in zip(predictions, labels, strict=True):
        for lane in truth:
            matched += any(near(candidate, lane) for candidate in found)
    return 2 * matched / (sum(map(len, predictions)) + sum(map(len, labels)))


def near(candidate: Lane, lane: Lane) -> bool:
    """Whether a lane lies on another."""
    visible = lane.points[(lane.points[:, 0] >= 0) & (lane.points[:, 0] < FRAME[1])]
    places = [crossing(candidate.points, float(y)) for y in visible[:, 1]]
    distances = [abs(place - x) for place, x in zip(places, visible[:, 0], strict=True) if place is not None]
    return len(distances) >= 0.8 * len(visible) and float(np.mean(distances)) < 15
