from __future__ import annotations

import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from harness.datasets.videos import USUAL_RATE, Video, written_video
from harness.errors import InputError

SIZE = (96, 128)


def grey(level: int) -> np.ndarray:
    return np.full((*SIZE, 3), level, np.uint8)


@pytest.fixture
def clip(tmp_path):
    """Twelve frames of rising grey at 10 a second, as OpenCV itself writes them."""
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, SIZE[::-1])
    for level in range(12):
        writer.write(grey(20 * level))
    writer.release()
    return path


@pytest.mark.parametrize(("step", "numbers"), [(1, list(range(12))), (5, [0, 5, 10]), (99, [0])])
def test_every_nth_frame_comes_with_its_number_and_picture(clip, step, numbers):
    video = Video(clip)
    assert (video.frames, video.rate) == (12, 10.0)
    found = list(video.every(step))
    assert [number for number, _ in found] == numbers
    for number, picture in found:
        assert (picture.shape, picture.dtype) == ((*SIZE, 3), np.uint8)
        assert picture.mean() == pytest.approx(20 * number, abs=4)


def test_frames_are_rgb(tmp_path):
    red = np.zeros((*SIZE, 3), np.uint8)
    red[..., 0] = 200
    with written_video(tmp_path / "red.mp4", 25.0) as write:
        write(red)
    ((_, picture),) = Video(tmp_path / "red.mp4").every(1)
    assert picture.mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=12)
    assert cv2.VideoCapture(str(tmp_path / "red.mp4")).read()[1][..., 2].mean() == pytest.approx(200, abs=12)


def test_a_video_cut_short_gives_what_it_has_and_then_says_so(tmp_path):
    path = tmp_path / "long.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, SIZE[::-1])
    for level in range(40):
        writer.write(grey(6 * level))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seen = []
    with pytest.raises(InputError, match=r"long\.avi: ends after \d+ of 40 frames"):
        seen.extend(number for number, _ in _kept(Video(path).every(1), seen))
    assert 5 < len(seen) < 35


def _kept(frames, seen):
    for frame in frames:
        seen.append(frame[0])
        yield frame


def test_what_is_no_video_is_named_and_the_libraries_add_nothing(tmp_path):
    contents = [b"", b"no video, only text\n" * 50, b"\x00\x00\x00\x18ftypmp42" + bytes(100)]
    for number, content in enumerate(contents):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"^[^\n]*{number}\.mp4: not a video that can be decoded[^\n]*$"):
            Video(path)
    with pytest.raises(InputError, match=r"b\.mp4 is missing"):
        Video(tmp_path / "b.mp4")
    # FFmpeg's loudness is settled when it is first used, so that it has to be a process of its own.
    code = f"from harness.datasets.videos import Video; from pathlib import Path; Video(Path({str(path)!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stderr.startswith("Traceback")


@pytest.mark.parametrize("rate", [29.97 / 7, 25.0, 1000 / 3])
def test_a_written_video_has_its_frames_and_its_rate(tmp_path, rate):
    with written_video(tmp_path / "new" / "a.mp4", rate) as write:
        for level in range(3):
            write(grey(80 * level))
    video = Video(tmp_path / "new" / "a.mp4")
    assert video.frames == 3
    assert video.rate == pytest.approx(rate, abs=0.01)
    assert [round(picture.mean() / 80) for _, picture in video.every(1)] == [0, 1, 2]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]


def takes_bytes() -> bool:
    """Whether this OpenCV does: releases before 4.13 want text."""
    return tuple(map(int, cv2.__version__.split(".")[:2])) >= (4, 13)


@pytest.mark.skipif(not takes_bytes(), reason="this OpenCV takes no name that isn't UTF-8")
def test_names_that_are_not_utf_8_are_names_like_others(tmp_path):
    path = tmp_path / os.fsdecode(b"Stra\xdfe") / os.fsdecode(b"n\xe4chster.mp4")
    write_all(path, [grey(80), grey(160)])
    assert [round(picture.mean() / 80) for _, picture in Video(path).every(1)] == [1, 2]


def test_where_opencv_takes_no_such_name_it_says_so(tmp_path, monkeypatch):
    real, path = cv2.VideoCapture, tmp_path / os.fsdecode(b"n\xe4chster.mp4")
    path.touch()

    def textual(name, backend):
        if isinstance(name, bytes):
            raise cv2.error("Can't convert object to 'str' for 'filename'")
        return real(name, backend)

    monkeypatch.setattr(cv2, "VideoCapture", textual)
    for use in (lambda: Video(path), lambda: write_all(path, [grey(80)])):
        with pytest.raises(InputError, match=r"n\\udce4chster.mp4': OpenCV .* takes no name .* isn't UTF-8; rename it"):
            use()
    assert list(tmp_path.iterdir()) == [path]


def write_all(path, pictures) -> None:
    with written_video(path, 25.0) as write:
        for picture in pictures:
            write(picture)


def test_nothing_appears_without_a_picture_or_after_a_fault(tmp_path):
    with written_video(tmp_path / "a.mp4", 25.0):
        pass
    with pytest.raises(KeyError):
        write_all(tmp_path / "a.mp4", (grey(level) if level < 2 else {}[level] for level in range(3)))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_without_a_word_is_noticed(tmp_path, monkeypatch):
    class Lossy:
        """Drops every other picture, as a full disk would."""

        def __init__(self) -> None:
            self.inner, self.count = real(), 0

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def write(self, picture) -> None:
            self.count += 1
            if self.count % 2:
                self.inner.write(picture)

    real = cv2.VideoWriter
    Lossy.fourcc = staticmethod(real.fourcc)
    monkeypatch.setattr(cv2, "VideoWriter", Lossy)
    with pytest.raises(OSError, match="only 2 of 4 frames could be written"):
        write_all(tmp_path / "a.mp4", [grey(9)] * 4)
    assert list(tmp_path.iterdir()) == []


def test_a_rate_that_cannot_be_is_not_believed(clip, monkeypatch):
    class Silent:
        def __init__(self, *_) -> None:
            self.inner = real(str(clip))

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def get(self, _) -> float:
            return -9.2e18

    real = cv2.VideoCapture
    monkeypatch.setattr(cv2, "VideoCapture", Silent)
    video = Video(clip)
    assert (video.frames, video.rate) == (0, USUAL_RATE)
    assert len(list(video.every(1))) == 12
