"""Generators are kept and put back, all of them."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from harness.pytorch.random_state import random_state, set_random_state


def drawn() -> tuple[float, ...]:
    # Two of the normal ones: numpy and Python draw pairs, and keep the second.
    return (
        *(random.gauss(0, 1) for _ in range(3)),
        *np.random.standard_normal(3),
        *torch.randn(3).tolist(),
    )


def test_what_is_drawn_after_it_was_put_back_is_what_was_drawn_before() -> None:
    random.gauss(0, 1), np.random.standard_normal(), torch.randn(1)
    before = random_state()
    first = drawn()
    assert drawn() != first
    set_random_state(before)
    assert drawn() == first


@pytest.mark.parametrize(("then", "now"), [(4, 1), (1, 4), (2, 2), (0, 1)])
def test_a_training_goes_on_where_other_gpus_are_visible(monkeypatch: pytest.MonkeyPatch, then: int, now: int) -> None:
    put: list[tuple[int, int]] = []

    def set_all(states: list[torch.Tensor]) -> None:
        for device, state in enumerate(states):
            if device >= now:
                raise IndexError("tuple index out of range")  # as torch.cuda.default_generators
            put.append((device, int(state)))

    before = random_state() | {"cuda": [torch.tensor(device) for device in range(then)]}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: now)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", set_all)
    set_random_state(before)
    assert put == [(device, device) for device in range(min(then, now))]
