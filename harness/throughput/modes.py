"""Modes in which a network is timed: its precision, its layout in memory, and whether it is compiled. Each is a row of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch

from harness.errors import InputError, did_you_mean

Precision = Literal["fp32-strict", "tf32", "amp-bf16", "amp-fp16"]

AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}

CHANNELS_LAST, COMPILE = "channels_last", "compile"


@dataclass(frozen=True)
class Mode:
    """One way to run a network. The default is what every other is compared with."""

    precision: Precision = "fp32-strict"
    channels_last: bool = False
    compiled: bool = False

    def __str__(self) -> str:
        """As records name it: `amp-bf16+channels_last+compile`."""
        parts = (self.precision, CHANNELS_LAST if self.channels_last else "", COMPILE if self.compiled else "")
        return "+".join(part for part in parts if part)

    @property
    def memory_format(self) -> torch.memory_format:
        """The layout of weights and images."""
        return torch.channels_last if self.channels_last else torch.contiguous_format


HEADLINE = Mode()
"""TF32 off, NCHW, eager: the mode that detectors are compared in."""


def mode_of(text: str) -> Mode:
    """The mode that a text names. InputError for anything else."""
    precision, *more = text.split("+")
    if precision not in get_args(Precision):
        raise InputError(
            f"mode {text!r}: {precision!r} is no precision; {did_you_mean(precision, list(get_args(Precision)))}"
        )
    for part in more:
        if part not in (CHANNELS_LAST, COMPILE):
            raise InputError(f"mode {text!r}: after the precision may follow +{CHANNELS_LAST} and +{COMPILE}")
    return Mode(precision, CHANNELS_LAST in more, COMPILE in more)  # type: ignore[arg-type]


def check_mode(mode: Mode, device: torch.device) -> None:
    """InputError where a device has no such mode."""
    if mode.precision == "tf32" and "tf32" not in native_precisions(device):
        raise InputError(
            f"mode {mode}: TF32 is a precision of CUDA devices from compute capability 8.0 on; take another"
        )


def native_precisions(device: torch.device) -> tuple[Precision, ...]:
    """The precisions that a device has instructions for, fp32-strict first; others it may emulate, slowly.

    GPUs: NVIDIA's CUDA C++ Programming Guide, compute capabilities: tensor cores for fp16 from 7.0, for bf16 and TF32 from 8.0 on.
    PyTorch's notes on HIP (ROCm) semantics: no TF32 there, whatever the number. CPUs: AVX-512 or AMX instructions for a type.
    """
    if device.type == "cuda":
        major, _ = torch.cuda.get_device_capability(device)
        tf32: tuple[Precision, ...] = ("tf32",) if torch.version.hip is None else ()
        newer: tuple[Precision, ...] = (*tf32, "amp-bf16") if major >= 8 else ()
        return ("fp32-strict", *newer, *(("amp-fp16",) if major >= 7 else ()))  # type: ignore[return-value]
    # A torch that can't tell what a CPU has offers fp32 alone; any mode may still be named.
    has: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    types: tuple[tuple[Precision, tuple[str, ...]], ...] = (
        ("amp-bf16", ("avx512_bf16", "amx_bf16")),
        ("amp-fp16", ("avx512_fp16", "amx_fp16")),
    )
    return ("fp32-strict", *(precision for precision, names in types if any(has.get(name) for name in names)))
