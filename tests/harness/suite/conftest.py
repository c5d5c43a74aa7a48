"""A small suite, and reading a changed one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.suite import Suite, load_suite

SPLITS = {"train": {"frames": 4}, "test": {"frames": 4}}

PLAIN: dict[str, Any] = {
    "title": "test",
    "datasets": {"roads": {"rendered": {"seed": 1, "splits": SPLITS}}},
    "oracles": {"small": {"dataset": "roads", "configuration": {"name": "mim:resnet_micro", "steps": 2}}},
    "detectors": {"ufldv2_micro": None, "resa_micro": None},
    "methods": {"baseline": None, "samiro": {"oracle": "small"}},
}

PROGRAM = """
name: seer
paper: "Anon: On Tea, 2020"
year: 2020
family: keypoint
backbone: tea
upstream: https://example.org/tea
licence: MIT
forms: {culane: {confidence_threshold: 0.4, selected_on: val}}
command: [python, seer.py, "{images}", "{predictions}"]
"""

Loading = Callable[..., Suite]


@pytest.fixture(scope="session")
def loading(tmp_path_factory: pytest.TempPathFactory) -> Loading:
    """Reads the small suite with some of its parts replaced; a program, `seer` of `tea.yaml`, lies beside it."""
    path: Path = tmp_path_factory.mktemp("suite") / "mine.yaml"
    (path.parent / "tea.yaml").write_text(PROGRAM)

    def load(**parts: object) -> Suite:
        path.write_text(yaml.safe_dump({**PLAIN, **parts}, sort_keys=False))
        return load_suite(str(path))

    return load
