"""What the forms' own files say: archives, lists, folders, and what belongs to no list."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.datasets.doctor.examine import examine
from tests.harness.datasets.doctor.trees import (
    CLIP,
    HEIGHT,
    LABEL,
    NIGHT_CLIP,
    VAL_CLIP,
    WIDTH,
    edit,
    findings,
    first_label,
    in_lists,
    kinds,
    line,
    rendered,
    write_image,
)


def test_the_report_holds_what_was_read(culane: Path) -> None:
    health = examine(culane)
    assert (health.labels, health.lanes) == (6, 12)
    assert health.scenarios == {"normal": 1, "night": 1}
    assert health.image_size == (HEIGHT, WIDTH)
    assert not health.rendered
    assert examine(rendered(culane, HEIGHT, WIDTH, train=3, val=1, test=2)).rendered


def test_a_note_is_healthy_and_a_warning_is_not(culane: Path) -> None:
    first_label(LABEL + "100 100\n")(culane)
    assert kinds(culane) == [("note", "short-lane")]
    assert examine(culane).healthy
    assert main(["data", "doctor", str(culane)]) == 0
    write_image(culane / f"{CLIP}/00099.jpg")
    assert kinds(culane) == [("warning", "orphan-image"), ("note", "short-lane")]
    assert not examine(culane).healthy
    assert main(["data", "doctor", str(culane)]) == 1


def test_rendered_images_have_the_size_that_was_asked_for(culane: Path) -> None:
    rendered(culane, 170, WIDTH, train=3, val=1, test=2)
    ((severity, _, what, _),) = findings(culane, "image-size")
    assert severity == "error"
    assert "are 320 x 160, not 320 x 170" in what


def test_short_lanes_are_told_of_the_right_file_where_another_split_is_broken(culane: Path) -> None:
    first_label("1 2 3\n")(culane)
    (culane / f"{VAL_CLIP}/00003.lines.txt").write_text(LABEL + "100 100\n")
    found = {finding.kind: finding.file for finding in examine(culane).findings}
    assert found == {"broken-label": f"{CLIP}/00000.lines.txt", "short-lane": f"{VAL_CLIP}/00003.lines.txt"}


def test_an_archive_beside_what_it_held_is_no_fault_and_a_drivers_alone_is_packed(culane: Path) -> None:
    (culane / "list.tar.gz").write_bytes(b"")
    (culane / "other.zip").write_bytes(b"")
    assert kinds(culane) == []
    (culane / "driver_37_30frame.TAR.GZ").write_bytes(b"")
    edit("list/test.txt", lambda text: text + "/driver_37_30frame/1/00000.jpg\n")(culane)
    found = [one for one in examine(culane).findings if one.kind in ("packed", "missing-folder")]
    assert [(one.kind, one.file, one.fix) for one in found] == [
        ("packed", "driver_37_30frame.TAR.GZ", "tar xf driver_37_30frame.TAR.GZ")
    ]


def test_a_list_of_a_scenario_may_have_no_windows_line_ends_either(culane: Path) -> None:
    (culane / "list/test_split/test8_night.txt").write_bytes(f"{NIGHT_CLIP}/00005.jpg\r\n".encode())
    assert [one[:2] for one in findings(culane, "crlf")] == [("note", "list/test_split/test8_night.txt")]


def test_windows_line_ends_of_a_list_are_no_fault_and_no_evaluator_is_said_to_mind_them(culane: Path) -> None:
    (culane / "list/val.txt").write_bytes(f"/{VAL_CLIP}/00003.jpg\r\n".encode())
    ((_, _, _, fix),) = findings(culane, "crlf")
    assert fix.startswith("nothing: the harness, the official evaluator and CLRNet pass over them")
    assert examine(culane).healthy


def test_lanes_without_an_image_look_like_predictions_and_annotations(tmp_path: Path) -> None:
    lanes = tmp_path / "driver_37_30frame/1/00000.lines.txt"
    lanes.parent.mkdir(parents=True)
    lanes.write_text(LABEL)
    (finding,) = examine(tmp_path).findings
    assert (finding.kind, finding.file) == ("predictions", ".")
    assert "samiro-bench score culane" in finding.fix
    assert "list.tar.gz" in finding.fix
    write_image(lanes.with_name("00000.jpg"))
    assert kinds(tmp_path) == [("error", "no-lists")]


def test_a_drivers_folder_that_is_empty_yet_holds_no_predictions(tmp_path: Path) -> None:
    (tmp_path / "driver_37_30frame/1").mkdir(parents=True)
    assert kinds(tmp_path) == [("error", "no-lists")]


def test_a_folder_of_lists_without_the_list_of_any_split_is_told(culane: Path) -> None:
    for path in (culane / "list").glob("*.txt"):
        path.rename(path.with_name(f"my_{path.name}"))
    (finding,) = examine(culane).findings
    assert (finding.severity, finding.kind, finding.file) == ("error", "no-lists", "list")
    assert "none of the lists train.txt, train_gt.txt, val.txt" in finding.what
    assert finding.fix == "restore them from the dataset's source"


def test_tusimple_without_any_label_is_told_of_each_split(tusimple: Path) -> None:
    for path in tusimple.glob("*.json"):
        path.unlink()
    told = ["label_data_0313.json", "label_data_0531.json", "test_label.json"]
    assert [one[:2] for one in findings(tusimple, "no-labels")] == [("error", name) for name in told]
    assert len(examine(tusimple).findings) == 3


def test_llamas_without_any_label_is_told(llamas: Path) -> None:
    shutil.rmtree(llamas / "color_images/test")
    shutil.rmtree(llamas / "labels/valid")
    shutil.rmtree(llamas / "labels/train")
    assert [(one.kind, one.file) for one in examine(llamas).findings] == [
        ("no-labels", "labels/train"),
        ("no-labels", "labels/valid"),
    ]
    (llamas / "labels").rmdir()
    assert [(one.kind, one.file) for one in examine(llamas).findings] == [("missing-folder", "labels")]


def test_an_empty_folder_of_llamas_labels_is_told_and_what_it_hides(llamas: Path) -> None:
    shutil.rmtree(llamas / "labels/valid/images-1")
    ((severity, file, what, fix),) = findings(llamas, "list")
    assert (severity, file) == ("error", "labels/valid")
    assert what.endswith("so there is no split val (nothing else of split val was examined)")
    assert fix == "restore it from the source"
    assert kinds(llamas) == [("error", "list")]


@pytest.mark.parametrize("name", ["roads", "list"])
def test_a_file_in_the_place_of_a_folder_holds_nothing(culane: Path, name: str) -> None:
    """As git for Windows leaves a link to a folder: a file with its target."""
    shutil.rmtree(culane / name)
    (culane / name).write_text("/elsewhere")
    told = {"roads": ["missing-image", "missing-label"], "list": ["no-lists"]}[name]
    assert [one.kind for one in examine(culane).findings] == told


def test_a_file_in_the_place_of_clips_holds_none(tusimple: Path) -> None:
    shutil.rmtree(tusimple / "clips")
    (tusimple / "clips").write_text("/elsewhere")
    assert kinds(tusimple) == [("error", "missing-image")] * 3


def test_a_blank_line_of_tusimples_labels_is_to_be_deleted(tusimple: Path) -> None:
    edit("test_label.json", lambda text: text + "\n")(tusimple)
    ((_, file, what, fix),) = findings(tusimple, "broken-label")
    assert file == "test_label.json"
    assert what.startswith("test_label.json:2: a blank line")
    assert fix == "delete it"


def test_images_of_tusimple_in_other_letters_are_not_to_be_unpacked_again(tusimple: Path) -> None:
    (tusimple / "clips/0313-1").rename(tusimple / "clips/day")
    edit("label_data_0313.json", lambda text: text.replace("0313-1", "Day"))(tusimple)
    ((_, file, what, fix),) = findings(tusimple, "case")
    assert file == "clips/Day/60/20.jpg"
    assert what == "1 images of split train differ from the files in upper and lower case"
    assert fix == "rename the files as the labels have them"
    assert findings(tusimple, "missing-image") == []


def test_a_refused_list_is_named_without_its_line(culane: Path) -> None:
    edit("list/train.txt", lambda text: text + f"/{CLIP}/00000.jpg\n")(culane)
    ((_, file, what, fix),) = findings(culane, "list")
    assert file == "list/train.txt"
    assert what.startswith("list/train.txt:4: ")
    assert fix == "delete one of the two lines"


def test_images_of_a_driver_whom_no_list_names_are_on_no_list(culane: Path) -> None:
    write_image(culane / "driver_7/1/0.jpg")
    write_image(culane / "pictures/1/0.jpg")
    assert [one[:2] for one in findings(culane, "orphan-image")] == [("warning", "driver_7/1/0.jpg")]


def test_images_may_lie_six_folders_deep(culane: Path) -> None:
    (culane / "roads").rename(culane / "inner")
    (culane / "roads/a/b/c").mkdir(parents=True)
    (culane / "inner").rename(culane / "roads/a/b/c/d")
    in_lists(lambda name: name.replace("roads/", "roads/a/b/c/d/"))(culane)
    assert kinds(culane) == []


def test_an_image_on_no_list_is_told_without_its_label(culane: Path) -> None:
    write_image(culane / f"{CLIP}/00099.jpg")
    (culane / f"{CLIP}/00099.lines.txt").write_text(LABEL)
    assert kinds(culane) == [("warning", "orphan-image")]


def test_second_lists_of_as_many_other_images_differ(culane: Path) -> None:
    (culane / "list/val_gt.txt").write_text("a/0.jpg /x.png 1\n")
    assert kinds(culane) == [("warning", "lists-differ")]


def test_short_lanes_of_tusimple_are_told_of_the_file_that_holds_them(tusimple: Path) -> None:
    edit("label_data_0601.json", lambda text: text.replace("[90, 60, 40]", "[-2, -2, 40]"))(tusimple)
    assert [one[1] for one in findings(tusimple, "short-lane")] == ["label_data_0601.json"]


def test_lanes_of_tusimple_without_a_point_are_told_and_matter_where_they_are_scored(tusimple: Path) -> None:
    for name in ("label_data_0601.json", "test_label.json"):
        edit(name, lambda text: text.replace("[90, 60, 40]", "[-2, -2, -2]"))(tusimple)
    found = {file: (severity, what) for severity, file, what, _ in findings(tusimple, "short-lane")}
    assert found["label_data_0601.json"] == ("note", "1 label files of split train hold 1 lanes without a point")
    assert found["test_label.json"] == ("warning", "1 label files of split test hold 1 lanes without a point")
    assert len(found) == 2


@pytest.mark.parametrize(("day", "archive"), [("0530", "test_set.zip"), ("0531", "train_set.zip")])
def test_missing_images_of_tusimple_are_in_the_archive_of_their_split(tusimple: Path, day: str, archive: str) -> None:
    (tusimple / f"clips/{day}/60/20.jpg").unlink()
    ((_, _, _, fix),) = findings(tusimple, "missing-image")
    assert archive in fix


def test_labels_that_were_rendered_are_missed_in_own_clips_too(tusimple: Path) -> None:
    name = "clips/town/0/0.jpg"
    for path in tusimple.glob("*.json"):
        path.write_text(line(name, [[90, 60, 40]], [80, 120, 158]))
    (tusimple / "clips").rename(tusimple / "old")
    write_image(tusimple / name)
    (tusimple / "test_label.json").unlink()
    assert [one[0] for one in findings(tusimple, "no-labels")] == ["note"]
    rendered(tusimple, HEIGHT, WIDTH, train=1, val=1, test=1)
    assert [one[0] for one in findings(tusimple, "no-labels")] == ["error"]


def test_a_folder_in_a_folder_of_its_name_is_no_fault_and_hides_none(culane: Path) -> None:
    (culane / "roads").rename(culane / "inside")
    (culane / "roads").mkdir()
    (culane / "inside").rename(culane / "roads/roads")
    in_lists(lambda name: f"roads/{name}")(culane)
    assert kinds(culane) == []
    (culane / f"roads/{CLIP}/00001.jpg").unlink()
    (culane / f"roads/{CLIP}/00002.lines.txt").unlink()
    assert [(one.kind, one.file) for one in examine(culane).findings] == [
        ("missing-image", f"roads/{CLIP}/00001.jpg"),
        ("missing-label", f"roads/{CLIP}/00002.lines.txt"),
    ]


def test_what_is_missing_in_a_folder_too_deep_is_told_beside_it(culane: Path) -> None:
    (culane / "roads").rename(culane / "inside")
    (culane / "roads").mkdir()
    (culane / "inside").rename(culane / "roads/roads")
    (culane / f"roads/{CLIP}/00001.jpg").unlink()
    (culane / f"roads/{CLIP}/00002.lines.txt").unlink()
    assert [(one.kind, one.file) for one in examine(culane).findings] == [
        ("nested", "roads"),
        ("missing-image", f"{CLIP}/00001.jpg"),
        ("missing-label", f"{CLIP}/00002.lines.txt"),
    ]


def test_what_is_missing_of_ones_own_data_is_not_looked_for_on_culanes_page(culane: Path) -> None:
    (culane / f"{CLIP}/00001.jpg").unlink()
    (culane / f"{CLIP}/00002.lines.txt").unlink()
    assert not any("CULane" in finding.fix for finding in examine(culane).findings)


def test_images_and_labels_that_are_missing_beside_the_lists_are_told(culane: Path) -> None:
    for path in [*(culane / "roads").glob("*/*")]:
        path.rename(culane / path.name)
    in_lists(lambda name: name.rpartition("/")[2])(culane)
    (culane / "00001.jpg").unlink()
    (culane / "00002.lines.txt").unlink()
    found = [(one.kind, one.file) for one in examine(culane).findings if one.severity == "error"]
    assert found == [("missing-image", "00001.jpg"), ("missing-label", "00002.lines.txt")]
    assert [one[:2] for one in findings(culane, "one-clip")] == [("note", ".")]


def test_a_list_named_from_elsewhere_hides_no_missing_image_of_another(culane: Path) -> None:
    edit("list/train.txt", lambda text: text.replace("/roads", "/data/set/roads"))(culane)
    (culane / f"{VAL_CLIP}/00003.jpg").unlink()
    assert [(one.kind, one.file, one.what[:9]) for one in examine(culane).findings] == [
        ("list-folder", f"data/set/{CLIP}/00000.jpg", "3 images "),
        ("missing-image", f"{VAL_CLIP}/00003.jpg", "1 images "),
    ]


def test_a_missing_folder_says_how_many_images_lay_in_it(culane: Path) -> None:
    (culane / f"{CLIP}/00001.jpg").unlink()
    edit("list/val.txt", lambda text: text + "other/1.jpg\nother/2.jpg\n")(culane)
    found = {one.kind: (one.file, one.what) for one in examine(culane).findings}
    assert found["missing-folder"] == ("other", "the folder isn't there: 2 images of the lists lie in it")
    assert found["missing-image"] == (f"{CLIP}/00001.jpg", "1 images of the lists aren't there")


def test_culanes_masks_are_missed_only_where_they_arent(culane: Path) -> None:
    (culane / "driver_23_30frame").mkdir()
    assert len(findings(culane, "no-masks")) == 1
    (culane / "laneseg_label_w16").mkdir()
    assert findings(culane, "no-masks") == []


def test_a_missing_image_whose_path_has_a_space_is_no_line_of_several(culane: Path) -> None:
    (culane / "roads").rename(culane / "my roads")
    in_lists(lambda name: f"my {name}")(culane)
    (culane / f"my {CLIP}/00001.jpg").unlink()
    assert [(one.kind, one.file) for one in examine(culane).findings] == [("missing-image", f"my {CLIP}/00001.jpg")]


def test_a_list_on_one_line_names_line_and_separator(culane: Path) -> None:
    edit("list/train.txt", lambda text: "\n" + ", ".join(text.split()))(culane)
    ((_, file, what, _),) = findings(culane, "list-separator")
    assert (file, what) == ("list/train.txt", "line 2 holds 3 images, parted by ', ': a list has one image a line")


def test_other_files_beside_llamas_images_are_none_without_label(llamas: Path) -> None:
    for split in ("train", "test"):
        (llamas / f"color_images/{split}/images-1/.DS_Store").write_bytes(b"")
    assert kinds(llamas) == []
