"""`data unpack`: archived predictions come out as the official evaluators read them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from harness.cli.main import main
from harness.datasets.base import open_dataset
from harness.datasets.predictions import in_official_format, keep_predictions
from harness.errors import InputError
from harness.lanes import Lane

FRAMES = {"tusimple": {"train": 2, "test": 3}, "llamas": {"train": 2, "valid": 3}}
SPLITS = {"tusimple": "test", "llamas": "val"}


@pytest.fixture
def roots(trees: ModuleType, tmp_path: Path) -> dict[str, Path]:
    """A small dataset of either form."""
    found = {form: tmp_path / form for form in SPLITS}
    trees.write_tusimple(found["tusimple"], FRAMES["tusimple"])
    trees.write_llamas(found["llamas"], FRAMES["llamas"])
    return found


def archived(folder: Path, root: Path, form: str) -> Path:
    """The archive of two lanes in every frame, whose coordinates no format has as they are."""
    folder.mkdir()
    dataset = open_dataset(form, root)
    frames = dataset.frames(SPLITS[form])
    lanes = [[Lane(np.array([[300.03 + step, 700.0], [400.21, 400.0]]), 0.5) for step in (0, 200)] for _ in frames]
    keep_predictions(folder, dataset, frames, lanes)
    return folder / "predictions.npz"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", SPLITS)
def test_it_writes_what_is_scored(roots: dict[str, Path], form: str, tmp_path: Path, capsys) -> None:
    archive, out = archived(tmp_path / "predict", roots[form], form), tmp_path / "new/lanes"
    assert main(["data", "unpack", str(archive), str(roots[form]), str(out)]) == 0
    dataset = open_dataset(form, roots[form])
    images = len(dataset.frames(SPLITS[form]))
    assert f"of {images} image" in capsys.readouterr().out
    with in_official_format(archive, dataset, SPLITS[form]) as lanes:
        scored, place = files_of(lanes), lanes
    assert not place.exists()
    assert files_of(out) == scored
    if form == "llamas":  # of 300.03 and 400.21 px the nearest eighths
        assert set(scored.values()) == {b"300 700 400.25 400\n500 700 400.25 400\n"}
    assert len(scored) == (1 if form == "tusimple" else images)


def test_it_refuses_other_images_an_existing_folder_and_what_is_no_archive(
    roots: dict[str, Path], tmp_path: Path, capsys
) -> None:
    archive = archived(tmp_path / "predict", roots["llamas"], "llamas")
    (tmp_path / "junk.npz").write_bytes(b"junk")
    for words, expected in (
        ([archive, roots["tusimple"], "x"], "of other images than any split"),
        ([archive, roots["llamas"], tmp_path], "exists already"),
        ([archive, tmp_path / "nowhere", "x"], "no such folder"),
        ([archive, tmp_path / "predict", "x"], "data doctor"),
        ([tmp_path / "junk.npz", roots["llamas"], "x"], "not a whole archive"),
    ):
        assert main(["data", "unpack", *map(str, words)]) == 2
        assert expected in capsys.readouterr().err
    with (
        pytest.raises(InputError, match=r"predictions\.npz: of other images than split 'train'"),
        in_official_format(archive, open_dataset("llamas", roots["llamas"]), "train"),
    ):
        pass
