"""Families: the rows that are several tries of one method, whatever their suite calls them. Holm adjusts over a family."""

from __future__ import annotations

from dataclasses import dataclass

from harness.records.record import Identity
from harness.report.arms import Arm

CONTROL_ORACLES = ("random", "init", "shuffled", "supervised")
"""Kinds of oracles that ask a question of their own (docs/method.md, Oracles), and aren't one more try of the method."""


@dataclass(frozen=True, order=True)
class Family:
    """Rows of one kind of method. control: the kind of the control's oracle that they have, empty with any other and with none."""

    kind: str
    control: str = ""

    @property
    def name(self) -> str:
        """How notes call it."""
        return f"{self.kind} with a control's oracle ({self.control})" if self.control else self.kind


def family_of(arm: Arm) -> Family:
    """The family of a row, by what its method is configured to be and never by its name, which a suite is free to choose."""
    identity = arm.records[0].identity
    kind = identity.method_configuration.get("kind")
    oracle = oracle_kind(identity)
    return Family(kind if isinstance(kind, str) else arm.method, oracle if oracle in CONTROL_ORACLES else "")


def oracle_kind(identity: Identity) -> str:
    """What stands before the colon of an oracle's name; empty without one, and where a stranger's record has no such text."""
    oracle = identity.oracle or {}
    if "shuffled" in oracle:
        return "shuffled"
    configuration = oracle.get("configuration")
    name = configuration.get("name") if isinstance(configuration, dict) else None
    return name.partition(":")[0] if isinstance(name, str) else ""
