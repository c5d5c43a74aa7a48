from __future__ import annotations

import gc
import weakref

import cv2
import numpy as np
import pytest
import torch

from harness.datasets.videos import Video, written_video
from harness.errors import InputError
from harness.lanes import Part, plain_geometry
from harness.prediction.frames import Viewer, lanes_of
from harness.prediction.sources import find_sources


@pytest.fixture(autouse=True)
def nothing_older():
    """What lives before a test is no matter of its collections, which would look through all of it each time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


class Blank:
    """Finds nothing, and counts how many frames live while it looks."""

    def __init__(self, frames) -> None:
        self.frames = frames
        self.alive: list[int] = []
        self.sizes: list[int] = []

    def __call__(self, images):
        gc.collect()
        self.alive.append(sum(frame() is not None for frame in self.frames))
        self.sizes.append(len(images))
        return images

    def decode(self, outputs, geometries):
        return [[] for _ in geometries]


def whole_frame(size):
    return plain_geometry(size, (0, 0, *size), (24, 48))


def test_no_more_than_a_batch_of_a_video_is_held(tmp_path):
    with written_video(tmp_path / "a.mp4", 10.0) as write:
        for level in range(40):
            write(np.full((60, 100, 3), 6 * level, np.uint8))
    (source,) = find_sources([str(tmp_path / "a.mp4")])
    frames: list = []
    detector = Blank(frames)
    pictures = watched(Viewer(whole_frame).frames(source, Video(source.path), 1), frames)
    faults: list[InputError] = []
    found = lanes_of(detector, pictures, device=torch.device("cpu"), batch_size=4, faults=faults)
    assert [picture.name for picture, _ in found] == [f"a/{number:06d}" for number in range(40)]
    assert detector.sizes == [4] * 10
    # The one before may still be in the hands of whoever asked.
    assert max(detector.alive) <= 6
    assert faults == []


def watched(pictures, frames):
    for picture in pictures:
        frames.append(weakref.ref(picture.whole()))
        yield picture


def test_faults_take_no_place_in_a_batch_and_the_last_one_may_be_smaller(tmp_path):
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((60, 100, 3), np.uint8))
    (tmp_path / "1.png").write_bytes(b"")
    sources = find_sources([str(tmp_path)])
    detector, faults = Blank([]), []
    pictures = Viewer(whole_frame).images(sources)
    found = lanes_of(detector, pictures, device=torch.device("cpu"), batch_size=3, faults=faults)
    assert [picture.name for picture, _ in found] == ["0", "2", "3", "4"]
    assert detector.sizes == [3, 1]
    assert len(faults) == 1
    assert "1.png: the file is empty" in str(faults[0])


def test_a_part_is_seen_as_if_it_were_cut_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (120, 200, 3), dtype=np.uint8)
    part = Part(96, 48, 50, 30)
    cut = noise[30:78, 50:146]
    cv2.imwrite(str(tmp_path / "whole.png"), noise)
    cv2.imwrite(str(tmp_path / "cut.png"), cut)
    whole, alone = find_sources([str(tmp_path / "whole.png"), str(tmp_path / "cut.png")])
    (seen,) = Viewer(whole_frame, part).images([whole])
    (expected,) = Viewer(whole_frame).images([alone])
    # Blocks of 2 x 2 begin at even pixels of both; only the outermost pixel may look over the edge.
    assert np.abs(seen.view.astype(int) - expected.view)[:, 1:-1, 1:-1].max() <= 1
    assert seen.geometry.original == (120, 200)
    assert seen.geometry.crop == (30, 50, 78, 146)
    points = [[3.0, 5.0], [40.0, 20.0]]
    np.testing.assert_allclose(
        seen.geometry.to_original(points) - [50, 30], expected.geometry.to_original(points), atol=1e-9
    )
