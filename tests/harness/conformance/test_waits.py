"""What makes the host wait for a device is counted, and what doesn't isn't."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.conformance.waits import host_waits
from harness.pytorch.constants import constant

HOST = torch.arange(6.0).view(2, 3)

WAITING: dict[str, Callable[[Tensor], object]] = {
    "a number": lambda there: there.sum().item(),
    "an if": lambda there: 1 if there.sum() > 0 else 2,
    "a list": lambda there: there.tolist(),
    "a copy to the host": lambda there: there.cpu(),
    "a copy into a tensor of the host": lambda there: torch.zeros(2, 3).copy_(there),
    "whether two are equal": lambda there: torch.equal(there, there + 1),
    "places": lambda there: there.nonzero(),
    "a choice by one mask": lambda there: torch.where(there > 2),
    "a mask": lambda there: there[there > 2],
    "many numbers put by a mask": lambda there: there.clone().index_put_((there > 2,), there.new_ones(3)),
    "distinct values": lambda there: there.unique(),
    "repeats of unknown length": lambda there: there[0].repeat_interleave(there[0].long()),
    "an index of the host": lambda there: there[:, [0, 2]],
    "numbers of the host": lambda there: torch.tensor([1.0, 2.0], device=there.device),
    "new numbers of the host": lambda there: there.new_tensor([1.0, 2.0]),
    "a tensor of the host": lambda there: HOST.to(there.device),
    "a part set from the host": lambda there: there.clone()[0].copy_(HOST[0]),
}

GOING_ON: dict[str, Callable[[Tensor], object]] = {
    "arithmetic": lambda there: (there * 2 + 1).softmax(dim=1).sum(),
    "numbers chosen": lambda there: torch.where(there > 2, there, 0.0),
    "numbers filled in": lambda there: there.masked_fill(there > 2, 0.0),
    "a number put by a mask": lambda there: there.clone().__setitem__(there > 2, 0.0),
    "slices": lambda there: there[:, 1:].clone(),
    "indices beside it": lambda there: there[:, there[0].long()],
    "repeats of known length": lambda there: there[0].repeat_interleave(there[0].long(), output_size=3),
    "the largest": lambda there: there.topk(2, dim=1).indices,
    "constants": lambda there: there * constant([1.0, 2.0, 3.0], there.device),
    "a batch": lambda there: HOST.to(there.device, non_blocking=True),
    "another type": lambda there: there.double().to(torch.int64),
    "a table beside it": lambda there: there + torch.arange(3, device=there.device),
    "the host's own": lambda there: HOST[HOST > 2].sum().item(),
}


@pytest.mark.parametrize("case", WAITING)
def test_what_reads_or_needs_a_number_of_the_device_waits_once(case: str) -> None:
    with second_device():
        there = HOST.to(SECOND_DEVICE)
        with host_waits() as found:
            WAITING[case](there)
    assert found.total() == 1, found
    assert "test_waits.py:" in next(iter(found)), found


@pytest.mark.parametrize("case", GOING_ON)
def test_what_the_device_can_do_by_itself_does_not(case: str) -> None:
    with second_device():
        there = HOST.to(SECOND_DEVICE)
        with host_waits() as found:
            GOING_ON[case](there)
    assert not found, found


def test_backward_counts_where_it_is_called() -> None:
    class Halting(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, values: Tensor) -> Tensor:
            return values * 2

        @staticmethod
        def backward(ctx: object, gradient: Tensor) -> Tensor:
            return gradient * gradient.sum().item()

    with second_device():
        values = HOST.to(SECOND_DEVICE).requires_grad_()
        with host_waits() as found:
            Halting.apply(values).sum().backward()
    assert found.total() == 1
