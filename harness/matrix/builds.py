"""What has to be built before cells of a plan can run, and isn't there: rendered datasets and oracles that are pre-trained here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.cell.artefacts import oracle_name, own_oracle_phase, rendering_phase
from harness.cell.keys import scored_datasets
from harness.cell.phases import Phase, phase_state
from harness.matrix.plan import CellState
from harness.rendered.spec import RenderSpec
from harness.suite import Cell, DatasetPart, OraclePart


@dataclass(frozen=True)
class Rendering:
    """A dataset to render. name: that which the suite gives it."""

    name: str
    spec: RenderSpec
    phase: Phase

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"render {self.name}"


@dataclass(frozen=True)
class Pretraining:
    """An oracle to make of a dataset's training images. title: its kind and backbone, under which it is stored."""

    title: str
    oracle: OraclePart
    dataset: DatasetPart
    phase: Phase

    @property
    def job(self) -> str:
        """The name of its job."""
        return f"oracle {self.phase.name}"


Build = Rendering | Pretraining


def builds_before(results: Path, state: CellState) -> tuple[tuple[Rendering, ...], Pretraining | None]:
    """What a cell waits for: the datasets that it reads or its oracle is made of, and the oracle. The images of an oracle that is made,
    or of a cell that is trained, aren't needed any more.
    """
    cell, untrained = state.cell, state.states[0][1].state != "done"
    pretraining = pretraining_of(results, cell) if isinstance(cell, Cell) and untrained else None
    read = scored_datasets(cell)
    renderings = [
        Rendering(name, part.rendered, rendering_phase(results, part.rendered))
        for name, part in cell.datasets.items()
        if part.rendered is not None and (name in read or pretraining is not None)
    ]
    return tuple(rendering for rendering in renderings if not built(rendering.phase)), pretraining


def pretraining_of(results: Path, cell: Cell) -> Pretraining | None:
    """The oracle that a cell trains with, where it is made here and isn't there yet."""
    phase = own_oracle_phase(results, cell)
    if phase is None or built(phase):
        return None
    assert cell.oracle is not None
    assert cell.oracle_dataset is not None
    return Pretraining(oracle_name(cell), cell.oracle, cell.oracle_dataset, phase)


def built(phase: Phase) -> bool:
    """Whether an artefact is there and holds."""
    return phase_state(phase).state == "done"


def builds_of(results: Path, pending: Iterable[CellState]) -> tuple[Build, ...]:
    """What some cells wait for, each once: in the order of the cells, a dataset before the oracle that is made of it."""
    found: dict[Path, Build] = {}
    for state in pending:
        renderings, pretraining = builds_before(results, state)
        needed: list[Build] = [*renderings, *([] if pretraining is None else [pretraining])]
        for build in needed:
            found.setdefault(build.phase.folder, build)
    return tuple(found.values())
