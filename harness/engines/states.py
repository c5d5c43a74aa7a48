"""What a scheduler said last of a suite's jobs, kept where `status` finds it, and where the next `bench` finds jobs still queued."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from harness.files.stored import write_json
from harness.files.validation import read_stored_list


class JobState(BaseModel):
    """One job. `key` tells whether it is the job that one would start now; `state` is in the scheduler's own words."""

    engine: str
    id: str
    key: str
    state: str
    time: str

    @property
    def summary(self) -> str:
        """What a table shows."""
        return f"{self.engine} {self.id}: {self.state} ({self.time})"


STATES = TypeAdapter(dict[str, JobState])


def states_file(folder: Path) -> Path:
    """Where they are kept in a suite's folder of results."""
    return folder / "jobs.json"


def read_states(path: Path) -> dict[str, JobState]:
    """Job -> what was said of it last; empty where there is no file. InputError if it can't be read."""
    mending = "see that none of the suite's jobs is queued any more, then delete it"
    return read_stored_list(path, STATES, "jobs", mending) or {}


def write_states(path: Path, states: Mapping[str, JobState]) -> None:
    """Keep them."""
    write_json(path, {name: state.model_dump() for name, state in states.items()})
