"""What has to be pinned so that one seed gives one training, and one checkpoint one continuation."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed the global generators of python, numpy and torch (all devices). Call it right before a detector is made."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def make_deterministic(*, threads: int) -> None:
    """Pin CPU threads (their count changes sums) and choose deterministic kernels wherever torch has them.

    An operation without one still runs, with torch's own warning. Call it before CUDA is first used: cuBLAS reads its
    workspace setting only then.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling fresh memory only helps code that reads what it never wrote; it costs a pass over every tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def deterministic(*, threads: int) -> Iterator[None]:
    """`make_deterministic` for a while; afterwards torch's and OpenCV's settings are what they were."""
    torch_threads, cv_threads = torch.get_num_threads(), cv2.getNumThreads()
    benchmark = torch.backends.cudnn.benchmark
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        make_deterministic(threads=threads)
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        cv2.setNumThreads(cv_threads)
        torch.set_num_threads(torch_threads)
