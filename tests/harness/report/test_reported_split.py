"""Verdicts are of the split that is reported: options are chosen on a validation split, and nothing is judged there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.report.leaderboard import headline_keys, leaderboard, why_not_judged
from harness.report.scored import SectionKey
from harness.report.site.claim import claim_of
from tests.harness.report.boards import only_section


def test_nothing_is_judged_on_a_validation_split_but_llamass(made: Any, tmp_path: Path) -> None:
    chosen = made.pairs(tmp_path, 3, base=made.split(360, 60), better=0.1, evaluation_changes={"split": "val"})
    board = leaderboard(chosen, tmp_path)
    ((gain,),) = (section.gains for section in board.sections)
    assert (gain.verdict, gain.p) == ("no verdict: not the test split", None)
    assert gain.headline is not None
    assert gain.headline.half_widths is not None
    reported = made.pairs(
        tmp_path / "llamas",
        3,
        base=made.split(360, 60),
        better=0.1,
        evaluation_changes={"split": "val", "metric": "llamas/official"},
    )
    assert only_section(reported, tmp_path / "llamas").gains[0].verdict == "better"


def test_of_llamas_neither_the_training_split_is_judged_nor_another_in_its_place() -> None:
    reported = SectionKey("roads", "roads", "val", "", "val", "llamas/official", "last", "published", "d" * 64)
    trained = replace(reported, split="train", evaluation="fit")
    judged = headline_keys([trained, reported])
    assert judged == {reported}
    assert why_not_judged(reported, judged) is None
    assert why_not_judged(trained, {trained}) == "no verdict: not the test split"
    chosen = replace(reported, metric="culane/official")
    assert headline_keys([replace(chosen, split="train"), chosen]) == {chosen}
    assert why_not_judged(chosen, {chosen}) == "no verdict: not the test split"


def test_the_claim_of_a_validation_split_promises_no_verdict(made: Any, tmp_path: Path) -> None:
    chosen = made.pairs(tmp_path, 3, evaluation_changes={"split": "val"})
    claim = claim_of(leaderboard(chosen, tmp_path))
    assert claim.sentence == "No verdict on samiro: not the test split."
    assert claim.facts.endswith(" clips")
    assert "test" not in claim.facts
