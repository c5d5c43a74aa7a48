"""Whether a detector's weights follow the seed: the runs of a row are repetitions only where each starts from weights of its own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness.conformance.subject import SEED, Subject, Unmet
from harness.pytorch.random_state import random_state

OTHER_SEED = SEED + 1

LOADERS = ((nn.Module, "load_state_dict"), (torch, "load"), (np, "load"))
"""What an adapter that starts from a file of its own calls; its weights may be the same for every seed."""


def follows_the_seed(subject: Subject) -> None:
    """Raise Unmet where building seeds a global generator, or gives the same weights under two seeds.

    Weights that nobody drew are excused: constants, and those that `__init__` loads.
    """
    (first, after), (second, after_other), loaded = *_both(subject), _loads(subject)
    seeded = [name for name, state in after.items() if _same(state, after_other[name])]
    if seeded:
        raise Unmet(
            f"building the detector seeds the global generator of {' and '.join(seeded)}: every seed would start from the same "
            "weights; the harness seeds it before __init__, so draw from it and leave it be"
        )
    drawn = [name for name, value in first.items() if value.is_floating_point() and value.numel() and _varies(value)]
    if drawn and not loaded and all(torch.equal(first[name], second[name]) for name in drawn):
        raise Unmet(
            f"all weights are the same under two seeds, as {drawn[0]!r}; draw them in __init__ from torch's global generator, which the "
            "harness seeds, by no generator with a seed of its own"
        )


def _both(subject: Subject) -> Iterator[tuple[dict[str, Tensor], dict[str, Any]]]:
    """Of a build under each of two seeds: the weights, and where it left the global generators."""
    for seed in (SEED, OTHER_SEED):
        weights = dict(subject.build(seed).named_parameters())
        yield {name: value.detach() for name, value in weights.items()}, _generators()


def _generators() -> dict[str, Any]:
    return {"random": random.getstate(), "numpy": np.random.get_state()[1], "torch": torch.get_rng_state()}
