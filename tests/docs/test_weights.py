"""docs/weights.md: its table of published starts is that of the detectors."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

from detectors.registry import TABLE, detector_meta

PAGE = (Path(__file__).resolve().parents[2] / "docs/weights.md").read_text(encoding="utf-8")


def test_every_detector_stands_once_beside_what_it_starts_from() -> None:
    rows = re.findall(r"^\| (`\S+`(?:, `\S+`)*) \| `(imagenet|none)`", PAGE, re.MULTILINE)
    told = [(pattern, start) for patterns, start in rows for pattern in re.findall("`(.+?)`", patterns)]
    for name in TABLE:
        starts = {configuration.weights for configuration in detector_meta(name).configurations.values()}
        assert [start for pattern, start in told if fnmatchcase(name, pattern)] == [*starts], name
    assert all(any(fnmatchcase(name, pattern) for name in TABLE) for pattern, _ in told)
