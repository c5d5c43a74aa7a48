"""The doctor on small trees: a whole one has no finding, and each fault has exactly its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.cli.main import main
from harness.datasets.doctor.examine import examine
from harness.errors import InputError
from tests.harness.datasets.doctor.trees import (
    CLIP,
    HEIGHT,
    LABEL,
    WIDTH,
    edit,
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


def all_labels(change: Callable[[str], str]) -> Callable[[Path], None]:
    return lambda root: [path.write_text(change(path.read_text())) for path in root.rglob("*.lines.txt")] and None


def doubled(text: str) -> str:
    return "\n".join(" ".join(str(2 * float(word)) for word in row.split()) for row in text.splitlines()) + "\n"


def truncate(root: Path) -> None:
    path = root / f"{CLIP}/00001.jpg"
    path.write_bytes(path.read_bytes()[:-40])


def pack(root: Path) -> None:
    shutil.rmtree(root / "list")
    (root / "list.tar.gz").write_bytes(b"")


def keep_only_test(root: Path) -> None:
    for split in ("train", "val"):
        (root / f"list/{split}.txt").unlink()
    for path in (root / CLIP).glob("0000[0-3].*"):
        path.unlink()


def empty_train(root: Path) -> None:
    for number in (0, 1):
        (root / f"{CLIP}/{number:05d}.lines.txt").write_text("")


def move_down(root: Path) -> None:
    (root / "roads").rename(root / "inside")
    (root / "roads").mkdir()
    (root / "inside").rename(root / "roads/roads")


CULANE_FAULTS = {
    "an image listed twice": (edit("list/train.txt", lambda text: text + f"/{CLIP}/00000.jpg\n"), "error", "list"),
    "an empty list": (edit("list/val.txt", lambda _: ""), "error", "list"),
    "a test image to train on": (edit("list/train.txt", lambda text: text + f"/{CLIP}/00005.jpg\n"), "error", "two-splits"),
    "another train_gt.txt": (lambda root: (root / "list/train_gt.txt").write_text("a/0.jpg /x.png 1\n"), "warning", "lists-differ"),
    "a damaged val_gt.txt": (lambda root: (root / "list/val_gt.txt").write_text("/../a.jpg 1\n"), "warning", "list"),
    "most labels empty": (empty_train, "warning", "empty-labels"),
    "only a test list": (keep_only_test, "note", "no-split"),
    "a scenario missing": (edit("list/test_split/test8_night.txt", lambda _: ""), "error", "test-split"),
    "a scenario twice": (edit("list/test_split/test8_night.txt", lambda t: t + f"{CLIP}/00004.jpg\n"), "error", "test-split"),
    "a scenario of an unlisted image": (edit("list/test_split/test8_night.txt", lambda t: t + "x/9.jpg\n"), "error", "test-split"),
    "Windows line ends": (lambda root: (root / "list/val.txt").write_bytes(f"/{CLIP}/00003.jpg\r\n".encode()), "warning", "crlf"),
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


@pytest.mark.parametrize("name", ["absolute paths", "backslashes", "another ending"])
def test_the_command_that_mends_lists_mends_them(culane: Path, name: str) -> None:
    CULANE_FAULTS[name][0](culane)
    (finding,) = examine(culane).findings
    assert finding.what.startswith("6 images")
    subprocess.run(finding.fix.partition(": ")[2], shell=True, check=True, cwd=culane)
    assert examine(culane).findings == ()


def test_images_of_culane_without_their_drivers_folder_are_missed_there(culane: Path) -> None:
    in_lists(lambda name: f"/driver_23_30frame/{name}")(culane)
    assert ("error", "missing-folder") in kinds(culane)
    assert ("error", "list-folder") not in kinds(culane)


TUSIMPLE_FAULTS = {
    "no test labels": (lambda root: (root / "test_label.json").rename(root / "test_tasks_0627.json"), "error", "no-labels"),
    "no training labels": (lambda root: (root / "label_data_0313.json").unlink(), "error", "no-labels"),
    "an image gone": (lambda root: (root / "clips/0601/60/20.jpg").unlink(), "error", "missing-image"),
    "a broken line": (edit("label_data_0531.json", lambda text: text[:-9] + "\n"), "error", "broken-label"),
    "a frame too many": (edit("label_data_0531.json", lambda text: text + text.replace("/60/", "/61/")), "warning", "count"),
    "a lane of one point": (edit("test_label.json", lambda text: text.replace("[90, 60, 40]", "[-2, -2, 40]")), "note", "short-lane"),
    "capitals": (lambda root: (root / "test_label.json").rename(root / "Test_Label.json"), "error", "case"),
}  # fmt: skip


@pytest.mark.parametrize("name", TUSIMPLE_FAULTS)
def test_each_fault_of_tusimple_has_its_finding_alone(tusimple: Path, name: str) -> None:
    inflict, severity, kind = TUSIMPLE_FAULTS[name]
    inflict(tusimple)
    if name == "a frame too many":
        write_image(tusimple / "clips/0531/61/20.jpg")
    assert kinds(tusimple) == [(severity, kind)]


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


LLAMAS_FAULTS = {
    "capitals": (lambda root: (root / "labels").rename(root / "Labels"), "error", "case"),
    "no images": (lambda root: shutil.rmtree(root / "color_images"), "error", "missing-folder"),
    "an image gone": (lambda root: (root / "color_images/train/images-1/1_color_rect.png").unlink(), "error", "missing-image"),
    "a broken label": (edit("labels/train/images-1/1.json", lambda text: text[:-5]), "error", "broken-label"),
}  # fmt: skip


@pytest.mark.parametrize("name", LLAMAS_FAULTS)
def test_each_fault_of_llamas_has_its_finding(llamas: Path, name: str) -> None:
    inflict, severity, kind = LLAMAS_FAULTS[name]
    inflict(llamas)
    found = kinds(llamas)
    # Without its images there is no test split either: a consequence that is told as well.
    assert found == [(severity, kind)] + ([("warning", "no-split")] if name == "no images" else [])


def test_an_image_without_label_is_an_orphan_of_llamas(llamas: Path) -> None:
    write_image(llamas / "color_images/train/images-1/9_color_rect.png", (717, 1276))
    assert kinds(llamas) == [("warning", "orphan-image")]


def test_a_dataset_one_folder_down_is_found_there(culane: Path) -> None:
    outer = culane.with_name("outer")
    outer.mkdir()
    culane.rename(outer / "CULane")
    health = examine(outer)
    assert [(finding.kind, finding.file) for finding in health.findings] == [("nested", "CULane")]
    assert health.root == outer / "CULane"
    assert health.images["train"] == 3


def test_shared_images_are_named_and_counted(culane: Path) -> None:
    edit("list/val.txt", lambda text: text + f"/{CLIP}/00004.jpg\n/{CLIP}/00005.jpg\n")(culane)
    ((severity, file, what, _),) = findings(culane, "two-splits")
    assert (severity, file) == ("error", f"{CLIP}/00004.jpg")
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
    ((_, file, what, fix),) = findings(culane, "empty-labels")
    assert (file, what) == (f"{CLIP}/00000.lines.txt", "2 of the 3 labels of split train hold no lane")
    assert "annotations_new.tar.gz" in fix
    first_label(LABEL)(culane)
    assert findings(culane, "empty-labels") == []
    for number in (4, 5):
        (culane / f"{CLIP}/{number:05d}.lines.txt").write_text("")
    assert "2 of the 2 labels of split test" in findings(culane, "empty-labels")[0][2]
    (culane / "list/test_split/test0_normal.txt").unlink()
    (culane / "list/test_split/test8_night.txt").unlink()
    (culane / "list/test_split/test7_cross.txt").write_text(f"{CLIP}/00004.jpg\n{CLIP}/00005.jpg\n")
    assert findings(culane, "empty-labels") == []


def test_a_known_test_list_without_its_scenarios_is_told(culane: Path) -> None:
    shutil.rmtree(culane / "list/test_split")
    assert examine(culane).findings == ()  # one's own data needs none
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
    (culane / f"{CLIP}/00003.jpg").unlink()
    (culane / f"{CLIP}/00003.lines.txt").unlink()
    (finding,) = (finding for finding in examine(culane).findings if finding.kind == "missing-folder")
    assert "driver_37_30frame.tar.gz from https://xingangpan.github.io" in finding.fix


def test_curvelanes_own_layout_is_known_and_to_be_converted(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / split / "labels").mkdir(parents=True)
    health = examine(tmp_path)
    assert (health.form, [finding.kind for finding in health.findings]) == ("curvelanes", ["convert"])
    # Its images can't be drawn yet; what is to be done first is said all the same.
    sheet = tmp_path / "sheet.jpg"
    assert [finding.kind for finding in examine(tmp_path, sheet=sheet).findings] == ["convert", "no-sheet"]
    assert not sheet.exists()


def test_the_real_lists_hold_culanes_known_scenarios(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "list").symlink_to(shared / "real/culane/list")
    (tmp_path / "driver_23_30frame").mkdir()
    health = examine(tmp_path)
    assert health.images == {"test": 34_680}
    assert {finding.kind for finding in health.findings} == {
        "missing-folder",
        "missing-label",
        "no-split",
        "no-masks",
    } - {"missing-label"}
    assert "count" not in {finding.kind for finding in health.findings}


def test_a_few_images_are_opened_one_a_clip(culane: Path) -> None:
    assert examine(culane, images=2).decoded == 3  # of every split one
    assert examine(culane, images=0).decoded == 6


def test_the_command_says_what_to_do_and_how_it_went(culane: Path, tmp_path: Path, capsys) -> None:
    assert main(["data", "doctor", str(culane), "--sheet", str(tmp_path / "sheet.jpg")]) == 0
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] == 4 * 480
    capsys.readouterr()
    (culane / f"{CLIP}/00001.jpg").unlink()
    assert main(["data", "doctor", str(culane), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["healthy"] is False
    assert [(one["kind"], one["file"]) for one in printed["findings"]] == [("missing-image", f"{CLIP}/00001.jpg")]
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, expected in (
        ([str(empty)], "looked for list/"),
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(culane), "--form", "llamas"], "no dataset of form llamas"),
        ([str(culane), "--form", "culan"], "did you mean 'culane'"),
    ):
        assert main(["data", "doctor", *words]) == 2
        assert expected in capsys.readouterr().err


def test_labels_show_on_the_sheet(culane: Path, tmp_path: Path) -> None:
    examine(culane, sheet=tmp_path / "with.jpg")
    for path in culane.rglob("*.lines.txt"):
        path.write_text("")
    examine(culane, sheet=tmp_path / "without.jpg")
    pictures = [cv2.imread(str(tmp_path / name)).astype(int) for name in ("with.jpg", "without.jpg")]
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 60).sum() > 1000


def test_the_index_command_prints_counts_and_rehashes(culane: Path, capsys) -> None:
    assert main(["data", "index", str(culane), "--json"]) == 0
    splits = {row["split"]: row for row in json.loads(capsys.readouterr().out)["splits"]}
    assert {name: (row["images"], row["lanes"]) for name, row in splits.items()} == {
        "train": (3, 6),
        "val": (1, 2),
        "test": (2, 4),
    }
    assert main(["data", "index", str(culane), "--rehash"]) == 0
    assert "train: 3 images, 6 lanes" in capsys.readouterr().out
    (culane / f"{CLIP}/00001.lines.txt").write_text("1 2 3\n")
    assert main(["data", "index", str(culane)]) == 2
    assert "00001.lines.txt:1: 3 numbers, an odd count" in capsys.readouterr().err


def test_an_index_that_cant_be_stored_is_one_clean_line_and_never_called_cached(
    culane: Path, tusimple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    first_label(LABEL + "100 100\n")(culane)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["data", "index", str(culane)]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2  # three splits, one cache; and the short lane
    assert lines[0].startswith(f"warning: the label index can't be stored in {tmp_path / 'file/samiro-bench/labels'} (")
    assert lines[1].startswith(f"warning: {culane}: 1 lanes of split train have fewer than two points")
    assert "cached in" not in printed.out
    assert "not cached, read again next time: train, val, test" in printed.out
    assert main(["data", "index", str(culane), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cache"] is None
    assert [row["cached"] for row in told["splits"]] == [False] * 3
    assert told["warnings"] == [line.removeprefix("warning: ") for line in lines]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "good"))
    assert main(["data", "index", str(culane)]) == 0
    assert f"cached in {tmp_path / 'good/samiro-bench/labels'}\n" in capsys.readouterr().out
    # TuSimple has no index in the cache, so none is claimed.
    assert main(["data", "index", str(tusimple)]) == 0
    assert "\ncached" not in capsys.readouterr().out


def test_a_folder_that_isnt_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        examine(tmp_path / "nowhere")
