"""Any timm network is a student through its taps alone: maps, maps with the channels last, and tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detectors.base import Batch, Detector, Tap, normalise
from detectors.meta import Configuration, DetectorMeta, InputSize, Recipe
from harness.errors import InputError
from harness.inference.export import export_detector
from harness.lanes import Geometry, Lane
from harness.methods.attach import inference_model
from harness.methods.config import method_configuration
from harness.methods.taps import tap_grids
from harness.pytorch.torchvision_guard import ensure_torchvision

SIZE = (64, 128)

STUDENTS: dict[str, tuple[str, dict[str, Any], tuple[Tap, ...]]] = {
    "convnext": (
        "convnext_atto",
        {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
        tuple(Tap(f"network.stages.{n}", 8 * (n + 1), 4 * 2**n) for n in range(4)),
    ),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 12, "depths": (1, 1, 1), "num_heads": (1, 2, 4), "window_size": 4, "img_size": SIZE},
        tuple(Tap(f"network.layers.{n}", 12 * 2**n, 4 * 2**n, "nhwc") for n in range(3)),
    ),
    "vit": (
        "vit_tiny_patch16_224",
        {"embed_dim": 12, "depth": 3, "num_heads": 2, "img_size": SIZE, "reg_tokens": 2},
        tuple(Tap(f"network.blocks.{n}", 12, 16, "tokens", 3) for n in range(3)),
    ),
}
"""timm model, options that make it tiny, and its taps."""


def meta_of(name: str) -> DetectorMeta:
    recipe = Recipe(optimizer="sgd", learning_rate=0.1, schedule="constant", steps=10, batch_size=2)
    return DetectorMeta(
        name=name, paper="none", year=2020, family="row-wise", backbone=name, upstream="none", licence="none",
        configurations={"culane": Configuration(input=InputSize(frame=SIZE, crop=(0, 0, *SIZE), network=SIZE), recipe=recipe)},
    )  # fmt: skip


class Student(Detector):
    """A timm network with a linear head. Nothing in it knows of methods."""

    metas: ClassVar = {name: meta_of(name) for name in STUDENTS}

    def __init__(self, meta: DetectorMeta, stated: tuple[Tap, ...] | None = None) -> None:
        super().__init__(meta, "culane")
        ensure_torchvision()
        import timm

        model, options, taps = STUDENTS[meta.name]
        self.network: Any = timm.create_model(model, pretrained=False, num_classes=0, **options)
        self.head = nn.Linear(self.network.num_features, 1)
        self.stated = stated or taps

    def taps(self) -> tuple[Tap, ...]:
        return self.stated

    def encode_targets(self, lanes: Sequence[Lane], geometry: Geometry) -> dict[str, Any]:
        return {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"x": self.head(self.network(normalise(images, self.meta.normalisation)))[:, 0]}

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        return {"x": (outputs["x"].float() - batch.targets["x"]).square().mean()}

    def decode(self, outputs: dict[str, Tensor], geometries: Sequence[Geometry]) -> list[list[Lane]]:
        return [[Lane(np.array([[x, 31.0], [x, 0.0]], np.float32), 1.0)] for x in outputs["x"].tolist()]


def student(name: str, stated: tuple[Tap, ...] | None = None) -> Student:
    torch.manual_seed(0)
    return Student(Student.metas[name], stated)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return Batch(
        images=torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8, generator=generator),
        targets={"x": torch.rand(2, generator=generator)},
        lanes=torch.zeros(2, 1, 2, 2),
        lane_counts=torch.ones(2, dtype=torch.int64),
        point_counts=torch.full((2, 1), 2),
        geometries=(Geometry(SIZE, (0, 0, *SIZE), SIZE, np.eye(3)),) * 2,
        ids=("0", "1"),
    )


def model_of(toy: Any, detector: Student, **options: Any) -> Any:
    """The detector in SAMIRO, with projections and gates off their zero start."""
    from harness.methods.attach import attach
    from harness.methods.pairing import tap_pairs
    from harness.methods.statistics import target_statistics

    configuration = method_configuration("samiro", {"oracle": "o", **options})
    assert configuration.kind == "samiro"
    oracle = toy.oracle()
    statistics = target_statistics(oracle, tap_pairs(detector, oracle, configuration), configuration, [batch().images])
    generator = torch.Generator().manual_seed(1)
    model: Any = attach(detector, configuration, oracle=oracle, statistics=statistics, generator=generator)
    with torch.no_grad():
        for pair in model.regularizer.pairs:
            pair.projection.weight.normal_(0, 0.5, generator=generator)
        for attention in model.detector.spatial_attention.values():
            attention.convolution.weight.normal_(0, 0.05, generator=generator)
    return model


@pytest.mark.parametrize("name", list(STUDENTS))
def test_a_timm_student_trains_and_is_deployed_through_its_taps_alone(name: str, toy: Any) -> None:
    plain = student(name).eval()
    images = batch().images
    with torch.no_grad():
        before = plain(images)["x"]
    model = model_of(toy, student(name))
    losses = model(batch())
    torch.stack(list(losses.values())).sum().backward()
    unreached = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached
    for tap in model.detector.taps():
        module = model.detector.get_submodule(tap.path)
        assert sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None) > 0
    deployed = inference_model(student(name), method_configuration("samiro", {"oracle": "o"}))
    deployed.load_state_dict(model.inference_model().state_dict())
    with torch.no_grad():
        after = deployed.eval()(images)["x"]
        assert torch.equal(after, model.inference_model().eval()(images)["x"])
    # The gates are off their start, so what the stages pass on has changed.
    assert not torch.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("name", list(STUDENTS))
def test_attention_gates_the_cells_in_the_layout_and_leaves_prefix_tokens(name: str, toy: Any) -> None:
    model = model_of(toy, student(name))
    tap = model.detector.taps()[1]
    attention = next(iter(list(model.detector.spatial_attention.values())[1:]))
    output = {
        "nchw": torch.rand(2, tap.channels, 8, 16),
        "nhwc": torch.rand(2, 8, 16, tap.channels),
        "tokens": torch.rand(2, 3 + 4 * 8, tap.channels),
    }[tap.layout]
    with torch.no_grad():
        gated = attention.replace_output(nn.Identity(), (), output)
    cells, old = (gated[:, 3:], output[:, 3:]) if tap.layout == "tokens" else (gated, output)
    axis = 1 if tap.layout == "nchw" else -1
    ratio = cells / old
    torch.testing.assert_close(ratio, ratio.mean(axis, keepdim=True).expand_as(ratio), rtol=1e-3, atol=1e-3)
    assert float(ratio.std()) > 1e-3
    if tap.layout == "tokens":
        assert torch.equal(gated[:, :3], output[:, :3])


@pytest.mark.parametrize("name", list(STUDENTS))
def test_any_stages_and_a_multiple_of_the_learning_rate(name: str, toy: Any) -> None:
    taps = STUDENTS[name][2]
    detector = student(name)
    paths = [taps[2].path, taps[0].path]
    model = model_of(toy, detector, taps=paths, learning_rate=None, learning_rate_multiplier=5)
    assert [tap.path for tap in model.taps.used] == [taps[0].path, taps[2].path]
    assert len(model.regularizer.pairs) == len(model.detector.spatial_attention) == 2
    rates = {group.name: group.learning_rate for group in model.parameter_groups()}
    assert rates["regularizer"] == pytest.approx(5 * detector.configuration.recipe.learning_rate)
    assert "mutual_information" in model(batch())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext", "swin", "vit"])
def test_a_student_of_another_layout_is_exported_with_its_attention(name: str, toy: Any, tmp_path: Path) -> None:
    detector = model_of(toy, student(name)).inference_model()
    facts = export_detector(detector, tmp_path / "network.onnx", checkpoint_sha256="0" * 64, name="network.onnx")
    assert facts["outputs"] == ["x"]
    assert facts["network"] == list(SIZE)


def test_cells_of_merged_patches_lie_at_the_centre_of_their_pixels(toy: Any) -> None:
    detector = student("swin")
    grids = tap_grids(detector, detector.taps())
    for grid, stride in zip(grids, (4, 8, 16), strict=True):
        assert (grid.rows.stride, grid.rows.offset) == (stride, (stride - 1) / 2)
        assert grid.shape == (SIZE[0] // stride, SIZE[1] // stride)


def test_grids_leave_what_a_forward_counts_as_it_was(toy: Any) -> None:
    detector = student("swin")
    detector.register_buffer("seen", torch.zeros(()))
    detector.register_forward_pre_hook(lambda module, images: module.seen.add_(1) and None)
    tap_grids(detector, detector.taps())
    assert detector.seen == 0
    detector(torch.zeros(1, 3, *SIZE, dtype=torch.uint8))
    assert detector.seen == 1


def changed(name: str, **fields: Any) -> tuple[Tap, ...]:
    from dataclasses import replace

    first, *others = STUDENTS[name][2]
    return (replace(first, **fields), *others)


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("convnext", {"path": "network.stage.0"}, "mend the path"),
        ("convnext", {"layout": "nhwc"}, "layout nhwc"),
        ("swin", {"stride": 8}, "states stride 8, but its cells lie 4 x 4 px apart"),
        ("vit", {"prefix_tokens": 1}, "34 tokens don't lie on 4 x 8 cells"),
        ("vit", {"stride": 12}, "tokens don't lie on 5 x 10 cells"),
    ],
)
def test_a_tap_that_does_not_fit_is_refused_in_one_line(
    name: str, fields: dict[str, Any], message: str, toy: Any
) -> None:
    detector = student(name, changed(name, **fields))
    with pytest.raises(InputError) as caught:
        model_of(toy, detector)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
