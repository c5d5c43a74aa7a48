"""`samiro-bench predict` as its users call it, on pictures whose lane is known."""

from __future__ import annotations

import json
import re

import cv2
import numpy as np
import pytest

from detectors.registry import find_adapter
from harness.cli.main import main
from harness.training.checkpoint import save_inference_checkpoint
from tests.harness.prediction.brightest import brightest

SIZE = (480, 960)


@pytest.fixture
def detector(tmp_path):
    """(DETECTOR, --checkpoint FILE): an adapter file of one's own."""
    path = tmp_path / "brightest.py"
    path.write_text(brightest(frame=(240, 480), crop=(40, 0, 240, 480), network=(100, 240)))
    return store(path, tmp_path / "a.safetensors")


def store(adapter, checkpoint, add=0.0):
    found = find_adapter(f"{adapter}:Brightest")
    built = found.detector(found.meta, "culane")
    built.add.data += add
    facts = {
        "detector": "brightest",
        "form": "culane",
        "meta": found.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"},
        "origin": found.origin,
    }
    save_inference_checkpoint(checkpoint, built, facts)
    return f"{adapter}:Brightest", "--checkpoint", checkpoint


def post(x: int, size=SIZE) -> np.ndarray:
    """Black with a white post, 12 px wide, whose middle is between columns x - 1 and x."""
    picture = np.zeros((*size, 3), np.uint8)
    picture[:, x - 6 : x + 6] = 255
    return picture


@pytest.fixture
def pictures(tmp_path):
    """A folder with three pictures of two sizes, by name their post's column; and a video of 30 frames, post at 100 + 20 number."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for name, x, size in (("200.png", 200, SIZE), ("400.jpg", 400, SIZE), ("sub/300.png", 300, (720, 1280))):
        cv2.imwrite(str(folder / name), post(x, size))
    writer = cv2.VideoWriter(str(tmp_path / "drive.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, SIZE[::-1])
    for number in range(30):
        writer.write(post(100 + 20 * number))
    writer.release()
    return folder


def run(*arguments) -> int:
    return main(["predict", *map(str, arguments)])


def files(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def lane(path) -> np.ndarray:
    (line,) = path.read_text().splitlines()
    return np.array([float(word) for word in line.split()]).reshape(-1, 2)


def complaint(capsys) -> str:
    said = capsys.readouterr().err
    assert said.startswith("samiro-bench: ")
    assert said.count("\n") == 1
    return said


def test_lanes_are_in_pixels_of_each_picture(tmp_path, detector, pictures, capsys):
    out = tmp_path / "out"
    assert run(*detector, "--out", out, pictures) == 0
    assert "3 lanes in 3 pictures of 3 files" in capsys.readouterr().out
    assert files(out) == ["200.lines.txt", "400.lines.txt", "sub/300.lines.txt"]
    for name, height in (("200", 480), ("400", 480), ("sub/300", 720)):
        points = lane(out / f"{name}.lines.txt")
        assert points[:, 0] == pytest.approx(int(name[-3:]), abs=4)
        # The crop begins at a sixth of the frame's height, whatever that is.
        assert points[:, 1] == pytest.approx([height, height / 6], abs=5)


def test_a_video_gives_a_file_a_frame_and_a_video_of_overlays(tmp_path, detector, pictures):
    out = tmp_path / "out"
    assert run(*detector, "--out", out, "--overlay", "--every", 7, "--batch-size", 2, tmp_path / "drive.mp4") == 0
    frames = [f"drive/{number:06d}.lines.txt" for number in (0, 7, 14, 21, 28)]
    assert files(out) == ["drive.overlay.mp4", *frames]
    for number, name in zip((0, 7, 14, 21, 28), frames, strict=True):
        assert lane(out / name)[:, 0] == pytest.approx(100 + 20 * number, abs=6)
    shown = cv2.VideoCapture(str(out / "drive.overlay.mp4"))
    assert shown.get(cv2.CAP_PROP_FPS) == pytest.approx(10 / 7, abs=0.01)
    for number in (0, 7, 14, 21, 28):
        _, frame = shown.read()
        assert coloured(frame[300]) == pytest.approx(100 + 20 * number, abs=8)
    assert not shown.read()[0]


def coloured(row: np.ndarray) -> float:
    """The middle of what isn't grey."""
    return float(np.flatnonzero(np.ptp(row.astype(int), axis=1) > 100).mean())


def test_overlays_show_the_lanes_beside_the_files(tmp_path, detector, pictures):
    out = tmp_path / "out"
    assert run(*detector, "--out", out, "--overlay", pictures / "200.png", f"{pictures}/*.jpg") == 0
    assert files(out) == ["200.lines.txt", "200.overlay.jpg", "400.lines.txt", "400.overlay.jpg"]
    shown = cv2.imread(str(out / "400.overlay.jpg"))
    assert shown.shape == (*SIZE, 3)
    assert coloured(shown[240]) == pytest.approx(400, abs=8)


def test_a_crop_is_taken_for_the_frame_and_lanes_stay_in_pixels_of_the_whole(tmp_path, detector, pictures):
    # Left and right of the crop there are brighter posts, which the detector must not see.
    picture = post(640) // 2 + post(100) + post(900)
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    out = tmp_path / "out"
    assert run(*detector, "--out", out, "--crop", "480x240+400+100", tmp_path / "wide.png", "--threshold", 0.1) == 0
    points = lane(out / "wide.lines.txt")
    assert points[:, 0] == pytest.approx(640, abs=7)
    assert points[:, 1] == pytest.approx([100 + 240, 100 + 40], abs=3)


def test_a_crop_that_does_not_fit_is_told_of_the_file(tmp_path, detector, pictures, capsys):
    out = tmp_path / "out"
    assert run(*detector, "--out", out, "--crop", "1280x700+0+20", pictures) == 2
    assert "200.png: 960x480 pixels, too small for the crop 1280x700+0+20" in complaint(capsys)
    assert files(out) == ["sub/300.lines.txt"]
    assert run(*detector, "--out", out, "--crop", "1280:700", pictures) == 2
    assert "isn't WIDTHxHEIGHT+LEFT+TOP" in complaint(capsys)


def test_the_threshold_of_the_recipe_can_be_replaced(tmp_path, detector, pictures):
    grey = tmp_path / "grey.png"
    cv2.imwrite(str(grey), post(300) // 3)
    assert run(*detector, "--out", tmp_path / "one", grey) == 0
    assert (tmp_path / "one" / "grey.lines.txt").read_text() == ""
    assert run(*detector, "--out", tmp_path / "two", grey, "--threshold", 0.2) == 0
    assert lane(tmp_path / "two" / "grey.lines.txt")[0, 0] == pytest.approx(300, abs=4)


def test_json_lines_hold_every_picture_at_tusimples_rows(tmp_path, detector, pictures):
    out = tmp_path / "out"
    arguments = (pictures, tmp_path / "drive.mp4", "--every", 25, "--format", "tusimple")
    assert run(*detector, "--out", out, *arguments) == 0
    assert files(out) == ["predictions.json"]
    lines = [json.loads(line) for line in (out / "predictions.json").read_text().splitlines()]
    names = ["200.png", "400.jpg", "sub/300.png", "drive.mp4/000000", "drive.mp4/000025"]
    assert [line["raw_file"] for line in lines] == names
    large = lines[2]
    assert large["h_samples"] == list(range(160, 720, 10))
    assert large["run_time"] == 0
    (xs,) = large["lanes"]
    assert xs == pytest.approx([300] * 56, abs=4)
    assert lines[0]["h_samples"] == list(range(110, 480, 10))
    labels = tmp_path / "labels.json"
    labels.write_text(json.dumps({"raw_file": "sub/300.png", "lanes": [[300] * 56], "h_samples": large["h_samples"]}))
    predicted = tmp_path / "predicted.json"
    predicted.write_text(json.dumps(large))
    assert main(["score", "tusimple", "--labels", str(labels), "--predictions", str(predicted), "--strict"]) == 0


def test_the_summary_says_what_is_where(tmp_path, detector, pictures, capsys):
    out = tmp_path / "out"
    assert run(*detector, "--out", out, "--json", "--overlay", pictures / "200.png", tmp_path / "drive.mp4") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["detector"], found["threshold"], found["format"]) == ("brightest", 0.5, "lines")
    assert (found["pictures"], found["lanes"], found["faults"]) == (31, 31, [])
    assert found["files"] == [
        {
            "input": str(pictures / "200.png"),
            "pictures": 1,
            "lanes": 1,
            "output": str(out / "200.lines.txt"),
            "overlay": str(out / "200.overlay.jpg"),
        },
        {
            "input": str(tmp_path / "drive.mp4"),
            "pictures": 30,
            "lanes": 30,
            "output": str(out / "drive"),
            "overlay": str(out / "drive.overlay.mp4"),
        },
    ]


def test_files_of_one_stem_do_not_overwrite_each_other(tmp_path, detector, pictures):
    (pictures / "sub" / "200.png").write_bytes((pictures / "400.jpg").read_bytes())
    out = tmp_path / "out"
    assert run(*detector, "--out", out, pictures / "200.png", pictures / "sub" / "200.png") == 0
    assert lane(out / "200.lines.txt")[0, 0] == pytest.approx(200, abs=4)
    assert lane(out / "sub" / "200.lines.txt")[0, 0] == pytest.approx(400, abs=4)


def test_what_is_there_is_refused_and_replaced_only_when_told(tmp_path, detector, pictures, capsys):
    out = tmp_path / "out"
    arguments = (*detector, "--out", out, "--overlay", pictures, tmp_path / "drive.mp4")
    assert run(*arguments, "--every", 10) == 0
    before = {name: (out / name).stat().st_mtime_ns for name in files(out)}
    (out / "400.lines.txt").unlink()
    capsys.readouterr()
    assert run(*arguments, "--every", 15) == 2
    assert "200.lines.txt and 8 more: there already; give --overwrite" in complaint(capsys)
    assert {name: (out / name).stat().st_mtime_ns for name in files(out)}.items() <= before.items()
    assert run(*arguments, "--every", 15, "--overwrite") == 0
    # Nothing is left of the frames of before, which would pass for frames of now.
    assert [name for name in files(out) if name.startswith("drive/")] == [
        "drive/000000.lines.txt",
        "drive/000015.lines.txt",
    ]
    assert (out / "400.lines.txt").exists()


def test_a_damaged_file_is_told_and_the_others_are_done(tmp_path, detector, pictures, capsys):
    (pictures / "400.jpg").write_bytes((pictures / "400.jpg").read_bytes()[:-200])
    (pictures / "empty.png").touch()
    (pictures / "text.mp4").write_text("not a video")
    out = tmp_path / "out"
    assert run(*detector, "--out", out, pictures, "--overlay", "--json") == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "400.jpg: truncated JPEG" in shown.err
    assert "and 2 more like it" in shown.err
    faults = json.loads(shown.out)["faults"]
    assert [name in fault for name, fault in zip(("400.jpg", "empty.png", "text.mp4"), faults, strict=True)] == [
        True
    ] * 3
    assert files(out) == ["200.lines.txt", "200.overlay.jpg", "sub/300.lines.txt", "sub/300.overlay.jpg"]


@pytest.mark.parametrize("form", ["lines", "tusimple"])
def test_where_nothing_can_be_read_nothing_is_left_and_nothing_claimed(tmp_path, detector, capsys, form):
    (tmp_path / "empty.png").touch()
    (tmp_path / "there").mkdir()
    for folder in ("out", "there"):
        assert run(*detector, "--out", tmp_path / folder, tmp_path / "empty.png", "--format", form) == 2
        shown = capsys.readouterr()
        assert "wrote nothing" in shown.out
        assert "nothing could be read, and nothing is written" in shown.err
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "there").iterdir()) == []


def test_a_video_that_ends_early_keeps_its_frames(tmp_path, detector, capsys):
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, SIZE[::-1])
    for number in range(20):
        writer.write(post(100 + 20 * number))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out = tmp_path / "out"
    assert run(*detector, "--out", out, path, "--overlay") == 2
    assert "long.avi: ends after" in complaint(capsys)
    frames = [name for name in files(out) if name.startswith("long/")]
    assert 5 < len(frames) < 15
    assert cv2.VideoCapture(str(out / "long.overlay.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == len(frames)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": "nothing.png"}, "nothing.png is missing"),
        ({"images": "brightest.py"}, "brightest.py: neither an image nor a video by its name"),
        ({"detector": "ufldv2_micro"}, "its detector is 'brightest', not 'ufldv2_micro'"),
        ({"detector": "ufld"}, "unknown detector 'ufld'"),
        ({"checkpoint": "in/200.png"}, "200.png: not a readable safetensors file"),
        ({"checkpoint": "none.safetensors"}, "none.safetensors is missing"),
        ({"out": "in/200.png"}, "--out .*200.png: can't be written"),
        ({"device": "cuda"}, "no CUDA device can be used here"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_written(
    tmp_path, detector, pictures, capsys, monkeypatch, change, message
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    before = files(tmp_path)
    given = {"detector": detector[0], "checkpoint": "a.safetensors", "images": "in", "out": "out", "device": "auto"}
    given |= change
    options = [word for key in ("checkpoint", "out", "device") for word in (f"--{key}", given[key])]
    assert run(given["detector"], *options, given["images"]) == 2
    assert re.search(message, complaint(capsys))
    assert files(tmp_path) == before


def test_coordinates_that_are_no_numbers_are_the_detectors_fault(tmp_path, detector, pictures, capsys):
    arguments = store(tmp_path / "brightest.py", tmp_path / "broken.safetensors", add=float("nan"))
    assert run(*arguments, "--out", tmp_path / "out", pictures) == 2
    assert "200.png: brightest gives coordinates that are no numbers" in complaint(capsys)
    assert files(tmp_path / "out") == []
