"""Archived labels of every form: laid out again, they are scored to the same counts bit by bit."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harness.datasets.base import Dataset, open_dataset
from harness.errors import InputError
from harness.lanes import Lane
from harness.publishing.labels import (
    LabelFacts,
    Labels,
    doubt_of,
    labels_name,
    laid_out,
    pack_labels,
    stays_inside,
    unpack_labels,
)
from harness.rendered.dataset import render_dataset
from harness.rendered.spec import FORMS, RenderSpec, dataset_key
from harness.scoring import SCORINGS

SPLIT = {"frames": 4, "frames_per_clip": 2}
SPECS = {
    "culane": RenderSpec(seed=3, width=410, height=148, splits={"train": {"frames": 2}, "test": SPLIT}),
    "tusimple": RenderSpec(form="tusimple", seed=3, splits={"train": {"frames": 2}, "test": {"frames": 2}}),
    "llamas": RenderSpec(form="llamas", seed=3, splits={"train": {"frames": 1}, "val": {"frames": 2}}),
}


@pytest.fixture(scope="module", params=[("culane", "test"), ("tusimple", "test"), ("llamas", "val")])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, str]:
    """A rendered dataset of each form, and the split that is scored."""
    form, split = request.param
    root = tmp_path_factory.mktemp("rendered") / "roads"
    render_dataset(SPECS[form], root, workers=1)
    size = (SPECS[form].height, SPECS[form].width)
    return open_dataset(form, root, name="roads", image_size=size), split


def archive(rendered: tuple[Dataset, str], folder: Path) -> Path:
    dataset, split = rendered
    spec = SPECS[dataset.form]
    path = folder / labels_name("roads", split, dataset_key(spec))
    pack_labels(path, dataset, split, spec)
    return path


def test_labels_are_made_again_from_the_archived_specification(rendered: tuple[Dataset, str], tmp_path: Path) -> None:
    labels = unpack_labels(archive(rendered, tmp_path))
    key = dataset_key(labels.facts.spec)
    for name in "abcde":
        (tmp_path / name).mkdir()
    assert doubt_of(labels, key, tmp_path / "a") is None
    # Version 4 drew other pixels on the same roads.
    older = replace(
        labels, facts=labels.facts.model_copy(update={"renderer": labels.facts.renderer.replace("5", "4", 1)})
    )
    assert doubt_of(older, dataset_key(older.facts.spec, older.facts.renderer), tmp_path / "e") is None
    label = max(labels.files, key=lambda name: len(labels.files[name]))
    moved = labels.files[label].replace(b"1", b"2", 1)
    with pytest.raises(InputError, match="isn't what the specification gives"):
        doubt_of(replace(labels, files=labels.files | {label: moved}), key, tmp_path / "b")
    with pytest.raises(InputError, match="isn't what the specification gives"):
        doubt_of(
            replace(labels, files={name: labels.files[name] for name in labels.files if name != label}),
            key,
            tmp_path / "c",
        )
    other = labels.facts.model_copy(update={"spec": labels.facts.spec.model_copy(update={"seed": 4})})
    with pytest.raises(InputError, match="their specification has the hash"):
        doubt_of(replace(labels, facts=other), key, tmp_path / "d")


def test_labels_of_another_renderer_or_of_too_many_frames_stay_in_doubt(tmp_path: Path) -> None:
    def doubt(spec: RenderSpec, renderer: str) -> str:
        facts = LabelFacts(dataset="roads", split="test", lane_width=None, renderer=renderer, spec=spec)
        found = doubt_of(Labels(facts, {}), dataset_key(spec, renderer), tmp_path)
        assert found is not None
        return found

    assert "rendered by version '0' and can't be made again" in doubt(SPECS["culane"], "0")
    large = RenderSpec(splits={"train": {"frames": 10**12 - 1}, "test": {"frames": 1}})
    assert "1000000000000 frames aren't made again" in doubt(large, FORMS["culane"].version)


@pytest.mark.parametrize(
    ("names", "sizes", "content"),
    [
        ("a\nb", [1], b"x"),
        ("a\nb", [1, 1], b"xyz"),
        ("a\nb", [-1, 2], b"x"),
        # Their sum comes to 1 again in 64 bits.
        ("a\nb\nc", [2**63 - 1, 2**63 - 1, 3], b"x"),
        ("a\na", [1, 0], b"x"),
    ],
    ids=["fewer sizes than names", "more content", "a negative size", "sizes that overflow", "a name twice"],
)
def test_parts_that_contradict_each_other_are_refused(
    tmp_path: Path, names: str, sizes: list[int], content: bytes
) -> None:
    spec = SPECS["culane"]
    facts = LabelFacts(dataset="roads", split="test", lane_width=None, renderer=FORMS["culane"].version, spec=spec)
    texts = {"facts": facts.model_dump_json().encode(), "names": names.encode(), "content": content}
    arrays = {name: np.frombuffer(text, np.uint8) for name, text in texts.items()}
    np.savez_compressed(tmp_path / "labels.npz", sizes=np.array(sizes, np.int64), **arrays)
    with pytest.raises(InputError, match="its parts contradict each other"):
        unpack_labels(tmp_path / "labels.npz")


def test_labels_from_the_archive_score_as_the_dataset_does(rendered: tuple[Dataset, str], tmp_path: Path) -> None:
    dataset, split = rendered
    path = archive(rendered, tmp_path)
    first = path.read_bytes()
    archive(rendered, tmp_path)
    assert path.read_bytes() == first
    (tmp_path / "again").mkdir()
    again = laid_out(unpack_labels(path), tmp_path / "again")
    assert not list((tmp_path / "again").rglob("*.jpg"))
    frames = dataset.frames(split)
    shifted = [[Lane(lane.points + np.float32([3, 0])) for lane in dataset.lanes(frame)] for frame in frames]
    counted = []
    for number, one in enumerate((dataset, again)):
        place = tmp_path / f"predictions-{number}"
        place.mkdir()
        one.write_predictions(place, one.frames(split), one.archived(one.frames(split), shifted))
        counts, _ = SCORINGS[dataset.form].scorer(one, split, place, progress=lambda done: None, workers=1)
        counted.append(counts)
    assert counted[0].labels.sum() > 0
    for field in fields(counted[0]):
        assert np.array_equal(getattr(counted[0], field.name), getattr(counted[1], field.name)), field.name


def test_private_labels_are_not_there_to_be_archived(trees: ModuleType, tmp_path: Path) -> None:
    trees.write_llamas(tmp_path, {"valid": 2, "test": 2})
    with pytest.raises(InputError, match="private"):
        open_dataset("llamas", tmp_path).scored_files("test")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a", "a/../b", "a//b", "a/", "./a", "a\\b", "a\nb", "a\0b"])
def test_names_that_could_leave_a_folder_are_known(name: str) -> None:
    assert not stays_inside(name)
    assert stays_inside("driver_0/clip.MP4/00000.lines.txt")


@pytest.mark.parametrize("form", sorted(SPECS))
def test_a_split_that_the_specification_does_not_have_is_named(form: str, tmp_path: Path) -> None:
    spec = SPECS[form]
    facts = LabelFacts(dataset="roads", split="night", lane_width=None, renderer=FORMS[spec.form].version, spec=spec)
    with pytest.raises(InputError, match=r"their specification has no split 'night'; restore"):
        doubt_of(Labels(facts, {}), dataset_key(spec), tmp_path)
