"""Where it is computed, and what is said when a GPU is left unused."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

from harness.errors import InputError, InputWarning
from harness.inference.detector import chosen_device
from harness.pytorch import device
from harness.pytorch.device import resolve_device


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the file of a GPU's driver, whose torch sees no GPU."""
    file = tmp_path / "nvidia0"
    file.touch()
    monkeypatch.setattr(device, "GPU_FILES", (str(tmp_path / "nvidiactl"), str(file)))
    monkeypatch.setattr(device, "LOADED", str(tmp_path / "loaded"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in device.HIDING:
        monkeypatch.delenv(name, raising=False)
    return file


def test_a_gpu_that_torch_cannot_use_is_told_with_the_build_of_torch(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cuda, built in ((None, "CPUs alone"), ("12.8", r"CUDA 12\.8")):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        with pytest.warns(InputWarning, match=rf"{driver}.*torch can't use it \(torch .* is built for {built}\)"):
            assert resolve_device("auto") == "cpu"
    with pytest.warns(InputWarning, match="torch can't use it"):
        assert chosen_device("auto") == torch.device("cpu")


def test_nothing_is_said_where_the_cpu_is_meant_or_all_there_is(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve_device("cpu") == "cpu"
        for name in ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
            for hidden in ("", "-1", "NoDevFiles"):  # the last is Slurm's
                monkeypatch.setenv(name, hidden)
                assert resolve_device("auto") == "cpu"
            monkeypatch.delenv(name)
        driver.unlink()
        assert resolve_device("auto") == "cpu"


def test_cuda_is_taken_where_it_is_and_refused_where_it_is_asked_for_and_is_not(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"key 'training\.device' is 'cuda'"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (resolve_device("auto"), resolve_device("cuda"), resolve_device("cpu")) == ("cuda", "cuda", "cpu")


@pytest.mark.parametrize("left", ["loaded", "nvidia-modprobe"])
def test_a_driver_that_nobody_has_asked_for_its_files_yet_is_taken(
    driver: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    driver.unlink()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    (driver.parent / left).touch(0o755)
    assert resolve_device("auto") == "cuda"
