"""What nvidia-smi tells of a GPU: its state, and who else computes on it. Nothing here changes a setting."""

from __future__ import annotations

import hashlib
import subprocess
from contextlib import suppress

import torch

from harness.records.timings import GpuState

STATE = (
    "uuid", "clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_throttle_reasons.active", "mig.mode.current",
)  # fmt: skip
"""Queried properties, as `nvidia-smi --help-query-gpu` names them, in the order of GpuState's fields."""


def gpu_state(device: torch.device) -> GpuState | None:
    """The state of a CUDA device at this moment; None of a CPU."""
    if device.type != "cuda":
        return None
    lines = _told(f"--query-gpu={','.join(STATE)}", f"--id={gpu_uuid(device)}") or [", ".join(["[N/A]"] * len(STATE))]
    uuid, *values = (None if value.startswith("[") else value for value in lines[0].split(", "))
    sm, memory, power, temperature, reasons, mig = values
    return GpuState(
        uuid_sha256=None if uuid is None else hashlib.sha256(uuid.encode()).hexdigest(),
        sm_clock_mhz=_number(sm),
        memory_clock_mhz=_number(memory),
        power_watts=_number(power),
        temperature_celsius=_number(temperature),
        throttle_reasons=reasons,
        mig=mig,
    )


def gpu_is_shared(device: torch.device) -> bool | None:
    """Whether more than one process computes on a CUDA device, of which this is one; None where nvidia-smi can't tell."""
    lines = _told("--query-compute-apps=pid", f"--id={gpu_uuid(device)}")
    # In a container with process ids of its own nvidia-smi lists nobody, not even this process.
    return len(lines) > 1 if lines else None


def gpu_uuid(device: torch.device) -> str:
    """The name under which nvidia-smi knows a device, whatever CUDA_VISIBLE_DEVICES hides."""
    return f"GPU-{torch.cuda.get_device_properties(device).uuid}"


def _told(*query: str) -> list[str] | None:
    command = ["nvidia-smi", *query, "--format=csv,noheader,nounits"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in listed.splitlines() if line.strip()]


def _number(text: str | None) -> float | None:
    with suppress(ValueError):
        return None if text is None else float(text)
    return None
