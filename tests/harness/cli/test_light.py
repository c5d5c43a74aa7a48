"""What looks at a matrix and runs nothing starts without torch, whose import takes longer than all the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.main import VERBS

HEAVY = ("torch", "torchvision", "timm", "ray", "submitit")
MINI = Path(__file__).resolve().parents[3] / "results" / "mini" / "records"

PROGRAM = """
import contextlib, io, json, sys
from harness.cli.main import main
codes = []
with contextlib.redirect_stdout(io.StringIO()):
    for words in json.loads(sys.argv[1]):
        codes.append(main(words))
print(json.dumps({"codes": codes, "loaded": sorted(set(json.loads(sys.argv[2])) & set(sys.modules))}))
"""


def run(commands: list[list[str]], cache: Path) -> tuple[list[int], list[str]]:
    """Exit codes of some commands, called one after the other in one fresh process, and which heavy packages that has loaded then."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "SAMIRO_BENCH_REMEMBER": "1"}
    words = [sys.executable, "-c", PROGRAM, json.dumps(commands), json.dumps(HEAVY)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout)
    return found["codes"], found["loaded"]


def test_the_help_of_every_verb_loads_nothing_heavy(tmp_path: Path) -> None:
    commands = [[], ["--help"], *([verb, "--help"] for verb in VERBS)]
    assert run(commands, tmp_path) == ([0] * len(commands), [])


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of runs with the published records of the mini suite, and nothing else of it."""
    shutil.copytree(MINI, tmp_path / "results" / "mini" / "records")
    return tmp_path / "results"


def test_whoever_only_looks_at_a_matrix_asks_torch_once_and_never_again(tmp_path: Path, results: Path) -> None:
    at = ["--results", str(results)]
    looks = [
        ["plan", "mini", *at],
        ["plan", "mini", "--json", "--seeds", "3", *at],
        ["bench", "mini", "--dry-run", *at],
        ["status", "mini", *at],
        ["leaderboard", "mini", *at],
    ]
    assert run(looks[:1], tmp_path / "cache") == ([0], ["timm", "torch", "torchvision"]), "the first of all has to ask"
    assert run(looks, tmp_path / "cache") == ([0] * len(looks), [])


def test_publishing_loads_nothing_heavy() -> None:
    program = (
        f"import sys, harness.cli.publish, harness.publishing.publish; sys.exit(bool({set(HEAVY)} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
