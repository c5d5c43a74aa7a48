"""Files of tensors: whoever writes them meets a full disk as the system's error, which is tried again."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from harness.files import tensors
from harness.files.tensors import opened_tensors, stored_error, write_tensors
from harness.methods.card import OracleCard
from harness.methods.oracle import drawn_backbone, save_oracle
from harness.methods.statistics import TargetStatistics, save_statistics
from harness.processes.faults import fault_of
from tests.harness.methods.test_oracle import make_card

CARD: OracleCard = make_card()


@pytest.mark.parametrize(
    "write",
    [
        lambda path: write_tensors({"a": torch.zeros(1)}, path),
        lambda path: save_statistics(TargetStatistics((), 1), path),
        lambda path: save_oracle(drawn_backbone("resnet_micro", 3), CARD, path),
    ],
)
def test_a_full_disk_is_tried_again_whatever_tensors_are_written(
    write: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise SafetensorError('Error while serializing: Io(Os { code: 28, kind: StorageFull, message: "No space" })')

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(Exception, match="No space left on device") as raised:
        write(tmp_path / "a.safetensors")
    assert fault_of(raised.value).kind == "infrastructure"


def test_a_file_of_tensors_that_cannot_be_opened_is_told_in_the_words_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """safetensors calls it missing."""

    def withheld(path: Path, *_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", path)

    write_tensors({"a": torch.zeros(1)}, tmp_path / "a")
    monkeypatch.setattr("builtins.open", withheld)
    with pytest.raises(OSError, match="Too many open files"), opened_tensors(tmp_path / "a"):
        pass


def test_an_error_of_the_system_is_found_in_what_safetensors_says(tmp_path: Path) -> None:
    with pytest.raises(SafetensorError) as raising:
        save_file({"a": torch.zeros(3)}, tmp_path / "missing" / "x.safetensors")
    found = stored_error(raising.value, "x.safetensors")
    assert found is not None
    assert (found.errno, found.filename) == (errno.ENOENT, "x.safetensors")
    full = stored_error(
        SafetensorError('Error while serializing: Io(Os { code: 28, kind: StorageFull, message: "" })'), "x"
    )
    assert full is not None
    assert full.errno == errno.ENOSPC
    assert stored_error(SafetensorError("header too large"), "x") is None
