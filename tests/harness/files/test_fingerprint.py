"""A fingerprint follows imports and sees code, not prose."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

import pytest

from detectors.registry import find_adapter
from harness.errors import InputError
from harness.files import fingerprint as module
from harness.files.fingerprint import changed_files, fingerprint, refuse_uncovered
from harness.matrix.plan import make_plan
from harness.suite import Choice, load_suite


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


def test_a_call_whose_value_nobody_takes_is_code(tree: Path) -> None:
    before = fingerprint(["harness.a"])
    write(tree, "harness/inner/d.py", "Z = 3\nprint(Z)\n")
    assert changed_files(before, fingerprint(["harness.a"])) == ["harness/inner/d.py"]


def test_a_new_import_counts_as_a_change(tree: Path) -> None:
    before = fingerprint(["harness.a"])
    write(tree, "harness/b.py", "import harness.alone\n")
    after = fingerprint(["harness.a"])
    assert "harness/alone.py" in changed_files(before, after)
    assert changed_files(after, before) == changed_files(before, after), "what vanished is a change as well"
    assert "harness/inner/c.py" in changed_files(before, after)


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


@pytest.fixture
def outside(tree: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package outside the project that imports a neighbour, something of ours, and numpy."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "outside_net").mkdir()
    write(folder, "outside_net/__init__.py", "from . import parts\n")
    write(folder, "outside_net/parts.py", "P = 1\n")
    write(folder, "outside_net/adapter.py", "import numpy\nfrom .parts import P\ndef f():\n    import harness.alone\n")
    monkeypatch.syspath_prepend(str(folder))
    for name in [name for name in sys.modules if name.split(".")[0] == "outside_net"]:
        monkeypatch.delitem(sys.modules, name)
    import_module("outside_net.adapter")
    return folder


def test_an_outside_package_is_followed_within_itself_and_into_ours(outside: Path) -> None:
    before = fingerprint(["harness.a", "outside_net.adapter"])
    assert set(before) - set(fingerprint(["harness.a"])) == {
        "harness/alone.py",
        "outside_net/adapter.py",
        "outside_net/parts.py",
    }
    write(outside, "outside_net/parts.py", "P = 2\n")
    assert changed_files(before, fingerprint(["harness.a", "outside_net.adapter"])) == ["outside_net/parts.py"]


def test_relative_imports_of_a_package_itself_are_found(outside: Path) -> None:
    assert set(fingerprint(["outside_net"])) == {"outside_net/__init__.py", "outside_net/parts.py"}


def test_an_adapter_file_stands_under_its_own_name_with_what_it_imports_of_ours(tmp_path: Path) -> None:
    from harness.scaffold.write import write_scaffold

    module.read_source.cache_clear()
    path = write_scaffold("my_lanes", tmp_path)[0]
    found = fingerprint([find_adapter(f"{path}:MyLanes").detector.__module__])
    assert {"my_lanes.py", "detectors/parts/row_wise.py", "detectors/backbones.py"} <= set(found)
    path.write_text(path.read_text().replace("ROWS = 24", "ROWS = 20  # fewer"))
    after = fingerprint([find_adapter(f"{path}:MyLanes").detector.__module__])
    assert changed_files(found, after) == ["my_lanes.py"]
    path.write_text(path.read_text().replace("  # fewer", ""))
    assert fingerprint([find_adapter(f"{path}:MyLanes").detector.__module__]) == after


def test_a_name_added_to_the_registry_makes_nothing_stale() -> None:
    module.read_source.cache_clear()
    found = fingerprint(["harness.inference.predict"])
    assert "detectors/registry.py" not in found
    assert "detectors/base.py" in found


def test_a_plan_of_many_cells_makes_no_more_fingerprints_than_one_of_few(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made: list[object] = []
    real = module.fingerprint
    monkeypatch.setattr(module, "fingerprint", lambda modules: (made.append(modules), real(modules))[1])
    amounts = []
    for seeds in (1, 4):
        module.code_of.cache_clear()
        made.clear()
        make_plan(load_suite("mini"), tmp_path, Choice(seeds=seeds))
        amounts.append(len(made))
    assert amounts[0] == amounts[1] > 0


def test_one_code_has_one_text_under_every_version_of_python() -> None:
    """The text of 3.11, 3.12 and 3.13, which `ast.dump` words in three ways: runs are carried between machines."""
    source = "def f(a, *, b=None):\n    return f'{a:>{b}} {a!r}' if a else ()\n"
    name = "Name(id={}, ctx=Load())"
    a, b = name.format("'a'"), name.format("'b'")
    space = "Constant(value=' ')"
    padded = (
        f"FormattedValue(value={a}, conversion=-1, "
        f"format_spec=JoinedStr(values=[Constant(value='>'), FormattedValue(value={b}, conversion=-1)]))"
    )
    assert module.code_text(ast.parse(source)) == (
        "Module(body=[FunctionDef(name='f', args=arguments(args=[arg(arg='a')], kwonlyargs=[arg(arg='b')], "
        "kw_defaults=[Constant()]), body=[Return(value=IfExp("
        f"test={a}, body=JoinedStr(values=[{padded}, {space}, FormattedValue(value={a}, conversion=114)]), "
        "orelse=Tuple(ctx=Load())))])])"
    )


def test_code_of_a_package_that_no_fingerprint_covers_is_refused(tree: Path) -> None:
    refuse_uncovered(["harness.a"])
    write(tree, "harness/inner/d.py", "Z = 3\ndef f():\n    from labmethods.teacher import T\n")
    with pytest.raises(InputError, match=r"harness/inner/d\.py: imports 'labmethods\.teacher'.*below harness/methods"):
        refuse_uncovered(["harness.a"])


def test_the_code_behind_methods_and_trainings_is_covered() -> None:
    module.read_source.cache_clear()
    refuse_uncovered(["harness.methods.attach", "harness.training.loop", "harness.training.data"])
