"""The battery's frames are exact and the same every time; its score is 1 for the labels and 0 for what lies elsewhere."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from harness.conformance.samples import WIDTH, hostile_labels, rendered_frames, write_samples
from harness.lanes import Lane


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return write_samples(tmp_path_factory.mktemp("samples") / "frames", (590, 1640))


def test_eight_frames_of_half_the_size_each_with_lanes(samples):
    assert len(samples.frames) == 8
    assert samples.size == (295, WIDTH)
    for frame in samples.frames:
        assert cv2.imread(str(frame.image)).shape == (295, WIDTH, 3)
        assert 2 <= len(samples.lanes(frame)) <= 4


def test_other_proportions_give_other_frames(tmp_path):
    assert write_samples(tmp_path, (720, 1280)).size == (461, WIDTH)


def test_frames_are_the_same_every_time(samples):
    first = rendered_frames(samples.size)
    rendered_frames.cache_clear()
    again = rendered_frames(samples.size)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))


def test_labels_score_one_and_lanes_elsewhere_nothing(samples, tmp_path):
    labels = [samples.lanes(frame) for frame in samples.frames]
    assert samples.score(labels, tmp_path / "a") == 1.0
    assert samples.score(labels[:3], tmp_path / "b") == 1.0
    assert samples.score([[] for _ in labels], tmp_path / "c") == 0.0
    shifted = [[Lane(lane.points + np.array([40, 0])) for lane in lanes] for lanes in labels]
    assert samples.score(shifted, tmp_path / "d") < 0.1


def test_one_lane_too_many_costs_its_share(samples, tmp_path):
    labels = [list(samples.lanes(frame)) for frame in samples.frames]
    count = sum(map(len, labels))
    labels[0].append(Lane(np.array([[5.0, 290.0], [5.0, 200.0]])))
    assert samples.score(labels, tmp_path / "e") == pytest.approx(2 * count / (2 * count + 1))


def test_the_hostile_kinds_are_what_they_say():
    sets = hostile_labels((295, 820))
    assert sets["no lane"] == []
    assert [len(lane) for lane in sets["a lane without a point"]] == [0]
    assert not np.isfinite(sets["points that aren't finite"][0].points).all()
    (reversed_lane,) = sets["a lane from far to near"]
    assert reversed_lane.points[0, 1] < reversed_lane.points[-1, 1]
    assert len(sets["twelve lanes"]) == 12


def test_an_adapter_that_changes_labels_changes_none_of_the_next_ones(tmp_path):
    first = write_samples(tmp_path / "first", (590, 1640))
    before = first.lanes(first.frames[0])[0].points.copy()
    first.lanes(first.frames[0])[0].points[0] = 0
    second = write_samples(tmp_path / "second", (590, 1640))
    assert np.array_equal(second.lanes(second.frames[0])[0].points, before)
