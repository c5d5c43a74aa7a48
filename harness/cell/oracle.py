"""The oracle of a cell as a network, and what its record says of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from detectors.backbone_sources import BACKBONES
from detectors.base import Detector
from harness.cell.artefacts import built_artefact, built_oracle, oracle_key
from harness.cell.oracle_files import facts_of_file, oracle_of_weights
from harness.methods.card import card_path
from harness.methods.config import OracleConfiguration
from harness.methods.control_oracles import OwnStart, Shuffled
from harness.methods.oracle import Oracle, drawn_backbone, load_card, load_oracle, oracle_taps
from harness.methods.timm_networks import drawn_timm_oracle
from harness.records.record import Artefact
from harness.suite import Cell
from harness.weights.cache import read_card, required
from harness.weights.oracles import oracle_state


def source_oracle(results: Path, cell: Cell, detector: Detector) -> Oracle:
    """The oracle that a cell's method needs, before it is shuffled. detector: fresh, with its start, nothing attached yet."""
    assert cell.oracle is not None
    configuration = cell.oracle.configuration
    if configuration.kind == "init":
        return OwnStart(detector)
    if configuration.has_weights:
        return weighted_oracle(configuration)
    return load_oracle(built_oracle(results, cell))


def weighted_oracle(configuration: OracleConfiguration) -> Oracle:
    """An oracle whose weights were trained before. InputError, with the ways out, where they aren't at hand or don't fit."""
    path = required(oracle_state(configuration), "oracle weights").path
    assert path is not None
    return oracle_of_weights(configuration, path)


def oracle_like(cell: Cell, detector: Detector) -> Oracle:
    """A network like a cell's oracle, with drawn weights: what it costs doesn't depend on them."""
    assert cell.oracle is not None
    configuration = cell.oracle.configuration
    if configuration.kind == "init":
        return OwnStart(detector)
    if configuration.kind == "timm" or configuration.backbone not in BACKBONES:
        return drawn_timm_oracle(configuration.backbone, seed=0)
    backbone = drawn_backbone(configuration.backbone, seed=0)
    return Oracle(backbone, oracle_taps(backbone), cell.meta.normalisation)


def as_seen(cell: Cell, oracle: Oracle) -> Oracle:
    """The oracle as training looks at it."""
    return Shuffled(oracle) if cell.shuffled else oracle


def oracle_artefact(results: Path, cell: Cell, detector: Detector) -> Artefact | None:
    """What a record states of the oracle that training finds, or makes for itself; None where there is none."""
    if cell.oracle is None:
        return None
    configuration = cell.oracle.configuration
    if cell.oracle_dataset is not None:
        return built_artefact(results, cell)
    if configuration.has_weights:
        return weights_artefact(results, cell)
    facts = {"what": "the detector's own start", "seed": cell.identity.seed, "weights": cell.identity.weights}
    return Artefact(
        kind="oracle",
        name=configuration.name,
        key=oracle_key(results, cell),
        sha256=sha256_of_state(detector),
        facts=facts,
    )


def weights_artefact(results: Path, cell: Cell) -> Artefact:
    """The same of one whose weights lie in a file or in the cache: licence, data, and the checks on its card."""
    assert cell.oracle is not None
    configuration = cell.oracle.configuration
    state = required(oracle_state(configuration), "oracle weights")
    assert state.path is not None
    assert state.sha256 is not None
    facts: dict[str, Any]
    published = None if configuration.file is not None else read_card(state.path)
    if published is not None:
        facts = published.model_dump(include={"source", "source_sha256", "licence", "data"})
        facts["checks"] = {"is the published file": published.published}
    elif configuration.kind == "mim" and card_path(state.path).is_file():
        facts = load_card(state.path).model_dump(mode="json")
    else:
        facts = facts_of_file(state.path)
    return Artefact(
        kind="oracle",
        name=configuration.name,
        key=oracle_key(results, cell),
        sha256=state.sha256,
        facts={"weights": state.name, **facts},
    )


def sha256_of_state(detector: Detector) -> str:
    """Hex sha256 of a detector's names and weights, in the order of the names."""
    digest = hashlib.sha256()
    for name, value in sorted(detector.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
