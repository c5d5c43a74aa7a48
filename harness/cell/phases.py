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
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from harness.cell.changes import changes
from harness.errors import InputError, mending
from harness.files.fingerprint import changed_files
from harness.files.stored import located, remove_torn, sha256_of_file, sync_folder, write_json
from harness.records.environment import machine_in_use

State = Literal["done", "partial", "stale", "missing"]


@dataclass(frozen=True)
class Phase:
    """One phase of one cell or artefact: its folder, its key, and the fingerprint of the code it would be made with now.

    options: what the key was hashed from, so that a phase with another key can say which options differ.
    """

    folder: Path
    key: str
    fingerprint: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)

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
    """Where a phase stands. `reason` says why what is there doesn't hold; `changed` are the source files behind that.

    seconds: what a finished one took. machine: where, see `machine_in_use`; None where it was made before that was written down.
    obsolete: there is one of other options or, if it was not finished, of other code; the next `bench` moves it aside and makes
    it anew, but for one of other code at a checkpoint, about which it asks.
    """

    state: State
    reason: str = ""
    changed: tuple[str, ...] = ()
    seconds: float | None = None
    machine: str | None = None
    obsolete: bool = False


MISSING = PhaseState("missing")

SHOWN_NAMES = 4
"""So many options or files a reason names; `PhaseState.changed` has all files."""


class ScoredPhases(Protocol):
    """What records know of a cell's phases."""

    @property
    def predict(self) -> Mapping[str, Phase]:
        """The predictions of each evaluation."""

    @property
    def score(self) -> Mapping[str, Phase]:
        """The counts of each evaluation."""


def phase_state(phase: Phase) -> PhaseState:
    """Where a phase stands. InputError if its phase.json can't be read, or what it was begun with is withheld."""
    return state_among(
        phase, {name for name in (phase.name, phase.partial.name) if (phase.folder.parent / name).is_dir()}
    )


def phase_states(phases: Sequence[Phase]) -> tuple[PhaseState, ...]:
    """Where some phases stand, as `phase_state`; each folder that holds several is looked at once."""
    there: dict[str, set[str]] = {}
    for phase in phases:
        parent = os.path.dirname(phase.folder)
        if parent not in there:
            there[parent] = folders_in(parent)
    return tuple(state_among(phase, there[os.path.dirname(phase.folder)]) for phase in phases)


def folders_in(folder: str) -> set[str]:
    """The names of the folders in a folder; none where it isn't there. InputError where this user may not look into it."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_dir()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except PermissionError as error:
        raise InputError(f"{folder}: its results can't be seen ({error.strerror}); {mending(error, '')}") from error


def state_among(phase: Phase, folders: Collection[str]) -> PhaseState:
    """Where a phase stands, given the names of the folders that lie beside its own, if it is there, with it."""
    if phase.name not in folders:
        return begun_state(phase) if f"{phase.name}.part" in folders else MISSING
    stored = read_phase_file(phase.folder)
    seconds, machine = stored.get("seconds"), stored.get("machine")
    if stored["key"] != phase.key:
        return PhaseState("missing", f"made with other options{told_options(stored, phase)}", obsolete=True)
    changed = changed_files(stored["fingerprint"], phase.fingerprint)
    if changed and not accepted(phase, stored):
        return PhaseState("stale", f"code changed since{told_names(changed)}", tuple(changed), seconds, machine)
    return PhaseState("done", seconds=seconds, machine=machine)


def begun_state(phase: Phase) -> PhaseState:
    """Where a phase stands that was begun and not finished: to be continued, if it is the same that would be begun now."""
    begun = read_begun(phase)
    if goes_on(begun, phase):
        return PhaseState("partial")
    if begun is None or begun.get("key") != phase.key:
        return PhaseState(
            "missing", f"begins anew: what was begun has other options{told_options(begun, phase)}", obsolete=True
        )
    changed = changed_files(begun.get("fingerprint", {}), phase.fingerprint)
    return PhaseState("missing", f"begins anew, code changed since{told_names(changed)}", tuple(changed), obsolete=True)


def read_begun(phase: Phase) -> dict[str, Any] | None:
    """What an unfinished phase was begun with; None where nothing readable says so. InputError where the system withholds what does."""
    path = phase.partial / "begun.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return None
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); {mending(error, '')}") from error
    return found if isinstance(found, dict) else None


def goes_on(begun: Mapping[str, Any] | None, phase: Phase) -> bool:
    """Whether what was begun is what would be begun now: the same options, and the same code."""
    return begun is not None and (begun.get("key"), begun.get("fingerprint")) == (phase.key, dict(phase.fingerprint))


def told_options(stored: Mapping[str, Any] | None, phase: Phase) -> str:
    """A colon and which options of a stored phase are others now; nothing where it doesn't say what they were."""
    options = (stored or {}).get("options")
    return told_names(changes(options, phase.options)) if options else ""


def told_names(differ: Sequence[str]) -> str:
    """A colon and which options or files differ, the first few by name; nothing where that isn't known."""
    more = f" and {len(differ) - SHOWN_NAMES} more" if len(differ) > SHOWN_NAMES else ""
    return f": {', '.join(differ[:SHOWN_NAMES])}{more}" if differ else ""


def read_phase_file(folder: Path) -> dict[str, Any]:
    """The phase.json of a finished phase."""
    path = folder / "phase.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value["key"], str) or not isinstance(value["fingerprint"], dict):
            raise TypeError("keys 'key' and 'fingerprint' are a text and a mapping")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        what_to_do = mending(error, f"move the folder {folder} away and run `bench` again")
        raise InputError(f"{path}: not a readable phase file ({error}); {what_to_do}") from error
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


def flags_of_kept(phases: Iterable[Phase]) -> list[str]:
    """What a record says of the phases that were accepted although the code changed."""
    return [f"{phase.name}: kept although the code changed since" for phase in phases if was_accepted(phase)]


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
    continued = claim_partial(phase)
    clear_torn(phase.partial)
    started = time.monotonic()
    with located(phase.partial):
        work(phase.partial)
    content = {
        "key": phase.key,
        "fingerprint": dict(phase.fingerprint),
        "seconds": round(time.monotonic() - started, 3),
        "machine": machine_in_use(),
        "continued": continued,
        "options": dict(phase.options),
    }
    write_json(phase.partial / "phase.json", content)
    # One flush of everything: a phase may hold tens of thousands of small files, far too many to fsync one by one.
    os.sync()
    phase.partial.rename(phase.folder)
    sync_folder(phase.folder.parent)
    return phase.folder


def claim_partial(phase: Phase) -> bool:
    """Make the `.part` folder; one that was begun with another key or other code is set aside, for it can't be continued.

    Whether there is one to go on from.
    """
    marker = phase.partial / "begun.json"
    if phase.partial.is_dir():
        if goes_on(read_begun(phase), phase):
            return True
        if marker.exists() or any(not name.startswith(".") for name in os.listdir(phase.partial)):
            set_aside(phase.partial)
        # else it was made, and nothing in it, when somebody was killed
    phase.partial.mkdir(parents=True, exist_ok=True)
    write_json(marker, {"key": phase.key, "fingerprint": dict(phase.fingerprint), "options": dict(phase.options)})
    return False


def begin_anew(folder: Path) -> Path:
    """Move what there is of an unfinished phase aside, and make its `.part` folder again, for the same; returns where it went."""
    aside = set_aside(folder)
    folder.mkdir()
    shutil.copyfile(aside / "begun.json", folder / "begun.json")
    return aside


def clear_torn(folder: Path) -> None:
    """Remove what writers left in a `.part` folder that were killed before they renamed it (`written_aside`, rendered datasets)."""
    remove_torn(folder)
    for path in folder.glob(".*.part"):
        if path.is_dir():
            shutil.rmtree(path)


def set_aside(folder: Path) -> Path:
    """Move a phase's folder (or a record) into `superseded/` beside it, under the first free number; returns where it went."""
    target = folder.parent / "superseded"
    target.mkdir(exist_ok=True)
    number = 1
    while (target / f"{folder.name}-{number}").exists():
        number += 1
    return folder.rename(target / f"{folder.name}-{number}")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object that a finished phase holds. InputError, which says what to do, where it isn't there any more or was changed."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path.parent, f"{path.name}: {error}", error) from error
    if not isinstance(value, dict):
        raise damaged(path.parent, f"{path.name} isn't a JSON object")
    return value


def hashed(path: Path) -> str:
    """The sha256 of a file that a finished phase holds; InputError likewise."""
    try:
        return sha256_of_file(path)
    except OSError as error:
        raise damaged(path.parent, f"{path.name}: {error.strerror}", error) from error


def damaged(folder: Path, why: str, error: Exception | None = None) -> InputError:
    """What is said of a phase that isn't as it was finished. error: what reading it met, which may be no fault of the phase."""
    anew = "move the folder away and run `bench` again"
    return InputError(f"{folder}: not as it was finished ({why}); {anew if error is None else mending(error, anew)}")
