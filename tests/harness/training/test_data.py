from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import InputError
from harness.lanes import Lane
from harness.training.augmentation import ReducedImage
from harness.training.cache import SharedImageCache
from harness.training.data import frame_index, padded_lanes


def same(one, other) -> bool:
    tensors = all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in ("images", "lane_counts", "point_counts")
    )
    targets = all(torch.equal(one.targets[name], other.targets[name]) for name in one.targets)
    lanes = torch.equal(one.lanes.nan_to_num(-1), other.lanes.nan_to_num(-1))
    matrices = all(np.array_equal(a.matrix, b.matrix) for a, b in zip(one.geometries, other.geometries, strict=True))
    return tensors and targets and lanes and matrices and one.ids == other.ids


@pytest.fixture
def detector(toy):
    return toy.model().detector


@given(frames=st.integers(1, 40), batch=st.integers(1, 12), seed=st.integers(0, 2**31), epoch=st.integers(0, 5))
def test_every_epoch_is_a_permutation_without_its_last_incomplete_batch(frames, batch, seed, epoch):
    length = frames // batch * batch if frames >= batch else frames
    order = [frame_index(frames, batch, seed, epoch * length + rank) for rank in range(length)]
    assert len(set(order)) == length
    assert set(order) <= set(range(frames))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(frame_index(50, 10, seed, epoch * 50 + rank) for rank in range(50))

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16


def test_every_image_is_dropped_as_seldom_as_any_other():
    seen = Counter(frame_index(10, 4, 0, position) for position in range(8 * 500))
    assert set(seen) == set(range(10))
    assert min(seen.values()) > 350  # 400 each on average


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache_bytes", [0, 5 * 3 * 50 * 100, 2**20])
def test_batches_depend_neither_on_workers_nor_on_the_cache(roads, detector, workers, cache_bytes):
    reference = list(roads.stream(detector, cache_bytes=0).batches(0, 6))
    assert len(reference) == 6
    batches = list(roads.stream(detector, workers=workers, cache_bytes=cache_bytes).batches(0, 6))
    assert all(same(*pair) for pair in zip(reference, batches, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("first", [1, 2, 5])
def test_a_stream_resumed_at_a_step_goes_on_as_if_it_had_never_stopped(roads, detector, workers, first):
    reference = list(roads.stream(detector).batches(0, 7))[first:]
    batches = list(roads.stream(detector, workers=workers).batches(first, 7))
    assert all(same(*pair) for pair in zip(reference, batches, strict=True))


def test_another_seed_and_another_epoch_augment_otherwise(roads, detector):
    stream = roads.stream(detector, batch_size=10)
    first, second = stream.batches(0, 2)
    (other,) = roads.stream(detector, batch_size=10, seed=4).batches(0, 1)
    matrices = {
        batch_name: {frame: g.matrix.tobytes() for frame, g in zip(batch.ids, batch.geometries, strict=True)}
        for batch_name, batch in (("first", first), ("second", second), ("other", other))
    }
    for frame in first.ids:
        assert len({matrices[name][frame] for name in matrices}) == 3


def test_the_global_generators_are_left_alone(roads, detector):
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    list(roads.stream(detector, workers=2).batches(0, 2))
    list(roads.stream(detector).batches(0, 2))
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_a_batch_is_as_the_contract_says(roads, detector):
    batch = next(roads.stream(detector, batch_size=10).batches(0, 1))
    assert batch.images.shape == (10, 3, 32, 64)
    assert batch.images.dtype == torch.uint8
    assert batch.lanes.shape == (10, 1, 3, 2)
    assert sorted(batch.lane_counts.tolist()) == [0, 0] + [1] * 8
    assert isinstance(batch.ids, tuple)
    for row, frame in enumerate(batch.ids):
        labels = roads._lanes.get(frame, [])
        assert batch.targets["present"][row] == len(labels)
        if labels:
            expected = batch.geometries[row].to_network(labels[0].points)
            assert batch.lanes[row, 0].numpy() == pytest.approx(expected, abs=1e-4)
            assert batch.point_counts[row].tolist() == [3]
        else:
            assert batch.lanes[row].isnan().all()


@pytest.mark.parametrize("augment_on", [None, torch.device("cpu")], ids=["workers", "device"])
@pytest.mark.parametrize("more", [{}, {"crop": 0.2, "blur": 0.5, "blur_sigma": 1.0, "blur_length": 3.0}])
def test_lanes_lie_on_the_paint_of_the_augmented_image(roads, detector, toy, more, augment_on):
    checked = 0
    augmentation = toy.AUGMENTATION.model_copy(update=more)
    stream = roads.stream(detector, batch_size=10, augmentation=augmentation, augment_on=augment_on)
    for batch in stream.batches(0, 3):
        for image, lanes, count in zip(batch.images.float().mean(1), batch.lanes, batch.lane_counts, strict=True):
            for near, _, far in lanes[:count]:
                x, y = (0.5 * (near + far)).tolist()
                if 8 < x < 55 and 4 < y < 27:
                    row = image[round(y)]
                    bright = torch.where(row > row.max() - 60)[0].float().mean().item()
                    assert bright == pytest.approx(x, abs=1.0)
                    checked += 1
    assert checked >= 15


@given(st.lists(st.lists(st.integers(0, 6), max_size=4), min_size=1, max_size=4))
def test_padding_keeps_every_point_and_says_where_they_end(shape):
    generator = np.random.default_rng(0)
    lanes = [[generator.normal(size=(points, 2)).astype(np.float32) for points in image] for image in shape]
    padded, lane_counts, point_counts = padded_lanes(lanes)
    assert min(padded.shape) >= 1
    assert (padded.shape[0], padded.shape[3]) == (len(lanes), 2)
    assert lane_counts.tolist() == [len(image) for image in lanes]
    assert (lane_counts.dtype, point_counts.dtype, padded.dtype) == (torch.int64, torch.int64, torch.float32)
    for row, image in enumerate(lanes):
        for number, lane in enumerate(image):
            assert point_counts[row, number] == len(lane)
            assert np.array_equal(padded[row, number, : len(lane)].numpy(), lane)
    assert int(padded.isfinite().sum()) == 2 * sum(sum(image) for image in shape)
    assert int(point_counts.sum()) == sum(sum(image) for image in shape)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_image_is_named_in_one_line_through_workers_too(roads, detector, workers, damage):
    path = roads.frames[6].image
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError) as caught:
        list(roads.stream(detector, workers=workers).batches(0, 5))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_label_is_named_through_workers_too(roads, detector, workers):
    def lanes(frame):
        raise InputError(f"{frame.id}.lines.txt is broken")

    roads.lanes = lanes
    with pytest.raises(InputError, match=r"^\d\d\.jpg\.lines\.txt is broken$"):
        next(roads.stream(detector, workers=workers).batches(0, 1))


def test_no_image_at_all_is_bad_input(roads, detector):
    roads.frames = []
    with pytest.raises(InputError, match="no image to train on"):
        roads.stream(detector)


def test_leaving_early_ends_the_workers(roads, detector):
    before = set(multiprocessing.active_children())
    batches = roads.stream(detector, workers=2).batches(0, 1000)
    next(batches)
    assert len(set(multiprocessing.active_children()) - before) == 2
    batches.close()
    deadline = time.monotonic() + 10
    while set(multiprocessing.active_children()) - before:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_leave_interrupts_to_their_parent(roads, detector):
    before = set(multiprocessing.active_children())
    batches = roads.stream(detector, workers=1).batches(0, 12)
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 11


def test_an_interrupt_ends_the_whole_group_without_noise_from_workers(toy, roads, tmp_path):
    script = f"""
from pathlib import Path
from tests.harness.training import toy
roads = toy.Roads(Path({str(tmp_path / "images")!r}))
try:
    for batch in roads.stream(toy.model().detector, workers=2).batches(0, 10**6):
        print("batch", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    environment = os.environ | {"PYTHONPATH": str(Path(toy.__file__).parents[3])}
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "batch\n"
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert output.splitlines()[-1] == "interrupted"
    assert errors == ""
    assert process.returncode == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_cached_images_are_read_once(roads, detector, workers):
    stream = roads.stream(detector, batch_size=5, workers=workers)
    first_epoch = list(stream.batches(0, 2))
    for frame in roads.frames:
        frame.image.unlink()
    again = list(stream.batches(0, 4))
    assert all(same(*pair) for pair in zip(first_epoch, again[:2], strict=True))


def test_frames_of_another_size_pass_by_the_cache(roads, detector):
    odd = roads.frames[4].image
    cv2.imwrite(str(odd), np.full((50, 120, 3), 200, np.uint8))
    stream = roads.stream(detector, batch_size=10)
    for batch in stream.batches(0, 2):
        sizes = {frame: geometry.original for frame, geometry in zip(batch.ids, batch.geometries, strict=True)}
        assert sizes[roads.frames[4].id] == (50, 120)
        assert set(sizes.values()) == {(100, 200), (50, 120)}


def reduced(value: int, size: tuple[int, int] = (4, 6)) -> ReducedImage:
    return ReducedImage(np.full((*size, 3), value, np.uint8), size, np.eye(3))


def test_the_cache_holds_what_its_limit_allows_and_no_more():
    cache = SharedImageCache(reduced(0), frames=10, byte_limit=3 * 4 * 6 * 3 + 5)
    assert cache.capacity == 3
    for index in range(10):
        cache.put(index, reduced(index))
    found = [cache.get(index) for index in range(10)]
    assert [image.pixels[0, 0, 0] for image in found[:3]] == [0, 1, 2]
    assert found[3:] == [None] * 7


def test_the_cache_refuses_other_sizes_and_may_be_empty():
    cache = SharedImageCache(reduced(0), frames=2, byte_limit=1000)
    cache.put(0, reduced(1, (5, 6)))
    assert cache.get(0) is None
    nothing = SharedImageCache(reduced(0), frames=2, byte_limit=10)
    nothing.put(0, reduced(1))
    assert nothing.get(0) is None


def test_a_label_without_points_counts_as_a_lane_without_points(roads, detector):
    roads.lanes = lambda frame: [Lane(np.zeros((0, 2)))]
    batch = next(roads.stream(detector).batches(0, 1))
    assert batch.lane_counts.tolist() == [1] * 4
    assert batch.point_counts.tolist() == [[0]] * 4


def test_shares_of_a_batch_are_its_neighbours_in_order(toy, roads):
    detector = toy.model().detector
    whole = list(roads.stream(detector).batches(1, 3))
    shares = [list(roads.stream(detector, share=(part, 2)).batches(1, 3)) for part in (0, 1)]
    for batch, first, second in zip(whole, *shares, strict=True):
        assert batch.ids == first.ids + second.ids
        assert torch.equal(batch.images, torch.cat([first.images, second.images]))
