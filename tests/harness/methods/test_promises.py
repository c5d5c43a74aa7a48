"""What a method leaves in a detector, and how it lets the detector's parameters train, is held to what it promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectors.base import Detector
from harness.errors import InputError
from harness.methods import promises
from harness.methods.attach import inference_model
from harness.methods.base import ParameterGroup, apart
from harness.methods.baseline import BaselineModel
from harness.methods.config import method_configuration
from harness.methods.promises import check_deployed, check_detector_trains, trained_parameters


def hook(detector: Any) -> None:
    detector.stages[0].register_forward_hook(lambda module, inputs, output: 1.5 * output)


def hook_before(detector: Any) -> None:
    detector.stages[1].register_forward_pre_hook(lambda module, inputs: (1.5 * inputs[0],))


def patch(detector: Any) -> None:
    forward = detector.forward
    detector.forward = lambda images: forward(images.flip(-1))


def smooth(detector: Any) -> None:
    for stage in detector.stages:
        stage.normalization.eps = 0.1


@pytest.fixture
def images(toy: Any) -> Tensor:
    images: Tensor = toy.batch().images
    return images


@pytest.mark.parametrize("leave", [hook, hook_before, patch, smooth])
def test_what_is_left_in_the_trained_detector_alone_is_found(
    toy: Any, images: Tensor, leave: Callable[[Detector], None]
) -> None:
    trained = toy.detector()
    leave(trained)
    with pytest.raises(InputError, match=r"method 'mine': what it trained isn't what is deployed.*up to .*attach\.py"):
        check_deployed(trained, lambda: toy.detector(1), images, method="mine")


def test_a_tensor_that_the_deployed_detector_has_no_place_for_is_found(toy: Any, images: Tensor) -> None:
    trained = toy.detector()
    trained.register_buffer("bank", torch.zeros(4))
    with pytest.raises(InputError, match=r"method 'mine': what it trains doesn't fit .*\"bank\".*attach\.py"):
        check_deployed(trained, toy.detector, images, method="mine")


@pytest.mark.parametrize("kind", ["baseline", "samiro", "attention_only"])
def test_every_method_trains_what_is_deployed(toy: Any, attached: Any, images: Tensor, kind: str) -> None:
    options = {"oracle": "any"} if kind == "samiro" else {}
    model = attached(kind, **options).train()
    configuration = method_configuration(kind, options)
    with torch.no_grad():
        for parameter in model.detector.parameters():
            parameter.add_(0.01)
    before = torch.get_rng_state()
    check_deployed(
        model.inference_model(), lambda: inference_model(toy.detector(1), configuration), images, method=kind
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert model.detector.training


def test_outputs_of_a_gpu_may_differ_by_the_rounding_of_its_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "same_tensor", lambda *_: False)

    class OnGpu(Tensor):
        device = torch.device("cuda")  # type: ignore[assignment]

    first = torch.tensor([1.0, -10.0]).as_subclass(OnGpu)
    assert promises._alike(first, torch.tensor([1.005, -10.0]))
    assert not promises._alike(first, torch.tensor([1.02, -10.0]))


class Grouped(BaselineModel):
    """The baseline with a projection, in groups of its own making."""

    def __init__(self, detector: Detector, group: Callable[[Any], tuple[ParameterGroup, ...]]) -> None:
        super().__init__(detector)
        self.projection = nn.Linear(2, 2)
        self.group = group

    def parameter_groups(self) -> tuple[ParameterGroup, ...]:
        return self.group(self)


def parts(model: Any) -> tuple[tuple[nn.Parameter, ...], tuple[nn.Parameter, ...]]:
    return tuple(model.detector.parameters()), tuple(model.projection.parameters())


def as_promised(model: Any) -> tuple[ParameterGroup, ...]:
    detector, projection = parts(model)
    return ParameterGroup("detector", detector), ParameterGroup("projection", projection, "adamw", 1e-3)


def head_apart(model: Any) -> tuple[ParameterGroup, ...]:
    detector, projection = parts(model)
    return ParameterGroup("detector", detector[:-2]), ParameterGroup("fast", detector[-2:] + projection, "adamw", 1e-3)


def test_the_detectors_own_parameters_stay_in_the_recipes_optimizer(toy: Any) -> None:
    detector = toy.detector()
    before = trained_parameters(detector)
    check_detector_trains(Grouped(detector, as_promised), before)
    # What a method adds to the detector is its own, and may train apart.
    detector.scale = nn.Parameter(torch.ones(()))
    added = Grouped(
        detector,
        lambda model: (
            ParameterGroup("detector", tuple(model.detector.parameters())[1:]),
            ParameterGroup("scale", (model.detector.scale,), "adamw", 1e-3),
        ),
    )
    check_detector_trains(added, before)
    with pytest.raises(InputError, match=r"Grouped.parameter_groups: group 'fast' has the detector's head\.weight"):
        check_detector_trains(Grouped(detector, head_apart), before)


@pytest.mark.parametrize(("frozen", "change", "done"), [(0, False, "freezes"), (1, True, "trains")])
def test_a_method_that_freezes_or_thaws_a_part_of_the_detector_is_refused(
    toy: Any, frozen: int, change: bool, done: str
) -> None:
    detector = toy.detector(frozen=frozen)
    before = trained_parameters(detector)
    detector.stages[0].requires_grad_(change)
    with pytest.raises(InputError, match=rf"BaselineModel: {done} the detector's stages\.0\.convolution\.weight"):
        check_detector_trains(BaselineModel(detector), before)


def test_what_is_drawn_apart_comes_of_the_methods_generator_alone() -> None:
    def drawn(seed: int, global_seed: int) -> tuple[float, float]:
        torch.manual_seed(global_seed)
        with apart(torch.Generator().manual_seed(seed)):
            inside = float(torch.rand(()))
        return inside, float(torch.rand(()))

    torch.manual_seed(3)
    first = float(torch.rand(()))
    assert drawn(1, 3) == (drawn(1, 4)[0], first)
    assert drawn(2, 3)[0] != drawn(1, 3)[0]
    with pytest.raises(KeyError), apart(torch.Generator()):
        raise KeyError


def test_two_passes_apart_draw_differently() -> None:
    generator = torch.Generator().manual_seed(1)
    drawn = []
    for _ in range(2):
        with apart(generator):
            drawn.append(float(torch.rand(())))
    assert drawn[0] != drawn[1]
