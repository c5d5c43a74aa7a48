"""The rendered dataset on disk."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.datasets.base import open_dataset
from harness.datasets.culane import CULane
from harness.datasets.rendering import SCENARIOS_FILE
from harness.errors import InputError
from harness.rendered.dataset import label_dataset, render_dataset
from harness.rendered.spec import RENDERER_VERSION, SCENARIOS, RenderSpec, SplitSpec, dataset_key

SPEC = RenderSpec(
    width=205,
    height=74,
    seed=3,
    splits={
        "train": SplitSpec(frames=5, frames_per_clip=2),
        "val": SplitSpec(frames=2, frames_per_clip=2, scenarios={"curve": 1.0}),
        "test": SplitSpec(frames=18, frames_per_clip=2),
    },
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "data"
    render_dataset(SPEC, folder, workers=1)
    return folder


def contents(root: Path) -> dict[str, str]:
    return {
        str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*") if p.is_file()
    }


def test_workers_in_other_processes_write_the_same_bytes(root: Path, tmp_path: Path) -> None:
    render_dataset(SPEC, tmp_path / "again", workers=2)
    assert contents(tmp_path / "again") == contents(root)


def test_the_lists_are_those_of_culane(root: Path) -> None:
    for split, frames in (("train", 5), ("val", 2), ("test", 18)):
        lines = (root / "list" / f"{split}.txt").read_text().splitlines()
        assert len(lines) == frames
        for line in lines:
            assert line.startswith(f"/driver_{split}_00/")
            assert line.endswith(".jpg")
            assert (root / line[1:]).is_file()
            assert (root / line[1:].replace(".jpg", ".lines.txt")).is_file()
    splits = sorted(p.name for p in (root / "list" / "test_split").iterdir())
    assert splits == [f"test{n}_{name}.txt" for n, name in enumerate(SCENARIOS)]
    together = [line for name in splits for line in (root / "list" / "test_split" / name).read_text().splitlines()]
    tested = (root / "list" / "test.txt").read_text().splitlines()
    assert sorted("/" + line for line in together) == sorted(tested)


def test_flags_masks_and_labels_agree(root: Path) -> None:
    for line in (root / "list" / "train_gt.txt").read_text().splitlines():
        image, mask_name, *flags = line.split()
        mask = cv2.imread(str(root / mask_name[1:]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (74, 205)
        present = {n + 1 for n, flag in enumerate(flags) if flag == "1"}
        assert set(np.unique(mask)) - {0} == present
        labels = (root / image[1:].replace(".jpg", ".lines.txt")).read_text().splitlines()
        assert len(labels) == len(present)


def test_a_junctions_label_is_empty(root: Path) -> None:
    for line in (root / "list" / "test_split" / "test7_cross.txt").read_text().splitlines():
        assert (root / line.replace(".jpg", ".lines.txt")).read_text() == ""


def test_the_harness_reads_it_as_culane(root: Path) -> None:
    dataset = CULane(root)
    frames = dataset.frames("test")
    assert len(frames) == 18
    assert {frame.scenario for frame in frames} == set(SCENARIOS)


def test_rendering_json_says_what_it_is(root: Path) -> None:
    written = json.loads((root / "rendering.json").read_text())
    assert written["renderer"] == RENDERER_VERSION
    assert written["dataset_key"] == dataset_key(SPEC)
    assert RenderSpec.model_validate(written["spec"]) == SPEC
    assert {clip["scenario"] for clip in written["clips"] if clip["split"] == "test"} == set(SCENARIOS)
    for clip in written["clips"]:
        assert len(list((root / clip["folder"]).glob("*.jpg"))) == clip["frames"]


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    spec = RenderSpec(width=64, height=64, splits={"val": SplitSpec(frames=3, frames_per_clip=2)})
    render_dataset(spec, tmp_path / "data", workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_a_folder_with_something_in_it_is_refused(root: Path) -> None:
    with pytest.raises(InputError, match="exists already"):
        render_dataset(SPEC, root, workers=1)


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render_dataset(SPEC, tmp_path / "data", workers=1, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_kill_leaves_no_half_dataset_and_the_next_run_sweeps_up(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from harness.rendered.dataset import render_dataset\n"
        "from harness.rendered.spec import RenderSpec, SplitSpec\n"
        "spec = RenderSpec(width=64, height=64, splits={'train': SplitSpec(frames=4000, frames_per_clip=1)})\n"
        f"render_dataset(spec, Path({str(tmp_path / 'data')!r}), workers=1, progress=lambda d, t: print(d, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"1"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "data").exists()
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.1)
    small = RenderSpec(width=64, height=64, splits={"train": SplitSpec(frames=1)})
    render_dataset(small, tmp_path / "data", workers=1)
    assert [p.name for p in tmp_path.iterdir()] == ["data"]


@pytest.fixture(scope="module")
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[RenderSpec, Path]:
    """A dataset of three splits in a form, with its pixels."""
    spec = RenderSpec(
        form=request.param, seed=5, splits={name: SplitSpec(frames=4) for name in ("train", "val", "test")}
    )
    folder = tmp_path_factory.mktemp(request.param) / "whole"
    render_dataset(spec, folder, workers=1)
    return spec, folder


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("whole", ["culane", "tusimple", "llamas"], indirect=True)
def test_what_scoring_a_split_reads_is_made_without_pixels_and_without_the_labels_of_others(
    whole: tuple[RenderSpec, Path], split: str, tmp_path: Path
) -> None:
    spec, root = whole
    label_dataset(spec, tmp_path / "labels", split)
    made = contents(tmp_path / "labels")
    assert made.items() <= contents(root).items()
    dataset = open_dataset(spec.form, root)
    read = {name: set(dataset.scored_files(name)) for name in spec.splits if (spec.form, name) != ("llamas", "test")}
    assert read.pop(split, set()) <= made.keys()
    for others in read.values():
        assert made.keys() & others <= {SCENARIOS_FILE}
