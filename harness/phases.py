"""Phases: pieces of work whose results appear whole or not at all, and that know whether they still hold.

A phase is a folder. While it runs it is called `<name>.part` (what a resumed phase finds again); when it is done it holds
`phase.json` with its key and the fingerprint of the code that made it, and is renamed to `<name>`. Results that no longer hold
are moved to `superseded/`, never deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.errors import InputError
from harness.files import sync_folder, write_json
from harness.fingerprint import changed_files

State = Literal["done", "partial", "stale", "missing"]


@dataclass(frozen=True)
class Phase:
    """One phase of one cell or artefact: its folder, its key, and the fingerprint of the code it would be made with now."""

    folder: Path
    key: str
    fingerprint: Mapping[str, str]

    @property
    def name(self) -> str:
        """The phase's name, which is its folder's."""
        return self.folder.name

    @property
    def partial(self) -> Path:
        """The folder of the phase while it isn't finished."""
        return self.folder.with_name(f"{self.folder.name}.part")


@dataclass(frozen=True)
class PhaseState:
    """Where a phase stands. `reason` says why it is stale; `changed` are the source files behind that."""

    state: State
    reason: str = ""
    changed: tuple[str, ...] = ()


class ScoredPhases(Protocol):
    """What records know of a cell's phases."""

    @property
    def predict(self) -> Mapping[str, Phase]:
        """The predictions of each evaluation."""

    @property
    def score(self) -> Mapping[str, Phase]:
        """The counts of each evaluation."""


def phase_state(phase: Phase) -> PhaseState:
    """Where a phase stands. InputError if its phase.json can't be read."""
    if not phase.folder.is_dir():
        return PhaseState("partial" if phase.partial.is_dir() else "missing")
    stored = read_phase_file(phase.folder)
    if stored["key"] != phase.key:
        return PhaseState("missing", "asked for with other options")
    changed = changed_files(stored["fingerprint"], phase.fingerprint)
    if changed and not accepted(phase, stored):
        return PhaseState("stale", f"code changed since: {', '.join(changed)}", tuple(changed))
    return PhaseState("done")


def read_phase_file(folder: Path) -> dict[str, Any]:
    """The phase.json of a finished phase."""
    path = folder / "phase.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value["key"], str) or not isinstance(value["fingerprint"], dict):
            raise TypeError("keys 'key' and 'fingerprint' are a text and a mapping")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(
            f"{path}: not a readable phase file ({error}); move the folder {folder} away and run `bench` again"
        ) from error
    result: dict[str, Any] = value
    return result


def accepted(phase: Phase, stored: Mapping[str, Any]) -> bool:
    """Whether the user accepted this result although the code changed to exactly what it is now."""
    return stored.get("accepted") == dict(phase.fingerprint)


def accept(phase: Phase) -> None:
    """Keep a stale result: from now on it counts as done, and its record carries a flag."""
    stored = read_phase_file(phase.folder)
    write_json(phase.folder / "phase.json", {**stored, "accepted": dict(phase.fingerprint)})


def was_accepted(phase: Phase) -> bool:
    """Whether a finished phase counts as done only because it was accepted: the code differs from what made it."""
    stored = read_phase_file(phase.folder)
    return bool(changed_files(stored["fingerprint"], phase.fingerprint)) and accepted(phase, stored)


def run_phase(phase: Phase, work: Callable[[Path], None]) -> Path:
    """Run `work(folder)` unless the phase is done; returns the finished folder.

    `work` writes into the `.part` folder, where it finds what an interrupted run with the same key left. A stale phase is refused: the
    caller accepts it or sets it aside first. One process at a time may run a phase, which the caller sees to.
    """
    state = phase_state(phase)
    if state.state == "done":
        return phase.folder
    if state.state == "stale":
        raise InputError(f"{phase.folder}: {state.reason}; run `bench` with --accept-stale or --redo-stale")
    if phase.folder.is_dir():
        set_aside(phase.folder)
    claim_partial(phase)
    clear_torn(phase.partial)
    started = time.monotonic()
    with located(phase.partial):
        work(phase.partial)
    content = {
        "key": phase.key,
        "fingerprint": dict(phase.fingerprint),
        "seconds": round(time.monotonic() - started, 3),
    }
    write_json(phase.partial / "phase.json", content)
    # One flush of everything: a phase may hold tens of thousands of small files, far too many to fsync one by one.
    os.sync()
    phase.partial.rename(phase.folder)
    sync_folder(phase.folder.parent)
    return phase.folder


def claim_partial(phase: Phase) -> None:
    """Make the `.part` folder; one that was begun with another key or other code is set aside, for it can't be continued."""
    begun = {"key": phase.key, "fingerprint": dict(phase.fingerprint)}
    marker = phase.partial / "begun.json"
    if phase.partial.is_dir():
        try:
            same = json.loads(marker.read_text(encoding="utf-8")) == begun
        except (OSError, ValueError):
            same = False
        if same:
            return
        if marker.exists() or any(not name.startswith(".") for name in os.listdir(phase.partial)):
            set_aside(phase.partial)
        # else it was made, and nothing in it, when somebody was killed
    phase.partial.mkdir(parents=True, exist_ok=True)
    write_json(marker, begun)


def clear_torn(folder: Path) -> None:
    """Remove what writers left in a `.part` folder that were killed before they renamed it (`written_aside`, rendered datasets)."""
    for path in folder.glob(".*.part"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def located(folder: Path) -> Iterator[None]:
    """Give errors of the system that name no file, as those of writing do, the folder in which they happened."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(folder)) from error


def set_aside(folder: Path) -> Path:
    """Move a phase's folder (or a record) into `superseded/` beside it, under the first free number; returns where it went."""
    target = folder.parent / "superseded"
    target.mkdir(exist_ok=True)
    number = 1
    while (target / f"{folder.name}-{number}").exists():
        number += 1
    return folder.rename(target / f"{folder.name}-{number}")
