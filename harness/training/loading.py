"""Batches built in this process or by workers, in order either way, with faults and interrupts that arrive as what they are."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from harness.errors import InputError
from harness.processes.faults import InfrastructureError, is_lost_loader

Built = TypeVar("Built")


class _Items(Dataset[Any]):
    """Items by position. A fault of the input travels as a value: a DataLoader would bury its one line in a traceback."""

    def __init__(self, build: Callable[[int], Any]) -> None:
        self._build = build

    def __getitem__(self, position: int) -> Any:
        try:
            return self._build(position)
        except InputError as error:
            return error


class _Collate:
    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self._collate = collate

    def __call__(self, items: list[Any]) -> Any:
        return next((item for item in items if isinstance(item, InputError)), None) or self._collate(items)


def batches_in_order(
    build: Callable[[int], Any],
    collate: Callable[[list[Any]], Built],
    positions: Sequence[int],
    *,
    batch_size: int,
    workers: int,
    pin_memory: bool,
) -> Generator[Built, None, None]:
    """`collate` of `build(position)` for `batch_size` positions at a time; the last batch may be smaller.

    workers: 0 builds in this process; otherwise that many are forked, and end with the iteration, however it ends (close the
    generator where you leave it early). pin_memory: page-locks the tensors in what `collate` gives, which has to be nested
    dicts and tuples for that (tuples come back as lists). Draws nothing from torch's global generator. Raises the first
    InputError of a batch, InfrastructureError where a worker was killed while a batch was waited for; between two batches torch says
    so by an exception of its own (`harness.processes.faults.is_lost_loader`).
    """
    loader = DataLoader(
        _Items(build),
        batch_size=batch_size,
        sampler=positions,
        num_workers=workers,
        collate_fn=_Collate(collate),
        pin_memory=pin_memory,
        worker_init_fn=_start_worker if workers else None,
        multiprocessing_context="fork" if workers else None,
        # Each iterator draws a seed for its workers; by default from the global generator, which belongs to the training.
        generator=torch.Generator(),
    )
    iterator = iter(loader)
    try:
        while True:
            try:
                batch = next(iterator, None)
            except RuntimeError as error:
                if not is_lost_loader(error):
                    raise
                raise InfrastructureError(
                    f"a process that loads data was lost: {' '.join(str(error).split())}"
                ) from error
            if batch is None:
                return
            if isinstance(batch, InputError):
                raise batch
            yield batch
    finally:
        # The workers end with their iterator, which a traceback would otherwise keep.
        del iterator


def _start_worker(_: int) -> None:
    # Ctrl-C reaches the whole process group: the parent handles it and ends the workers, which would print tracebacks.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _unless_parent_left
    # Workers are the parallelism. 0 and not 1: after a fork, 1 would wait for the parent's pool threads, which aren't here.
    cv2.setNumThreads(0)


def _unless_parent_left(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Faults of building come back as values; this hook only sees the thread that hands tensors to a parent who may be gone."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
