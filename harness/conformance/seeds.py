"""Whether a detector's weights follow the seed: the runs of a row are repetitions only where each starts from weights of its own."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

from harness.conformance.subject import SEED, Subject, Unmet

LOADERS = ((nn.Module, "load_state_dict"), (torch, "load"), (np, "load"))
"""What an adapter calls that starts from a file of its own; its weights may be the same for every seed."""


@dataclass(frozen=True)
class Built:
    """What one seed gave: the weights, where building left the global generators, and whether it loaded any weights."""

    weights: dict[str, Tensor]
    generators: dict[str, Tensor]
    loaded: bool


def check_seeds(subject: Subject) -> None:
    """Raise Unmet where building seeds a global generator, or gives the same weights under two seeds.

    Weights that nobody drew may be the same: constants, and those that `__init__` loads.
    """
    first, second = built(subject, SEED), built(subject, SEED + 1)
    seeded = [name for name, state in first.generators.items() if torch.equal(state, second.generators[name])]
    if seeded:
        raise Unmet(
            f"building the detector seeds the global generator of {' and '.join(seeded)}, so that seeds change nothing; the harness "
            "seeds it before __init__: draw from it, and seed nothing"
        )
    drawn = [
        name for name, value in first.weights.items() if value.numel() and bool((value != value.flatten()[0]).any())
    ]
    same = all(torch.equal(first.weights[name], second.weights[name]) for name in drawn)
    if drawn and same and not first.loaded:
        raise Unmet(
            f"all weights are the same under two seeds, as {drawn[0]!r}; draw them in __init__ from torch's global generator, which "
            "the harness seeds"
        )


def built(subject: Subject, seed: int) -> Built:
    """Build the detector under a seed."""
    with ExitStack() as watched:
        calls = [
            watched.enter_context(mock.patch.object(owner, name, autospec=True, side_effect=getattr(owner, name)))
            for owner, name in LOADERS
        ]
        detector = subject.build(seed)
        loaded = any(call.called for call in calls)
    return Built({name: value.detach() for name, value in detector.named_parameters()}, _generators(), loaded)


def _generators() -> dict[str, Tensor]:
    """The states of the global generators, without how far each has come: another seed gives another one."""
    _, numpy, *_ = np.random.get_state(legacy=True)
    return {
        "random": torch.tensor(random.getstate()[1][:-1]),
        "numpy": torch.from_numpy(np.asarray(numpy).astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
