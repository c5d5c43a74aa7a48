from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import harness.rendered.compiled as module
from harness.rendered.compiled import compiled

CALLER = """
from kernels.compiled import compiled
from kernels.inner import inner

@compiled(error_model="numpy")
def outer(value):
    return inner(value) + 1
"""
INNER = """
from kernels.compiled import compiled

@compiled(error_model="numpy")
def inner(value):
    return value * {factor}
"""
PROGRAM = """
from kernels.caller import outer
print(outer(10), sum(outer.stats.cache_hits.values()))
"""


def result(folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_a_kept_kernel_is_renewed_when_one_that_it_calls_in_another_module_changes(tmp_path: Path) -> None:
    package = tmp_path / "kernels"
    package.mkdir()
    shutil.copy(str(module.__file__), package / "compiled.py")
    (package / "__init__.py").touch()
    (package / "caller.py").write_text(CALLER)
    (package / "inner.py").write_text(INNER.format(factor=2))
    assert result(tmp_path) == "21 0\n"
    assert result(tmp_path) == "21 1\n"
    (package / "inner.py").write_text(INNER.format(factor=3))
    assert result(tmp_path) == "31 0\n"


def test_kernels_stay_plain_functions_where_nothing_is_to_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(value: int) -> int:
        return value + 1

    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    assert compiled()(kernel) is kernel
