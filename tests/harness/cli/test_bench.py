"""`samiro-bench bench` as its users read it, on an engine that only fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import matrix
from harness.cli.main import main
from harness.engines.base import Outcome


@pytest.mark.parametrize(
    ("kinds", "code", "said"),
    [
        (("input", "input"), 2, "jobs failed; mend what is named above, then the same command tries them again"),
        (("input", "error"), 1, "jobs failed; the same command tries them again"),
    ],
)
def test_the_closing_line_says_what_helps(
    kinds: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ended = [Outcome(f"job {n}", "failed", kind=kind, message="no good") for n, kind in enumerate(kinds)]  # type: ignore[arg-type]
    monkeypatch.setattr(matrix, "run", lambda *_: ended)
    assert main(["bench", "smoke", "--results", str(tmp_path)]) == code
    shown = capsys.readouterr()
    assert "2 of " in shown.out
    assert said in shown.out
    assert "job 1: no good" in shown.err
