"""The gate of an oracle: probes, their labels, and the figure that they are judged by."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

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
    random = configuration.model_copy(update={"name": "random:resnet_micro"})
    pretrain(random, images, out=out, device=CPU, seed=9)
    oracle = module.load_oracle(out)
    labelled = module.labelled_frames(dataset, (64, 96))  # type: ignore[arg-type]
    assert len(labelled.judging) == 4
    # Brightness is all there is to see here, so a drawn network sees it; one whose first layer is zero sees nothing.
    assert precisions(oracle, labelled, (64, 96), 0)[0] > 0.5
    with torch.no_grad():
        oracle.backbone.conv1[0].weight.zero_()
    found = probe_gate(oracle, configuration, images, dataset, device=CPU)  # type: ignore[arg-type]
    assert not found["passed"]
    assert list(found["average_precision"]) == [tap.path for tap in oracle.taps]
    assert [len(values["random"]) for values in found["average_precision"].values()] == [3] * 4
    assert all(one < other for one, other in zip(found["means"]["oracle"], found["means"]["random"], strict=True))
    # The other way round: against counterparts that see nothing.
    blind, sighted = oracle, module.load_oracle(out)
    monkeypatch.setattr(module, "drawn", lambda *arguments: blind)
    assert probe_gate(sighted, configuration, images, dataset, device=CPU)["passed"]  # type: ignore[arg-type]


def test_a_dataset_without_lanes_is_no_use_for_probes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training image has a lane"):
        module.labelled_frames(Painted(tmp_path, empty=True), (64, 96))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="too few"):
        module.labelled_frames(Painted(tmp_path, count=1), (64, 96))  # type: ignore[arg-type]
