"""Whether other work may run on the node of a job: its engine knows, and the environment of the job's processes tells them."""

from __future__ import annotations

import os

SHARED_NODE = "SAMIRO_BENCH_SHARED_NODE"
"""The variable that is 1 where it may."""


def node_is_shared() -> bool:
    """Whether other work may run beside this process, as far as it was told."""
    return os.environ.get(SHARED_NODE) == "1"
