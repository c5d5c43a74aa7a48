"""Roots and lists that don't belong together are refused, with what lies there instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.metrics.culane import score_images
from harness.metrics.image_lists import lanes_file
from harness.metrics.roots import check_roots

IMAGES = ("drive/clip/00.jpg", "drive/clip/01.jpg")


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Labels and predictions of both images."""
    for root in ("labels", "predictions"):
        for image in IMAGES:
            file = Path(lanes_file(tmp_path / root, image))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("800 500 800 300\n")
    return tmp_path / "labels", tmp_path / "predictions"


def deeper(root: Path) -> None:
    (root / "drive").rename(root.parent / "aside")
    (root / "out").mkdir()
    (root.parent / "aside").rename(root / "out" / "drive")


def shallower(root: Path) -> None:
    (root / "drive" / "clip").rename(root / "clip")


def renamed(root: Path) -> None:
    for file in root.rglob("*.lines.txt"):
        file.rename(file.with_name(file.name.replace(".lines", ".jpg.lines")))


def plain(root: Path) -> None:
    for file in root.rglob("*.lines.txt"):
        file.rename(file.with_name(file.name.replace(".lines", "")))


def emptied(root: Path) -> None:
    for file in root.rglob("*.lines.txt"):
        file.unlink()


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (deeper, "it lies below {root}/out: give that as the root"),
        (shallower, "clip/00.lines.txt is there: give the folder that holds drive, or a list without drive/"),
        (renamed, "the first there is drive/clip/00.jpg.lines.txt: give a root and a list that belong together"),
        (plain, "drive/clip/00.txt is there: name the files ....lines.txt"),
        (emptied, "not a single .lines.txt file lies in this folder"),
    ],
)
def test_files_that_lie_elsewhere_are_named_and_nothing_is_scored_as_zero(
    roots: tuple[Path, Path], place: int, change: Callable[[Path], None], told: str
) -> None:
    change(roots[place])
    with pytest.raises(InputError) as caught:
        score_images(*roots, IMAGES)
    role = ("label", "prediction")[place]
    assert str(caught.value).startswith(f"{roots[place]}: holds no {role} of any of the 2 listed images: ")
    assert told.format(root=roots[place]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_prediction_of_many_is_enough_and_that_of_a_single_image_may_be_missing(roots: tuple[Path, Path]) -> None:
    Path(lanes_file(roots[1], IMAGES[0])).unlink()
    counts, odd = score_images(*roots, IMAGES)
    assert (counts.n_pred.tolist(), len(odd)) == ([0, 1], 1)
    counts, odd = score_images(*roots, IMAGES[:1])
    assert (counts.n_pred.tolist(), len(odd)) == ([0], 1)


@pytest.mark.parametrize(
    "entry", ["/data/CULane/{}", "..\\{}", "{} /laneseg_label_w16/{} 1 1 1 1", "\ufeff{}", "{}.lines.txt"]
)
def test_lists_of_another_form_are_refused(roots: tuple[Path, Path], entry: str) -> None:
    images = [entry.format(image, image).lstrip("/") for image in IMAGES]
    with pytest.raises(InputError, match="holds no label of any of the 2 listed images"):
        check_roots(*roots, images, lanes_file)
