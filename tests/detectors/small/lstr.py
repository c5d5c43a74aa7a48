"""LSTR as small as its tests build it, and the outputs whose curves lie on the labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from detectors.lstr import LSTR
from tests.detectors.roads import variant


def build(seed: int = 0, **options: Any) -> LSTR:
    torch.manual_seed(seed)
    return LSTR(variant("lstr_micro", **options), "culane")


MICRO = build().eval()


def fitted_curve(places: np.ndarray, rows: np.ndarray) -> list[float]:
    """The curve (k, f, m, n, b1, b2) with one of a few poles that lies best on points, by least squares."""
    curves = []
    for pole in (-0.05, -0.25, -1.0, -4.0):
        basis = np.stack([1 / (rows - pole) ** 2, 1 / (rows - pole), np.ones_like(rows), rows], axis=1)
        k, m, n, b1 = np.linalg.lstsq(basis, places, rcond=None)[0]
        error = float(np.abs(basis @ [k, m, n, b1] - places).max())
        # What b2 takes away, n gives back.
        curves.append((error, [k, pole, m, n + 0.5, b1, 0.5]))
    return min(curves)[1]


def fitted_outputs(targets: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs of one decoder layer whose first queries are sure to be lanes and lie on the labels; the others are none."""
    places, ends = targets["x"].double().numpy(), targets["ends"]
    images, queries, rows = places.shape
    curves, logits = torch.zeros(images, 1, queries, 8), torch.tensor([20.0, 0.0]).repeat(images, 1, queries, 1)
    for image, query in itertools.product(range(images), range(queries)):
        seen = places[image, query] >= 0
        if seen.any():
            curve = fitted_curve(places[image, query, seen], np.linspace(0, 1, rows)[seen])
            curves[image, 0, query] = torch.tensor([*ends[image, query], *curve])
            logits[image, 0, query] = torch.tensor([0.0, 20.0])
    return {"logits": logits, "curves": curves}
