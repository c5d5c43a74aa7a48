"""Micro-batches that were halved because a training ran out of memory, and by that alike in every cell that is compared with it.

A micro-batch is part of a cell's identity. When a cell runs out of memory, the cells of its dataset, detector and seed, whatever
their method, are from then on other cells, with a smaller micro-batch and the gradients of the same batch accumulated: what was
trained with larger ones stays where it is, and is trained again. Which cells these are is kept in `micro_batches.json` of the suite's
folder of results; without that file all are as the suite has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from harness.engines.base import Outcome
from harness.errors import InputError
from harness.files.stored import sha256_of_json, write_json
from harness.files.validation import read_stored_list
from harness.matrix.fitting import check_micro_batches
from harness.records.record import Identity
from harness.suite import Cell, Choice, Suite, cells_of, with_micro_batch


class Reduction(BaseModel):
    """How many samples go through the model at once in the cells of a pair, and why: the cell that ran out of memory, in its words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    micro_batch_size: int = Field(ge=1)
    cell: str
    reason: str

    def __str__(self) -> str:
        """A clause of a table."""
        return f"in micro-batches of {self.micro_batch_size} since {self.cell} ran {self.reason}"


REDUCTIONS = TypeAdapter(dict[str, Reduction])


def reductions_file(results: Path, suite: str) -> Path:
    """Where a suite keeps them."""
    return results / suite / "micro_batches.json"


def read_reductions(results: Path, suite: str) -> dict[str, Reduction]:
    """The reductions of a suite by `pair_key`; none where there is no file. InputError if it can't be read."""
    path = reductions_file(results, suite)
    return read_stored_list(path, REDUCTIONS, "micro-batches", "delete it, and `bench` finds out again what fits") or {}


def pair_key(identity: Identity) -> str:
    """Equal for the cells of one dataset, detector, recipe and seed, whatever their method and micro-batch."""
    method = {"method", "method_configuration", "oracle"}
    return sha256_of_json(identity.model_dump(mode="json", exclude=method | {"micro_batch_size"}))


def current_cells(cells: Iterable[Cell], reductions: Mapping[str, Reduction]) -> tuple[Cell, ...]:
    """A suite's cells with the micro-batches that they are trained in now."""
    if not reductions:
        return tuple(cells)
    found = []
    for cell in cells:
        reduction = reductions.get(pair_key(cell.identity))
        smaller = reduction is not None and reduction.micro_batch_size < cell.micro_batch_size
        found.append(with_micro_batch(cell, reduction.micro_batch_size) if reduction and smaller else cell)
    return tuple(found)


def reductions_of(cells: Iterable[Cell], reductions: Mapping[str, Reduction]) -> dict[str, Reduction]:
    """The reductions that some cells are what they are by, by the cells' ids."""
    found = ((cell, reductions.get(pair_key(cell.identity))) for cell in cells if cell.identity.micro_batch_size)
    return {cell.id: one for cell, one in found if one and one.micro_batch_size == cell.identity.micro_batch_size}


def halve(
    suite: Suite, results: Path, cells: Sequence[Cell], outcomes: Iterable[Outcome], seeds: int | None = None
) -> dict[str, str]:
    """Halve the micro-batches of the pairs of which a cell ran out of memory, and keep that; cell -> what becomes of its pair.

    seeds: of the matrix that the pairs are in, as for `cells_of`.
    Left out are cells whose micro-batch is one sample already, or whose pair has a cell that can't be trained with a smaller one.
    """
    reductions, by_id = read_reductions(results, suite.name), {cell.id: cell for cell in cells}
    told = {}
    for outcome in outcomes:
        cell = by_id.get(outcome.job)
        if outcome.kind != "memory" or cell is None or cell.micro_batch_size == 1:
            continue
        key, size = pair_key(cell.identity), cell.micro_batch_size // 2
        pair = [other for other in cells_of(suite, Choice(seeds)) if pair_key(other.identity) == key]
        try:
            for other in pair:
                check_micro_batches(with_micro_batch(other, size))
        except InputError:
            continue
        if key not in reductions or size < reductions[key].micro_batch_size:
            reductions[key] = Reduction(micro_batch_size=size, cell=cell.id, reason=outcome.message)
        others = [other.identity.method for other in pair if other.identity.method != cell.identity.method]
        alike = f", and so does its pair ({', '.join(others)}), also what of it was finished" if others else ""
        told[cell.id] = f"{cell.id}: {outcome.message}; it trains again in micro-batches of {size}{alike}"
    if told:
        kept = {key: reduction.model_dump() for key, reduction in reductions.items()}
        write_json(reductions_file(results, suite.name), kept)
    return told
