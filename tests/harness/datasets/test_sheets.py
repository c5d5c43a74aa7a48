"""Contact sheets: tiles row by row, and no blank ones beside the few that there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.datasets.sheets import write_sheet


@pytest.mark.parametrize(("tiles", "size"), [(1, (40, 20)), (2, (80, 20)), (3, (120, 20)), (4, (120, 40))])
def test_a_sheet_is_as_wide_as_its_first_row(tmp_path: Path, tiles: int, size: tuple[int, int]) -> None:
    write_sheet(tmp_path / "sheet.jpg", [np.zeros((20, 40, 3), np.uint8)] * tiles, columns=3)
    with Image.open(tmp_path / "sheet.jpg") as sheet:
        assert sheet.size == size
