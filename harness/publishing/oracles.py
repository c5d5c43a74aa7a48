"""Whether the oracle that a record names is the one that it was trained with, and rows that name one oracle had the same weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.files.stored import sha256_of_json
from harness.publishing.expected import clipped, differing
from harness.records.oracles import own_oracle, unlike_weights
from harness.records.record import Artefact, Record
from harness.report.text import counted


def oracle_disagreements(record: Record) -> Iterator[str]:
    """A line for each key in which the oracle among a record's artefacts isn't that of its identity.

    The identity says how it was made, the artefact what was found when it was used: else a longer pre-training, or one on more images,
    would stand under the suite's.
    """
    found = [artefact for artefact in record.artefacts if artefact.kind == "oracle"]
    asked = own_oracle(record.identity)
    if asked is None:
        if found:
            yield "key 'artefacts' has an oracle, but key 'identity.oracle' is null"
        return
    configuration = asked.get("configuration")
    if not isinstance(configuration, dict):
        yield f"key 'identity.oracle' is {clipped(record.identity.oracle)}, which tells of none"
        return
    if len(found) != 1:
        yield f"key 'artefacts' has {counted(len(found), 'oracle')}, but key 'identity.oracle' is one"
        return
    said, gives = stated(found[0]), expected(record, found[0], asked, configuration)
    for name, value in gives.items():
        for key, one, other in differing(said.get(name), value, f"artefacts.oracle.{name}"):
            yield f"key '{key}' is {clipped(one)}, key 'identity' gives {clipped(other)}"


def stated(artefact: Artefact) -> dict[str, Any]:
    """What an artefact says that an identity says as well."""
    facts = {f"facts.{name}": value for name, value in artefact.facts.items()}
    configuration = facts.get("facts.configuration")
    if isinstance(configuration, dict):
        # Where a file lies makes no oracle another one.
        facts["facts.configuration"] = {name: value for name, value in configuration.items() if name != "file"}
    return {"name": artefact.name, "key": artefact.key, **facts}


def expected(
    record: Record, artefact: Artefact, asked: Mapping[str, Any], configuration: Mapping[str, Any]
) -> dict[str, Any]:
    """What the identity gives of the same (`harness.cell.oracle.oracle_artefact`)."""
    identity, name = record.identity, configuration.get("name")
    if "dataset" in asked:
        steps = configuration.get("steps") if str(name).startswith("mim:") else 0
        key = sha256_of_json(asked)
        own = {
            "facts.configuration": dict(configuration),
            "facts.steps": steps,
            "facts.seed": configuration.get("seed", 0),
        }
        return {"name": name, "key": key, **own}
    if "weights" in asked:
        key = sha256_of_json({"name": name, "weights": artefact.sha256})
        return {"name": name, "key": key, "facts.weights": asked["weights"]}
    backbone = next((one.sha256 for one in record.artefacts if one.kind == "backbone weights"), None)
    start = {
        "detector": identity.detector_meta,
        "form": identity.form,
        "weights": backbone,
        "seed": identity.seed,
    }
    key = sha256_of_json({"init": start})
    return {"name": name, "key": key, "facts.seed": identity.seed, "facts.weights": identity.weights}


def several_weights(records: Sequence[Record]) -> Iterator[str]:
    """A line for each oracle of which rows have unlike weights."""
    for name, weights in unlike_weights(records):
        told = (
            f"{counted(len(rows), 'row')} with {sha256[:12]}, the first is {rows[0].id}"
            for sha256, rows in weights.items()
        )
        yield f"oracle {name} has several weights: {'; '.join(told)}"
