"""The page of overlays shows every detector's own lanes, in their places, on each image."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.cli.main import main
from harness.datasets.drawing import COLOURS
from harness.errors import InputError
from harness.lanes import Lane
from harness.prediction.sheet import LABEL_WIDTH, LONGEST_SIDE, TILE, check_size, comparison_sheet

WIDE, TALL = np.zeros((200, 1000, 3), np.uint8), np.zeros((600, 400, 3), np.uint8)


def upright(x: float, height: int) -> Lane:
    return Lane([[x, height - 1.0], [x, 0.0]])  # type: ignore[arg-type]


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    left = LABEL_WIDTH + column * TILE[1]
    return sheet[row * TILE[0] : (row + 1) * TILE[0], left : left + TILE[1]]


def coloured(found: np.ndarray) -> list[int]:
    """The columns in which the first lane's colour is."""
    return np.flatnonzero((found == COLOURS[0]).all(axis=2).any(axis=0)).tolist()  # type: ignore[no-any-return]


def test_each_row_has_its_own_lanes_on_every_image() -> None:
    rows = [("one", [[upright(250, 200)], []]), ("two", [[], [upright(100, 600)]])]
    sheet = comparison_sheet([WIDE, TALL], rows)
    assert sheet.shape == (2 * TILE[0], LABEL_WIDTH + 2 * TILE[1], 3)
    # The wide image fills its tile's width, the tall one its height: 120 px of 400 wide, in the middle.
    (first, last) = (coloured(tile(sheet, 0, 0))[index] for index in (0, -1))
    assert first <= 100 <= last + 1
    assert last - first <= 4
    found = coloured(tile(sheet, 1, 1))
    assert found[0] <= 140 + 30 <= found[-1] + 1
    assert coloured(tile(sheet, 0, 1)) == coloured(tile(sheet, 1, 0)) == []


def test_images_keep_their_proportions_on_white() -> None:
    sheet = comparison_sheet([WIDE, TALL], [("detector", [[], []])])
    assert (tile(sheet, 0, 0)[:49] == 255).all()
    assert (tile(sheet, 0, 0)[50:130] == 0).all()
    assert (tile(sheet, 0, 1)[:, :140] == 255).all()
    assert (tile(sheet, 0, 1)[:, 140:260] == 0).all()
    assert (sheet[:, :LABEL_WIDTH] < 128).any()


def test_more_than_a_page_holds_is_refused() -> None:
    check_size(12, LONGEST_SIDE // TILE[0])
    for images, rows in ((12, LONGEST_SIDE // TILE[0] + 1), (LONGEST_SIDE // TILE[1] + 1, 1)):
        with pytest.raises(InputError, match="--only"):
            check_size(images, rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["overlays", "mini", "IMAGE", "--out", "page.png"], "ends in .jpg"),
        (["overlays", "mini", "none.jpg", "--out", "page.jpg"], "none.jpg"),
        (["overlays", "mini", "drive.mp4", "--out", "page.jpg"], "is a video"),
        (["overlays", "minni", "IMAGE", "--out", "page.jpg"], "did you mean 'mini'"),
        (["overlays", "mini", "IMAGE", "--out", "page.jpg", "--results", "nowhere"], "no cell is trained yet"),
        (["overlays", "mini", "broken.jpg", "--out", "page.jpg"], "broken.jpg"),
    ],
)
def test_what_can_not_be_drawn_is_told_in_one_line(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("road.jpg", WIDE)
    Path("broken.jpg").write_bytes(b"no picture")
    Path("drive.mp4").write_bytes(b"")
    assert main([word.replace("IMAGE", "road.jpg") for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not Path("page.jpg").exists()
