"""The global random generators, all of them, kept and put back; and seeds for draws that must be none of theirs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

METHODS, ORACLES = 0x5A, 0x0C
"""Whose draws `seed_apart` gives a seed to."""


def seed_apart(seed: int, whose: int) -> int:
    """A seed for draws that are none of those that `seed` itself gives detectors and data, nor those of another `whose`.

    One seed given to torch twice gives two networks that begin with the same layers the same weights.
    """
    return int(np.random.default_rng([seed, whose]).integers(2**62))


def random_state(own: torch.Generator | None = None) -> dict[str, Any]:
    """The state of all global generators, and of one more (of the CPU) where it is given, as tensors and plain numbers."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": {"version": version, "words": list(words), "gauss": gauss},
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "cached": float(cached),
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    } | ({} if own is None else {"own": own.get_state()})


def set_random_state(state: dict[str, Any], own: torch.Generator | None = None) -> None:
    """Put the global generators, and `own` where it is given, where `random_state` found them. KeyError where it found no such one.

    Of CUDA devices those that both then and now are visible, in their order: a process computes on the first.
    """
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"]), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
    if own is not None:
        own.set_state(state["own"])


def drawn_between(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Which of the generators (`python`, `numpy`, `torch`, `cuda`) two results of `random_state` differ in."""
    return [name for name in ("python", "numpy", "torch", "cuda") if not _equal(before[name], after[name])]


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return all(_equal(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(_equal(*pair) for pair in zip(one, other, strict=True))
    return bool(one == other)


@contextmanager
def kept_random_state(seed: int | None = None) -> Iterator[None]:
    """Afterwards the global generators are where they were before; with a seed (below 2**32) they begin at that meanwhile."""
    before = random_state()
    try:
        if seed is not None:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
        yield
    finally:
        set_random_state(before)
