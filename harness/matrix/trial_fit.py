"""One method tried on its detector and oracle, on blank images: what `harness.matrix.fitting` asks of each kind of cell."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

from detectors.base import Detector
from harness.cell.oracle import as_seen, oracle_like, weighted_oracle
from harness.errors import InputError
from harness.files.fingerprint import PACKAGES, ROOT
from harness.files.validation import KEY
from harness.matrix.pricing import built
from harness.methods.attach import attach
from harness.methods.config import RegularizedConfiguration
from harness.methods.oracle import drawn_backbone
from harness.methods.pairing import TapPair
from harness.methods.statistics import PairStatistics, TargetStatistics
from harness.methods.taps import select_taps, tap_grids
from harness.methods.weighting import refuse_compiled_measurement
from harness.pytorch.weightless import weightless_if_possible
from harness.suite import Cell
from harness.training.pretraining import masked_model
from harness.weights.oracles import oracle_state

FORWARDS = 1000
"""Training forwards that a tried method is told of."""


def check_fit(cell: Cell) -> None:
    """InputError, which begins with the key, where the method of a cell can't be put around its detector."""
    check_compilation(cell)
    check_weights(cell)
    check_networks(cell)


def check_compilation(cell: Cell) -> None:
    """InputError where a cell is to be compiled whose method can't be."""
    if isinstance(cell.method, RegularizedConfiguration):
        refuse_compiled_measurement(cell.identity.compiled, cell.method.lambda_mode)


def check_weights(cell: Cell) -> None:
    """InputError where the weights of an oracle that was trained before are at hand and aren't those of its network."""
    asked = cell.oracle_with_weights
    if asked is not None and oracle_state(asked).state != "missing":
        weighted_oracle(asked)


def check_networks(cell: Cell) -> None:
    """InputError where detector, method and oracle don't go together, or the method's own code raises when it is put around them."""
    try:
        weightless_if_possible(lambda: put_together(cell, built(cell)))
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        place = last_of_ours(error)
        mending = (
            "mend it"
            if place.startswith("harness/methods/")
            else f"`samiro-bench detectors check {cell.adapter}` says what else is wrong"
        )
        raise InputError(
            f"{KEY}methods.{cell.identity.method}': can't be put around it ({type(error).__name__}: {reason}; {place}); {mending}"
        ) from error


def last_of_ours(error: Exception) -> str:
    """`file:line` of the last call in this repository that an error went through, or of where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    # Not all below ROOT: a virtual environment lies there as well.
    rooms = [ROOT / name for name in (*PACKAGES, "tests")]
    ours = [frame for frame in frames if not set(rooms).isdisjoint(Path(frame.filename).parents)]
    last = [*frames, *ours][-1]
    path = Path(last.filename)
    return f"{path.relative_to(ROOT).as_posix() if ROOT in path.parents else path}:{last.lineno}"


def put_together(cell: Cell, detector: Detector) -> None:
    """What a training does before its first step, with an oracle like the cell's: `attach`, whose code is the method's own."""
    method = cell.method
    oracle, statistics = None, None
    if isinstance(method, RegularizedConfiguration):
        statistics = BlankStatistics((), 0) if method.normalize != "none" else None
        if cell.oracle is None:
            # Attention alone never asks where its taps lie.
            tap_grids(detector, select_taps(detector, method.taps).used)
    if cell.oracle is not None:
        configuration = cell.oracle.configuration
        if configuration.kind == "mim" and configuration.made_of_images:
            masked_model(configuration, drawn_backbone(configuration.backbone, seed=0))
        oracle = as_seen(cell, oracle_like(cell, detector))
    attach(
        detector,
        method,
        oracle=oracle,
        statistics=statistics,
        generator=torch.Generator().manual_seed(0),
        total_steps=FORWARDS,
    )


class BlankStatistics(TargetStatistics):
    """Statistics of targets that nobody has seen: mean 0 and variance 1 in every channel, of any pairs."""

    def matching(self, pairs: Sequence[TapPair]) -> tuple[PairStatistics, ...]:
        """An entry for each of these pairs."""
        # On the CPU also where networks have no memory: which channels are kept is asked of the numbers.
        return tuple(
            PairStatistics(
                pair.tap.path,
                pair.oracle_tap.path,
                torch.zeros(pair.oracle_tap.channels, device="cpu"),
                torch.ones(pair.oracle_tap.channels, device="cpu"),
            )
            for pair in pairs
        )
