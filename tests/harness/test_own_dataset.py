"""A dataset of one's own in CULane's layout: found under any name, of its own size, scored at that size."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from harness.cell.artefacts import open_part
from harness.errors import InputError
from harness.matrix.data import Reads, examined
from harness.metrics import culane as metric
from harness.metrics.canvas import IMAGE_SIZE, LANE_WIDTH
from harness.publishing.labels import LabelFacts
from harness.publishing.rescoring import stated_width
from harness.scoring import SCORINGS, scoring_on
from harness.scoring.culane import score
from harness.suite import DatasetPart, dataset_identity

LABEL = "20 300 40 100\n280 300 240 100\n"


@pytest.fixture
def roads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three test images of 320 x 640 (height x width), known as `roads`."""
    root = tmp_path / "somewhere"
    (root / "list").mkdir(parents=True)
    (root / "list/test.txt").write_text("a.jpg\nb.jpg\nc.jpg\n")
    for name in "abc":
        cv2.imwrite(str(root / f"{name}.jpg"), np.zeros((320, 640, 3), np.uint8))
        (root / f"{name}.lines.txt").write_text(LABEL)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("SAMIRO_BENCH_DATA_ROADS", str(root))
    return root


def part(**more) -> DatasetPart:
    return DatasetPart.model_validate({"form": "culane", **more})


def scored(dataset, predictions: Path) -> int:
    counts, _ = score(dataset, "test", predictions, progress=lambda done: None, workers=1)
    return int(counts.true_positives[:, 0].sum())


def test_it_is_scored_on_a_picture_of_its_own_size(roads: Path, tmp_path: Path) -> None:
    """Lanes that agree inside the image and part outside it: on a picture of CULane's size they would not match."""
    outside = ["600 300 640 150 1300 140\n", "600 300 640 150 1300 480\n"]
    for name in "abc":
        (roads / f"{name}.lines.txt").write_text(outside[0].replace(" 640 150", " 638 150"))
        (tmp_path / f"{name}.lines.txt").write_text(outside[1].replace(" 640 150", " 638 150"))
    dataset = open_part(tmp_path, "roads", part(image_size=[320, 640]))
    assert dataset.image_size == (320, 640)
    assert scored(dataset, tmp_path) == 3
    counted, _ = metric.score_images(roads, tmp_path, ["a.jpg"])
    assert counted.tp[0, 0] == 0


def test_lanes_are_painted_as_wide_as_the_suite_says(roads: Path, tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.lines.txt").write_text("28 300 48 100\n")  # 8 px beside the label
    assert scored(open_part(tmp_path, "roads", part(image_size=[320, 640])), tmp_path) == 3
    assert scored(open_part(tmp_path, "roads", part(image_size=[320, 640], lane_width=8)), tmp_path) == 0


def test_images_of_another_size_are_refused_before_training_and_before_scoring(roads: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: 640 x 320 pixels.*1640 x 590 .*; say `image_size: \[320, 640\]`"):
        examined(open_part(tmp_path, "roads", part()), Reads(scored={"test"}))
    dataset = open_part(tmp_path, "roads", part(image_size=[320, 640]))
    cv2.imwrite(str(roads / "c.jpg"), np.zeros((320, 600, 3), np.uint8))
    with pytest.raises(InputError, match=r"c\.jpg: 600 x 320"):
        scored(dataset, tmp_path)


def test_size_and_width_are_part_of_what_a_dataset_is(roads: Path) -> None:
    plain = dataset_identity("roads", part())
    assert plain == {"real": "roads", "form": "culane"}
    for more in ({"image_size": [320, 640]}, {"lane_width": 10}):
        assert dataset_identity("roads", part(**more)) != plain


def test_the_metric_of_another_size_has_a_name_of_its_own() -> None:
    official = SCORINGS["culane"]
    assert scoring_on(official, IMAGE_SIZE, LANE_WIDTH) == official
    assert scoring_on(official, (1440, 2560), 30).metric == "culane/official (2560x1440, lanes 30 px wide)"
    assert scoring_on(official, IMAGE_SIZE, 20).metric == "culane/official (1640x590, lanes 20 px wide)"


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": "tusimple", "image_size": [720, 1280]},
        {"form": "llamas", "lane_width": 30},
        {"form": "culane", "image_size": [0, 640]},
        {"form": "culane", "image_size": [320]},
        {"form": "culane", "lane_width": 1},
    ],
)
def test_sizes_where_they_have_no_meaning_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DatasetPart.model_validate(wrong)


def test_lanes_of_one_pixel_are_refused_wherever_a_width_is_stated(roads: Path, tmp_path: Path) -> None:
    """OpenCV paints them by other rules than those of thicker ones."""
    facts = {"dataset": "roads", "split": "test", "renderer": "1", "spec": {"splits": {"test": {"frames": 1}}}}
    assert LabelFacts.model_validate({**facts, "lane_width": 2}).lane_width == stated_width(2) == 2
    with pytest.raises(ValidationError, match="lane_width"):
        LabelFacts.model_validate({**facts, "lane_width": 1})
    with pytest.raises(InputError, match=r"key 'dataset_key\.lane_width' is 1; give 2 to 1000 pixels"):
        stated_width(1)
    with pytest.raises(ValueError, match="lines of 1 px are painted by other rules of OpenCV's; give 2 or more"):
        metric.score_images(roads, tmp_path, ["a.jpg"], lane_width=1)


def resized(root: Path, pattern: str, size: tuple[int, int]) -> None:
    """Every image of a folder that the pattern names, in another size, its label as it was."""
    for path in root.rglob(pattern):
        cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize(
    ("form", "split", "told"),
    [
        ("tusimple", "test", r"20\.jpg: 640 x 360 pixels, but its label goes down to row 710 .*; restore the images"),
        (
            "llamas",
            "val",
            r"_color_rect\.png: 640 x 360 pixels, but LLAMAS's labels are for 1276 x 717 .*; restore the images",
        ),
    ],
)
def test_resized_images_of_tusimple_and_llamas_are_refused_before_training_and_before_scoring(
    trees: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, split: str, told: str
) -> None:
    root = tmp_path / form
    getattr(trees, f"write_{form}")(root, {"test": 2} if form == "tusimple" else {"valid": 2})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(f"SAMIRO_BENCH_DATA_{form.upper()}", str(root))
    real = DatasetPart.model_validate({"form": form})
    dataset = open_part(tmp_path, form, real)
    dataset.write_predictions(tmp_path, dataset.frames(split), [[], []])
    resized(root, "*.jpg", (360, 640))
    resized(root, "*.png", (360, 640))
    with pytest.raises(InputError, match=told):
        examined(open_part(tmp_path, form, real), Reads(scored={split}))
    with pytest.raises(InputError, match=told):
        SCORINGS[form].scorer(dataset, split, tmp_path, progress=lambda done: None, workers=1)
