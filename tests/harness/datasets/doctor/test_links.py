"""Links to nothing are never taken for what they should lead to, and what can't be read hides nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.datasets.doctor.examine import examine
from tests.harness.datasets.doctor.trees import CLIP, LABEL, WIDTH, edit, findings, kinds, write_image


def break_link(path: Path) -> None:
    """What was there is now a link to nothing."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(f"/nowhere/{path.name}")


CULANE_LINKS = (
    f"{CLIP}/00001.jpg",
    f"{CLIP}/00001.lines.txt",
    "roads",
    CLIP,
    "list",
    "list/train.txt",
    "list/val.txt",
    "list/test_split/test8_night.txt",
)


@pytest.mark.parametrize("name", CULANE_LINKS)
def test_a_broken_link_of_culanes_layout_is_named_with_its_target_alone(culane: Path, name: str) -> None:
    (culane / "driver_7").mkdir()  # by which it is known without its lists
    break_link(culane / name)
    (found,) = (one for one in examine(culane).findings if not one.kind.startswith("orphan"))
    assert (found.severity, found.kind, found.file) == ("error", "broken-link", name)
    assert found.what == f"1 links lead to what isn't there (the first to /nowhere/{Path(name).name})"
    assert "ln -sfn TARGET LINK" in found.fix


def test_a_dataset_of_broken_links_has_no_image_and_no_label(culane: Path) -> None:
    for path in (culane / "roads").glob("*/*"):
        break_link(path)
    health = examine(culane)
    assert [(one.kind, one.what[:8]) for one in health.findings] == [("broken-link", "6 links ")] * 2
    assert (health.labels, health.decoded) == (0, 0)


def test_a_link_to_itself_is_a_broken_one(culane: Path) -> None:
    path = culane / f"{CLIP}/00001.jpg"
    path.unlink()
    path.symlink_to(path.name)
    assert kinds(culane) == [("error", "broken-link")]


@pytest.mark.parametrize("name", ["clips/0601/60/20.jpg", "clips/0601", "label_data_0601.json", "test_label.json"])
def test_a_broken_link_of_tusimple_is_named(tusimple: Path, name: str) -> None:
    break_link(tusimple / name)
    assert [(one.kind, one.file) for one in examine(tusimple).findings] == [("broken-link", name)]


@pytest.mark.parametrize(
    "name", ["color_images/train/images-1/1_color_rect.png", "color_images/train", "labels/valid", "labels"]
)
def test_a_broken_link_of_llamas_is_named(llamas: Path, name: str) -> None:
    break_link(llamas / name)
    assert [(one.kind, one.file) for one in examine(llamas).findings] == [("broken-link", name)]


@pytest.mark.parametrize("text", [None, "1 2 3\n"])
def test_a_label_that_is_missing_or_broken_hides_none_of_its_split(culane: Path, text: str | None) -> None:
    first, second = culane / f"{CLIP}/00000.lines.txt", culane / f"{CLIP}/00001.lines.txt"
    second.write_text(f"{-20 * WIDTH} 159 60 120\n")
    if text is None:
        first.unlink()
    else:
        first.write_text(text)
    health = examine(culane)
    kind = "missing-label" if text is None else "broken-label"
    assert [(one.kind, one.file) for one in health.findings] == [
        (kind, f"{CLIP}/00000.lines.txt"),
        ("far-out", f"{CLIP}/00001.lines.txt"),
    ]
    assert (health.labels, health.lanes) == (5, 9)


def test_a_label_of_llamas_that_only_scoring_refuses_is_told(llamas: Path) -> None:
    """Its lane lies above the rows that are scored, and isn't prolonged, being behind the car."""
    path = llamas / "labels/valid/images-1/3.json"
    label = json.loads(path.read_text())
    for number, marker in enumerate(label["lanes"][0]["markers"]):
        marker["pixel_start"]["y"], marker["pixel_end"]["y"] = str(290 - 20 * number), str(285 - 20 * number)
        marker["world_start"]["z"] = "-1"
    path.write_text(json.dumps(label))
    ((_, file, what, _),) = findings(llamas, "broken-label")
    assert file == "labels/valid/images-1/3.json"
    assert "fewer than two rows from 300 down" in what


def test_a_broken_line_of_tusimple_says_what_it_hides(tusimple: Path) -> None:
    edit("label_data_0531.json", lambda text: text + "{}\n")(tusimple)
    ((_, _, what, _),) = findings(tusimple, "broken-label")
    assert what.endswith("no 'raw_file' (nothing else of split val was examined)")


def test_links_that_lead_somewhere_are_files(culane: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere.jpg")
    (tmp_path / "elsewhere.txt").write_text(LABEL)
    for ending in ("jpg", "lines.txt"):
        path = culane / f"{CLIP}/00001.{ending}"
        path.unlink()
        path.symlink_to(tmp_path / f"elsewhere.{ending.rpartition('.')[2]}")
    assert kinds(culane) == []
