"""The oracle of a cell as a network, and what its record says of one that isn't an artefact of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path

from detectors.base import Detector
from harness.artefacts import built_oracle, oracle_key
from harness.methods.control_oracles import OwnStart, Shuffled
from harness.methods.oracle import Oracle, load_oracle
from harness.records import Artefact
from harness.suite import Cell


def source_oracle(results: Path, cell: Cell, detector: Detector) -> Oracle:
    """The oracle that a cell's method needs, before it is shuffled. detector: fresh, with its start, nothing attached yet."""
    assert cell.oracle is not None
    if cell.oracle.configuration.kind == "init":
        return OwnStart(detector)
    return load_oracle(built_oracle(results, cell))


def as_seen(cell: Cell, oracle: Oracle) -> Oracle:
    """The oracle as training looks at it."""
    return Shuffled(oracle) if cell.shuffled else oracle


def oracle_artefact(results: Path, cell: Cell, detector: Detector) -> Artefact | None:
    """What a record states of an oracle that training finds or makes for itself; None where it is built before, or there is none."""
    if cell.oracle is None or cell.oracle_dataset is not None:
        return None
    configuration = cell.oracle.configuration
    facts = {"what": "the detector's own start", "seed": cell.identity.seed, "weights": cell.identity.weights}
    return Artefact(
        kind="oracle",
        name=configuration.name,
        key=oracle_key(results, cell),
        sha256=sha256_of_state(detector),
        facts=facts,
    )


def sha256_of_state(detector: Detector) -> str:
    """Hex sha256 of a detector's names and weights, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
