"""The second device takes what a GPU takes, refuses what a GPU refuses, and computes what the host computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.conformance.second_device import SECOND_DEVICE, MixedDevices, second_device

HOST = torch.arange(6.0).view(2, 3)
"""A tensor of the host."""

REFUSED: dict[str, Callable[[Tensor], object]] = {
    "adding a tensor of the host": lambda there: there + HOST,
    "adding to a tensor of the host": lambda there: HOST.clone().add_(there),
    "adding to a number of the host": lambda there: torch.zeros(()).add_(there.sum()),
    "multiplying by a matrix of the host": lambda there: there @ HOST.T,
    "choosing from a tensor of the host": lambda there: torch.where(there > 0, HOST, there),
    "stacking a number of the host": lambda there: torch.stack([there.sum(), torch.zeros(())]),
    "joining a tensor of the host": lambda there: torch.cat([there, HOST]),
    "indexing the host's by the device's": lambda there: HOST[there.long()[0, :2]],
    "putting more than one number of the host by an index": lambda there: there.index_put(
        (torch.tensor([0]),), HOST[:1]
    ),
    "a table that forgot its device": lambda there: there + torch.arange(3),
    "a loss against the host": lambda there: nn.functional.mse_loss(there, HOST),
    "NumPy": lambda there: there.numpy(),
    "NumPy by itself": lambda there: np.asarray(there),
}

TAKEN: dict[str, Callable[[Tensor], Tensor]] = {
    "adding a number of the host": lambda there: there + torch.tensor(2.0),
    "choosing a number of the host": lambda there: torch.where(there > 2, torch.tensor(9.0), there),
    "filling with a number of the host": lambda there: there.masked_fill(there > 2, torch.tensor(9.0)),
    "indexing by the host": lambda there: there[torch.tensor([1, 0])],
    "masking by the host": lambda there: there[HOST > 2],
    "putting a number of the host by an index": lambda there: there.index_put((torch.tensor([0]),), torch.tensor(7.0)),
    "a table beside it": lambda there: there + torch.arange(3, device=there.device),
    "numbers beside it": lambda there: there * torch.tensor([1.0, 2.0, 3.0], device=there.device),
    "a list beside it": lambda there: there * torch.as_tensor([1.0, 2.0, 3.0], device=there.device),
    "an array beside it": lambda there: there + torch.from_numpy(np.ones(3, np.float32)).to(there.device),
    "new ones of its kind": lambda there: (
        there + there.new_tensor([1, 2, 3]) + there.new_ones(3) + torch.zeros_like(there)
    ),
    "a copy from the host": lambda there: there.clone().copy_(HOST + 1),
    "a part set from the host": lambda there: _set(there.clone()),
    "views": lambda there: there.view(3, 2).T[:, 1:].contiguous(),
    "there and back": lambda there: there.cpu().to(there.device),
}


def _set(there: Tensor) -> Tensor:
    there[0] = torch.ones(3)
    return there


@pytest.mark.parametrize("operation", REFUSED.values(), ids=REFUSED)
def test_what_a_gpu_refuses_is_refused(operation: Callable[[Tensor], object]) -> None:
    with second_device(), pytest.raises(MixedDevices):
        operation(HOST.to(SECOND_DEVICE))


@pytest.mark.parametrize("operation", TAKEN.values(), ids=TAKEN)
def test_what_a_gpu_takes_is_taken_stays_there_and_is_what_the_host_computes(
    operation: Callable[[Tensor], Tensor],
) -> None:
    with second_device():
        result = operation(HOST.to(SECOND_DEVICE))
        assert result.device == SECOND_DEVICE
        assert torch.equal(result.cpu(), operation(HOST.clone()))


def test_numbers_and_lists_can_be_read_from_there() -> None:
    with second_device():
        there = HOST.to(SECOND_DEVICE)
        assert float(there.sum()) == 15
        assert bool((there >= 0).all())
        assert there.tolist() == HOST.tolist()
        assert [int(row.sum()) for row in there] == [3, 12]


def test_a_network_learns_there_what_it_learns_on_the_host() -> None:
    def network() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))

    def learned(network: nn.Module, device: torch.device) -> list[Tensor]:
        images = torch.linspace(-1, 1, 2 * 3 * 8 * 8).view(2, 3, 8, 8).to(device)
        network(images)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            network(images).square().sum().backward()
            optimizer.step()
        return [*network.parameters(), *network.buffers()]

    expected = learned(network(), torch.device("cpu"))
    with second_device():
        found = learned(network().to(SECOND_DEVICE), SECOND_DEVICE)
        assert {value.device for value in found} == {SECOND_DEVICE}
        for mine, other in zip(found, expected, strict=True):
            torch.testing.assert_close(mine.detach().cpu(), other.detach())


def test_a_module_moves_with_its_parameters_and_without_what_it_hides() -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.known = [self.first.weight]
            self.register_buffer("mean", torch.zeros(3))
            self.hidden = torch.zeros(3)

        def forward(self, values: Tensor) -> Tensor:
            shared: Tensor = self.second(self.first(values)) @ self.known[0]
            return shared - self.mean

    module = Hiding()
    with second_device():
        module.to(SECOND_DEVICE)
        there = HOST.to(SECOND_DEVICE)
        assert module.first.weight is module.second.weight
        assert module(there).device == SECOND_DEVICE
        with pytest.raises(MixedDevices, match="of the host"):
            module(there) - module.hidden
    assert torch.__future__.get_swap_module_params_on_conversion() is False


def test_afterwards_torch_is_as_before() -> None:
    with second_device():
        pass
    assert torch.tensor([1.0]).tolist() == [1.0]
    assert type(HOST + 1) is Tensor
