"""Whether another process builds the same detector: what is drawn while a module is imported, or follows the order of a set, differs.

The two arms of a pair are trained in processes of their own, and a third one predicts with what they leave.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from detectors.base import Detector
from harness.conformance.subject import Subject, Unmet, subject_of
from harness.lanes import Lane

MENDING = "draw random numbers in __init__ alone, from a global generator, and iterate over no set"
CLOSE = 1e-3
"""How far the outputs of the two may lie apart, as a share of the largest."""


def same_in_another_process(subject: Subject) -> None:
    """Raise Unmet where a detector that another process builds has other weights, targets or outputs than one built here."""
    shown = subject.folder / "shown.pt"
    detector = subject.build()
    frame = subject.samples.frames[0]
    lanes = [torch.from_numpy(lane.points) for lane in subject.samples.lanes(frame)]
    batch = subject.batch(detector, count=2)
    torch.save({"images": batch.images, "lanes": lanes, "size": subject.samples.size}, shown)
    found = subject.folder / "found.pt"
    command = [
        sys.executable,
        "-P",
        "-m",
        "harness.conformance.other_process",
        subject.name,
        subject.form,
        str(shown),
        str(found),
    ]
    ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise Unmet(f"a process of its own can't build the detector: {last}")
    here, there = seen_of(detector, torch.load(shown)), torch.load(found)
    for what in ("weights", "targets"):
        differing = [name for name, value in here[what].items() if not _equal(value, there[what].get(name))]
        if differing or len(here[what]) != len(there[what]):
            first = differing[0] if differing else next(name for name in there[what] if name not in here[what])
            raise Unmet(f"{what} of a detector built in another process differ, first {first!r}: {MENDING}")
    pairs = list(zip(here["outputs"], there["outputs"], strict=False))
    if len(here["outputs"]) != len(there["outputs"]) or not all(_close(*pair) for pair in pairs):
        raise Unmet(f"outputs of a detector built in another process differ, though its weights don't: {MENDING}")


def seen_of(detector: Detector, shown: dict[str, Any]) -> dict[str, Any]:
    """The weights of a detector, the targets of the labels and its outputs in training, as tensors."""
    weights = {name: value.clone() for name, value in detector.state_dict().items()}
    lanes = [Lane(points.numpy().copy()) for points in shown["lanes"]]
    targets = detector.encode_targets(lanes, detector.geometry_of(tuple(shown["size"])))
    torch.manual_seed(0)
    with torch.no_grad():
        leaves = pytree.tree_leaves(detector.train()(shown["images"]))
    return {
        "weights": weights,
        "targets": {name: torch.from_numpy(np.array(value)) for name, value in targets.items()},
        "outputs": [leaf.clone() for leaf in leaves if isinstance(leaf, Tensor)],
    }


def _equal(first: Tensor, second: Tensor | None) -> bool:
    return second is not None and first.shape == second.shape and bool(torch.isclose(first, second, 0, 0, True).all())


def _close(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape:
        return False
    reach = CLOSE * float(first.double().abs().max()) if first.numel() else 0.0
    return bool(torch.isclose(first.double(), second.double(), 0, reach, True).all())


def main(name: str, form: Any, shown: str, found: str) -> None:
    """What the other process does."""
    from harness.pytorch.torchvision_guard import ensure_torchvision
    from harness.training.determinism import deterministic

    ensure_torchvision()
    with deterministic(threads=1):
        detector = subject_of(name, form, Path(found).parent).build()
        torch.save(seen_of(detector, torch.load(shown)), found)


if __name__ == "__main__":
    main(*sys.argv[1:])
