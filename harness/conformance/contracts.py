"""What most checks start from: that a detector is built, labels make a batch, and losses and lanes have the types that are promised.

Where one of these is broken, one check says so in words, and the others would only repeat whatever Python makes of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.conformance.subject import Subject, Unmet
from harness.inference.predict import decoded


@dataclass(frozen=True)
class Contract:
    """What other checks need. check: the one that tells of it, where `keep` raises."""

    check: str
    keep: Callable[[Subject], object]


def gives_losses(subject: Subject) -> None:
    """Losses are scalars by name."""
    detector = subject.build().train()
    batch = subject.batch(detector, count=2)
    check_terms(detector.losses(detector(batch.images), batch))


def gives_lanes(subject: Subject) -> None:
    """What a fresh network says is decoded to a list of lanes for each image."""
    detector = subject.build().eval()
    batch = subject.batch(detector, count=2)
    with torch.no_grad():
        decoded(detector, detector(batch.images), batch.geometries)


def check_terms(terms: Any) -> None:
    """Raise Unmet unless loss terms are scalar tensors by name."""
    if not isinstance(terms, dict) or not terms:
        raise Unmet(
            f"losses gives {'no term' if isinstance(terms, dict) else f'a {type(terms).__name__}'}; give terms by name"
        )
    for name, term in terms.items():
        if not isinstance(term, Tensor):
            raise Unmet(f"loss term {name!r} is a {type(term).__name__}, not a tensor")
        if term.ndim:
            raise Unmet(f"loss term {name!r} is of shape {tuple(term.shape)}, not a finite scalar")


BUILT = Contract("metadata", lambda subject: subject.build())
BATCHES = Contract("targets", lambda subject: subject.batch(subject.build()))
LOSSES = Contract("forward and backward", gives_losses)
LANES = Contract("round trip", gives_lanes)


def broken_contract(subject: Subject, needs: tuple[Contract, ...]) -> Contract | None:
    """The first of the contracts that the adapter doesn't keep."""
    for contract in needs:
        try:
            contract.keep(subject)
        except Exception:  # noqa: BLE001 - the adapter's code may raise anything, and the contract's own check says what
            return contract
    return None
