from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from detectors.registry import detector_class, find_adapter
from harness.pytorch.weightless import weightless, weightless_if_possible

MICRO = ("clrnet_micro", "ganet_micro", "lstr_micro", "polylanenet_micro", "scnn_micro", "ufldv2_micro")


@pytest.mark.parametrize("name", MICRO)
def test_a_weightless_network_has_every_name_shape_and_type_of_the_real_one(name: str) -> None:
    meta = find_adapter(name).meta
    with torch.random.fork_rng(devices=[]):
        real = detector_class(name)(meta, "culane")
    with weightless():
        light = detector_class(name)(meta, "culane")
    described = [
        {entry: (tuple(value.shape), value.dtype) for entry, value in network.state_dict().items()}
        for network in (real, light)
    ]
    assert described[0] == described[1]
    assert {parameter.device.type for parameter in light.parameters()} == {"meta"}
    assert [name for name, one in real.named_parameters() if one.requires_grad] == [
        name for name, one in light.named_parameters() if one.requires_grad
    ]


def test_building_without_weights_leaves_the_generator_where_it_is() -> None:
    before = torch.get_rng_state()
    with weightless():
        nn.init.xavier_uniform_(nn.Linear(7, 5).weight)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_fails_without_memory_is_done_with_it_and_only_what_fails_then_is_told() -> None:
    before = torch.get_rng_state()
    assert weightless_if_possible(lambda: nn.Linear(7, 5)).weight.is_meta
    assert weightless_if_possible(lambda: nn.Linear(7, 5).weight.abs().sum().item()) > 0
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        weightless_if_possible(lambda: nn.Linear(7, 5)(torch.zeros(1, 6)).sum().item())
    assert torch.equal(torch.get_rng_state(), before)


FILLED: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming_normal_": nn.init.kaiming_normal_,
    "constant_": lambda tensor: nn.init.constant_(tensor, 3.0),
    "normal_ by name": lambda tensor: nn.init.normal_(tensor=tensor, std=2.0),
    "uniform_": lambda tensor: tensor.uniform_(1, 2),
    "fill_": lambda tensor: tensor.fill_(2),
}


@pytest.mark.parametrize("fill", FILLED.values(), ids=FILLED.keys())
def test_a_tensor_that_asks_for_memory_is_filled_within_as_ever(fill: Callable[[Tensor], Tensor]) -> None:
    with weightless():
        real = torch.zeros(3, 4, device="cpu")
        assert fill(real) is real
        light = torch.zeros(3, 4)
        assert fill(light) is light
    assert (real != 0).all()
    assert light.device.type == "meta"


class Drawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the operations in place that torch is asked for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__.endswith("_"):
            self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_nothing_is_drawn_for_a_tensor_without_memory() -> None:
    with Drawn() as real:
        nn.init.xavier_normal_(torch.empty(2, 3))
    assert real.names == ["normal_"]
    with Drawn() as light, weightless():
        nn.init.xavier_normal_(torch.empty(2, 3))
        nn.init.trunc_normal_(torch.empty(2, 3))
        nn.BatchNorm2d(5)
    # torch 2.11 still asks to multiply, add and clamp, which needs no memory either.
    assert set(light.names) <= {"mul_", "add_", "clamp_"}


def test_what_is_built_afterwards_has_its_weights() -> None:
    with weightless():
        nn.Linear(3, 3)
    assert nn.Linear(3, 3).weight.abs().sum().item() > 0
