"""That a publication holds all that the one in its place holds: a choice of cells must not take the place of more of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from harness.errors import InputError
from harness.matrix.recorded import SuiteCells
from harness.records.record import Identity, Record
from harness.report.text import counted


def check_kept(whole: SuiteCells, chosen: Sequence[Record], target: Path) -> None:
    """InputError if `target` has rows or seeds of a suite that aren't chosen, whatever code and options they are of.

    Rows that the suite hasn't any more may go; a record that can't be read may be of any.
    """
    rows = {row_of(cell.identity) for cell in whole.cells}
    kept = {(*row_of(record.identity), record.identity.seed) for record in chosen}
    lost = [
        path.stem
        for path in sorted((target / "records").glob("*.json"))
        if (point := published_point(path)) is None or (point[:3] in rows and point not in kept)
    ]
    if lost:
        raise InputError(
            f"{target}: would lose {lost[0]} ({counted(len(lost), 'published cell')} that this choice leaves out): choose "
            "what is published as well, or move the folder away"
        )


def row_of(identity: Identity) -> tuple[str, str, str]:
    """(dataset, detector, method), the cells of which differ in their seeds."""
    return identity.dataset, identity.detector, identity.method


def published_point(path: Path) -> tuple[str, str, str, int] | None:
    """Row and seed of a record of any version; None if the file doesn't say."""
    try:
        identity = json.loads(path.read_text(encoding="utf-8"))["identity"]
        return identity["dataset"], identity["detector"], identity["method"], identity["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
