"""Rendered data whose lists aren't those that were rendered is refused, in every form, by the name of the list."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.datasets.base import open_dataset
from harness.datasets.rendering import RENDERING_FILE, SCENARIOS_FILE
from harness.errors import InputError
from harness.files.stored import write_json
from harness.matrix.renderings import refuse_edited
from harness.rendered import llamas_form
from harness.rendered.dataset import WRITERS, plan_clips
from harness.rendered.spec import FORMS, Form, RenderSpec

IMAGES = {"train": 4, "val": 2, "test": 4}


def written(form: Form, root: Path) -> None:
    """What says which images a rendered dataset of a form has, without drawing one."""
    splits = {split: {"frames": count, "frames_per_clip": 1} for split, count in IMAGES.items()}
    spec = RenderSpec.model_validate({"form": form, "seed": 7, "splits": splits})
    clips, writer = plan_clips(spec), WRITERS[form]
    writer.finish([*IMAGES], clips, {clip.folder: writer.label(clip, spec, root) for clip in clips}, root)
    for clip in clips:
        if form == "llamas" and clip.split == "test":  # has no labels in public
            (root / clip.folder).mkdir(parents=True)
            (root / llamas_form.images(clip)[0]).touch()
    write_json(root / RENDERING_FILE, {"clips": [asdict(clip) for clip in clips]})


def look(form: Form, root: Path) -> None:
    refuse_edited(open_dataset(form, root, image_size=(FORMS[form].height, FORMS[form].width)), IMAGES)


def edited(path: Path, edit: Callable[[list[str]], list[str]]) -> None:
    path.write_text("".join(edit(path.read_text().splitlines(keepends=True))))


def shortened(path: Path) -> None:
    edited(path, lambda lines: lines[:-1])


def with_line_of(path: Path, other: Path) -> None:
    edited(path, lambda lines: [*lines[:-1], other.read_text().splitlines(keepends=True)[0]])


def with_another_scenario(root: Path) -> None:
    scenarios = json.loads((root / SCENARIOS_FILE).read_text())
    write_json(root / SCENARIOS_FILE, dict.fromkeys(scenarios, "night"))


def with_exchanged_scenarios(root: Path) -> None:
    first, second, *_ = sorted((root / "list/test_split").iterdir())
    one, other = first.read_text(), second.read_text()
    first.write_text(other)
    second.write_text(one)


@pytest.mark.parametrize("form", FORMS)
def test_rendered_data_that_is_as_it_was_rendered_is_taken(form: Form, tmp_path: Path) -> None:
    written(form, tmp_path)
    look(form, tmp_path)


@pytest.mark.parametrize(
    ("form", "edit", "told"),
    [
        ("culane", lambda root: shortened(root / "list/train.txt"), "list/train.txt: 4 images were rendered for split train, 3 are"),
        ("culane", lambda root: with_line_of(root / "list/train.txt", root / "list/test.txt"), "list/train.txt: driver_test_"),
        ("culane", lambda root: with_line_of(root / "list/val.txt", root / "list/train.txt"), "list/val.txt: driver_train_"),
        ("culane", with_exchanged_scenarios, "list/test_split: driver_test_"),
        ("culane", lambda root: shutil.rmtree(root / "list/test_split"), "is none there"),
        ("tusimple", lambda root: shortened(root / "test_label.json"), "test_label.json: 4 images were rendered for split test, 3 are"),
        ("tusimple", lambda root: with_line_of(root / "label_data_0313.json", root / "test_label.json"),
         "label_data_0313.json and label_data_0601.json: clips/0530/"),
        ("tusimple", with_another_scenario, "scenarios.json: clips/"),
        ("tusimple", lambda root: (root / SCENARIOS_FILE).unlink(), "is none there"),
        ("llamas", lambda root: shutil.rmtree(next((root / "labels/train").iterdir())),
         "labels/train: 4 images were rendered for split train, 3 are"),
        ("llamas", lambda root: shutil.rmtree(next((root / "color_images/test").iterdir())),
         "color_images/test: 4 images were rendered for split test, 3 are"),
        ("llamas", with_another_scenario, "scenarios.json: color_images/"),
    ],
)  # fmt: skip
def test_lists_that_were_edited_since_are_refused_by_name(
    form: Form, edit: Callable[[Path], None], told: str, tmp_path: Path
) -> None:
    written(form, tmp_path)
    edit(tmp_path)
    with pytest.raises(InputError) as refused:
        look(form, tmp_path)
    assert told in str(refused.value)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"clips": [{"folder": "a"}]}', '{"clips": 3}', None])
def test_a_rendering_that_does_not_tell_its_clips_is_refused_by_name(text: str | None, tmp_path: Path) -> None:
    written("culane", tmp_path)
    if text is None:
        (tmp_path / RENDERING_FILE).unlink()
    else:
        (tmp_path / RENDERING_FILE).write_text(text)
    with pytest.raises(InputError, match=r"rendering\.json"):
        look("culane", tmp_path)
