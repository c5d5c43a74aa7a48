"""Whether the methods of a suite fit its detectors and oracles: found on blank images, before anything long begins.

A tap that doesn't exist, channels that can't be compared or a resolution that isn't whole would else end a cell only after a dataset
was rendered and an oracle pre-trained for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from detectors.base import Detector
from harness.cell_oracle import as_seen, oracle_like, weighted_oracle
from harness.errors import InputError
from harness.files import canonical_json
from harness.methods.config import BaselineConfiguration, RegularizedConfiguration
from harness.methods.oracle import Oracle, drawn_backbone
from harness.methods.pairing import tap_pairs
from harness.methods.regularizer import Regularizer
from harness.methods.taps import select_taps, tap_grids
from harness.methods.weighting import refuse_compiled_measurement
from harness.pricing import built
from harness.suite import Cell, Suite
from harness.training.pretraining import masked_model
from harness.validation import KEY
from harness.weights.oracles import oracle_state

DEVICES = ("meta", "cpu")
"""Where networks are tried, in turn: first without memory or arithmetic. What fails there counts only if it fails for real as well."""


def refuse_misfits(suite: Suite, cells: Iterable[Cell]) -> None:
    """InputError, in a line with the suite's file and the key, where the method of some cell can't be put around its detector.

    One cell of each kind is looked at, whatever its seed and dataset. Weights that aren't at hand are left to whoever needs them.
    """
    seen: set[str] = set()
    for cell in cells:
        kind = kind_of(cell)
        if kind in seen or isinstance(cell.method, BaselineConfiguration):
            continue
        seen.add(kind)
        try:
            check_compilation(cell)
            check_micro_batches(cell)
            check_weights(cell)
            check_networks(cell)
        except InputError as error:
            told = str(error)
            if told.startswith(KEY) and not told.startswith(f"{KEY}training."):
                told = f"{KEY}methods.{cell.identity.method}.{told.removeprefix(KEY)}"
            raise InputError(f"{suite.file}: {told} (detector {cell.meta.name!r})") from error


def kind_of(cell: Cell) -> str:
    """What decides whether a method fits, as a text."""
    identity = cell.identity
    oracle = None if cell.oracle is None else cell.oracle.configuration.model_dump(mode="json")
    micro_batch = identity.micro_batch_size or identity.recipe["batch_size"] // identity.processes
    known = [cell.adapter, cell.form, identity.detector_meta, identity.method, identity.method_configuration]
    return canonical_json([*known, oracle, cell.shuffled, micro_batch, identity.compiled])


def check_compilation(cell: Cell) -> None:
    """InputError where a cell is to be compiled whose method can't be."""
    assert isinstance(cell.method, RegularizedConfiguration)
    refuse_compiled_measurement(cell.identity.compiled, cell.method.lambda_mode)


def check_micro_batches(cell: Cell) -> None:
    """InputError where a shuffled oracle would meet an image alone."""
    share = int(cell.identity.recipe["batch_size"]) // cell.identity.processes
    size = cell.identity.micro_batch_size or share
    if cell.shuffled and 1 in (size, share % size):
        raise InputError(
            f"{KEY}oracle': a shuffled oracle needs two images at once, but of a batch of {share} in parts of {size} one is alone: "
            "give a batch_size, or training.micro_batch_size, that leaves none"
        )


def check_weights(cell: Cell) -> None:
    """InputError where the weights of an oracle that was trained before are at hand and aren't those of its network."""
    asked = None if cell.oracle is None else cell.oracle.configuration
    if asked is not None and asked.has_weights and oracle_state(asked).state != "missing":
        weighted_oracle(asked)


def check_networks(cell: Cell) -> None:
    """InputError where detector, method and oracle don't go together."""
    for device in DEVICES:
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                put_together(cell, built(cell))
        except Exception as error:
            if device != DEVICES[-1]:
                continue
            if isinstance(error, InputError):
                raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"method {cell.identity.method!r} can't be put around it ({type(error).__name__}: {reason}); "
                f"`samiro-bench detectors check {cell.adapter}` says what else is wrong"
            ) from error
        return


def put_together(cell: Cell, detector: Detector) -> None:
    """What `attach` does, without statistics, and what pre-training its oracle would."""
    method = cell.method
    assert isinstance(method, RegularizedConfiguration)
    if cell.oracle is None:
        tap_grids(detector, select_taps(detector, method.taps).used)
        return
    configuration = cell.oracle.configuration
    if configuration.kind == "mim" and configuration.made_of_images:
        masked_model(configuration, drawn_backbone(configuration.backbone, seed=0))
    oracle: Oracle = as_seen(cell, oracle_like(cell, detector))
    Regularizer(tap_pairs(detector, oracle, method), None, method)
