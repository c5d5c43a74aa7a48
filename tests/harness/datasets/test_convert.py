"""One form into another: what is kept, what is said to be lost, and what is refused."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli.main import main
from harness.datasets import convert as conversion
from harness.datasets.convert import convert, rows_of
from harness.datasets.culane import CULane
from harness.datasets.curvelanes import CurveLanes
from harness.datasets.doctor.examine import examine
from harness.datasets.lines import label_name, write_lines_file
from harness.datasets.tusimple import TuSimple, at_rows
from harness.errors import InputError
from harness.lanes import Lane

HEIGHT, WIDTH = 295, 820
NAMES = {"train": ("d/1/0.jpg", "d/1/1.jpg", "d/2/0.jpg"), "val": ("d/3/0.jpg",), "test": ("d/4/0.jpg", "d/5/0.jpg")}
LANE = [[100.0, 290.0], [150.5, 200.0], [180.0, 100.0]]


def unlike_others(name: str, size: tuple[int, int]) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    image[:8] = np.random.default_rng([*name.encode()]).integers(0, 255, (8, size[1], 3), np.uint8)
    return image


def culane_tree(root: Path, lanes_of: dict[str, list[Lane]], below: str = "") -> Path:
    """below: what the images' paths begin with."""
    (root / "list/test_split").mkdir(parents=True)
    for split, plain in NAMES.items():
        names = [below + name for name in plain]
        (root / f"list/{split}.txt").write_text("".join(f"/{name}\n" for name in names))
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / name), unlike_others(name, (HEIGHT, WIDTH)))
            write_lines_file(root / label_name(name), lanes_of.get(name, [Lane(LANE)]))
    for file, name in {"test8_night": "d/4/0.jpg", "test6_curve": "d/5/0.jpg"}.items():
        (root / f"list/test_split/{file}.txt").write_text(f"{below}{name}\n")
    return root


@pytest.fixture
def culane(tmp_path: Path) -> Path:
    return culane_tree(tmp_path / "culane", {})


def points(dataset, split: str) -> list[list[list[list[float]]]]:
    return [[lane.points.tolist() for lane in dataset.lanes(frame)] for frame in dataset.frames(split)]


def test_a_dataset_becomes_tusimple_and_back(culane: Path, tmp_path: Path) -> None:
    assert convert(CULane(culane), tmp_path / "tusimple", "tusimple") == []
    between = TuSimple(tmp_path / "tusimple")
    assert {split: tuple(frame.id for frame in between.frames(split)) for split in between.splits()} == NAMES
    assert [frame.scenario for frame in between.frames("test")] == ["night", "curve"]
    assert (tmp_path / "tusimple/d/1/0.jpg").samefile(culane / "d/1/0.jpg")
    assert convert(between, tmp_path / "back", "culane") == []
    back = CULane(tmp_path / "back")
    assert {split: tuple(frame.id for frame in back.frames(split)) for split in back.splits()} == NAMES
    assert [frame.scenario for frame in back.frames("test")] == ["night", "curve"]
    assert sorted(path.name for path in (tmp_path / "back/list/test_split").iterdir()) == [
        "test6_curve.txt",
        "test8_night.txt",
    ]
    assert points(back, "train") == points(between, "train")
    for root in (tmp_path / "back", tmp_path / "tusimple"):
        assert examine(root).findings == ()


@pytest.mark.parametrize("below", ["", "driver_train_00/", "driver_23_30frame/", "labels/train/"])
def test_the_commands_know_what_convert_wrote_whatever_its_folders_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], below: str
) -> None:
    source, between, back = culane_tree(tmp_path / "in", {}, below), tmp_path / "tusimple", tmp_path / "back"
    assert main(["data", "convert", str(source), str(between), "--to", "tusimple"]) == 0
    assert main(["data", "index", str(between), "--json"]) == 0
    assert main(["data", "convert", str(between), str(back), "--to", "culane"]) == 0
    capsys.readouterr()
    assert main(["data", "doctor", str(between), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["form"] == "tusimple"
    dataset = CULane(back)
    assert {split: [frame.id for frame in dataset.frames(split)] for split in dataset.splits()} == {
        split: [below + name for name in names] for split, names in NAMES.items()
    }
    assert [frame.scenario for frame in dataset.frames("test")] == ["night", "curve"]


@pytest.mark.parametrize("out", ["in/sub", "in/new/sub", "in/../in/sub", "linked/sub", "in", "."])
def test_a_source_is_never_written_into(tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str) -> None:
    source = culane_tree(tmp_path / "in", {})
    (tmp_path / "linked").symlink_to(source)
    before = sorted(tmp_path.rglob("*"))
    assert main(["data", "convert", str(source), str(tmp_path / out), "--to", "tusimple"]) == 2
    assert "give a folder outside" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


lane_points = st.integers(6, 29).flatmap(
    lambda count: st.tuples(st.just(count), st.floats(0, 800), st.floats(-6, 6), st.floats(-0.02, 0.02))
)


@settings(max_examples=25, deadline=None)
@given(shapes=st.lists(lane_points, min_size=1, max_size=4))
def test_lanes_with_points_at_tusimples_rows_come_back_to_an_eighth_of_a_pixel(
    shapes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Other points lie on the line between their neighbours at those rows: the form has no room for more."""
    folder = tmp_path_factory.mktemp("round")
    rows = np.array(rows_of(HEIGHT)[::-1], dtype=float)
    lanes = []
    for count, near, slope, bend in shapes:
        y = rows[: min(count, len(rows))]
        x = near + slope * (y[0] - y) + bend * (y[0] - y) ** 2
        keep = (x >= 0) & (x <= 3000)
        stop = len(keep) if keep.all() else int(np.argmin(keep))
        if stop > 1:
            lanes.append(Lane(np.stack([x, y], axis=1)[:stop]))
    source = CULane(culane_tree(folder / "a", {"d/1/0.jpg": lanes}))
    convert(source, folder / "b", "tusimple")
    convert(TuSimple(folder / "b"), folder / "c", "culane")
    back = CULane(folder / "c")
    found = back.lanes(back.frames("train")[0])
    assert len(found) == len(lanes)
    for lane, other in zip(lanes, found, strict=True):
        assert other.points.shape == lane.points.shape
        assert np.abs(other.points - lane.points).max() <= 1 / 16 + 1e-4  # rounded to 1/8 px


def test_between_its_points_a_lane_is_interpolated_and_never_drawn_out(culane: Path, tmp_path: Path) -> None:
    convert(CULane(culane), tmp_path / "out", "tusimple")
    dataset = TuSimple(tmp_path / "out")
    (lane,) = dataset.lanes(dataset.frames("val")[0])
    assert lane.points[0].tolist() == [100, 290]
    assert lane.points[-1].tolist() == [180, 100]
    assert np.array_equal(lane.points[:, 0], at_rows(Lane(LANE), lane.points[:, 1]).astype(np.float32))


def test_rows_are_tusimples_own_on_its_own_height() -> None:
    assert rows_of(720) == list(range(160, 711, 10))
    assert rows_of(590) == list(range(130, 590, 10))


def test_what_tusimple_cant_hold_is_said(tmp_path: Path) -> None:
    lanes = {"d/3/0.jpg": [Lane([[-20, 290], [30, 190]]), Lane([[5, 40], [9, 20]])]}
    said = convert(CULane(culane_tree(tmp_path / "in", lanes)), tmp_path / "out", "tusimple")
    assert said[0].startswith("1 lanes left out")
    assert "points left out: they lie left of the image" in said[1]


def curvelanes_tree(root: Path) -> Path:
    for part, sizes in {"train": [(144, 256), (66, 157)], "valid": [(144, 256)]}.items():
        for folder in ("images", "labels"):
            (root / part / folder).mkdir(parents=True)
        for number, size in enumerate(sizes):
            cv2.imwrite(str(root / part / f"images/{number}.jpg"), unlike_others(f"{part}{number}", size))
            lane = [{"y": "139.0", "x": "20.41"}, {"y": "60.08", "x": "78.19"}]
            (root / part / f"labels/{number}.lines.json").write_text(json.dumps({"Lines": [lane]}))
        (root / part / f"{part}.txt").write_text("".join(f"images/{number}.jpg\n" for number in range(len(sizes))))
    return root


def test_each_image_of_curvelanes_is_a_clip_by_itself(tmp_path: Path) -> None:
    frames = CurveLanes(curvelanes_tree(tmp_path / "in")).frames("train")
    assert len({frame.clip for frame in frames}) == len({frame.id for frame in frames}) == 2


def test_curvelanes_becomes_culanes_layout_of_one_size(tmp_path: Path) -> None:
    said = convert(CurveLanes(curvelanes_tree(tmp_path / "in")), tmp_path / "out", "culane", size=(144, 256))
    assert said == ["split train: 1 images of another size left out"]
    dataset = CULane(tmp_path / "out")
    assert dataset.splits() == ("train", "val")
    assert points(dataset, "train") == [[[[20.375, 139.0], [78.25, 60.125]]]]
    assert examine(tmp_path / "out").findings == ()


@pytest.mark.parametrize(
    ("size", "what"),
    [
        (None, r"are, in height x width, 144x256 \(2\), 66x157 \(1\); say which to take, as in --size 144x256"),
        ((256, 144), r"no labelled image is 256 high and 144 wide.*144x256 \(2\).*the height comes first"),
        ((100, 200), r"no labelled image is 100 high.*give one of these sizes"),
    ],
)
@pytest.mark.parametrize("to", ["culane", "tusimple"])
def test_images_of_several_sizes_are_refused_with_the_sizes_that_there_are(tmp_path: Path, to, size, what: str) -> None:
    with pytest.raises(InputError, match=what):
        convert(CurveLanes(curvelanes_tree(tmp_path / "in")), tmp_path / "out", to, size=size)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("{", "not lanes of CurveLanes"),
        ("[]", "not lanes of CurveLanes"),
        ("{}", "no 'Lines'"),
        ('{"Lines": [[{"x": "1"}]]}', "no 'y'"),
        ('{"Lines": [[{"x": "nan", "y": "1"}]]}', "lane 1 has a point further out"),
        ('{"Lines": 5}', "not lanes of CurveLanes"),
    ],
)
def test_damaged_labels_of_curvelanes_are_refused(tmp_path: Path, text: str, what: str) -> None:
    root = curvelanes_tree(tmp_path / "in")
    (root / "valid/labels/0.lines.json").write_text(text)
    with pytest.raises(InputError, match=what):
        CurveLanes(root).labels("val")


@pytest.mark.parametrize("images", ["link", "copy", "symlink"])
def test_nothing_is_left_behind_when_it_fails(culane: Path, tmp_path: Path, images) -> None:
    dataset = CULane(culane, image_size=(HEIGHT, WIDTH))
    (culane / "d/5/0.jpg").unlink()
    with pytest.raises(InputError, match="is missing; restore it"):
        convert(dataset, tmp_path / "made/out", "culane", images=images)
    assert {path.name for path in tmp_path.iterdir()} <= {"culane"}


def test_images_that_cant_be_linked_are_refused(culane: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another_disk(source: Path, path: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(conversion.os, "link", of_another_disk)
    with pytest.raises(InputError, match=r"by link \(Invalid cross-device link\); try --images copy"):
        convert(CULane(culane), tmp_path / "out", "culane")


def test_scenarios_that_culane_hasnt_are_kept_behind_its_own(culane: Path, tmp_path: Path) -> None:
    (culane / "list/test_split/test6_curve.txt").rename(culane / "list/test_split/test0_rain.txt")
    assert convert(CULane(culane), tmp_path / "out", "culane") == []
    assert [frame.scenario for frame in CULane(tmp_path / "out").frames("test")] == ["night", "rain"]


@pytest.mark.parametrize("count", [1, 2])
def test_tusimples_form_trains_on_two_images_at_least(culane: Path, tmp_path: Path, count: int) -> None:
    (culane / "list/train.txt").write_text("".join(f"{name}\n" for name in NAMES["train"][:count]))
    if count == 2:
        assert convert(CULane(culane), tmp_path / "out", "tusimple") == []
        assert [frame.id for frame in TuSimple(tmp_path / "out").frames("train")] == list(NAMES["train"][:2])
    else:
        with pytest.raises(InputError, match="split train has one image: TuSimple's form needs two to train on"):
            convert(CULane(culane), tmp_path / "out", "tusimple")


@pytest.mark.parametrize("images", ["copy", "symlink"])
def test_images_are_copied_or_linked_as_asked(culane: Path, tmp_path: Path, images) -> None:
    convert(CULane(culane), tmp_path / "out", "tusimple", images=images)
    made = tmp_path / "out/d/1/0.jpg"
    assert made.is_symlink() == (images == "symlink")
    assert made.read_bytes() == (culane / "d/1/0.jpg").read_bytes()
    assert made.stat().st_nlink == 1


def test_the_command_converts_and_refuses(culane: Path, tmp_path: Path, capsys) -> None:
    assert main(["data", "convert", str(culane), str(tmp_path / "out"), "--to", "tusimple"]) == 0
    assert "wrote CULane's layout as tusimple" in capsys.readouterr().out
    for words, expected in (
        ([str(culane), "x", "--to", "llamas"], "world coordinates"),
        ([str(culane), "x", "--to", "tusimpel"], "did you mean 'tusimple'"),
        ([str(culane), "x", "--to", "culane"], "already"),
        ([str(culane), str(tmp_path / "out"), "--to", "tusimple"], "exists already"),
        ([str(culane), "x", "--to", "tusimple", "--size", "big"], "height and width"),
        (
            [str(culane), str(tmp_path / "x"), "--to", "tusimple", "--size", "5x5"],
            "no labelled image is 5 high and 5 wide",
        ),
        ([str(tmp_path / "nowhere"), "x", "--to", "culane"], "data doctor"),
    ):
        assert main(["data", "convert", *words]) == 2
        assert expected in capsys.readouterr().err
    assert set(conversion.REFUSED) == {"llamas"}
