"""Where a dataset is looked for, and whose it is."""

from __future__ import annotations

import shutil
from pathlib import Path

from harness.datasets.doctor.examine import examine
from tests.harness.datasets.doctor.trees import VAL_CLIP, in_lists, kinds, write_image


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
        (culane / f"{VAL_CLIP}/00003.{ending}").unlink()
    assert kinds(culane) == []


def test_own_data_in_tusimples_form_is_held_to_no_count_and_no_size(tusimple: Path) -> None:
    for path in tusimple.glob("*.json"):
        text = path.read_text().replace("clips/0", "clips/mine-0")
        path.write_text(text + text.replace("/60/", "/61/"))
    for folder in [*(tusimple / "clips").iterdir()]:
        mine = folder.rename(folder.with_name(f"mine-{folder.name}"))
        for clip in ("60", "61"):
            write_image(mine / clip / "20.jpg", (180, 320))
    health = examine(tusimple)
    assert (health.findings, health.layout) == ((), "TuSimple's form")
    assert health.images == {"train": 4, "val": 2, "test": 2}


def test_tusimple_as_its_archives_unpack_is_whole_too(tusimple: Path) -> None:
    for folder, days, labels in (
        ("train_set", ("0313-1", "0601", "0531"), "label_data_*.json"),
        ("test_set", ("0530",), "none"),
    ):
        for day in days:
            (tusimple / folder / "clips").mkdir(parents=True, exist_ok=True)
            (tusimple / "clips" / day).rename(tusimple / folder / "clips" / day)
        for path in tusimple.glob(labels):
            path.rename(tusimple / folder / path.name)
    (tusimple / "clips").rmdir()
    health = examine(tusimple)
    assert health.findings == ()
    assert health.layout == "TuSimple as its archives unpack (train_set/, test_set/)"


def test_capital_clips_in_an_archive_of_tusimple_are_to_be_renamed(tusimple: Path) -> None:
    (tusimple / "train_set").mkdir()
    (tusimple / "test_set/clips").mkdir(parents=True)
    (tusimple / "clips/0530").rename(tusimple / "test_set/clips/0530")
    (tusimple / "clips").rename(tusimple / "train_set/CLIPS")
    (finding,) = examine(tusimple).findings
    assert (finding.kind, finding.file, finding.fix) == ("case", "train_set/CLIPS", "rename it to train_set/clips")


def test_a_dataset_one_folder_down_is_found_there(culane: Path) -> None:
    outer = culane.with_name("outer")
    outer.mkdir()
    culane.rename(outer / "CULane")
    health = examine(outer)
    assert [(finding.kind, finding.file) for finding in health.findings] == [("nested", "CULane")]
    assert health.root == outer / "CULane"
    assert health.images["train"] == 3


def test_curvelanes_own_layout_is_known_and_to_be_converted(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir(parents=True)
    health = examine(tmp_path)
    assert (health.form, [finding.kind for finding in health.findings]) == ("curvelanes", ["convert"])
    # Its images can't be drawn yet; what is to be done first is said all the same.
    sheet = tmp_path / "sheet.jpg"
    assert [finding.kind for finding in examine(tmp_path, sheet=sheet).findings] == ["convert", "no-sheet"]
    assert not sheet.exists()
