"""What records say of the weights of their oracles: whether those are the same, and where they began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from harness.files.stored import canonical_json
from harness.records.record import Identity, Record


def own_oracle(identity: Identity) -> dict[str, Any] | None:
    """What an identity says of its oracle; of a shuffled one, what it says of the oracle that is shuffled. None where it has none.

    Where each seed has one of its own, it is that of the identity's seed, said as one that serves all is.
    """
    asked = identity.oracle
    inner = None if asked is None else asked.get("shuffled")
    said = inner if isinstance(inner, dict) else asked
    if said is None or not said.get("per_seed") or not isinstance(said.get("configuration"), dict):
        return said
    seed = {"seed": identity.seed} if identity.seed else {}
    return {key: value for key, value in said.items() if key != "per_seed"} | {
        "configuration": said["configuration"] | seed
    }


def has_one_a_seed(identity: Identity) -> bool:
    """Whether each seed has an oracle of its own."""
    asked = identity.oracle or {}
    inner = asked.get("shuffled")
    return bool((inner if isinstance(inner, dict) else asked).get("per_seed"))


def unlike_weights(records: Iterable[Record]) -> Iterator[tuple[str, dict[str, list[Record]]]]:
    """Each oracle of which records have unlike weights, as where each of two machines pre-trained its own: its name, and the records
    by the sha256 of their weights.

    Seeds then differ by their oracle too: the spread over them is that of both.
    """
    found: dict[tuple[str, str], dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        asked = own_oracle(record.identity) or {}
        for artefact in record.artefacts:
            if artefact.kind == "oracle":
                # The start of a detector is another one with each seed, as its key says.
                own = artefact.key if asked.get("configuration") == {"name": "init"} else canonical_json(asked)
                found[artefact.name, own][artefact.sha256].append(record)
    for (name, _), weights in found.items():
        if len(weights) > 1:
            yield name, dict(weights)


def began_as_its_oracle(record: Record) -> bool:
    """Whether a record's oracle began with the very weights that its detector began with, as one that was drawn with the training's own
    seed did before oracles were drawn apart. A network that is the detector's start on purpose (`init`) isn't meant.

    Such a pair has features in common from the start, so that its seed isn't one like the others.
    """
    identity = record.identity
    return identity.weights == "none" and any(
        artefact.kind == "oracle"
        and artefact.facts.get("backbone") == identity.detector_meta.get("backbone")
        and artefact.facts.get("seed") == identity.seed
        and not artefact.facts.get("drawn_apart")
        for artefact in record.artefacts
    )
