"""Compiled functions: their cache never goes stale, and compilation works where nothing can be written beside the package."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

import harness.metrics

CODE = "from harness.metrics.matching import match_lanes; import numpy; print(match_lanes(numpy.ones((1, 1))))"


def run(tmp_path, **variables):
    """Call a compiled function of a copy of the package whose __pycache__ is no folder (root may write read-only folders)."""
    package = tmp_path / "harness"
    (package / "metrics").mkdir(parents=True, exist_ok=True)
    source = Path(__file__).parents[3] / "harness"
    for name in ("__init__.py", "metrics/__init__.py", "metrics/compiled.py", "metrics/matching.py"):
        (package / name).write_bytes((source / name).read_bytes())
    (package / "metrics" / "__pycache__").touch()
    kept = {key: value for key, value in os.environ.items() if key not in {"NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME"}}
    environment = {**kept, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    return subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


def test_compiled_functions_call_none_of_another_module():
    seen = 0
    for info in pkgutil.iter_modules(harness.metrics.__path__):
        module = import_module(f"harness.metrics.{info.name}")
        for function in vars(module).values():
            if isinstance(function, Dispatcher) and function.py_func.__module__ == module.__name__:
                seen += 1
                names = function.py_func.__code__.co_names
                called = [value for name in names if isinstance(value := getattr(module, name, None), Dispatcher)]
                strangers = {callee.py_func.__module__ for callee in called} - {module.__name__}
                assert not strangers, f"{module.__name__}.{function.py_func.__name__} would go stale with {strangers}"
    assert seen > 10


@pytest.mark.slow
def test_the_users_cache_folder_is_used_where_the_package_is_read_only(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    result = run(tmp_path, HOME=str(home))
    assert result.stdout == "[0]\n", result.stderr
    assert list(home.rglob("*.nbi"))


@pytest.mark.slow
def test_compilation_goes_on_where_nothing_can_be_written(tmp_path):
    result = run(tmp_path, HOME="/proc/none", XDG_CACHE_HOME="/proc/none")
    assert result.stdout == "[0]\n", result.stderr
