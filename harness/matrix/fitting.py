"""Whether the methods of a suite fit its detectors and oracles: found on blank images, before anything long begins.

A tap that doesn't exist, channels that can't be compared or a resolution that isn't whole would else end a cell only after a dataset
was rendered and an oracle pre-trained for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from harness.errors import InputError
from harness.files.fingerprint import refuse_uncovered
from harness.files.stored import canonical_json
from harness.files.validation import KEY
from harness.methods.config import BaselineConfiguration
from harness.suite import Cell, Suite, asked_of
from harness.weights.oracles import oracle_state


def refuse_misfits(suite: Suite, cells: Iterable[Cell]) -> None:
    """InputError, in a line with the suite's file and the key, where the method of some cell can't be put around its detector.

    And one where methods stand on code whose changes nobody would see. One cell of each kind is looked at, whatever its seed and
    dataset. Weights that aren't at hand are left to whoever needs them.
    """
    refuse_uncovered(["harness.methods.attach"])
    seen: set[str] = set()
    rows: set[tuple[str, str, str]] = set()
    for cell in cells:
        # Cells that differ in the seed alone are of one kind, which takes longer to say.
        row = (cell.identity.detector, cell.identity.dataset, cell.identity.method)
        if row in rows or isinstance(cell.method, BaselineConfiguration):
            continue
        rows.add(row)
        kind = kind_of(cell)
        if kind in seen:
            continue
        seen.add(kind)
        try:
            check_micro_batches(cell)
            asked_of(cell.adapter, "fits", [kind, weights_of(cell)], partial(fits, cell), "harness.matrix.trial_fit")
        except InputError as error:
            told, whole = str(error), f"{KEY}methods.{cell.identity.method}"
            if not told.startswith(KEY):
                told = f"{whole}': {told}"
            elif not told.startswith((f"{KEY}training.", whole)):
                told = f"{whole}.{told.removeprefix(KEY)}"
            raise InputError(f"{suite.file}: {told} (detector {cell.identity.detector!r})") from error


def check_micro_batches(cell: Cell) -> None:
    """InputError where a shuffled oracle would meet an image alone."""
    share, size = cell.share, cell.micro_batch_size
    if cell.shuffled and 1 in (size, share % size):
        raise InputError(
            f"{KEY}oracle': a shuffled oracle needs two images at once, but of a batch of {share} in parts of {size} one is alone: "
            "give a batch_size, or training.micro_batch_size, that leaves none"
        )


def kind_of(cell: Cell) -> str:
    """What decides whether a method fits, as a text."""
    identity = cell.identity
    oracle = None if cell.oracle is None else cell.oracle.configuration.model_dump(mode="json", exclude={"seed"})
    known = [cell.adapter, cell.form, identity.detector_meta, identity.method, identity.method_configuration]
    return canonical_json([*known, oracle, cell.shuffled, cell.micro_batch_size, identity.compiled])


def weights_of(cell: Cell) -> str | None:
    """The content of the weights that the cell's oracle was trained to before; None where there are none, or they aren't at hand."""
    return None if cell.oracle_with_weights is None else oracle_state(cell.oracle_with_weights).sha256


def fits(cell: Cell) -> bool:
    """True. InputError where the cell's method doesn't fit."""
    from harness.matrix.trial_fit import check_fit

    check_fit(cell)
    return True
