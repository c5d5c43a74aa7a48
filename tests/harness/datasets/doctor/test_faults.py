"""Each fault that is inflicted on a small tree has exactly its own finding."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.datasets.doctor.examine import examine
from tests.harness.datasets.doctor.trees import (
    CLIP,
    LABEL,
    NIGHT_CLIP,
    TEST_CLIP,
    VAL_CLIP,
    edit,
    empty_train,
    first_label,
    in_lists,
    kinds,
    write_image,
)


def all_labels(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: [path.write_text(change(path.read_text())) for path in root.rglob("*.lines.txt")] and None


def doubled(text: str) -> str:
    return "\n".join(" ".join(str(2 * float(word)) for word in row.split()) for row in text.splitlines()) + "\n"


def points_as(change: Callable[[float, float], tuple[float, float]]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        rows = [[float(word) for word in row.split()] for row in text.splitlines()]
        pairs = [[change(x, y) for x, y in zip(row[::2], row[1::2], strict=True)] for row in rows]
        return "".join(" ".join(f"{x} {y}" for x, y in row) + "\n" for row in pairs)

    return changed


swapped = points_as(lambda x, y: (y, 0.95 * x))
upside_down = points_as(lambda x, y: (x, 159 - y))


def part_a_clip(root: Path) -> None:
    for ending in ("jpg", "lines.txt"):
        (root / f"{VAL_CLIP}/00003.{ending}").rename(root / f"{CLIP}/00003.{ending}")
    (root / "list/val.txt").write_text(f"{CLIP}/00003.jpg\n")


def one_test_clip(root: Path) -> None:
    for ending in ("jpg", "lines.txt"):
        (root / f"{NIGHT_CLIP}/00005.{ending}").rename(root / f"{TEST_CLIP}/00005.{ending}")
    for name in ("test", "test_split/test8_night"):
        edit(f"list/{name}.txt", lambda text: text.replace(NIGHT_CLIP, TEST_CLIP))(root)


def copy_image(name: str, split: str, link: bool = False) -> Callable[[Path], None]:
    """Put an image onto the list of a split once more, under another name."""

    def inflict(root: Path) -> None:
        copy = root / f"{CLIP}/00099.jpg"
        if link:
            copy.symlink_to(root / f"{name}.jpg")
        else:
            shutil.copy(root / f"{name}.jpg", copy)
        copy.with_suffix(".lines.txt").write_text(LABEL)
        edit(f"list/{split}.txt", lambda text: text + f"{CLIP}/00099.jpg\n")(root)

    return inflict


def cross(root: Path) -> None:
    (root / "list/test_split/test8_night.txt").rename(root / "list/test_split/test7_cross.txt")


def truncate(root: Path) -> None:
    path = root / f"{CLIP}/00001.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def pack(root: Path) -> None:
    shutil.rmtree(root / "list")
    (root / "list.tar.gz").write_bytes(b"")


def keep_only_test(root: Path) -> None:
    for split in ("train", "val"):
        (root / f"list/{split}.txt").unlink()
    for path in (root / "roads").glob("*/0000[0-3].*"):
        path.unlink()


def move_down(root: Path) -> None:
    (root / "roads").rename(root / "inside")
    (root / "roads").mkdir()
    (root / "inside").rename(root / "roads/roads")


def shout(name: str) -> Callable[[Path], None]:
    """Give an image its ending in capitals."""
    return lambda root: (root / name).rename((root / name).with_suffix(Path(name).suffix.upper())) and None


CULANE_FAULTS = {
    "an image listed twice": (edit("list/train.txt", lambda text: text + f"/{CLIP}/00000.jpg\n"), "error", "list"),
    "an empty list": (edit("list/val.txt", lambda _: ""), "error", "list"),
    "a test image to train on": (edit("list/train.txt", lambda text: text + f"/{NIGHT_CLIP}/00005.jpg\n"), "error", "two-splits"),
    "another train_gt.txt": (lambda root: (root / "list/train_gt.txt").write_text("a/0.jpg /x.png 1\n"), "warning", "lists-differ"),
    "a damaged val_gt.txt": (lambda root: (root / "list/val_gt.txt").write_text("/../a.jpg 1\n"), "warning", "list"),
    "most labels empty": (empty_train, "warning", "empty-labels"),
    "only a test list": (keep_only_test, "note", "no-split"),
    "a scenario missing": (edit("list/test_split/test8_night.txt", lambda _: ""), "error", "test-split"),
    "a scenario twice": (edit("list/test_split/test8_night.txt", lambda t: t + f"{TEST_CLIP}/00004.jpg\n"), "error", "test-split"),
    "a scenario of an unlisted image": (edit("list/test_split/test8_night.txt", lambda t: t + "x/9.jpg\n"), "error", "test-split"),
    "a clip parted among splits": (part_a_clip, "warning", "shared-clip"),
    "one test clip": (one_test_clip, "note", "one-clip"),
    "an image of test under another name to train on": (copy_image(f"{TEST_CLIP}/00004", "train"), "error", "two-splits"),
    "an image of test linked to train on": (copy_image(f"{TEST_CLIP}/00004", "train", link=True), "error", "two-splits"),
    "an image twice under two names": (copy_image(f"{CLIP}/00000", "train"), "warning", "copied-image"),
    "labels for images in a list": (edit("list/train.txt", lambda text: text.replace(".jpg", ".lines.txt")), "error", "list"),
    "spaces between images": (edit("list/train.txt", lambda text: " ".join(text.split())), "error", "list-separator"),
    "commas between images": (edit("list/train.txt", lambda text: ", ".join(text.split())), "error", "list-separator"),
    "columns beside images": (edit("list/train.txt", lambda text: text.replace(".jpg", ".jpg /m.png 1 1")), "error", "list-separator"),
    "a lane twice": (first_label(LABEL + LABEL.splitlines()[0] + "\n"), "warning", "double-lane"),
    "x and y swapped": (all_labels(swapped), "error", "label-axes"),
    "y from below": (all_labels(upside_down), "error", "label-axes"),
    "a crossing with lanes": (cross, "warning", "cross-lanes"),
    "an empty scenario": (lambda root: (root / "list/test_split/test9_fog.txt").write_text("\n"), "warning", "empty-scenario"),
    "Windows line ends": (lambda root: (root / "list/val.txt").write_bytes(f"/{VAL_CLIP}/00003.jpg\r\n".encode()), "note", "crlf"),
    "an image gone": (lambda root: (root / f"{CLIP}/00001.jpg").unlink(), "error", "missing-image"),
    "a label gone": (lambda root: (root / f"{CLIP}/00001.lines.txt").unlink(), "error", "missing-label"),
    "a folder gone": (lambda root: shutil.rmtree(root / "roads"), "error", "missing-folder"),
    "a folder too deep": (move_down, "error", "nested"),
    "capitals": (lambda root: (root / f"{CLIP}/00001.jpg").rename(root / f"{CLIP}/00001.JPG"), "error", "case"),
    "absolute paths": (in_lists(lambda name: f"/data/set/{name}"), "error", "list-folder"),
    "backslashes": (in_lists(lambda name: name.replace("/", "\\")), "error", "list-backslash"),
    "another ending": (in_lists(lambda name: name.replace(".jpg", ".png")), "error", "list-ending"),
    "an image on no list": (lambda root: write_image(root / f"{CLIP}/00099.jpg"), "warning", "orphan-image"),
    "a label without image": (lambda root: (root / f"{CLIP}/00099.lines.txt").write_text(LABEL), "warning", "orphan-label"),
    "a truncated image": (truncate, "error", "broken-image"),
    "an image that is text": (lambda root: (root / f"{CLIP}/00001.jpg").write_text("no image"), "error", "broken-image"),
    "an image of another size": (lambda root: write_image(root / f"{CLIP}/00001.jpg", (180, 320)), "error", "image-size"),
    "an odd count": (first_label("1 2 3\n"), "error", "broken-label"),
    "a word": (first_label("1 2 three 4\n"), "error", "broken-label"),
    "a lane of one point": (first_label(LABEL + "100 100\n"), "note", "short-lane"),
    "a blank line": (first_label("\n" + LABEL), "note", "short-lane"),
    "a lane from top to bottom": (first_label("80 90 60 120 40 159\n"), "warning", "reversed-lane"),
    "points out of order": (first_label("40 159 80 90 60 120\n"), "warning", "zigzag-lane"),
    "a point far out": (first_label("-5000 159 60 120\n"), "warning", "far-out"),
    "labels of another size": (all_labels(doubled), "error", "label-size"),
    "lists not unpacked": (pack, "error", "packed"),
    "List": (lambda root: (root / "list").rename(root / "List"), "error", "case"),
}  # fmt: skip


@pytest.mark.parametrize("name", CULANE_FAULTS)
def test_each_fault_of_culanes_layout_has_its_finding_alone(culane: Path, name: str) -> None:
    inflict, severity, kind = CULANE_FAULTS[name]
    inflict(culane)
    assert kinds(culane) == [(severity, kind)]


@pytest.mark.parametrize(
    "name", ["absolute paths", "backslashes", "another ending", "commas between images", "columns beside images"]
)
def test_the_command_that_mends_lists_mends_them(culane: Path, name: str) -> None:
    CULANE_FAULTS[name][0](culane)
    (finding,) = examine(culane).findings
    subprocess.run(finding.fix.partition(": ")[2], shell=True, check=True, cwd=culane)
    assert examine(culane).findings == ()


TUSIMPLE_FAULTS = {
    "no test labels": (lambda root: (root / "test_label.json").rename(root / "test_tasks_0627.json"), "error", "no-labels"),
    "no training labels": (lambda root: (root / "label_data_0313.json").unlink(), "error", "no-labels"),
    "an image gone": (lambda root: (root / "clips/0601/60/20.jpg").unlink(), "error", "missing-image"),
    "a broken line": (edit("label_data_0531.json", lambda text: text[:-9] + "\n"), "error", "broken-label"),
    "a frame too many": (edit("label_data_0531.json", lambda text: text + text.replace("/60/", "/61/")), "warning", "count"),
    "a lane of one point": (edit("test_label.json", lambda text: text.replace("[90, 60, 40]", "[-2, -2, 40]")), "note", "short-lane"),
    "capitals": (lambda root: (root / "test_label.json").rename(root / "Test_Label.json"), "error", "case"),
    "capital clips": (lambda root: (root / "clips").rename(root / "CLIPS"), "error", "case"),
    "a capital ending": (shout("clips/0601/60/20.jpg"), "error", "case"),
}  # fmt: skip


@pytest.mark.parametrize("name", TUSIMPLE_FAULTS)
def test_each_fault_of_tusimple_has_its_finding_alone(tusimple: Path, name: str) -> None:
    inflict, severity, kind = TUSIMPLE_FAULTS[name]
    inflict(tusimple)
    if name == "a frame too many":
        write_image(tusimple / "clips/0531/61/20.jpg")
    assert kinds(tusimple) == [(severity, kind)]


LLAMAS_FAULTS = {
    "capitals": (lambda root: (root / "labels").rename(root / "Labels"), "error", "case"),
    "no images": (lambda root: shutil.rmtree(root / "color_images"), "error", "missing-folder"),
    "an image gone": (lambda root: (root / "color_images/train/images-1/1_color_rect.png").unlink(), "error", "missing-image"),
    "capital train labels": (lambda root: (root / "labels/train").rename(root / "labels/Train"), "error", "case"),
    "capital train images": (lambda root: (root / "color_images/train").rename(root / "color_images/TRAIN"), "error", "case"),
    "a capital ending": (shout("color_images/train/images-1/1_color_rect.png"), "error", "case"),
    "a capital ending of test": (shout("color_images/test/images-1/4_color_rect.png"), "error", "case"),
    "a broken label": (edit("labels/train/images-1/1.json", lambda text: text[:-5]), "error", "broken-label"),
}  # fmt: skip


@pytest.mark.parametrize("name", LLAMAS_FAULTS)
def test_each_fault_of_llamas_has_its_finding(llamas: Path, name: str) -> None:
    inflict, severity, kind = LLAMAS_FAULTS[name]
    inflict(llamas)
    found = kinds(llamas)
    # Without its images there is no test split either: a consequence that is told as well.
    assert found == [(severity, kind)] + ([("warning", "no-split")] if name == "no images" else [])
