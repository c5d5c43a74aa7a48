"""How many training samples the data pipeline makes a second and core, against a plain pipeline in the same run.

The plain one does for each sample what CLRNet's recipe for CULane does (Turoad/CLRNet, configs/clrnet/clr_resnet18_culane.py and
clrnet/datasets/process/generate_lane_line.py), with OpenCV in place of imgaug, which is slower: the image and its mask are decoded and
cropped, resized to 320x800, mirrored, recoloured, blurred and warped with upstream's probabilities and ranges, lanes moved and clipped,
each lane's spline sampled on 72 rows. Ours makes as much of a sample: image, 72 rows a lane and a mask, by changes of the same ranges,
which it draws for every sample and not for a share of them.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest
import torch
from scipy.interpolate import InterpolatedUnivariateSpline

from detectors.base import Detector
from detectors.meta import Augmentation, Configuration, Data, DetectorMeta, InputSize, Recipe
from detectors.parts.masks import slot_mask
from detectors.parts.row_wise import Anchors
from detectors.registry import find_adapter
from harness.datasets.base import Frame
from harness.rendered.frame import prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.spec import SCENARIOS
from harness.training.data import TrainingStream

HEIGHT, WIDTH, CUT = 590, 1640, 270
NETWORK = (320, 800)
ROWS, MAX_LANES = 72, 4
BATCH = 24
FRAMES = 48
ROUNDS = 5
INPUT = InputSize(frame=(HEIGHT, WIDTH), crop=(CUT, 0, HEIGHT, WIDTH), network=NETWORK)
AUGMENTATION = Augmentation(
    flip=0.5,
    rotation=10,
    shift_x=0.1,
    shift_y=0.1,
    scale=0.2,
    brightness=0.15,
    saturation=0.1,
    hue=20,
    blur=0.2,
    blur_length=5,
)


@pytest.fixture(scope="module")
def roads(tmp_path_factory):
    """Rendered frames of CULane's size: images, masks as CULane's laneseg_label_w16, and lanes by frame id."""
    folder = tmp_path_factory.mktemp("roads")
    frames, lanes = [], {}
    for scenario in SCENARIOS:
        stage = prepare(sample_scene(scenario, 0.5, 1, -(-FRAMES // len(SCENARIOS))))
        for moment in range(-(-FRAMES // len(SCENARIOS))):
            rendered = render_frame(stage, moment, width=WIDTH, height=HEIGHT)
            name = f"{scenario}{moment}.jpg"
            cv2.imwrite(str(folder / name), rendered.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
            mask = np.zeros((HEIGHT, WIDTH), np.uint8)
            for lane, slot in zip(rendered.lanes, rendered.slots, strict=True):
                cv2.polylines(mask, [np.round(lane.points).astype(np.int32)[:, None]], False, slot + 1, 16)
            cv2.imwrite(str(folder / name.replace(".jpg", ".png")), mask)
            frames.append(Frame(name, folder / name, scenario, scenario))
            lanes[name] = rendered.lanes
    return frames[:FRAMES], lanes


class Rows(Detector):
    """Targets as CLRNet's: a mask of the lanes and their places on 72 rows. There is no network."""

    metas: ClassVar = {}
    architecture = Data

    def __init__(self) -> None:
        recipe = Recipe(optimizer="sgd", learning_rate=1.0, schedule="constant", steps=1, batch_size=BATCH)
        facts = {"paper": "-", "year": 2022, "family": "anchor", "backbone": "-", "upstream": "-", "licence": "-"}
        configurations = {"culane": Configuration(input=INPUT, recipe=recipe)}
        super().__init__(DetectorMeta(name="rows", configurations=configurations, **facts), "culane")
        self.anchors = Anchors(1, np.linspace(0, NETWORK[0] - 1, ROWS), cells=NETWORK[1], origin=-0.5, width=1.0)

    def encode_targets(self, lanes, geometry):
        polylines = [geometry.to_network(lane.points) for lane in lanes if len(lane) > 1]
        mask, _ = slot_mask(polylines, geometry.network, slots=MAX_LANES, width=8)
        rows = np.full((MAX_LANES, ROWS), -1.0, np.float32)
        for place, polyline in zip(rows, polylines, strict=False):
            place[:] = self.anchors.positions(polyline)
        return {"mask": mask, "rows": rows}

    def taps(self):
        return ()

    def forward(self, images):
        raise NotImplementedError

    def losses(self, outputs, batch):
        raise NotImplementedError

    def decode(self, outputs, geometries):
        raise NotImplementedError


def plain_batch(frames, lanes, generator):
    """A batch of the plain pipeline: float images in 0..1, row targets, masks."""
    samples = [plain_sample(frame.image, lanes[frame.id], generator) for frame in frames]
    return [torch.from_numpy(np.stack(part)) for part in zip(*samples, strict=True)]


def plain_sample(path: Path, lanes, generator):
    height, width = NETWORK
    image = cv2.imread(str(path))[CUT:]
    mask = cv2.imread(str(path.with_suffix(".png")), cv2.IMREAD_UNCHANGED)[CUT:]
    scale = np.array([width / WIDTH, height / (HEIGHT - CUT)])
    points = [(lane.points.astype(np.float64) - [0, CUT]) * scale for lane in lanes]
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    if generator.random() < 0.5:
        image, mask = cv2.flip(image, 1), cv2.flip(mask, 1)
        points = [lane * [-1, 1] + [width, 0] for lane in points]
    if generator.random() < 0.1:
        image = image[:, :, generator.permutation(3)]
    if generator.random() < 0.6:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        hsv[:, :, 2] = cv2.convertScaleAbs(
            hsv[:, :, 2], alpha=generator.uniform(0.85, 1.15), beta=generator.uniform(-10, 10)
        )
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    if generator.random() < 0.7:
        hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
        more = generator.integers(-10, 11)
        image = cv2.cvtColor(cv2.add(hsv, (float(more), float(more), 0.0, 0.0)), cv2.COLOR_HSV2BGR)
    if generator.random() < 0.2:
        size = int(generator.choice([3, 5]))
        if generator.random() < 0.5:
            image = cv2.medianBlur(image, size)
        else:
            kernel = cv2.warpAffine(
                np.eye(size)[size // 2][None].repeat(size, 0).T.astype(np.float32),
                cv2.getRotationMatrix2D(((size - 1) / 2, (size - 1) / 2), generator.uniform(0, 360), 1.0),
                (size, size),
            )
            image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if generator.random() < 0.7:
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, generator.uniform(-10, 10), generator.uniform(0.8, 1.2))
        matrix[:, 2] += generator.uniform(-0.1, 0.1, 2) * (width, height)
        image = cv2.warpAffine(image, matrix, (width, height))
        mask = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST)
        points = [lane @ matrix[:, :2].T + matrix[:, 2] for lane in points]
    inside = [lane[((lane >= 0) & (lane < (width, height))).all(axis=1)] for lane in points]
    return (
        np.ascontiguousarray((image.astype(np.float32) / 255.0).transpose(2, 0, 1)),
        plain_rows(inside),
        mask,
    )


def plain_rows(lanes):
    """Start, angle, length and x on 72 rows of up to four lanes, a spline through each and a line below its lowest point."""
    height, width = NETWORK
    strip = height / (ROWS - 1)
    rows = np.arange(height, -1, -strip)
    targets = np.full((MAX_LANES, 6 + ROWS), -1e5, np.float32)
    targets[:, 0], targets[:, 1] = 1, 0
    for target, lane in zip(targets, lanes, strict=False):
        ordered = lane[np.argsort(-lane[:, 1], kind="stable")]
        ordered = ordered[np.concatenate([[True], np.diff(ordered[:, 1]) < 0])] if len(ordered) else ordered
        if len(ordered) < 2:
            continue
        spline = InterpolatedUnivariateSpline(ordered[::-1, 1], ordered[::-1, 0], k=min(3, len(ordered) - 1))
        within = rows[(rows >= ordered[-1, 1]) & (rows <= ordered[0, 1])]
        below = np.polyval(np.polyfit(ordered[:2, 1], ordered[:2, 0], deg=1), rows[rows > ordered[0, 1]])
        x = np.hstack([below, spline(within)])
        seen = (x >= 0) & (x < width)
        first = x[seen]
        if len(first) < 2:
            continue
        angles = [math.atan(step * strip / (first[step] - first[0] + 1e-5)) / math.pi for step in range(1, len(first))]
        angle = float(np.mean([one if one > 0 else 1 - abs(one) for one in angles]))
        target[:6] = 0, 1, (~seen).sum() / (ROWS - 1), first[0], angle, len(first)
        target[6 : 6 + len(x)] = np.hstack([x[~seen], first])
    return targets


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def stream_of(roads, detector, augmentation, batch_size=BATCH, **options):
    frames, lanes = roads
    return TrainingStream(
        frames,
        lambda frame: lanes[frame.id],
        detector,
        augmentation=augmentation,
        batch_size=batch_size,
        seed=1,
        **options,
    )


@pytest.fixture
def one_thread():
    """OpenCV and torch on one thread, as in a loader worker."""
    threads = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    yield
    cv2.setNumThreads(threads[0])
    torch.set_num_threads(threads[1])


def measured(roads, detector, augmentation, batch_size):
    """Images a second and core: of the plain pipeline, of ours where every image is decoded, from the cache, and from there up to what
    workers send where a device makes the views."""
    frames, lanes = roads
    steps = len(frames) // batch_size
    generator = np.random.default_rng(0)
    ours = stream_of(roads, detector, augmentation, batch_size)
    uncached = stream_of(roads, detector, augmentation, batch_size, cache_bytes=0)

    def plain():
        for start in range(0, steps * batch_size, batch_size):
            plain_batch(frames[start : start + batch_size], lanes, generator)

    sending = stream_of(roads, detector, augmentation, batch_size, augment_on=torch.device("cpu"))

    def send():
        for step in range(steps, 2 * steps):
            sending._collated([sending.sample(step * batch_size + place) for place in range(batch_size)])

    ways = {
        "plain": plain,
        "sent": send,
        "decoded": lambda: list(uncached.batches(0, steps)),
        "cached": lambda: list(ours.batches(steps, 2 * steps)),
    }
    for stream in (ours, sending):
        list(stream.batches(0, steps))
    for way in ways.values():
        way()
    seconds = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            seconds[name].append(cpu_seconds(way))
    return {name: steps * batch_size / min(taken) for name, taken in seconds.items()}


def test_a_cached_sample_costs_at_most_a_third_of_a_plain_one(benchmark, roads, one_thread):
    speeds = measured(roads, Rows(), AUGMENTATION, BATCH)
    report(benchmark, "as CLRNet", speeds)
    benchmark.pedantic(lambda: None, rounds=1)
    assert speeds["cached"] >= 3 * speeds["plain"]
    assert speeds["decoded"] >= speeds["plain"]


@pytest.mark.parametrize("name", ["ufldv2_resnet18", "resa_resnet18", "lstr_resnet18s_2x"])
def test_samples_of_the_adapters(benchmark, roads, one_thread, name):
    adapter = find_adapter(name)
    detector = adapter.detector(adapter.meta, "culane")
    speeds = measured(roads, detector, detector.configuration.recipe.augmentation, BATCH)
    report(benchmark, name, speeds)
    benchmark.pedantic(lambda: None, rounds=1)
    assert speeds["decoded"] >= 0.8 * speeds["plain"]


def report(benchmark, name, speeds):
    told = [f"{key} {speed:,.0f} ({speed / speeds['plain']:.1f} x plain)" for key, speed in speeds.items()]
    print(f"\n{name}, images/s a core: {', '.join(told)}")
    benchmark.extra_info.update(speeds)
