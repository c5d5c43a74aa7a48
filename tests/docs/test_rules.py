"""docs/rules.md: what it says holds a rule exists, and the words that it says tables use are the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/rules.md").read_text()
PLACES = sorted(set(re.findall(r"`(harness/[\w/]+\.py)(?::(\w+))?`", PAGE)))
WHERE = {
    "† ": ("harness/report/arms.py", "harness/cell/assembly.py", "harness/cell/phases.py", "detectors/programs.py"),
    "no verdict": (
        "harness/report/rows.py",
        "harness/report/leaderboard.py",
        "harness/report/statistics.py",
        "harness/report/robustness.py",
    ),
    "times": (
        "harness/throughput/measurement.py",
        "harness/throughput/devices.py",
        "harness/latency/protocol.py",
        "harness/cell/timing.py",
    ),
}


def texts_of(files: tuple[str, ...]) -> str:
    """All strings of some files, docstrings apart, a line each; what an f-string fills in is left out."""
    nodes = [node for file in files for node in ast.walk(tree_without_docstrings(file))]
    return "\n".join(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str))


def tree_without_docstrings(file: str) -> ast.Module:
    tree = ast.parse((ROOT / file).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not isinstance(part, ast.Expr) or not is_text(part)]  # type: ignore[attr-defined]
    return tree


def is_text(part: ast.Expr) -> bool:
    return isinstance(part.value, ast.Constant) and isinstance(part.value.value, str)


@pytest.mark.parametrize(("file", "name"), PLACES)
def test_what_holds_a_rule_is_there(file: str, name: str) -> None:
    defined = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            defined.add(node.name)
        elif isinstance(node, ast.Assign):
            defined |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    assert not name or name in defined


def test_every_rule_says_what_holds_it() -> None:
    rules = re.split(r"^\d+\. ", PAGE, flags=re.MULTILINE)[1:]
    assert len(rules) == 26
    for rule in rules:
        assert "`harness/" in rule or "*Convention*" in rule, rule


def test_reasons_and_flags_are_the_codes_own_words() -> None:
    rows_say = re.findall(r"^ +\| `([^|]*)` \|", PAGE, re.MULTILINE)
    unranked = [text for text in rows_say if not text.startswith("no verdict")]
    assert len(unranked) == 5
    code = texts_of(WHERE["† "])
    assert all(text in code for text in unranked)
    flagged = PAGE[PAGE.index("carry a flag") : PAGE.index("`lane-latency/1-short` (one")]
    flags = [" ".join(flag.split()) for flag in re.findall(r"`([^`]+)`", flagged)]
    assert len(flags) == 8
    code = texts_of(WHERE["times"])
    assert [flag for flag in flags if flag not in code.splitlines()] == ["1 of 3 repeats"]
    assert {"1 of ", " repeats"} <= set(code.splitlines())


def test_no_reason_for_a_missing_verdict_is_left_out() -> None:
    said = {text.removeprefix("no verdict: ") for text in re.findall(r"`(no verdict: [^`]+)`", PAGE)}
    coded = set(re.findall(r"no verdict: ([^\n]*)", texts_of(WHERE["no verdict"])))
    fixed = {text for text in coded if text}
    assert fixed == {text for text in said if not text[0].isdigit()}
    assert {"2 seeds", "9 clips"} <= said
