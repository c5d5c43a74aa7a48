"""Writing the scaffold of a new detector: `adapter.py` beside this file under new names, a suite, a test."""

from __future__ import annotations

import keyword
import os
import re
from pathlib import Path

from detectors.registry import detector_names
from harness.errors import InputError
from harness.files.stored import write_text
from harness.suite.schema import LONGEST_NAME

TEMPLATE = Path(__file__).with_name("adapter.py")

SUITE = """\
# The least that goes the whole way with {name}: samiro-bench bench {name}.yaml
title: {class_name} on rendered roads

datasets:
  roads:
    rendered:
      form: culane
      seed: 7
      difficulty: 0.2
      splits:
        train: {{frames: 72, frames_per_clip: 2}}
        test: {{frames: 36, frames_per_clip: 2}}

oracles:
  small:
    dataset: roads
    configuration:
      name: mim:resnet_micro
      steps: 12
      batch_size: 8
      image_size: [128, 320]
      recalibration_batches: 2

detectors:
  {name}.py:{class_name}:
    recipe: {{steps: 60}}

methods:
  baseline:
  samiro: {{oracle: small}}

seeds: 1

training:
  threads: 1
  device: auto

throughput: lane-latency/1-short
"""

TEST = '''\
"""{class_name} keeps the promises of an adapter. `quick=True` leaves out the check that trains for a minute."""

from __future__ import annotations

import pytest


@pytest.mark.lane_detector("{name}.py:{class_name}", quick=True)
def test_conformance(conformance):
    assert conformance.outcome == "passed", conformance.detail
'''


def write_scaffold(name: str, folder: Path) -> tuple[Path, Path, Path]:
    """Write NAME.py, NAME.yaml and test_NAME.py into `folder`; gives their paths.

    Raises InputError for a name that no variant can have or that is taken, and where one of the files is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > LONGEST_NAME:
        raise InputError(
            f"{name!r} can't name a detector: give small letters, digits and single underscores, {LONGEST_NAME} at most, as my_lanes"
        )
    if keyword.iskeyword(name):
        raise InputError(f"{name!r} is a word of Python's, which no module can be called; give another name")
    if name in detector_names():
        raise InputError(f"there is a detector {name!r} already; give another name")
    class_name = "".join(word.capitalize() for word in name.split("_"))
    adapter = TEMPLATE.read_text(encoding="utf-8").replace('"scaffold"', f'"{name}"').replace("Scaffold", class_name)
    texts = {
        folder / f"{name}.py": adapter,
        folder / f"{name}.yaml": SUITE.format(name=name, class_name=class_name),
        folder / f"test_{name}.py": TEST.format(name=name, class_name=class_name),
    }
    if not folder.is_dir() and os.path.lexists(folder):
        raise InputError(f"--out {folder}: this is no folder; give one to write into, or a name that isn't taken")
    for path in texts:
        if path.exists():
            raise InputError(f"{path}: exists already; give another name or folder (--out), or move it away")
    for path, text in texts.items():
        write_text(path, text)
    first, second, third = texts
    return first, second, third
