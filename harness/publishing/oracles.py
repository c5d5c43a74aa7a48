"""Whether rows that name one oracle were trained with the same weights of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from harness.records.record import Record
from harness.report.text import counted


def several_weights(records: Sequence[Record]) -> Iterator[str]:
    """A line for each oracle of which rows have unlike weights, as where each of two machines pre-trained its own.

    Seeds then differ by their oracle too: the spread over them is that of both.
    """
    rows: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        for artefact in record.artefacts:
            if artefact.kind == "oracle":
                rows[artefact.name, artefact.key][artefact.sha256].append(record.id)
    for (name, _), weights in rows.items():
        if len(weights) > 1:
            told = (
                f"{counted(len(ids), 'row')} with {sha256[:12]}, the first is {ids[0]}"
                for sha256, ids in weights.items()
            )
            yield f"oracle {name} has several weights: {'; '.join(told)}"
