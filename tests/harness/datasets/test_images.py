"""Reading images: colours, reduction, and damage that OpenCV passes over."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.datasets.images import read_image, read_size, reduction_matrix, write_encoded
from harness.errors import InputError
from harness.lanes import apply_matrix


def picture(height: int, width: int) -> np.ndarray:
    """A smooth RGB picture whose channels differ."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / 17) * np.cos(y / 23)], axis=-1).astype(
        np.uint8
    )


def encoded(image: np.ndarray, extension: str, *parameters: int) -> bytes:
    return cv2.imencode(extension, image[:, :, ::-1], list(parameters))[1].tobytes()


def with_application_segment(jpeg: bytes, body: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


EXIF_ROTATED = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def refusal(path: Path, read=read_image) -> str:
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("extension", [".png", ".bmp"])
def test_lossless_pixels_arrive_as_rgb(tmp_path: Path, extension: str) -> None:
    image = picture(37, 53)
    path = tmp_path / f"image{extension}"
    path.write_bytes(encoded(image, extension))
    got = read_image(path)
    assert got.dtype == np.uint8
    assert np.array_equal(got, image)
    assert read_size(path) == (37, 53)


@pytest.mark.parametrize("parameters", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 2)])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_a_reduced_jpeg_is_the_mean_over_blocks(tmp_path: Path, reduction: int, parameters: tuple[int, ...]) -> None:
    image = picture(590, 1640)
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(image, ".jpg", *parameters))
    got = read_image(path, reduction)
    assert got.shape == (-(-590 // reduction), 1640 // reduction, 3)
    rows = 590 // reduction
    blocks = image[: rows * reduction].reshape(rows, reduction, 1640 // reduction, reduction, 3).mean(axis=(1, 3))
    assert np.abs(got[:rows] - blocks).mean() < 1.5
    assert read_size(path) == (590, 1640)


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_reduced_png_is_the_mean_over_blocks(tmp_path: Path, reduction: int) -> None:
    image = picture(64, 41)
    path = tmp_path / "image.png"
    path.write_bytes(encoded(image, ".png"))
    got = read_image(path, reduction)
    assert got.shape == (64 // reduction, -(-41 // reduction), 3)
    columns = 41 // reduction
    blocks = (
        image[:, : columns * reduction].reshape(64 // reduction, reduction, columns, reduction, 3).mean(axis=(1, 3))
    )
    assert np.abs(got[:, :columns] - blocks).max() <= 1


def test_a_reduction_that_jpeg_doesnt_have_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="reduction is 3"):
        read_image(tmp_path / "image.jpg", 3)


@given(reduction=st.sampled_from([1, 2, 4, 8]), pixel=st.integers(0, 2000))
def test_a_reduced_pixel_lies_amid_the_pixels_it_covers(reduction: int, pixel: int) -> None:
    covered = np.arange(reduction * pixel, reduction * (pixel + 1))
    np.testing.assert_allclose(
        apply_matrix(reduction_matrix(reduction), [covered.mean(), covered.mean()]), [pixel, pixel]
    )


def test_a_bright_stripe_stays_where_the_matrix_says(tmp_path: Path) -> None:
    image = np.zeros((320, 640, 3), np.uint8)
    image[:, 402:410] = 255
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 98))
    for reduction in (2, 4, 8):
        row = read_image(path, reduction)[10, :, 1].astype(float)
        centre = (row * np.arange(len(row))).sum() / row.sum()
        assert abs(centre - apply_matrix(reduction_matrix(reduction), [405.5, 0])[0]) < 0.15


def test_an_orientation_tag_doesnt_turn_the_image(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(with_application_segment(encoded(picture(40, 80), ".jpg"), EXIF_ROTATED))
    assert cv2.imread(str(path)).shape[:2] == (80, 40)  # the tag is one that OpenCV heeds
    assert read_image(path).shape == (40, 80, 3)
    assert read_image(path, 2).shape == (20, 40, 3)
    assert read_size(path) == (40, 80)


@pytest.mark.parametrize("parameters", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 1)])
def test_a_jpeg_cut_off_anywhere_is_refused(tmp_path: Path, parameters: tuple[int, ...]) -> None:
    thumbnail = encoded(picture(8, 8), ".jpg")
    whole = with_application_segment(encoded(picture(48, 64), ".jpg", *parameters), b"Exif\0\0" + thumbnail)
    path = tmp_path / "image.jpg"
    path.write_bytes(whole)
    assert read_image(path).shape == (48, 64, 3)
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        assert "restore" in refusal(path)
    path.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    assert "end-of-image" in refusal(path)


def test_bytes_behind_the_end_of_a_jpeg_dont_matter(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(encoded(picture(48, 64), ".jpg") + b"appended by a camera")
    assert read_image(path).shape == (48, 64, 3)


def test_a_png_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    whole = encoded(picture(48, 64), ".png")
    path = tmp_path / "image.png"
    for length in range(1, len(whole), 11):
        path.write_bytes(whole[:length])
        assert "restore" in refusal(path)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    assert "is missing" in refusal(path)
    assert "is missing" in refusal(path, read_size)
    path.write_bytes(b"")
    assert "empty" in refusal(path)
    assert "empty" in refusal(path, read_size)
    path.write_bytes(b"<html>404</html>")
    assert "not an image" in refusal(path)
    assert "not an image" in refusal(path, read_size)
    path.write_bytes(b"\xff\xd8\xff\xe0 not really \xff\xda\0\2\xff\xd9")
    refusal(path)
    path.unlink()
    path.mkdir()
    assert "can't be read" in refusal(path)
    assert "can't be read" in refusal(path, read_size)


def test_real_photographs_are_whole(shared: Path) -> None:
    photographs = sorted((shared / "real/images").rglob("*.jpg"))
    assert len(photographs) > 15
    for path in photographs:
        height, width = read_image(path, 8).shape[:2]
        full = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION).shape[:2]
        assert read_size(path) == full
        assert (height, width) == tuple(-(-side // 8) for side in full)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_picture_that_a_full_disk_does_not_take_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/dev/full")
    with pytest.raises(OSError, match=name) as refused:
        write_encoded(tmp_path / name, picture(40, 80))
    assert refused.value.errno == errno.ENOSPC
