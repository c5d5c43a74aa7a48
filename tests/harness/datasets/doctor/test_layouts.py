"""Where a dataset is looked for, and whose it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.datasets.doctor.examine import examine
from tests.harness.datasets.doctor.trees import CLIP, in_lists, kinds, write_image


def test_a_dataset_is_found_two_folders_down_beside_what_an_archive_leaves(culane: Path) -> None:
    outer = culane.with_name("outer")
    for rubbish in ("__MACOSX", ".Trash", "CULane/.cache"):
        (outer / rubbish).mkdir(parents=True)
    culane.rename(outer / "CULane/CULane")
    health = examine(outer)
    assert [(finding.kind, finding.file) for finding in health.findings] == [("nested", "CULane/CULane")]
    assert health.root == outer / "CULane/CULane"


def test_a_drivers_folder_in_other_letters_is_to_be_renamed_and_not_missing(culane: Path) -> None:
    name = "driver_37_30frame/1/00000.jpg"
    write_image(culane / name, (590, 1640))
    (culane / "driver_37_30frame").rename(culane / "Driver_37_30frame")
    (culane / "list/test.txt").write_text(f"{name}\n")
    found = [one for one in examine(culane).findings if one.file.lower().startswith("driver")]
    assert [(one.kind, one.file, one.fix) for one in found] == [
        ("case", "Driver_37_30frame", "rename it to driver_37_30frame")
    ]


def test_lists_that_name_culanes_folders_are_culanes_whatever_they_begin_with(culane: Path) -> None:
    in_lists(lambda name: f"driver_23_30frame/{name}")(culane)
    assert examine(culane).layout == "CULane"
    for path in (culane / "list").rglob("*.txt"):
        path.write_text("\ufeff/" + path.read_text())
    assert examine(culane).layout == "CULane"


def test_tusimple_with_no_clip_yet_is_taken_for_the_public_one(tusimple: Path) -> None:
    shutil.rmtree(tusimple / "clips")
    (tusimple / "clips").mkdir()
    (tusimple / "test_label.json").unlink()
    assert examine(tusimple).layout == "TuSimple in one folder"
    assert ("error", "no-labels") in kinds(tusimple)


def test_one_unpacked_archive_of_tusimple_is_the_root_itself(tusimple: Path) -> None:
    (tusimple / "train_set").mkdir()
    for name in ("clips", *(path.name for path in tusimple.glob("label_data_*.json"))):
        (tusimple / name).rename(tusimple / "train_set" / name)
    (tusimple / "test_label.json").unlink()
    health = examine(tusimple)
    assert (health.root, health.layout) == (tusimple, "TuSimple as its archives unpack (train_set/, test_set/)")


def test_own_data_may_do_without_val(culane: Path) -> None:
    (culane / "list/val.txt").unlink()
    for ending in ("jpg", "lines.txt"):
        (culane / f"{CLIP}/00003.{ending}").unlink()
    assert kinds(culane) == []
