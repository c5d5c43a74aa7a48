"""Tables tell where the seeds of a row had unlike weights of one oracle, and where an oracle began as its detector."""

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


def test_a_row_with_an_oracle_for_each_seed_says_what_its_spread_is(made: Any, tmp_path: Path) -> None:
    own = {"configuration": {"name": "mim:resnet18"}, "dataset": {"rendered": "d"}, "per_seed": True}
    records = [
        record
        if record.identity.method != "samiro"
        else towards(record, "abc"[record.identity.seed], "abc"[record.identity.seed]).model_copy(
            update={"identity": record.identity.model_copy(update={"oracle": own})}
        )
        for record in made.pairs(tmp_path, 3)
    ]
    told = [line for line in to_markdown(leaderboard(records, tmp_path)).splitlines() if "of oracles too" in line]
    assert told == ["- ufld, samiro: each seed has an oracle of its own: the spread over seeds is that of oracles too."]


SHARED = (
    "- ufld, samiro: at seed 0 the oracle was drawn with the weights that the detector starts from, so that the two have features in "
    "common as at no other seed."
)


@pytest.mark.parametrize(
    ("facts", "weights", "told"),
    [
        ({"backbone": "resnet_micro", "seed": 0}, "none", [SHARED]),
        ({"backbone": "resnet_micro", "seed": 0, "drawn_apart": True}, "none", []),
        ({"backbone": "resnet_micro_4x", "seed": 0}, "none", []),
        ({"backbone": "resnet_micro", "seed": 7}, "none", []),
        ({"backbone": "resnet_micro", "seed": 0}, "imagenet", []),
        ({"what": "the detector's own start", "seed": 0}, "none", []),
    ],
    ids=["drawn alike", "drawn apart", "another backbone", "another seed", "trained weights", "the start on purpose"],
)
def test_a_row_whose_oracle_began_with_the_weights_of_its_detector_says_at_which_seed(
    made: Any, tmp_path: Path, facts: dict[str, Any], weights: str, told: list[str]
) -> None:
    records = []
    for record in made.pairs(tmp_path, 3):
        meta = record.identity.detector_meta | {"backbone": "resnet_micro"}
        identity = record.identity.model_copy(update={"detector_meta": meta, "weights": weights})
        artefacts = record.artefacts
        if identity.method == "samiro":
            artefacts = (Artefact(kind="oracle", name="mim:some", key="k" * 64, sha256="a" * 64, facts=facts),)
        records.append(record.model_copy(update={"identity": identity, "artefacts": artefacts}))
    board, shown = leaderboard(records, tmp_path), io.StringIO()
    assert [line for line in to_markdown(board).splitlines() if "features in common" in line] == told
    print_leaderboard(board, Console(file=shown, width=1000))
    assert ("features in common" in shown.getvalue()) is bool(told)
