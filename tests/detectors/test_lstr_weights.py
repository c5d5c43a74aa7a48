"""LSTR with the weights that were published: upstream's outputs, and its lanes on real frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from detectors.base import normalise
from detectors.checkpoints import import_checkpoint
from detectors.lstr import LSTR
from detectors.registry import detector_meta
from harness.datasets.drawing import draw_lanes
from harness.datasets.images import read_image
from harness.datasets.lines import lines_text
from harness.inference.predict import Settings, network_images, predict
from harness.lanes import Lane
from harness.metrics.culane import score_images
from tests.detectors.roads import FRAME


@pytest.fixture(scope="module")
def published(shared: Path) -> LSTR:
    path = shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    detector = import_checkpoint("lstr_resnet18s", "tusimple", path)
    assert isinstance(detector, LSTR)
    return detector


UPSTREAM_LANES = np.array(
    [
        [0.99994, 0.37416, 0.99954, -0.0007, 0.04993, 0.00522, 0.24792, 0.63611, -0.04551],
        [0.99988, 0.36996, 0.59706, -0.0007, 0.04993, 0.00522, 0.24792, -1.96420, -0.92475],
        [0.99997, 0.36962, 0.58852, -0.0007, 0.04993, 0.00522, 0.24792, 1.90369, 0.38009],
        [0.99999, 0.36863, 0.99829, -0.0007, 0.04993, 0.00522, 0.24792, -0.68539, -0.49520],
    ]
)
"""Score and curve of the four lanes that upstream's own model, run with these weights, finds in tusimple_masks/image_0.png."""


def test_every_published_weight_has_its_place(shared: Path, published: LSTR) -> None:
    path = shared / "real" / "weights" / "lstr_tusimple" / "LSTR_500000.pkl"
    stored = torch.load(path, map_location="cpu", weights_only=True)
    kept = [value for name, value in stored.items() if not name.endswith(("total_ops", "total_params"))]
    state = published.state_dict()
    assert len(kept) == len(state) == 186
    by_bytes = [sorted(value.numpy().tobytes() for value in values) for values in (kept, state.values())]
    assert by_bytes[0] == by_bytes[1]


def test_raw_outputs_are_upstreams(shared: Path, published: LSTR) -> None:
    image = shared / "real" / "images" / "tusimple_masks" / "image_0.png"
    (pixels,) = network_images(published, [image])
    with torch.no_grad():
        outputs = published(pixels)
    scores = outputs["logits"][0, -1].softmax(dim=-1)[:, 1:]
    found = torch.cat([scores, outputs["curves"][0, -1]], dim=1)[scores[:, 0] > 0.5]
    np.testing.assert_allclose(found.numpy(), UPSTREAM_LANES, atol=2e-5)


def mask_lanes(mask: np.ndarray) -> list[Lane]:
    """The lanes of an instance mask, scaled to CULane's frame: on every eighth row the mean column of one value."""
    scale = np.array([FRAME[1] / mask.shape[1], FRAME[0] / mask.shape[0]])
    lanes = []
    for value in np.unique(mask[mask > 0]):
        rows = [row for row in range(0, mask.shape[0], 8) if (mask[row] == value).any()]
        points = [[np.flatnonzero(mask[row] == value).mean(), row] for row in rows]
        lanes.append(Lane(np.array(points)[::-1] * scale))
    return lanes


def overlays(
    folder: Path, images: list[Path], predictions: list[list[Lane]], labels: list[list[Lane]] | None = None
) -> None:
    for index, (path, lanes) in enumerate(zip(images, predictions, strict=True)):
        picture = draw_lanes(read_image(path), lanes, labels[index] if labels else None)
        cv2.imwrite(str(folder / f"{path.parent.name}_{path.stem}.png"), picture[..., ::-1])


def test_the_published_weights_find_every_lane_of_the_frames_with_masks(
    shared: Path, published: LSTR, tmp_path: Path
) -> None:
    images = sorted((shared / "real" / "images" / "tusimple_masks").glob("image_*.png"))
    predictions = predict(published, images, Settings(torch.device("cpu")))
    overlays(tmp_path, images, predictions)
    for image, lanes in zip(images, predictions, strict=True):
        mask = cv2.imread(str(image).replace("image_", "gt_instance_image_"), cv2.IMREAD_UNCHANGED)
        scale = np.array([FRAME[1] / mask.shape[1], FRAME[0] / mask.shape[0]])
        for folder, drawn in (("labels", mask_lanes(mask)), ("lanes", [Lane(lane.points * scale) for lane in lanes])):
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / f"{image.stem}.lines.txt").write_text(lines_text(drawn))
    counts, _ = score_images(tmp_path / "labels", tmp_path / "lanes", [image.name for image in images], strict=True)
    sums = counts.sums(0.5)
    assert (sums.tp, sums.fp, sums.fn) == (25, 0, 0)


def test_the_published_weights_find_as_many_lanes_as_upstream_on_other_frames(
    shared: Path, published: LSTR, tmp_path: Path
) -> None:
    folder = shared / "real" / "images"
    images = [*sorted((folder / "tusimple").glob("*.jpg")), *sorted((folder / "highway").glob("*.jpg"))]
    predictions = predict(published, images, Settings(torch.device("cpu")))
    overlays(tmp_path, images, predictions)
    assert [len(lanes) for lanes in predictions] == [4, 5, 5, 4] + [3] * 8
    assert all(len(lane) >= 2 and lane.points[0, 1] >= lane.points[-1, 1] for lanes in predictions for lane in lanes)


def test_published_images_are_normalised_in_opencvs_channel_order() -> None:
    meta = detector_meta("lstr_resnet18s")
    pixels = torch.tensor([10, 20, 30], dtype=torch.uint8).view(1, 3, 1, 1)
    expected = [
        (blue_first / 255 - mean) / std
        for blue_first, mean, std in zip(
            (30, 20, 10), (0.40789654, 0.44719302, 0.47026115), (0.28863828, 0.27408164, 0.27809835), strict=True
        )
    ]
    assert normalise(pixels, meta.normalisation).flatten().tolist() == pytest.approx(expected, rel=1e-5)
