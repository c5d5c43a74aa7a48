"""A program that finds every lane half a pixel to the right, its description, and a suite that runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from detectors.programs import read_program
from harness.cli.main import main

SUITE = """
title: A program
datasets:
  roads:
    rendered:
      seed: 7
      width: 820
      height: 295
      splits: {test: {frames: 6, frames_per_clip: 2}}
detectors:
  seer.yaml:
methods:
  baseline:
  samiro: {oracle: small}
oracles:
  small: {configuration: {name: "random:resnet_micro"}}
seeds: 3
training: {threads: 1, device: cpu}
"""


SEER = '''
"""Finds the labels, which lie beside the images, half a pixel to the right; leaves the first image without lanes."""
import json, pathlib, sys
images, predictions, timings, facts = map(pathlib.Path, sys.argv[1:5])
print("hello from the seer")
for number, line in enumerate(images.read_text().splitlines()):
    entry = json.loads(line)
    label = pathlib.Path(entry["image"]).with_suffix("").with_suffix(".lines.txt").read_text()
    rows = [[float(word) for word in row.split()] for row in label.splitlines()] if number else []
    rows = [[value + 0.5 if place % 2 == 0 else value for place, value in enumerate(row)] for row in rows]
    target = predictions / entry["predictions"]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(" ".join(f"{value:.3f}" for value in row) + "\\n" for row in rows))
    with open(timings, "a") as stream:
        stream.write(json.dumps({"id": entry["id"], "milliseconds": 10.0 + number}) + "\\n")
facts.write_text(json.dumps({"made of": "tea leaves"}))
'''


DESCRIPTION = {
    "name": "seer",
    "paper": "Anon: On Tea, 2020",
    "year": 2020,
    "family": "keypoint",
    "backbone": "tea",
    "upstream": "https://example.org/tea",
    "licence": "MIT",
    "forms": {"culane": {"confidence_threshold": 0.4, "selected_on": "val"}},
    "command": [sys.executable, "seer.py", "{images}", "{predictions}", "{timings}", "{facts}"],
    "start_seconds": 60,
}


def describe(where: Path, /, **changes: object) -> Path:
    path = where / "seer.yaml"
    path.write_text(yaml.safe_dump(DESCRIPTION | changes))
    read_program.cache_clear()
    return path


def fail(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The line that `bench` ends with."""
    assert main(["bench", str(folder / "suite.yaml"), "--results", str(folder / "results")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("samiro-bench: ")]
    assert len(lines) == 1
    return lines[0]
