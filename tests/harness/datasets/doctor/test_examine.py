"""What the doctor tells of small trees: whole ones have no finding, and what is missing is named with where it can be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.datasets.doctor.examine import examine
from harness.errors import InputError
from tests.harness.datasets.doctor.trees import (
    CLIP,
    HEIGHT,
    LABEL,
    NAMES,
    NIGHT_CLIP,
    TEST_CLIP,
    VAL_CLIP,
    WIDTH,
    edit,
    empty_train,
    findings,
    first_label,
    in_lists,
    kinds,
    rendered,
    write_image,
)


def test_a_whole_tree_has_no_finding(culane: Path, tusimple: Path, llamas: Path) -> None:
    for root, form, images in (
        (culane, "culane", {"train": 3, "val": 1, "test": 2}),
        (tusimple, "tusimple", {"train": 2, "val": 1, "test": 1}),
        (llamas, "llamas", {"train": 2, "val": 1, "test": 1}),
    ):
        health = examine(root)
        assert health.findings == ()
        assert health.healthy
        assert (health.form, health.images) == (form, images)
        assert health.decoded == sum(images.values())


@pytest.mark.filterwarnings("error")
def test_what_reading_labels_warns_of_is_a_finding_alone(culane: Path) -> None:
    first_label(LABEL + "100 100\n")(culane)
    assert kinds(culane) == [("note", "short-lane")]


def test_images_of_culane_without_their_drivers_folder_are_missed_there(culane: Path) -> None:
    in_lists(lambda name: f"/driver_23_30frame/{name}")(culane)
    assert ("error", "missing-folder") in kinds(culane)
    assert ("error", "list-folder") not in kinds(culane)


def test_an_image_without_label_is_an_orphan_of_llamas(llamas: Path) -> None:
    write_image(llamas / "color_images/train/images-1/9_color_rect.png", (717, 1276))
    assert kinds(llamas) == [("warning", "orphan-image")]


def test_shared_images_are_named_and_counted(culane: Path) -> None:
    edit("list/val.txt", lambda text: text + f"/{TEST_CLIP}/00004.jpg\n/{NIGHT_CLIP}/00005.jpg\n")(culane)
    ((severity, file, what, _),) = findings(culane, "two-splits")
    assert (severity, file) == ("error", f"{TEST_CLIP}/00004.jpg")
    assert what.startswith("2 images are in split val and in split test")


def test_lists_that_differ_are_counted_and_equal_ones_are_not_told(culane: Path) -> None:
    gt = culane / "list/train_gt.txt"
    gt.write_text("".join(f"/{CLIP}/{number:05d}.jpg /mask.png 1 1 1 1\n" for number in range(3)))
    assert examine(culane).findings == ()
    gt.write_text(gt.read_text() + "/x/1.jpg /mask.png 1 1 1 1\n")
    ((_, file, what, fix),) = findings(culane, "lists-differ")
    assert file == "list/train_gt.txt"
    assert what == "it names 4 images and train.txt names 3: 3 are on both"
    assert "reads train.txt" in fix


def test_empty_labels_point_to_culanes_new_ones_and_crossings_may_have_none(culane: Path) -> None:
    empty_train(culane)
    ((_, _, _, fix),) = findings(culane, "empty-labels")
    assert "CULane" not in fix  # one's own labels come from nowhere else
    (culane / "driver_23_30frame").mkdir()
    ((_, file, what, fix),) = findings(culane, "empty-labels")
    assert (file, what) == (f"{CLIP}/00000.lines.txt", "2 of the 3 labels of split train hold no lane")
    assert "annotations_new.tar.gz" in fix
    first_label(LABEL)(culane)
    assert findings(culane, "empty-labels") == []
    for name in NAMES[4:]:
        (culane / f"{name}.lines.txt").write_text("")
    assert "2 of the 2 labels of split test" in findings(culane, "empty-labels")[0][2]
    (culane / "list/test_split/test8_night.txt").unlink()
    (culane / "list/test_split/test7_cross.txt").write_text(f"{NIGHT_CLIP}/00005.jpg\n")
    assert "1 of the 1 labels of split test" in findings(culane, "empty-labels")[0][2]
    (culane / "list/test_split/test0_normal.txt").unlink()
    (culane / "list/test_split/test7_cross.txt").write_text(f"{TEST_CLIP}/00004.jpg\n{NIGHT_CLIP}/00005.jpg\n")
    assert findings(culane, "empty-labels") == []


def test_empty_labels_of_other_forms_are_not_sought_among_culanes_and_rendered_ones_are_made_again(
    tusimple: Path,
) -> None:
    for name in ("label_data_0313.json", "label_data_0601.json"):
        edit(name, lambda text: text.replace("[90, 60, 40], [-2, 250, 290]", "[-2, -2, -2]"))(tusimple)
    ((_, _, what, fix),) = findings(tusimple, "empty-labels")
    assert what == "2 of the 2 labels of split train hold no lane"
    assert "restore the labels" in fix
    assert "CULane" not in fix
    rendered(tusimple, HEIGHT, WIDTH, train=2, val=1, test=1)
    assert "render the dataset again" in findings(tusimple, "empty-labels")[0][3]


def test_a_known_test_list_without_its_scenarios_is_told(culane: Path) -> None:
    shutil.rmtree(culane / "list/test_split")
    health = examine(culane)
    assert (health.findings, health.scenarios) == ((), {})  # one's own data needs none
    (culane / "driver_23_30frame").mkdir()
    ((severity, file, _, fix),) = findings(culane, "no-scenarios")
    assert (severity, file) == ("warning", "list/test_split")
    assert "list.tar.gz" in fix


def test_a_test_list_of_culane_alone_says_where_the_other_lists_are(tmp_path: Path) -> None:
    (tmp_path / "list").mkdir()
    (tmp_path / "list/test.txt").write_text("/driver_37_30frame/1/00000.jpg\n")
    ((severity, _, what, fix),) = findings(tmp_path, "no-split")
    assert (severity, what) == ("warning", "there is no split train and no split val, only test")
    assert "list.tar.gz from https://xingangpan.github.io" in fix


@pytest.mark.parametrize("clips", [True, False])
@pytest.mark.parametrize("gone", [("0601",), ("0601", "0531")])
def test_half_of_tusimples_training_labels_are_an_error(tusimple: Path, clips: bool, gone: tuple[str, ...]) -> None:
    for day in gone:
        (tusimple / f"label_data_{day}.json").unlink()
    if not clips:  # as in a dataset of one's own
        shutil.rmtree(tusimple / "clips")
    first = findings(tusimple, "no-labels")[0]
    assert first[:2] == ("error", "label_data_0601.json")
    assert "with label_data_0313.json alone the split can't be opened" in first[2]


def test_labels_of_llamas_that_are_gone_are_named_with_their_images(llamas: Path) -> None:
    shutil.rmtree(llamas / "labels/valid")
    ((severity, file, what, fix),) = findings(llamas, "no-labels")
    assert (severity, file) == ("error", "labels/valid")
    assert what == "the labels of split val aren't there, but 1 images in color_images/valid are"
    assert "labels.zip" in fix
    assert findings(llamas, "no-split") == []


def test_rendered_data_is_rendered_again_and_never_restored_from_public_archives(
    culane: Path, tusimple: Path, llamas: Path
) -> None:
    rendered(culane, HEIGHT, WIDTH, train=3, val=1, test=3)
    (culane / f"{CLIP}/00001.jpg").unlink()
    (culane / f"{CLIP}/00002.lines.txt").unlink()
    (culane / "list/val.txt").unlink()
    shutil.rmtree(culane / "list/test_split")
    rendered(tusimple, HEIGHT, WIDTH, train=2, val=1, test=1)
    (tusimple / "label_data_0313.json").unlink()
    (tusimple / "clips/0530/60/20.jpg").unlink()
    rendered(llamas, 717, 1276, train=2, val=1, test=1)
    shutil.rmtree(llamas / "labels/valid")
    write_image(llamas / "color_images/train/images-1/9_color_rect.png", (717, 1276))
    (llamas / "color_images/train/images-1/1_color_rect.png").unlink()
    told = {"missing-image", "missing-label", "no-split", "no-scenarios", "no-labels", "count"}
    seen = set()
    for root in (culane, tusimple, llamas):
        for finding in examine(root).findings:
            assert "http" not in finding.fix + finding.what, finding
            seen.add(finding.kind)
            if finding.kind in told:
                assert "render the dataset again" in finding.fix, finding
    assert told < seen


def test_rendered_data_lacks_no_split_that_wasnt_asked_for(tusimple: Path) -> None:
    rendered(tusimple, HEIGHT, WIDTH, train=2, test=1)
    (tusimple / "label_data_0531.json").unlink()
    (tusimple / "scenarios.json").write_text(
        json.dumps({f"clips/{day}/60/20.jpg": "night" for day in ("0313-1", "0601", "0530")})
    )
    assert examine(tusimple).findings == ()


def test_culanes_own_folders_are_held_to_its_known_counts(culane: Path) -> None:
    (culane / "driver_23_30frame").mkdir()
    health = examine(culane)
    found = {finding.kind for finding in health.findings}
    assert found == {"count", "image-size", "label-size", "no-masks"}
    assert any("3 images instead of 88,880" in finding.what for finding in health.findings)


def test_a_missing_driver_names_its_archive(culane: Path) -> None:
    (culane / "list/val.txt").write_text("/driver_37_30frame/1/00000.jpg\n")
    (culane / f"{VAL_CLIP}/00003.jpg").unlink()
    (culane / f"{VAL_CLIP}/00003.lines.txt").unlink()
    (finding,) = (finding for finding in examine(culane).findings if finding.kind == "missing-folder")
    assert "driver_37_30frame.tar.gz from https://xingangpan.github.io" in finding.fix


def test_the_real_lists_hold_culanes_known_scenarios(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "list").symlink_to(shared / "real/culane/list")
    (tmp_path / "driver_23_30frame").mkdir()
    health = examine(tmp_path)
    assert health.images == {"test": 34_680}
    # Neither a count nor a scenario is off.
    assert {finding.kind for finding in health.findings} == {"missing-folder", "no-split", "no-masks"}


def test_a_folder_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        examine(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; name the folder of a dataset"):
        examine(tmp_path / "file")
