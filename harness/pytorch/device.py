"""The device that computes: the first CUDA device where torch can use one, else the CPU; a GPU that is left unused is told."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from typing import Literal

from harness.errors import InputError, InputWarning

GPU_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")
"""Where a GPU that torch calls CUDA can be used one of these is there: NVIDIA's driver, AMD's, and Windows' for its Linux."""

LOADED, MAKER = "/proc/driver/nvidia", "nvidia-modprobe"
"""NVIDIA's need not be there before a program first asks for them: the driver is loaded, or this program, which its libraries call,
loads it and makes the files (nvidia-modprobe(1)).
"""

HIDING = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
"""By these somebody, or a scheduler, leaves a process no GPU: NVIDIA's, and AMD's."""

HIDDEN = frozenset({"", "-1", "NoDevFiles"})
"""What they are then; the last is Slurm's word in a job without GPUs."""


def may_have_gpu() -> bool:
    """Whether there may be a GPU here. False is certain on Linux, and costs no import of torch."""
    asleep = os.path.exists(LOADED) or shutil.which(MAKER) is not None
    return sys.platform != "linux" or bool(gpu_files()) or asleep


def gpu_files() -> list[str]:
    """The files of a GPU's driver that are here."""
    return [path for path in GPU_FILES if os.path.exists(path)]


def resolve_device(device: str) -> Literal["cpu", "cuda"]:
    """`auto` is the first CUDA device that this process sees, else the CPU: with an InputWarning where a GPU seems to be left unused.

    InputError if CUDA is asked for and not there.
    """
    if device == "cpu" or (device == "auto" and not may_have_gpu()):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise InputError("key 'training.device' is 'cuda', but no CUDA device can be used here; say 'auto' or 'cpu'")
    # Without any visible device it is somebody's wish.
    if gpu_files() and not any(os.environ.get(name) in HIDDEN for name in HIDING):
        built = torch.version.cuda or torch.version.hip
        why = f"torch {torch.__version__} is built for {f'CUDA {built}' if built else 'CPUs alone'}"
        warnings.warn(
            f"a GPU seems to be here ({gpu_files()[0]}), but torch can't use it ({why}): the CPU computes. Install the build that "
            "fits the driver, or say that the device is 'cpu'",
            InputWarning,
            stacklevel=2,
        )
    return "cpu"
