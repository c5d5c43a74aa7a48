"""A suite whose trained detectors are transferred, and the pictures that they are transferred to."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.cli.main import main
from tests.harness.prediction.posts import ADAPTER, SUITE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a suite, its adapter, and three labelled pictures: a white post, which is a lane, and a lane that nobody sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Path("brightest.py").write_text(ADAPTER)
    Path("posts.yaml").write_text(SUITE.replace("CONFIDENCE", "published"))
    Path("photos").mkdir()
    for number, x in enumerate((300, 640, 900)):
        picture, mask = np.zeros((720, 1280, 3), np.uint8), np.zeros((720, 1280), np.uint8)
        picture[:, x - 8 : x + 8] = 200
        mask[:, x - 2 : x + 3], mask[:, 1100:1105] = 50, 120
        assert cv2.imwrite(f"photos/{number}.png", picture)
        assert cv2.imwrite(f"photos/gt_instance_{number}.png", mask)
    assert main(["data", "masks", "photos", "six"]) == 0
    return tmp_path
