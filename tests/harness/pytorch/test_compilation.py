"""What torch.compile runs of a network has that network's hooks, whatever else of its class the process compiled before."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.pytorch.compilation import compile_in_place, compiled

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.usefixtures("traced_alone")


class Network(nn.Module):
    """One layer in another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Identity()

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.stem(values) + 1
        return found


def attended() -> Network:
    """A network whose stem is weighed by three in a hook, as attention in the stream is."""
    network = Network()
    network.stem.register_forward_hook(lambda module, taken, given: 3 * given)
    return network


def in_place(network: Network) -> Callable[[Tensor], Tensor]:
    compile_in_place(network)
    return network


@pytest.mark.parametrize("run", [in_place, compiled])
@pytest.mark.parametrize("order", [(Network, attended), (attended, Network)])
def test_networks_of_one_class_run_with_their_own_hooks(run, order) -> None:
    for make in order:
        value = 4 if make is attended else 2
        assert run(make())(torch.ones(2)).tolist() == [value, value]


def test_what_is_compiled_in_place_keeps_names_and_hooks() -> None:
    network = attended()
    names, hooks = list(network.state_dict()), dict(network.stem._forward_hooks)
    compile_in_place(network)
    network(torch.ones(2))
    assert list(network.state_dict()) == names
    assert network.stem._forward_hooks == hooks


def test_nothing_compiles_but_by_way_of_this_module() -> None:
    found = []
    for path in [*ROOT.glob("harness/**/*.py"), *ROOT.glob("detectors/**/*.py"), *ROOT.glob("tests/benchmarks/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "compile":
                of = node.func.value
                if not (isinstance(of, ast.Name) and of.id == "re"):
                    found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert {line.split(":")[0] for line in found} == {"harness/pytorch/compilation.py"}, found
