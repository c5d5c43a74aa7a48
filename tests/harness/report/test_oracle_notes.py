"""Tables tell where the seeds of a row had unlike weights of one oracle."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.records.record import Artefact, Record
from harness.report.leaderboard import leaderboard
from harness.report.tables import to_markdown
from harness.report.terminal import print_leaderboard

TOLD = (
    "- ufld, samiro: oracle mim:resnet18 has several weights: aaaaaaaaaaaa at seed 0, 1; bbbbbbbbbbbb at seed 2. The spread over "
    "seeds is that of oracles too."
)


def towards(record: Record, weights: str, key: str) -> Record:
    oracle = Artefact(kind="oracle", name="mim:resnet18", key=key * 64, sha256=weights * 64)
    return record.model_copy(update={"artefacts": (oracle,)})


@pytest.mark.parametrize(
    ("weights", "key", "told"),
    [("a", "k", []), ("b", "k", [TOLD]), ("b", "l", [TOLD])],
    ids=["alike", "made again", "a file of other weights"],
)
def test_a_row_whose_seeds_had_unlike_weights_of_an_oracle_says_so(
    made: Any, tmp_path: Path, weights: str, key: str, told: list[str]
) -> None:
    records = [
        record
        if record.identity.method != "samiro"
        else towards(record, *((weights, key) if record.identity.seed == 2 else ("a", "k")))
        for record in made.pairs(tmp_path, 3)
    ]
    board, shown = leaderboard(records, tmp_path), io.StringIO()
    assert [line for line in to_markdown(board).splitlines() if "several weights" in line] == told
    print_leaderboard(board, Console(file=shown, width=1000))
    assert ("oracle mim:resnet18 has several weights" in shown.getvalue()) is bool(told)
