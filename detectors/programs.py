"""Detectors that can't be imported: programs of somebody else's, each run in an environment of its own, described in a YAML file.

A program is shown a list of images and writes lanes in the official format (docs/programs.md). It evaluates only: its rows are
baselines, and no method can be attached to it.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from detectors.meta import Data, Family, Form
from harness.errors import InputError
from harness.files.stored import expanded, sha256_of_file
from harness.files.validation import validated
from harness.files.yaml import read_yaml

ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
"""What lies at the root of an environment: the file of PEP 405, and conda's folder of installed packages."""

PLACEHOLDERS = ("images", "predictions", "timings", "facts", "checkpoint", "device", "threads", "form")
"""Words in braces that a command may have."""

_BRACED = re.compile(r"\{(\w*)\}")


class ProgramForm(Data):
    """What a program needs for datasets of one form, and what is known of its weights there."""

    checkpoint: str | None = None
    """The file of its weights, from the description's folder; its sha256 is part of a row's identity."""
    confidence_threshold: float = Field(ge=0, le=1)
    """Below which it predicts no lane: it applies that itself, records state it."""
    selected_on: Literal["last", "val", "test", "unknown"] = "unknown"
    """The split on which its authors chose the checkpoint, `last`: none. Rows chosen on the scored one, or unknown, are not ranked."""
    trained_on: str | None = None
    """The data it was trained on, in words, where that isn't the training split of the dataset under test: such rows aren't ranked."""

    @property
    def chosen_on(self) -> str | None:
        """The split that records say the checkpoint was selected on."""
        return self.selected_on if self.selected_on in {"val", "test"} else None

    @property
    def flags(self) -> tuple[str, ...]:
        """Why rows aren't ranked, as records say it."""
        trained = () if self.trained_on is None else (f"trained on {self.trained_on}",)
        unknown = "on which split its checkpoint was chosen is not known"
        return (*trained, unknown) if self.selected_on == "unknown" else trained


class Program(Data):
    """A description. `command` runs in `folder` (from the description's own), with `environment` on top of this process's.

    A program that hasn't ended `start_seconds` + `seconds_per_image` a picture after its start is stopped.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$")
    paper: str
    year: int
    family: Family
    backbone: str
    upstream: str
    commit: str | None = None
    licence: str
    forms: dict[Form, ProgramForm] = Field(min_length=1)
    command: tuple[str, ...] = Field(min_length=1)
    folder: str = "."
    environment: dict[str, str] = Field(default={})
    start_seconds: float = Field(600, gt=0)
    seconds_per_image: float = Field(10, gt=0)

    @model_validator(mode="after")
    def _a_command_that_can_be_filled_in(self) -> Self:
        used = {word for part in self.command for word in _BRACED.findall(part)}
        for word in sorted(used - set(PLACEHOLDERS)):
            raise ValueError(
                f"key 'command': there is no '{{{word}}}'; there are {', '.join(f'{{{p}}}' for p in PLACEHOLDERS)}"
            )
        for word in ("images", "predictions"):
            if word not in used:
                raise ValueError(f"key 'command': lacks '{{{word}}}', without which the program can't be asked")
        if "checkpoint" in used and any(form.checkpoint is None for form in self.forms.values()):
            raise ValueError("key 'command': has '{checkpoint}', but a form names no 'checkpoint'")
        return self


class DescribedProgram(Data):
    """A description and the file that it stands in."""

    file: Path
    program: Program

    @property
    def folder(self) -> Path:
        """Where its command runs."""
        return (self.file.parent / expanded(self.program.folder)).resolve()

    def checkpoint(self, form: Form) -> Path | None:
        """The file of its weights for a form, None where the description names none."""
        named = self.program.forms[form].checkpoint
        return None if named is None else (self.file.parent / expanded(named)).resolve()

    def command(self, values: dict[str, str]) -> list[str]:
        """The command with its placeholders filled in."""
        return [_BRACED.sub(lambda match: values[match[1]], word) for word in self.program.command]

    def scripts(self) -> dict[str, str]:
        """sha256 of the files that the command names, the program's own code as far as it can be seen, by name without folders.

        The first word names an interpreter, unless it is the path of a file that really lies in the folder, as a compiled program's,
        and in no environment there, whose scripts hold the folder's path and whose interpreters change with their patches.
        """
        found: dict[str, str] = {}
        for place, word in enumerate(self.program.command):
            path = self.folder / word
            own = place > 0 or (os.sep in word and lies_in(path.resolve(), self.folder))
            if own and not _BRACED.search(word) and path.is_file():
                others = sum(known.partition(" ")[0] == path.name for known in found)
                found[f"{path.name} {others + 1}" if others else path.name] = sha256_of_file(path)
        return found


def lies_in(path: Path, folder: Path) -> bool:
    """Whether a resolved path lies in a folder, and there in no environment of Python (venv's or conda's)."""
    inside = [parent for parent in path.parents if parent.is_relative_to(folder)]
    return bool(inside) and not any((parent / mark).exists() for parent in inside for mark in ENVIRONMENTS)


@cache
def read_program(path: Path) -> DescribedProgram:
    """Read a description, once a process. InputError names the file, line or key, and the fix."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the path of a program's description (docs/programs.md)")
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise InputError(f"{path}: a program's description is a mapping with keys such as 'name', 'forms', 'command'")
    return DescribedProgram(file=path, program=validated(Program, value, where=str(path)))
