"""What a method leaves in a detector is found, whatever it is, so that its cost at inference is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from detectors.base import Detector, tap_module
from detectors.registry import detector_class, find_adapter
from harness.methods.attach import without_method

MICRO = ("clrnet_micro", "lstr_micro", "resa_micro", "scnn_micro", "ufldv2_micro")


def new(name: str = "ufldv2_micro") -> Detector:
    with torch.random.fork_rng(devices=[]):
        return detector_class(name)(find_adapter(name).meta, "culane").eval()


def scale(detector: Detector) -> None:
    """A learned scale on the last tap."""
    tap = detector.taps()[-1]
    detector.scale = nn.Parameter(torch.tensor(2.0))
    tap_module(detector, tap).register_forward_hook(lambda module, inputs, output: output * detector.scale)


def hook(detector: Detector) -> None:
    tap_module(detector, detector.taps()[0]).register_forward_hook(lambda module, inputs, output: output * 2.0)


def hook_before(detector: Detector) -> None:
    tap_module(detector, detector.taps()[1]).register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2.0,))


def buffer(detector: Detector) -> None:
    detector.register_buffer("prior", torch.ones(3), persistent=False)


def other_activation(detector: Detector) -> None:
    path = next(path for path, module in detector.named_modules() if isinstance(module, nn.ReLU))
    detector.set_submodule(path, nn.Sigmoid())


@pytest.mark.parametrize("leave", [scale, hook, hook_before, buffer, other_activation])
def test_whatever_is_left_is_taken_out_again(leave: Callable[[Detector], None]) -> None:
    detector, images = new(), torch.randint(0, 256, (1, 3, *new().configuration.input.network), dtype=torch.uint8)
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.mul_(1.25)
        expected = detector(images)
        leave(detector)
        before = torch.get_rng_state()
        plain = without_method(detector)
        assert torch.equal(torch.get_rng_state(), before)
        assert plain is not None
        assert not plain.training
        torch.testing.assert_close(plain(images), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", MICRO)
def test_in_a_detector_by_itself_nothing_is_left_and_none_is_built_with_memory(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    detector = new(name)
    lights = []
    real = detector_class(name).__init__

    def remembered(self: Any, *arguments: Any) -> None:
        real(self, *arguments)
        lights.append({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr(detector_class(name), "__init__", remembered)
    assert without_method(detector) is None
    assert lights == [{"meta"}]


def test_a_detector_that_needs_memory_to_be_built_is_built_with_it() -> None:
    class Weighed(detector_class("ufldv2_micro")):  # type: ignore[misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.weight = float(torch.ones(3).sum())

    with torch.random.fork_rng(devices=[]):
        detector = Weighed(find_adapter("ufldv2_micro").meta, "culane")
    assert without_method(detector) is None
    hook(detector)
    assert isinstance(without_method(detector), Weighed)


def test_a_method_that_took_a_tensor_away_is_told_which() -> None:
    detector = new()
    path = next(path for path, module in detector.named_modules() if isinstance(module, nn.BatchNorm2d))
    detector.set_submodule(path, nn.Identity())
    with pytest.raises(RuntimeError, match=rf"Missing key.*{path}\.weight"):
        without_method(detector)
