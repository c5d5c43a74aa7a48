"""What a run says to try next."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.next_steps import next_steps
from harness.matrix.plan import make_plan
from harness.suite import Choice, load_suite

AGAIN = ("samiro-bench", "bench", "SUITE", "--seeds", "3")


@pytest.mark.parametrize(("suite", "judged"), [("mini", True), ("tuning", False)])
def test_more_seeds_are_advised_where_they_bring_a_verdict(suite: str, judged: bool, tmp_path: Path) -> None:
    plan = make_plan(load_suite(suite), tmp_path, Choice(seeds=1))
    advised = [what for why, what in next_steps(plan, AGAIN) if "verdicts" in why]
    assert advised == (["samiro-bench bench SUITE --seeds 3"] if judged else [])
