"""Work in threads, with the results in order and little in flight."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from harness.processes.limits import available_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 32
"""Items a task: long enough to hide its overhead, short enough for a prompt answer to Ctrl-C."""


def in_threads(
    work: Callable[[Sequence[Item]], Result], items: Sequence[Item], *, workers: int | None = None
) -> Iterator[Result]:
    """Yield work(chunk) for consecutive chunks of the items, in order, computed by `workers` threads (None: one a core).

    At most a few chunks a thread are in flight. When the caller stops early or is interrupted, what has not begun never does.
    """
    count = workers or available_cores()
    waiting: deque[Future[Result]] = deque()
    executor = ThreadPoolExecutor(count, thread_name_prefix="metric")
    try:
        for start in range(0, len(items), CHUNK):
            if len(waiting) >= 4 * count:
                yield waiting.popleft().result()
            waiting.append(executor.submit(work, items[start : start + CHUNK]))
        while waiting:
            yield waiting.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
