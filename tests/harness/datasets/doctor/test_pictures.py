"""Which images are opened, which size is the dataset's, and which of them the sheet shows."""

from __future__ import annotations

import errno
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import pytest

from harness.datasets.base import Frame
from harness.datasets.doctor import copies
from harness.datasets.doctor.contents import Contents
from harness.datasets.doctor.copies import copied_images
from harness.datasets.doctor.examine import examine
from harness.datasets.doctor.pictures import TILE_WIDTH, Picture, image_findings, sample
from harness.errors import InputError
from tests.harness.datasets.doctor.trees import CLIP, HEIGHT, WIDTH, findings, in_lists, kinds

FRAMES = [Frame(f"{clip}/{number}.jpg", Path("x"), None, clip) for clip in "abcde" for number in range(10)]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (2, ["a/0", "c/0"]),
        (5, ["a/0", "b/0", "c/0", "d/0", "e/0"]),
        (7, ["a/0", "a/1", "b/0", "c/0", "c/5", "d/0", "e/0"]),
    ],
)
def test_opened_images_are_spread_over_the_clips_and_then_over_the_list(count: int, chosen: list[str]) -> None:
    assert [frame.id.removesuffix(".jpg") for frame in sample(FRAMES, count)] == chosen


def test_every_clip_has_an_image_however_long_one_of_them_is() -> None:
    frames = [*FRAMES[:10], FRAMES[10], FRAMES[20]]
    for count in range(3, 12):
        found = sample(frames, count)
        assert len({frame.id for frame in found}) == count
        assert {frame.clip for frame in found} == {"a", "b", "c"}
    assert sample(frames, 0) == sample(frames, 12) == sample(frames, 99) == frames


def test_a_small_split_has_one_image_opened_where_its_share_is_none(culane: Path) -> None:
    assert examine(culane, images=1).decoded == 3


def test_the_size_of_a_dataset_is_that_of_most_images_or_the_known_one() -> None:
    opened = {"odd": Picture((180, 320)), "one": Picture((160, 320)), "other": Picture((160, 320))}
    findings, size = image_findings(opened, None)
    assert size == (160, 320)
    assert [(one.kind, one.file, one.what) for one in findings] == [
        ("image-size", "odd", "1 opened images are 320 x 180, not 320 x 160")
    ]
    findings, size = image_findings(opened, (180, 320))
    assert size == (180, 320)
    assert [one.what for one in findings] == ["2 opened images are 320 x 160, not 320 x 180: one, other"]


def test_frames_that_have_no_labels_stay_off_the_sheet(llamas: Path, tmp_path: Path) -> None:
    examine(llamas, sheet=tmp_path / "sheet.jpg")
    shown = cv2.imread(str(tmp_path / "sheet.jpg"))
    assert shown.shape[1] == 3 * TILE_WIDTH
    assert all(tile.mean() < 250 for tile in np.split(shown, 3, axis=1)), "each shows a frame"


def test_frames_of_the_sheet_are_not_looked_for_one_by_one_among_all(
    culane: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all of CULane's 88,880 training images are opened, each would be looked for among all."""
    monkeypatch.setattr(Frame, "__eq__", lambda *_: pytest.fail("a frame is compared with another"))
    examine(culane, sheet=tmp_path / "sheet.jpg")


def test_a_few_images_are_opened_one_a_clip(culane: Path) -> None:
    assert examine(culane, images=2).decoded == 3  # of every split one
    assert examine(culane, images=0).decoded == 6


def test_labels_show_on_the_sheet(culane: Path, tmp_path: Path) -> None:
    examine(culane, sheet=tmp_path / "with.jpg")
    for path in culane.rglob("*.lines.txt"):
        path.write_text("")
    examine(culane, sheet=tmp_path / "without.jpg")
    pictures = [cv2.imread(str(tmp_path / name)).astype(int) for name in ("with.jpg", "without.jpg")]
    assert (np.abs(pictures[0] - pictures[1]).max(axis=2) > 60).sum() > 1000


def test_a_label_that_is_refused_is_said_on_its_tile_of_the_sheet(culane: Path, tmp_path: Path) -> None:
    (culane / f"{CLIP}/00000.lines.txt").write_text("1 2 3\n")
    assert kinds(culane, sheet=tmp_path / "sheet.jpg") == [("error", "broken-label")]
    tile = cv2.imread(str(tmp_path / "sheet.jpg")).astype(int)[:, :TILE_WIDTH]
    assert np.count_nonzero(tile[..., 2] - tile[..., 0] > 100) > 50, "in red"


def test_a_sheet_of_images_that_arent_there_is_refused(culane: Path, tmp_path: Path) -> None:
    for path in culane.rglob("*.jpg"):
        path.unlink()
    with pytest.raises(InputError, match="no image is there to draw a sheet of"):
        examine(culane, sheet=tmp_path / "sheet.jpg")


def test_images_of_one_size_are_told_apart_by_all_their_bytes_however_many_there_are(tmp_path: Path) -> None:
    """Uncompressed images are all of one size; those that differ outside the middle are no copies."""

    def frame(name: str, content: bytes) -> Frame:
        (tmp_path / name).write_bytes(content)
        return Frame(name, tmp_path / name, None, "")

    size = 3 * copies.GLANCE_BYTES
    first, last = bytearray(size), bytearray(size)
    first[0] = last[-1] = 1
    frames = [frame(name, content) for name, content in (("1", bytes(size)), ("2", first), ("3", last), ("4", first))]
    frames += [frame(f"{number}", b"%08d" % number * (size // 8)) for number in range(100, 140)]
    frames.append(frame("again", b"%08d" % 120 * (size // 8)))
    (found,) = copied_images(Contents(frames={"train": tuple(frames)}))
    assert (found.kind, found.file, found.what[:9]) == ("copied-image", "4", "2 images ")


def test_only_images_that_look_alike_in_the_middle_are_read_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    monkeypatch.setattr(copies, "_digest", lambda path: read.append(path.name) or path.read_bytes())
    contents = {"alone": b"long", "1": b"abc", "2": b"abc", "other": b"xyz"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    frames = tuple(Frame(name, tmp_path / name, None, "") for name in contents)
    assert [one.file for one in copied_images(Contents(frames={"train": frames}))] == ["2"]
    assert read == ["1", "2"]


def test_an_image_that_cant_be_read_hides_no_copies_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kept_from_us(path: Path, mode: str, **buffering: int) -> BinaryIO:
        if path.name == "1":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return path.open("rb")

    frames = tuple(Frame(name, tmp_path / name, None, "") for name in "123")
    for frame in frames:
        frame.image.write_bytes(b"the same")
    monkeypatch.setattr(copies, "open", kept_from_us, raising=False)  # root, as in containers, is denied nothing
    assert [one.file for one in copied_images(Contents(frames={"train": frames}))] == ["3"]


def exif(order: str, orientation: int) -> bytes:
    """The TIFF structure of a directory of one tag."""
    start, pack = (b"II*\0", "<") if order == "little" else (b"MM\0*", ">")
    return start + struct.pack(f"{pack}IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize(("orientation", "told"), [(1, []), (3, [("warning", "orientation")])])
def test_images_that_viewers_turn_are_told(culane: Path, order: str, orientation: int, told: list) -> None:
    path = culane / f"{CLIP}/00001.jpg"
    body = b"Exif\0\0" + exif(order, orientation)
    path.write_bytes(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + path.read_bytes()[2:])
    assert kinds(culane) == told


@pytest.mark.parametrize(
    ("ending", "brightest", "severity"), [(".png", 4095, "warning"), (".png", 65535, "note"), (".tif", 4095, "warning")]
)
def test_deep_images_that_are_read_dark_are_a_fault_and_others_a_note(
    culane: Path, ending: str, brightest: int, severity: str
) -> None:
    for number, path in enumerate(sorted(culane.rglob("*.jpg"))):
        image = np.random.default_rng(number).integers(0, brightest, (HEIGHT, WIDTH, 3), np.uint16)
        image[0] = brightest
        assert cv2.imwrite(str(path.with_suffix(ending)), image)
        path.unlink()
    in_lists(lambda name: name.replace(".jpg", ending))(culane)
    ((found, _, what, _),) = findings(culane, "bit-depth")
    assert found == severity
    assert what.startswith("6 opened images")
    assert kinds(culane) == [(severity, "bit-depth")]


@pytest.mark.parametrize("tiff", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"])
def test_a_damaged_orientation_is_none(culane: Path, tiff: bytes) -> None:
    path = culane / f"{CLIP}/00001.jpg"
    body = b"Exif\0\0" + tiff
    path.write_bytes(b"\xff\xd8\xff\xe1" + struct.pack(">H", len(body) + 2) + body + path.read_bytes()[2:])
    assert kinds(culane) == []


def test_an_orientation_of_a_png_is_told(culane: Path) -> None:
    for path in [*culane.rglob("*.jpg")]:
        assert cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))
        path.unlink()
    in_lists(lambda name: name.replace(".jpg", ".png"))(culane)
    path = culane / f"{CLIP}/00001.png"
    data, body = path.read_bytes(), b"eXIf" + exif("big", 6)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])
    assert [one[:2] for one in findings(culane, "orientation")] == [("warning", f"{CLIP}/00001.png")]


def test_pointers_in_place_of_images_are_told_with_what_fetches_them(culane: Path) -> None:
    for image in culane.rglob("*.jpg"):
        image.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    ((severity, _, what, _),) = findings(culane, "broken-image")
    assert severity == "error"
    assert "6 opened images can't be read (a pointer of Git LFS" in what
    assert "`git lfs pull`" in what
