"""Two rows of the published mini suite: what their files are called, what `verify` tells of them, and how they are changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.datasets.predictions import pack_predictions, unpack_predictions
from harness.lanes import Lane
from harness.publishing.verify import Verification
from tests.harness.publishing.forging import MINI

RECORD, OTHER, *REST = (path.stem for path in sorted((MINI / "records").glob("*.json")))
COUNTS = f"records/{RECORD}.test.counts.npz"
PREDICTIONS = f"predictions/{RECORD}.test.npz"


def told(found: Verification, name: str = RECORD) -> str:
    """All that was said of a row, table or file."""
    return "\n".join(
        line for checked in (*found.rows, *found.tables, *found.files) if checked.name == name for line in checked.told
    )


def outcomes(found: Verification) -> list[str]:
    return [row.outcome for row in found.rows]


def another_lane(path: Path) -> None:
    """Move one archived lane by an eighth of a pixel."""
    ids, lanes = unpack_predictions(path)
    at = next(at for at, found in enumerate(lanes) if found)
    first = lanes[at][0]
    lanes[at] = [Lane(first.points + np.float32(0.125), first.score), *lanes[at][1:]]
    pack_predictions(path, ids, lanes)
