"""Where a measurement was made: machine, libraries and code, as a record states them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from harness.processes.limits import available_cores
from harness.records.record import Environment

ROOT = Path(__file__).resolve().parents[2]


def environment(device: str) -> Environment:
    """The environment of a run on `device` ("cpu" or "cuda:0")."""
    import torch

    on_gpu = device.startswith("cuda")
    return Environment(
        device=torch.cuda.get_device_name(device) if on_gpu else "CPU",
        cpu=cpu_name(),
        cores=available_cores(),
        operating_system=operating_system(),
        python=platform.python_version(),
        torch=torch.__version__,
        timm=installed("timm"),
        numpy=installed("numpy"),
        opencv=installed("opencv-python-headless", "opencv-python"),
        cuda=torch.version.cuda if on_gpu else None,
        cudnn=str(torch.backends.cudnn.version()) if on_gpu else None,  # type: ignore[no-untyped-call]
        driver=driver_version() if on_gpu else None,
        samiro_bench=installed("samiro-bench"),
        commit=commit(),
    )


def installed(*distributions: str) -> str:
    """Version of the first of these distributions that is installed, else "not installed"."""
    for name in distributions:
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"


def cpu_name() -> str:
    """The processor's model name; the architecture where the system doesn't tell."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine_in_use() -> str:
    """The GPU that this process computes on by its name, the processor where it hasn't touched one: what times are told apart by."""
    torch = sys.modules.get("torch")  # who hasn't imported it computes on no GPU, and needn't wait for the import
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_initialized() else cpu_name()


def operating_system() -> str:
    """Name and version of the operating system, e.g. "Debian GNU/Linux 12 (bookworm)"."""
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return f"{platform.system()} {platform.release()}"


@cache
def commit() -> str | None:
    """The commit of the checkout, with "+" if tracked files differ from it; None outside a checkout or without git."""
    try:
        head = git("rev-parse", "HEAD")
        return head + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*arguments: str) -> str:
    """Output of a git command on the checkout itself: not on a repository that it lies in as a plain folder, or that GIT_DIR names."""
    command = ["git", "--no-optional-locks", f"--git-dir={ROOT / '.git'}", f"--work-tree={ROOT}", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.strip()


@cache
def driver_version() -> str | None:
    """The NVIDIA driver's version; None where nvidia-smi can't tell."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return None
