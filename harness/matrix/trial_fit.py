"""One method tried on its detector and oracle, on blank images: what `harness.matrix.fitting` asks of each kind of cell."""

from __future__ import annotations

import torch

from detectors.base import Detector
from harness.cell.oracle import as_seen, oracle_like, weighted_oracle
from harness.errors import InputError
from harness.matrix.pricing import built
from harness.methods.attach import attach
from harness.methods.config import RegularizedConfiguration
from harness.methods.oracle import Oracle, drawn_backbone
from harness.methods.pairing import tap_pairs
from harness.methods.regularizer import Regularizer
from harness.methods.taps import select_taps, tap_grids
from harness.methods.weighting import refuse_compiled_measurement
from harness.pytorch.weightless import weightless_if_possible
from harness.suite import Cell
from harness.training.pretraining import masked_model
from harness.weights.oracles import oracle_state


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
    """InputError where detector, method and oracle don't go together."""
    try:
        weightless_if_possible(lambda: put_together(cell, built(cell)))
    except InputError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"method {cell.identity.method!r} can't be put around it ({type(error).__name__}: {reason}); "
            f"`samiro-bench detectors check {cell.adapter}` says what else is wrong"
        ) from error


def put_together(cell: Cell, detector: Detector) -> None:
    """What `attach` does, where there is an oracle without its statistics, and what pre-training that would."""
    method = cell.method
    if not isinstance(method, RegularizedConfiguration):
        attach(detector, method, oracle=None, statistics=None, generator=torch.Generator())
        return
    if cell.oracle is None:
        tap_grids(detector, select_taps(detector, method.taps).used)
        return
    configuration = cell.oracle.configuration
    if configuration.kind == "mim" and configuration.made_of_images:
        masked_model(configuration, drawn_backbone(configuration.backbone, seed=0))
    oracle: Oracle = as_seen(cell, oracle_like(cell, detector))
    Regularizer(tap_pairs(detector, oracle, method), None, method)
