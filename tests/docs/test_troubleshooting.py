"""docs/troubleshooting.md: each message on it is one that the code says, and those that cost little to provoke are provoked."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
MESSAGES = re.findall(r"^\| `(.+?)` \| ", PAGE, re.MULTILINE)
HOLE = "\0"
"""Stands for what a message fills in."""

SUITE = """
title: Mine
datasets:
  roads: {DATASET}
detectors:
  DETECTOR:
methods:
  baseline:
"""


@cache
def said() -> tuple[str, ...]:
    """Every text of the code, with a hole for each value that it is filled with; and the Makefile."""
    found = [(ROOT / "Makefile").read_text().replace("$(PYTHON)", HOLE)]
    for top in ("harness", "detectors"):
        for file in (ROOT / top).rglob("*.py"):
            found += texts(ast.parse(file.read_text()))
    return tuple(found)


def texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def pattern(message: str) -> re.Pattern[str]:
    """What finds a message of the page: `...` stands for anything. Quotes around what is filled in belong to that."""
    return re.compile(".*".join(re.escape(part) for part in message.split("...")), re.DOTALL)


def test_the_page_has_the_messages_that_are_met() -> None:
    assert len(MESSAGES) == len(set(MESSAGES)) >= 30
    assert len(MESSAGES) == sum(line.startswith("| `") for line in PAGE.splitlines())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_page_is_said_by_the_code(message: str) -> None:
    assert max(len(part) for part in message.split("...")) >= 9, "too little to be found by"
    sought = pattern(message.replace("'...'", "..."))
    assert any(sought.search(text) for text in said()), message


def suite(text: str = SUITE, **words: str) -> str:
    """mine.yaml, with the words filled in."""
    known = {"DATASET": "form: culane", "DETECTOR": "ufldv2_micro", **words}
    for word, value in known.items():
        text = text.replace(word, value)
    Path("mine.yaml").write_text(text)
    return "mine.yaml"


def roads(label: str = "1 300 2 200\n", image: bytes | None = None, listed: str = "a/0.jpg\n") -> None:
    """A folder roads/ with one image of 100 x 200 a split in CULane's layout."""
    Path("roads/list").mkdir(parents=True)
    Path("roads/a").mkdir()
    Path("paths.yaml").write_text("roads: roads\n")
    Path("roads/list/train.txt").write_text("a/1.jpg\n")
    Path("roads/list/test.txt").write_text(listed)
    picture = bytes(cv2.imencode(".jpg", np.zeros((100, 200, 3), np.uint8))[1])
    for name in "01":
        Path(f"roads/a/{name}.jpg").write_bytes(picture if image is None else image)
        Path(f"roads/a/{name}.lines.txt").write_text(label)


def with_roads(**damage: str | bytes) -> list[str]:
    """`bench` of a suite on such a folder."""
    roads(**damage)  # type: ignore[arg-type]
    return ["bench", suite(DATASET="form: culane, image_size: [100, 200]")]


def checkpoint_of_torch() -> list[str]:
    import torch

    torch.save({"state_dict": {}}, "theirs.pth")
    roads()
    return ["predict", "ufldv2_micro", "--checkpoint", "theirs.pth", "--out", "lanes", "roads/a/0.jpg"]


def weights_that_are_missing() -> list[str]:
    roads()
    return ["bench", suite(DETECTOR="resa_resnet18", DATASET="form: culane, image_size: [100, 200]")]


def another_size() -> list[str]:
    roads()
    return ["bench", suite(DATASET="form: culane")]


def missing_prediction() -> list[str]:
    roads()
    roots = ["--labels", "roads", "--predictions", "roads/list", "--image-size", "200x100"]
    return ["score", "culane", *roots, "roads/list/test.txt"]


def no_lists() -> list[str]:
    roads()
    for name in ("train", "test"):
        Path(f"roads/list/{name}.txt").unlink()
    return ["bench", suite(DATASET="form: culane, image_size: [100, 200]")]


def unmounted() -> list[str]:
    Path("paths.yaml").write_text("roads: /no/such/place\n")
    return ["bench", suite()]


def no_cuda() -> list[str]:
    roads()
    text = SUITE + "training: {device: cuda}\n"
    return ["bench", suite(text, DATASET="form: culane, image_size: [100, 200]")]


METHODS = "methods:\n  baseline:\n"
PROVOKED: dict[str, Callable[[], list[str]]] = {
    "unknown suite ...": lambda: ["bench", "minni"],
    "unknown detector ...": lambda: ["plan", suite(DETECTOR="ufldv3")],
    "unknown key '...': ...": lambda: ["plan", suite(SUITE + "seds: 3\n")],
    "has no configuration for form ...": lambda: ["plan", suite(DETECTOR="lstr_resnet34", DATASET="form: tusimple")],
    "oracle': missing: give the name": lambda: ["plan", suite(SUITE.replace(METHODS, METHODS + "  samiro:\n"))],
    "has no tap ...": lambda: [
        "plan",
        suite(SUITE.replace(METHODS, METHODS + "  attention_only: {taps: [backbone.stage9]}\n")),
    ],
    "no folder is known for the dataset ...": lambda: ["bench", suite()],
    "there is no such folder; correct the path or mount the disk that holds it": unmounted,
    "run ...samiro-bench weights fetch ...": weights_that_are_missing,
    "pixels, but the dataset's images are ...": another_size,
    "correct the line or restore the file from its source": lambda: with_roads(label="1 2 three\n"),
    "learnt by heart: take them off one of the two lists": lambda: with_roads(listed="a/1.jpg\n"),
    "has a lane of two points: there is nothing to be learnt from it or found in it": lambda: with_roads(label=""),
    "has none of the lists ...": no_lists,
    "is already on line ...": lambda: with_roads(listed="a/0.jpg\na/0.jpg\n"),
    "nothing was run, for this is missing: ...": lambda: ["bench", suite(DETECTOR="resa_resnet18")],
    "cannot be written...; give another --results folder": lambda: ["bench", "smoke", "--results", "/proc/none"],
    "key 'training.device' is 'cuda', but no CUDA device can be used here": no_cuda,
    "there is no ... here: run this where jobs are submitted": lambda: ["bench", "smoke", "--engine", "slurm"],
    "no record of this suite...; run ...": lambda: ["leaderboard", "mini"],
    "a file as torch writes it, not a checkpoint of this program": checkpoint_of_torch,
    "it counts as no lanes": missing_prediction,
    "nothing is called so; correct the pattern": lambda: [
        *("predict", "ufldv2_micro", "--checkpoint", "x.safetensors", "--out", "lanes", "*.png")
    ],
    "not an image that can be decoded; restore it": lambda: with_roads(image=b"no image"),
}
"""Message -> makes what it takes in the current folder, and gives the command that says it."""


@pytest.mark.parametrize("message", sorted(PROVOKED))
def test_a_message_of_the_page_is_what_a_user_sees(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert message in MESSAGES
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    command = PROVOKED[message]()
    code = main(command)
    shown = capfd.readouterr()
    assert pattern(message.replace("'...'", "...")).search(shown.out + shown.err), (shown.out, shown.err)
    assert "Traceback" not in shown.err
    assert code == (0 if command[0] == "score" else 2)
