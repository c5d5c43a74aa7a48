"""A fingerprint follows imports and sees code, not prose."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import fingerprint as module
from harness.errors import InputError
from harness.fingerprint import changed_files, fingerprint


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    module.read_source.cache_clear()
    (tmp_path / "harness" / "inner").mkdir(parents=True)
    write(tmp_path, "harness/__init__.py", "")
    write(tmp_path, "harness/inner/__init__.py", "")
    write(tmp_path, "harness/a.py", "from harness import b\nimport numpy\nX = 1\n")
    write(tmp_path, "harness/b.py", "def f():\n    from harness.inner.c import Y\n    return Y\n")
    write(tmp_path, "harness/inner/c.py", "from .d import Z\nY = Z\n")
    write(tmp_path, "harness/inner/d.py", "Z = 3\n")
    write(tmp_path, "harness/alone.py", "Q = 1\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    module.read_source.cache_clear()


def test_imports_are_followed_also_relative_ones_and_those_inside_functions(tree: Path) -> None:
    assert {"harness/a.py", "harness/b.py", "harness/inner/c.py", "harness/inner/d.py"} <= set(
        fingerprint(["harness.a"])
    )
    assert "harness/alone.py" not in fingerprint(["harness.a"])


def test_a_change_far_down_the_imports_is_named(tree: Path) -> None:
    before = fingerprint(["harness.a"])
    write(tree, "harness/inner/d.py", "Z = 4\n")
    assert changed_files(before, fingerprint(["harness.a"])) == ["harness/inner/d.py"]


def test_comments_docstrings_and_layout_change_nothing(tree: Path) -> None:
    before = fingerprint(["harness.a"])
    write(tree, "harness/inner/d.py", '"""Words."""\n\n# more words\nZ   =   (3)\n"""About Z."""\n')
    assert changed_files(before, fingerprint(["harness.a"])) == []


def test_a_text_that_is_used_is_code(tree: Path) -> None:
    write(tree, "harness/inner/d.py", "Z = 'a'\n")
    before = fingerprint(["harness.a"])
    write(tree, "harness/inner/d.py", "Z = 'b'\n")
    assert changed_files(before, fingerprint(["harness.a"])) == ["harness/inner/d.py"]


def test_a_new_import_counts_as_a_change(tree: Path) -> None:
    before = fingerprint(["harness.a"])
    write(tree, "harness/b.py", "import harness.alone\n")
    assert "harness/alone.py" in changed_files(before, fingerprint(["harness.a"]))


def test_a_file_that_does_not_parse_is_named_with_its_line(tree: Path) -> None:
    write(tree, "harness/b.py", "x = 1\ny = = 2\n")
    with pytest.raises(InputError, match=r"b\.py:2"):
        fingerprint(["harness.a"])


def test_the_training_phase_stands_on_the_loop_the_method_and_its_own_detector_only() -> None:
    module.read_source.cache_clear()
    found = fingerprint(["harness.training.loop", "harness.methods.attach", "detectors.ufldv2"])
    assert {"harness/training/loop.py", "harness/methods/samiro.py", "detectors/ufldv2.py", "detectors/base.py"} <= set(
        found
    )
    assert not any(
        name.startswith(("harness/report", "harness/cli", "harness/rendered", "harness/metrics")) for name in found
    )
