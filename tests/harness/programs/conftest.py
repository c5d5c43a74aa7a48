"""Folders with a suite, its program and rendered frames."""

from __future__ import annotations

import os
import shutil

import pytest

from harness.cell import artefacts
from harness.suite import load_suite
from tests.harness.programs.seer import SEER, SUITE, describe


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A folder of results that holds the rendered frames."""
    folder = tmp_path_factory.mktemp("rendered")
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "seer.py").write_text(SEER)
    describe(folder)
    spec = load_suite(str(folder / "suite.yaml")).datasets["roads"].rendered
    assert spec is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            artefacts, "available_cores", lambda: 1
        )  # in this process: others start for longer than they render
        artefacts.build_rendering(folder / "results", spec, "render", lambda event: None)
    return folder / "results"


@pytest.fixture
def folder(tmp_path, rendered):
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "seer.py").write_text(SEER)
    describe(tmp_path)
    shutil.copytree(rendered, tmp_path / "results", copy_function=os.link)
    return tmp_path
