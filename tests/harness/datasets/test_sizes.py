"""Sizes of images by their headers: held against labels, told with what to do, and read once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.datasets import sizes
from harness.datasets.culane import CULane
from harness.datasets.images import read_size
from harness.datasets.sizes import check_sizes, image_files
from tests.harness.datasets.refusals import refusal

EXPECTED, OTHER = (36, 64), (72, 128)


def picture(path: Path, size: tuple[int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.zeros((*size, 3), np.uint8))


@pytest.fixture
def of_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CULane]:
    """A dataset whose training images have the sizes that are given."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def made(*given: tuple[int, int]) -> CULane:
        root = tmp_path / "roads"
        for number, size in enumerate(given):
            picture(root / f"a/{number:02}.jpg", size)
        (root / "list").mkdir(exist_ok=True)
        (root / "list/train.txt").write_text("".join(f"a/{number:02}.jpg\n" for number in range(len(given))))
        return CULane(root, image_size=EXPECTED)

    return made


def test_a_few_odd_images_are_counted_and_the_suites_size_stays_as_it_is(of_sizes: Callable[..., CULane]) -> None:
    dataset = of_sizes(EXPECTED, OTHER, EXPECTED, OTHER, (36, 65))
    said = refusal(check_sizes, dataset, dataset.frames("train"))
    assert "a/01.jpg: 128 x 72 pixels, but the dataset's images are 64 x 36" in said
    assert "2 have 128 x 72, 1 has 65 x 36, of 5 images" in said
    assert "restore the images from the dataset's source, or leave them out" in said
    assert "image_size" not in said


def test_half_of_the_images_are_no_reason_to_change_the_suite(of_sizes: Callable[..., CULane]) -> None:
    dataset = of_sizes(EXPECTED, OTHER)
    said = refusal(check_sizes, dataset, dataset.frames("train"))
    assert "restore the image from the dataset's source, or leave it out" in said
    assert "image_size" not in said


@pytest.mark.parametrize(
    ("odd", "told"), [((), "`"), (((36, 65),), ", if that is the dataset's size, and leave the others")]
)
def test_where_most_images_have_another_size_the_suite_is_to_say_it(
    of_sizes: Callable[..., CULane], odd: tuple[tuple[int, int], ...], told: str
) -> None:
    dataset = of_sizes(OTHER, OTHER, *odd)
    said = refusal(check_sizes, dataset, dataset.frames("train"))
    assert f"say `image_size: [72, 128]` in the suite{told.strip('`')}" in said


def test_images_that_are_missing_are_counted(of_sizes: Callable[..., CULane]) -> None:
    dataset = of_sizes(*[EXPECTED] * 4)
    frames = dataset.frames("train")
    frames[2].image.unlink()
    assert f"{frames[2].image}: it is missing" in refusal(image_files, dataset, "train")
    frames[3].image.unlink()
    assert "a/02.jpg: 2 of the 4 images of split train are missing" in refusal(image_files, dataset, "train")


def test_headers_are_read_once_and_again_when_a_file_changes(
    of_sizes: Callable[..., CULane], monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = of_sizes(*[EXPECTED] * 600)  # more than a task's
    read: list[Path] = []

    def counted(path: Path) -> tuple[int, int]:
        read.append(path)
        return read_size(path)

    monkeypatch.setattr(sizes, "read_size", counted)
    first = image_files(dataset, "train")
    assert (first.sizes == EXPECTED).all()
    assert len(read) == 600
    assert (image_files(dataset, "train").sizes == first.sizes).all()
    assert len(read) == 600
    picture(dataset.frames("train")[7].image, OTHER)
    os.utime(dataset.frames("train")[7].image, ns=(1, 1))
    assert [tuple(size) for size in image_files(dataset, "train").sizes[6:9]] == [EXPECTED, OTHER, EXPECTED]


def test_sizes_that_were_kept_badly_are_read_again(of_sizes: Callable[..., CULane], tmp_path: Path) -> None:
    dataset = of_sizes(EXPECTED, OTHER)
    first = image_files(dataset, "train").sizes
    (kept,) = (tmp_path / "cache/samiro-bench/sizes").iterdir()
    kept.write_bytes(kept.read_bytes()[:-20])
    assert (image_files(dataset, "train").sizes == first).all()


def test_a_cache_that_takes_nothing_is_told_and_costs_only_time(
    of_sizes: Callable[..., CULane], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = of_sizes(EXPECTED)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(sizes.NotStoredWarning, match="sizes of images can't be kept"):
        assert (image_files(dataset, "train").sizes == EXPECTED).all()
