"""The files of a rendered dataset hold what was drawn: labels, masks, scenarios, colours and the order of frames."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from pydantic import ValidationError

from harness.cli.main import main
from harness.datasets.culane import CULane
from harness.errors import InputError
from harness.rendered import dataset as writing
from harness.rendered import tusimple_form
from harness.rendered.culane_form import images, label_clip
from harness.rendered.dataset import plan_clips, render_dataset
from harness.rendered.frame import Frame, aim, draw, prepare, render_frame
from harness.rendered.pictures import write_png
from harness.rendered.sampling import sample_scene
from harness.rendered.spec import LARGEST, RenderSpec, SplitSpec

SPEC = RenderSpec(
    width=820,
    height=295,
    seed=5,
    difficulty=0.3,
    splits={
        "train": SplitSpec(frames=4, frames_per_clip=2, scenarios={"normal": 1, "night": 1}),
        "test": SplitSpec(frames=6, frames_per_clip=2, scenarios={"normal": 1, "night": 1, "curve": 1}),
    },
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rendered") / "data"
    render_dataset(SPEC, folder, workers=1)
    return folder


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[str, Frame]]:
    """Image -> its scenario, and the frame as it is drawn in memory."""
    found = {}
    for clip in plan_clips(SPEC):
        stage = prepare(sample_scene(clip.scenario, SPEC.difficulty, clip.seed, clip.frames))
        for number, image in enumerate(images(clip)):
            found[image] = clip.scenario, render_frame(stage, number, width=SPEC.width, height=SPEC.height)
    return found


def apart(file: Path, image: npt.NDArray[np.uint8]) -> float:
    """Mean difference of a file's pixels, in BGR, from an image's, averaged over blocks of 4 x 4: JPEG's is nearly gone then."""
    small = [
        cv2.resize(one, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA) for one in (cv2.imread(str(file)), image)
    ]
    return float(np.abs(small[0].astype(int) - small[1].astype(int)).mean())


def test_labels_on_disk_are_the_drawn_lanes(root: Path, drawn: dict[str, tuple[str, Frame]]) -> None:
    dataset, seen = CULane(root), 0
    for split in ("train", "test"):
        for frame in dataset.frames(split):
            lanes, expected = dataset.lanes(frame), drawn[frame.id][1].lanes
            assert len(lanes) == len(expected)
            for lane, other in zip(lanes, expected, strict=True):
                # Archived to an eighth of a pixel.
                np.testing.assert_allclose(lane.points, other.points, atol=0.07)
            seen += len(lanes)
    assert seen > 15


def test_images_on_disk_are_the_drawn_ones_in_their_order_and_colours(
    root: Path, drawn: dict[str, tuple[str, Frame]]
) -> None:
    for image, (_, frame) in drawn.items():
        assert apart(root / image, frame.image) < 1.5
    first, second = images(plan_clips(SPEC)[0])
    assert apart(root / first, drawn[second][1].image) > 3.0


def test_each_test_image_is_listed_under_the_scenario_of_its_scene(
    root: Path, drawn: dict[str, tuple[str, Frame]]
) -> None:
    for frame in CULane(root).frames("test"):
        assert frame.scenario == drawn[frame.id][0]
        brightness = cv2.imread(str(frame.image)).mean()
        assert (brightness < 60) == (frame.scenario == "night")


def test_masks_lie_on_the_lanes_as_wide_as_culanes_with_values_from_left_to_right(
    root: Path, drawn: dict[str, tuple[str, Frame]]
) -> None:
    for line in (root / "list/train_gt.txt").read_text().splitlines():
        image, mask_name, *flags = line.split()
        mask = cv2.imread(str(root / mask_name[1:]), cv2.IMREAD_UNCHANGED)
        frame = drawn[image[1:]][1]
        assert [int(flag) for flag in flags] == [int(slot in frame.slots) for slot in range(4)]
        for lane, slot in zip(frame.lanes, frame.slots, strict=True):
            near = lane.points[0]
            assert (near[0] < SPEC.width / 2) == (slot < 2), "1 and 2 are the lines left of the car"
            x, y = lane.points[:, 0], lane.points[:, 1]
            inside = [
                row for row in range(int(y.min()) + 4, int(y.max()) - 4)
                if 20 < np.interp(row, y[::-1], x[::-1]) < SPEC.width - 20
            ]  # fmt: skip
            assert inside
            for row in inside[::10]:
                columns = np.flatnonzero(mask[row] == slot + 1)
                at = float(np.interp(row, y[::-1], x[::-1]))
                slope = abs(np.gradient(x, y)[np.argmin(np.abs(y - row))])
                # 16 px of 590 rows across the lane, which is wider along a row.
                width = 16 * SPEC.height / 590 * np.hypot(1.0, slope)
                if len(columns) and slope < 3:
                    assert abs(columns.mean() - at) < 2.5
                    assert 0.5 * width < len(columns) < 2 * width + 2


def test_the_frames_before_a_labelled_one_come_in_the_order_of_time(tmp_path: Path) -> None:
    spec = RenderSpec(form="tusimple", seed=9, splits={"val": SplitSpec(frames=1)}, unlabelled_frames=True)
    render_dataset(spec, tmp_path / "whole", workers=1)
    (clip,) = plan_clips(spec)
    scene = tusimple_form.scene_of(clip, spec.difficulty)
    stage = prepare(scene)
    (folder,) = {path.parent for path in (tmp_path / "whole").rglob("20.jpg")}
    expected = {number: draw(stage, aim(scene, number - 1, width=1280, height=720)) for number in (1, 7, 19, 20)}
    for number, image in expected.items():
        own = apart(folder / f"{number}.jpg", image)
        others = [apart(folder / f"{number}.jpg", other) for key, other in expected.items() if key != number]
        assert own < 1.5
        assert own < 0.5 * min(others)


@pytest.mark.parametrize("size", [(LARGEST, 1200), (1200, 2400), (LARGEST, LARGEST), (64, 64)])
def test_labels_of_the_largest_and_smallest_frames_are_whole(size: tuple[int, int], tmp_path: Path) -> None:
    train = SplitSpec(frames=6, frames_per_clip=1, scenarios={"normal": 1, "curve": 1})
    spec = RenderSpec(width=size[0], height=size[1], seed=1, splits={"train": train})
    found = 0
    for clip in plan_clips(spec):
        label_clip(clip, spec, tmp_path)
        (image,) = images(clip)
        scene = sample_scene(clip.scenario, spec.difficulty, clip.seed, clip.frames)
        lanes = render_lanes(scene, size)
        text = (tmp_path / image).with_suffix(".lines.txt").read_text().splitlines()
        assert len(text) == len(lanes)
        for line, lane in zip(text, lanes, strict=True):
            np.testing.assert_allclose(np.array(line.split(), float).reshape(-1, 2), lane, atol=0.07)
        found += len(lanes)
    assert found >= 6


def render_lanes(scene: object, size: tuple[int, int]) -> list[npt.NDArray[np.float64]]:
    """The lanes of a clip's first frame before they are archived."""
    from harness.rendered.frame import culane_lanes

    lanes, _ = culane_lanes(scene, aim(scene, 0, width=size[0], height=size[1]))  # type: ignore[arg-type]
    return [np.asarray(lane.points, np.float64) for lane in lanes]


@pytest.mark.parametrize("size", [(LARGEST + 1, 1200), (1640, 200), (300, 700)])
def test_frames_whose_labels_could_not_be_kept_or_would_be_empty_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match=r"width|wide"):
        RenderSpec(width=size[0], height=size[1], splits={"train": SplitSpec(frames=1)})


def test_a_run_beside_it_whose_name_begins_alike_is_left_alone(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    running = tmp_path / f".roads[1].{gone.pid}.{os.getpid()}.abc.part"  # of roads[1].<pid>, and alive
    dead = tmp_path / f".roads[1].{gone.pid}.abc.part"
    for folder in (running, dead):
        folder.mkdir()
    writing._sweep(tmp_path / "roads[1]")
    assert running.exists()
    assert not dead.exists()


def test_of_two_that_render_into_one_folder_the_second_is_told(tmp_path: Path) -> None:
    spec = RenderSpec(width=64, height=64, splits={"train": SplitSpec(frames=2, frames_per_clip=1)})

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            (tmp_path / "data").mkdir()
            (tmp_path / "data/theirs").write_text("")

    with pytest.raises(InputError, match=r"data: was made by another process meanwhile .*; use that one, or"):
        render_dataset(spec, tmp_path / "data", workers=1, progress=meanwhile)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_place_that_takes_no_folder_is_told_by_the_name_that_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["data", "render", str(tmp_path / "file/data"), "--train", "2"]) == 2
    said = capsys.readouterr().err
    assert f"{tmp_path}/file/data: no folder can be made in {tmp_path}/file (" in said
    assert "name one where you may write" in said


def test_a_time_limits_signal_ends_it_as_ctrl_c_does_and_nothing_is_left(tmp_path: Path) -> None:
    words = ["data", "render", str(tmp_path / "data"), "--train", "4000", "--width", "64", "--height", "64"]
    script = f"import sys; from harness.cli.main import main; sys.exit(main({words!r}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, env=environment) as process:
        until = time.monotonic() + 120
        while not list(tmp_path.glob(".data.*.part/driver*")) and time.monotonic() < until:
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"samiro-bench: stopped\n" in said
    assert list(tmp_path.iterdir()) == []


def test_pictures_may_lie_in_a_folder_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"Stra\xdfe")
    folder.mkdir()
    write_png(folder / "a.png", np.full((8, 8, 3), 7, np.uint8))
    assert os.listdir(os.fsencode(tmp_path)) == [b"Stra\xdfe"]
    assert os.listdir(folder) == ["a.png"]
