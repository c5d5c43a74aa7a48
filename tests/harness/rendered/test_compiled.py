from __future__ import annotations

import os
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


RENDERING = """
import hashlib, sys
from pathlib import Path
from harness.rendered.culane_form import render_clip
from harness.rendered.dataset import plan_clips
from harness.rendered.spec import RenderSpec, SplitSpec

spec = RenderSpec(form="culane", seed=5, difficulty=0.5, splits={"test": SplitSpec(frames=180, frames_per_clip=3)})
for clip in plan_clips(spec)[:20]:
    render_clip(clip, spec, Path(sys.argv[1]))
for path in sorted(Path(sys.argv[1]).rglob("*.jpg")):
    print(path.relative_to(sys.argv[1]), hashlib.sha256(path.read_bytes()).hexdigest())
"""


@pytest.mark.slow
def test_what_compiles_the_kernels_draws_as_what_finds_them_compiled(tmp_path: Path) -> None:
    drawn = []
    for name in ("compiles", "finds"):
        command = [sys.executable, "-c", RENDERING, str(tmp_path / name)]
        environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        drawn.append(
            subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
        )
    assert len(drawn[0]) == 60
    assert drawn[0] == drawn[1]


def test_kernels_stay_plain_functions_where_nothing_is_to_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(value: int) -> int:
        return value + 1

    monkeypatch.setattr("numba.core.config.DISABLE_JIT", True)
    assert compiled()(kernel) is kernel
