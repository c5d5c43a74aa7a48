"""Of every broken promise the battery says which one it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.conformance.battery import CHECKS, run_check
from harness.conformance.subject import Arm, subject_of
from tests.harness.conformance.broken import BROKEN, DECODE, changed, one_check


@pytest.mark.parametrize(
    ("check", "arm", "change", "said"), BROKEN, ids=[f"{check}-{number}" for number, (check, *_) in enumerate(BROKEN)]
)
def test_a_broken_promise_fails_its_check(
    tmp_path: Path, check: str, arm: Arm, change: tuple[str, str], said: str
) -> None:
    changes = [change]
    if "self.scale" in change[1]:
        changes.append(("self.head(features[-1])", "self.head(features[-1]) * self.scale"))
    if "START" in change[1]:
        changes.append(("ROWS = 24\n", "ROWS = 24\nSTART = 1 + np.random.default_rng().random()\n"))
    result = one_check(changed(tmp_path, *changes), check, arm, tmp_path)
    assert result.outcome == "failed", result
    assert said in result.detail
    assert "\n" not in result.detail


@pytest.mark.parametrize(
    ("change", "owner", "said"),
    [
        (
            ("20 * distance.sum()", "20 * distance"),
            "forward and backward",
            "is of shape (8, 4, 24), not a finite scalar",
        ),
        (('"place": 20 *', '"place": 1.0 if self else 20 *'), "forward and backward", "is a float, not a tensor"),
        (
            ('return {\n            "place"', 'return x if self else {\n            "place"'),
            "forward and backward",
            "give terms by",
        ),
        (
            (DECODE, DECODE.replace("return [\n", "return (\n")),
            "round trip",
            "gives a generator; give a list of `Lane`s for",
        ),
        (
            (DECODE, "        return np.zeros((len(outputs), 4, 2, 2))\n" + DECODE),
            "round trip",
            "gives a ndarray; give a list",
        ),
        (
            ("[lane for place, exists in zip", "Lane([[0, 9], [0, 0]], 0.9) or [lane for place, exists in zip"),
            "round trip",
            "a list of Lane;",
        ),
    ],
)
def test_what_other_checks_need_is_told_by_one(tmp_path: Path, change: tuple[str, str], owner: str, said: str) -> None:
    changes = [change]
    if "return (" in change[1]:
        changes.append(("geometries, strict=True)\n        ]\n", "geometries, strict=True)\n        )\n"))
    name = changed(tmp_path, *changes)
    (tmp_path / "work").mkdir()
    subject = subject_of(name, "culane", tmp_path / "work")
    results = [
        run_check(subject, check, arm)
        for check in CHECKS
        for arm in check.arms
        if arm != "samiro" and check.name in ("metadata", "targets", "round trip", "forward and backward", "bf16")
    ]
    assert [(result.check, result.outcome) for result in results if result.outcome == "failed"] == [(owner, "failed")]
    assert any(said in result.detail for result in results), results
    assert results[-1].detail == f"not looked at: see {owner}"
