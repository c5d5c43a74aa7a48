"""The processes of one training: each takes its share of every batch, and all take the same steps.

A batch of B samples is shared out among N processes, B / N neighbours of the stream to each. Gradients are averaged over the
processes, so they are the mean over the whole batch, as in one process that takes B / N samples at a time; only the order of the
sums differs. A loss that is normalised within a batch sees a share of it, and so does batch normalization, whose running
statistics are those of the first process (DistributedDataParallel hands its buffers to the others before every step).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch.distributed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

Made = TypeVar("Made")


@dataclass(frozen=True)
class Ranks:
    """Which of the processes of a training this is, from 0 on, and how many there are.

    More than one need torch's process group, and every process has to call what talks to the others, at the same place.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes checkpoints, logs and records."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of what this process draws in training (dropout): a training's own in the first, others in the others."""
        return seed if self.first else int(np.random.default_rng([seed, self.rank]).integers(2**32))

    def network(self, model: nn.Module) -> nn.Module:
        """A model, on its device, such that backward averages gradients over the processes. It takes over the first one's weights."""
        return model if self.count == 1 else DistributedDataParallel(model)

    def accumulating(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Around forward and backward of a micro-batch: gradients are averaged in the `last` one of a step alone."""
        if self.count == 1 or last:
            return nullcontext()
        return cast(DistributedDataParallel, network).no_sync()

    def mean(self, values: Tensor) -> Tensor:
        """The mean of the processes' values."""
        if self.count > 1:
            torch.distributed.all_reduce(values)
            values /= self.count
        return values

    def of_all(self, value: Made) -> list[Made]:
        """The values of all processes, in their order."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found

    def from_first(self, make: Callable[[], Made]) -> Made:
        """What the first process makes, while the others wait for it."""
        if self.count == 1:
            return make()
        found = [make() if self.first else None]
        torch.distributed.broadcast_object_list(found)
        return cast(Made, found[0])


ALONE = Ranks()
"""A training of one process."""
