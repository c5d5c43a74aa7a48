"""The gate of an oracle: probes, their labels, and the figure that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from detectors.base import Tap
from harness.datasets.base import Frame
from harness.errors import InputError
from harness.lanes import Lane
from harness.methods.config import OracleConfiguration
from harness.methods.registration import Axis, Grid
from harness.training import gate as module
from harness.training.gate import average_precision, lane_cells, precisions, probe_gate, scores_of
from harness.training.pretraining import pretrain

CPU = torch.device("cpu")


@dataclass
class Painted:
    """A dataset of black frames with one white line each, every frame a clip of its own."""

    root: Path
    count: int = 12
    empty: bool = False

    def frames(self, split: str) -> tuple[Frame, ...]:
        assert split == "train", "the gate may look at the training split alone"
        for index in range(self.count):
            picture = np.zeros((128, 192, 3), np.uint8)
            for lane in self.lines(index):
                cv2.line(picture, *(tuple(map(int, point)) for point in lane.points), (255, 255, 255), 5)
            cv2.imwrite(str(self.root / f"{index}.png"), picture)
        return tuple(Frame(f"{i}.png", self.root / f"{i}.png", None, str(i)) for i in range(self.count))

    def lines(self, index: int) -> list[Lane]:
        random = np.random.default_rng(index)
        return [Lane(np.array([[random.integers(192), 127], [random.integers(192), 20]], np.float32))]

    def lanes(self, frame: Frame) -> list[Lane]:
        return [] if self.empty else self.lines(int(frame.image.stem))


def test_cells_are_those_that_a_lane_passes_through() -> None:
    grid = Grid(Axis(4, 8, 3.5), Axis(6, 8, 3.5))
    straight = Lane(np.array([[10, 31], [10, 0]], np.float32))
    expected = np.zeros((4, 6), bool)
    expected[:, 1] = True
    assert np.array_equal(lane_cells([straight], grid), expected)
    beyond = Lane(np.array([[-50, 3], [500, 3]], np.float32))
    assert np.array_equal(lane_cells([beyond], grid).sum(1), [6, 0, 0, 0])
    assert not lane_cells([Lane(np.zeros((0, 2), np.float32))], grid).any()
    # Cells of a ResNet are centred at multiples of the stride: the same lane is nearest to other ones.
    assert np.array_equal(lane_cells([straight], Grid(Axis(4, 8, 0), Axis(6, 8, 0)))[0], [0, 1, 0, 0, 0, 0])


def test_a_lane_passes_over_no_pixel_from_its_first_to_its_last() -> None:
    points = module.dense(np.array([[3, 31], [10, 9], [10, 4]], np.float32))
    assert np.abs(np.diff(points, axis=0)).max() <= 1
    assert [points[0].tolist(), points[-1].tolist()] == [[3, 31], [10, 4]]


def test_average_precision_is_the_textbooks() -> None:
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
    assert average_precision(scores, torch.tensor([1.0, 0, 1, 0, 0])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(scores, torch.tensor([1.0, 1, 0, 0, 0])) == 1.0
    assert average_precision(scores, torch.zeros(5)) == 0.0


def test_a_probe_finds_a_linear_boundary_and_nothing_where_there_is_none() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4000, 6, generator=generator)
    labels = (features @ torch.tensor([1.0, -2, 0, 0.5, 0, 0]) > 2).float()
    halves = [(features[:2000], labels[:2000]), (features[2000:], labels[2000:])]
    assert average_precision(*scores_of(*halves)) > 0.98
    noise = [(torch.randn(2000, 6, generator=generator), labels) for _, labels in halves]
    assert average_precision(*scores_of(*noise)) == pytest.approx(float(labels.mean()), abs=0.05)


def test_probes_are_judged_on_frames_that_they_were_not_fitted_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The features of every cell are its frame's number: they show which frames a probe was given."""

    class Numbers(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.anything = torch.nn.Parameter(torch.zeros(()))

        def grids(self, size: tuple[int, int]) -> tuple[Grid, ...]:
            return (Grid(Axis(2, 4, 1.5), Axis(3, 4, 1.5)),)

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (images[:, :1, :2, :3].float(),)

    given: list[tuple[torch.Tensor, torch.Tensor]] = []

    def kept(*parts: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        given.extend(parts)
        return scores_of(*parts)

    monkeypatch.setattr(module, "scores_of", kept)
    monkeypatch.setattr(module, "BATCH", 2)
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 8, 12)
    # Of frames 2 and 3 alone the first column of cells has a lane.
    lanes = tuple((Lane(np.array([[1, 7], [1, 0]], np.float32)),) * (number in (2, 3)) for number in range(5))
    precisions(Numbers(), module.Labelled(images, lanes, (1, 3)), (0,))  # type: ignore[arg-type]
    (fitted, of_fitted), (judged, of_judged) = given
    assert sorted(fitted.flatten().tolist()) == [0.0] * 6 + [2.0] * 6 + [4.0] * 6
    assert sorted(judged.flatten().tolist()) == [1.0] * 6 + [3.0] * 6
    assert fitted[of_fitted.bool()].flatten().tolist() == [2.0, 2.0]
    assert judged[of_judged.bool()].flatten().tolist() == [3.0, 3.0]


@pytest.mark.parametrize(
    ("columns", "with_lanes", "said"),
    [
        ((1,), {0, 2, 4}, "a lane passes through none of the 12 cells of 4 px that a probe is judged on"),
        ((1,), {1, 3}, "a lane passes through none of the 18 cells of 4 px that a probe is fitted to"),
        ((1, 5, 9), {0, 1, 2, 3, 4}, "a lane passes through all of the 18 cells of 4 px that a probe is fitted to"),
    ],
)
def test_cells_that_are_all_alike_give_no_precision(columns: tuple[int, ...], with_lanes: set[int], said: str) -> None:
    columns_of_lanes = tuple(Lane(np.array([[column, 7], [column, 0]], np.float32)) for column in columns)
    lanes = tuple(columns_of_lanes if number in with_lanes else () for number in range(5))
    labelled = module.Labelled(torch.zeros(5, 3, 8, 12, dtype=torch.uint8), lanes, (1, 3))
    with pytest.raises(InputError, match=said):
        module.cells_of(labelled, Grid(Axis(2, 4, 1.5), Axis(3, 4, 1.5)), seed=0)


def test_a_probe_scores_new_cells_in_the_units_that_it_was_fitted_in() -> None:
    """Scores of a logistic regression without noise rise with the feature, whatever the feature's own mean and deviation."""
    feature = torch.linspace(0, 1, 200)[:, None]
    labels = (feature[:, 0] > 0.7).float()
    shape = torch.tensor([[1000.0, -3.0]])
    wide = torch.cat([feature, -feature], 1) * torch.tensor([[50.0, 0.01]]) + shape
    scores, marks = scores_of((wide, labels), (wide, labels))
    plain, _ = scores_of((torch.cat([feature, -feature], 1), labels), (torch.cat([feature, -feature], 1), labels))
    assert torch.equal(marks, labels)
    torch.testing.assert_close(scores, plain, rtol=1e-2, atol=1e-2)
    assert float(scores[labels == 1].min()) > float(scores[labels == 0].max())


def test_labelled_frames_have_their_lanes_at_the_size_that_is_looked_at(tmp_path: Path) -> None:
    dataset = Painted(tmp_path)
    found = module.labelled_frames(dataset, (64, 64))  # type: ignore[arg-type]
    assert found.images.shape == (12, 3, 64, 64)
    assert len(found.judging) == 4
    for index, (lane,) in enumerate(found.lanes):
        (original,) = dataset.lines(index)
        # From 192 x 128 pixels, outer edges onto outer edges.
        assert lane.points[:, 0] == pytest.approx((original.points[:, 0] + 0.5) / 3 - 0.5, abs=1e-4)
        assert lane.points[:, 1] == pytest.approx((original.points[:, 1] + 0.5) / 2 - 0.5, abs=1e-4)


@pytest.mark.parametrize(("drawn", "passed"), [((0.4, 0.49, 0.1), True), ((0.4, 0.5, 0.1), False)])
def test_the_gate_is_passed_where_the_mean_over_taps_is_higher_with_every_seed(
    monkeypatch: pytest.MonkeyPatch, drawn: tuple[float, ...], passed: bool
) -> None:
    taps = tuple(Tap(path, 1, 4) for path in ("a", "b"))
    networks = {name: SimpleNamespace(name=name, taps=taps, to=lambda device: None) for name in ("oracle", "random")}
    for network in networks.values():
        network.to = lambda device, network=network: network

    def given(network: Any, labelled: Any, seeds: tuple[int, ...]) -> list[list[float]]:
        # One of the oracle's taps is worse than the other network's: the mean counts.
        values = ([0.1], [0.9]) if network.name == "oracle" else ([drawn[seed] for seed in seeds],) * 2
        return [list(value) * (3 if network.name == "oracle" else 1) for value in values]

    monkeypatch.setattr(module, "precisions", given)
    found = probe_gate(
        networks["oracle"], lambda seed: networks["random"], SimpleNamespace(images=range(7)), device=CPU  # type: ignore
    )  # fmt: skip
    assert found["passed"] is passed
    assert found["means"] == {"oracle": [0.5] * 3, "random": list(drawn)}
    assert found["average_precision"]["b"] == {"oracle": [0.9] * 3, "random": list(drawn)}


@pytest.mark.slow
def test_the_gate_lets_an_oracle_pass_that_sees_lanes_and_stops_one_that_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ITERATIONS", 6)
    dataset = Painted(tmp_path)
    images = [frame.image for frame in dataset.frames("train")]
    configuration = OracleConfiguration(
        name="mim:resnet_micro", steps=1, batch_size=4, image_size=(64, 96), recalibration_batches=1, decoder_width=16
    )
    out = tmp_path / "random.safetensors"
    random = configuration.model_copy(update={"name": "random:resnet_micro", "seed": 9})
    pretrain(random, images, out=out, device=CPU)
    oracle = module.load_oracle(out)
    labelled = module.labelled_frames(dataset, (64, 96))  # type: ignore[arg-type]
    assert len(labelled.judging) == 4
    # Brightness is all there is to see here, so a drawn network sees it; one whose first layer is zero sees nothing.
    assert precisions(oracle, labelled, (0,))[0][0] > 0.5
    with torch.no_grad():
        oracle.backbone.conv1[0].weight.zero_()
    counterpart = partial(module.drawn, configuration, images, device=CPU)
    found = probe_gate(oracle, counterpart, labelled, device=CPU)
    assert not found["passed"]
    assert list(found["average_precision"]) == [tap.path for tap in oracle.taps]
    assert [len(values["random"]) for values in found["average_precision"].values()] == [3] * 4
    assert all(one < other for one, other in zip(found["means"]["oracle"], found["means"]["random"], strict=True))
    # The other way round: against counterparts that see nothing.
    blind, sighted = oracle, module.load_oracle(out)
    assert probe_gate(sighted, lambda seed: blind, labelled, device=CPU)["passed"]


def test_a_dataset_without_lanes_is_no_use_for_probes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training image has a lane"):
        module.labelled_frames(Painted(tmp_path, empty=True), (64, 96))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too few"):
        module.labelled_frames(Painted(tmp_path, count=1), (64, 96))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 training images are too few for probes: 1 of them would be left"):
        module.labelled_frames(Painted(tmp_path, count=2), (64, 96))  # type: ignore[arg-type]
    assert len(module.labelled_frames(Painted(tmp_path, count=3), (64, 96)).judging) == 1  # type: ignore[arg-type]
