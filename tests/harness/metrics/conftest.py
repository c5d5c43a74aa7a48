"""The official inputs, unpacked once a session."""

from __future__ import annotations

import tarfile

import pytest


@pytest.fixture(scope="session")
def culane_kit(shared, tmp_path_factory):
    """A folder with gt/ and pred_a/, 1,500 images under CULane's names."""
    return unpacked(shared / "conformance" / "culane" / "trees.tar.gz", tmp_path_factory.mktemp("culane"))


@pytest.fixture(scope="session")
def llamas_kit(shared, tmp_path_factory):
    """A folder with labels/valid/ and pred_a/, 300 images in LLAMAS' form."""
    return unpacked(shared / "conformance" / "llamas" / "trees.tar.gz", tmp_path_factory.mktemp("llamas"))


def unpacked(archive, folder):
    with tarfile.open(archive) as trees:
        trees.extractall(folder, filter="data")
    return folder
