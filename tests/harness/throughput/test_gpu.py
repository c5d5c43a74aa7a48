"""What is made of nvidia-smi's words. The program is a stand-in: no GPU is needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from harness.throughput import gpu

CUDA = torch.device("cuda")


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file; what stands in it the stand-in for nvidia-smi says, if it is asked for one GPU by its UUID."""
    said = tmp_path / "said"
    program = tmp_path / "nvidia-smi"
    program.write_text(f'#!/bin/sh\ncase "$*" in *--id=GPU-1234*) cat {said};; *) exit 6;; esac\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(gpu, "gpu_uuid", lambda device: "GPU-1234")
    return said


def test_clocks_power_and_temperature_are_numbers_and_the_uuid_a_hash(smi: Path) -> None:
    smi.write_text("GPU-1234, 1980, 2619, 412.55, 54, 0x0000000000000004, Disabled\n")
    state = gpu.gpu_state(CUDA)
    assert state is not None
    assert state.uuid_sha256 == hashlib.sha256(b"GPU-1234").hexdigest()
    assert (state.sm_clock_mhz, state.memory_clock_mhz) == (1980, 2619)
    assert (state.power_watts, state.temperature_celsius) == (412.55, 54)
    assert (state.throttle_reasons, state.mig) == ("0x0000000000000004", "Disabled")


def test_what_a_gpu_does_not_tell_is_none(smi: Path) -> None:
    smi.write_text("GPU-1234, 1980, 2619, [N/A], 54, [Not Supported], [N/A]\n")
    state = gpu.gpu_state(CUDA)
    assert state is not None
    assert (state.power_watts, state.throttle_reasons, state.mig) == (None, None, None)


def test_two_processes_share_a_gpu_and_one_has_it_alone(smi: Path) -> None:
    smi.write_text("4711\n")
    assert gpu.gpu_is_shared(CUDA) is False
    smi.write_text("4711\n4712\n")
    assert gpu.gpu_is_shared(CUDA) is True


def test_nvidia_smi_that_lists_not_even_this_process_does_not_see_who_computes(smi: Path) -> None:
    # In a container without the host's process ids: github.com/NVIDIA/nvidia-docker, issue 179.
    smi.write_text("")
    assert gpu.gpu_is_shared(CUDA) is None


def test_without_nvidia_smi_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu, "gpu_uuid", lambda device: "GPU-1234")
    assert gpu.gpu_is_shared(CUDA) is None
    state = gpu.gpu_state(CUDA)
    assert state is not None
    assert set(state.model_dump().values()) == {None}


def test_a_cpu_has_no_such_state() -> None:
    assert gpu.gpu_state(torch.device("cpu")) is None
