"""What the tests of trainings share: when one is interrupted and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import torch

CPU = torch.device("cpu")


def same_weights(one, other) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def log_lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "training.jsonl").read_text().splitlines()]


class Interrupted(Exception):
    pass


def interrupt_at(step: int):
    def progress(done: int, total: int, loss: float) -> None:
        if done == step:
            raise Interrupted

    return progress
