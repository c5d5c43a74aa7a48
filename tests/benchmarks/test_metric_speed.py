"""How fast the metrics are, each as a ratio to a plain way of computing the same, measured in one run on one core.

`make benchmark` prints the ratios. The plain ways stand for the official evaluators (the C++ program can't be built everywhere):
every lane of every pair drawn with OpenCV on a whole frame, as XingangPan/SCNN and the LLAMAS authors do, and numpy calls lane by
lane, as TuSimple's script does (without scikit-learn, which makes that script about three times slower still).
Compilation and the start of Python are left out; files are read each time.
"""

from __future__ import annotations

import json
import time

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from harness.metrics import culane, culane_ports, llamas, tusimple
from harness.metrics.lane_text import read_lanes
from harness.metrics.llamas_labels import read_label
from harness.metrics.natural_spline import curve_pixels
from harness.metrics.python_lanes import curve, read_points
from harness.metrics.tusimple_lanes import official_slope

ROUNDS = 5


def least_cpu_seconds(*ways):
    """The least CPU time of each way, the ways taking turns."""
    for way in ways:
        way()
    found = [[] for _ in ways]
    for _ in range(ROUNDS):
        for way, seconds in zip(ways, found, strict=True):
            start = time.process_time()
            way()
            seconds.append(time.process_time() - start)
    return [min(seconds) for seconds in found]


def ratio_of(benchmark, name, ours, images, plain, plain_images):
    """Print and keep images per second and core of both ways; gives their ratio."""
    our_seconds, plain_seconds = least_cpu_seconds(ours, plain)
    speed, plain_speed = images / our_seconds, plain_images / plain_seconds
    print(f"\n{name}: {speed:,.0f} images/s a core, the plain way {plain_speed:,.0f}, ratio {speed / plain_speed:.1f}")
    benchmark.extra_info.update(images_per_second=speed, plain_images_per_second=plain_speed, ratio=speed / plain_speed)
    benchmark.pedantic(ours, rounds=3)
    return speed / plain_speed


def scene(generator, width, height, count):
    """Lanes that converge, bottom to top, and the same lanes shifted a little."""
    rows = np.arange(height - 1, height * 0.45, -height / 40)
    far = (height - rows) / height
    lanes = []
    for lane in range(count):
        bottom = width * (0.1 + 0.8 * lane / max(count - 1, 1)) + generator.normal(0, 30)
        xs = bottom + (width / 2 - bottom) * far * 1.6 + generator.normal(0, 60) * far**2
        lanes.append(np.stack([xs, rows], axis=1))
    return lanes, [lane + np.array([generator.normal(0, 8), 0.0]) for lane in lanes]


def text(lanes):
    return "".join(" ".join(f"{value:.3f}" for value in lane.ravel()) + "\n" for lane in lanes)


@pytest.fixture(scope="module")
def culane_tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("culane")
    generator = np.random.default_rng(0)
    names = [f"clip/{number:05}.jpg" for number in range(400)]
    for name in names:
        for root, lanes in zip(
            ("labels", "predictions"), scene(generator, 1640, 590, int(generator.integers(2, 5))), strict=True
        ):
            file = folder / root / name.replace(".jpg", ".lines.txt")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text(lanes))
    return folder / "labels", folder / "predictions", names


def full_frame(points, shape):
    mask = np.zeros(shape, np.uint8)
    return cv2.polylines(mask, [points], False, 1, 30)


def whole_frame_ious(labels, predictions, shape):
    """Both lanes of every pair drawn on whole frames, as the C++ evaluator does."""
    ious = np.zeros((len(labels), len(predictions)))
    for i, label in enumerate(labels):
        for j, prediction in enumerate(predictions):
            a, b = full_frame(label, shape), full_frame(prediction, shape)
            common = cv2.sumElems(cv2.multiply(a, b))[0]
            ious[i, j] = common / (cv2.sumElems(a)[0] + cv2.sumElems(b)[0] - common)
    return ious


def test_culane_official_against_whole_frames(benchmark, culane_tree):
    cv2.setNumThreads(1)
    labels, predictions, names = culane_tree
    few = names[:12]

    def plain():
        for name in few:
            files = (root / name.replace(".jpg", ".lines.txt") for root in (labels, predictions))
            lanes = [[curve_pixels(lane) for lane in read_lanes(file.read_bytes()).lanes()] for file in files]
            linear_sum_assignment(-whole_frame_ious(*lanes, (590, 1640)))

    def ours():
        culane.score_images(labels, predictions, names, workers=1)

    assert ratio_of(benchmark, "culane/official", ours, len(names), plain, len(few)) >= 20


def test_culane_official_with_kept_labels_against_without(benchmark, culane_tree, tmp_path):
    def kept():
        culane.score_images(*culane_tree, workers=1, cache=tmp_path)

    def without():
        culane.score_images(*culane_tree, workers=1)

    count = len(culane_tree[2])
    assert ratio_of(benchmark, "culane/official, labels kept", kept, count, without, count) >= 1.2


def test_culane_clrnet_against_whole_frames(benchmark, culane_tree):
    labels, predictions, names = culane_tree
    few = names[:8]

    def plain():
        for name in few:
            files = (root / name.replace(".jpg", ".lines.txt") for root in (labels, predictions))
            lanes = [
                [curve(lane, samples_an_interval=5).astype(np.int32) for lane in read_points(file)] for file in files
            ]
            frames = [[cv2.merge([full_frame(lane, (590, 1640))] * 3) > 0 for lane in side] for side in lanes]
            linear_sum_assignment([[-(a & b).sum() / (a | b).sum() for b in frames[1]] for a in frames[0]])

    def ours():
        culane_ports.score_images(labels, predictions, names[:100], workers=1)

    assert ratio_of(benchmark, "culane/clrnet", ours, 100, plain, len(few)) >= 10


def test_llamas_official_against_whole_frames(benchmark, tmp_path):
    generator = np.random.default_rng(0)
    count, few = 100, 12
    for number in range(count):
        lanes, shifted = scene(generator, 1276, 717, 4)
        (tmp_path / "labels/r").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/r").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"labels/r/{number}.json").write_text(json.dumps(marked(lanes)))
        (tmp_path / f"out/r/{number}.lines.txt").write_text(text(shifted))

    def plain():
        for number in range(few):
            labels = [lane.astype(np.int32) for lane in read_label(tmp_path / f"labels/r/{number}.json")]
            predictions = [
                curve(lane, samples=50).astype(np.int32) for lane in read_points(tmp_path / f"out/r/{number}.lines.txt")
            ]
            frames = [[full_frame(lane, (717, 1276)) > 0 for lane in side] for side in (predictions, labels)]
            linear_sum_assignment([[-(a & b).sum() / (a | b).sum() for b in frames[1]] for a in frames[0]])

    def ours():
        llamas.count_labels(llamas.find_labels(tmp_path / "labels"), tmp_path / "out", workers=1)

    assert ratio_of(benchmark, "llamas/official", ours, count, plain, few) >= 10


def marked(lanes):
    """A label of LLAMAS' form with a marker every other point."""
    content = {"image_name": "", "projection_matrix": [], "lanes": []}
    for name, lane in zip(("l1", "l0", "r0", "r1"), lanes, strict=True):
        markers = []
        for depth, (start, end) in enumerate(zip(lane[::2], lane[1::2], strict=False)):
            pixels = [{"x": str(int(x)), "y": str(int(y))} for x, y in (start, end)]
            world = [{"x": "0.0", "y": "1.5", "z": str(float(4 * depth + more))} for more in (3, 5)]
            marker = {"lane_marker_id": "m", "pixel_start": pixels[0], "pixel_end": pixels[1]}
            markers.append({**marker, "world_start": world[0], "world_end": world[1]})
        content["lanes"].append({"lane_id": name, "markers": markers})
    return content


def test_tusimple_official_against_lane_by_lane(benchmark, tmp_path):
    generator = np.random.default_rng(0)
    rows = list(range(160, 720, 10))
    labels, predictions = [], []
    for number in range(300):
        lanes, shifted = scene(generator, 1280, 720, 4)
        found = []
        for side in (lanes, shifted):
            xs = [np.interp(rows, lane[::-1, 1], lane[::-1, 0], left=-2, right=-2) for lane in side]
            found.append([[round(x) if 0 <= x < 1280 else -2 for x in lane.tolist()] for lane in xs])
        labels.append({"raw_file": str(number), "lanes": found[0], "h_samples": rows})
        predictions.append({"raw_file": str(number), "lanes": found[1], "run_time": 0})
    files = tmp_path / "labels.json", tmp_path / "predictions.json"
    for file, content in zip(files, (labels, predictions), strict=True):
        file.write_text("".join(json.dumps(line) + "\n" for line in content))

    def accuracy(prediction, truth, threshold):
        a = np.array([x if x >= 0 else -100 for x in np.array(prediction)])
        b = np.array([x if x >= 0 else -100 for x in np.array(truth)])
        return np.sum(np.where(np.abs(a - b) < threshold, 1.0, 0.0)) / len(b)

    def plain():
        sides = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        for label, prediction in zip(*sides, strict=True):
            ys = np.array(label["h_samples"])
            for truth in map(np.array, label["lanes"]):
                slope = official_slope(truth, ys)
                threshold = 20 / np.cos(np.arctan(slope))
                max(accuracy(lane, truth, threshold) for lane in prediction["lanes"])

    def ours():
        tusimple.score_file(*files)

    assert ratio_of(benchmark, "tusimple/official", ours, 300, plain, 300) >= 20
