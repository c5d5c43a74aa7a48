"""Families: the rows that are several tries of one method, whatever their suite calls them. Holm adjusts over a family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.records.record import Identity
from harness.report.arms import Arm

OF_ONE_MAKE = ("samiro", "attention_only", "miro", "feature_distillation")
"""Kinds that differ in nothing but their defaults (`harness.methods.config`), so that each can be configured as another."""

CONTROL_ORACLES = ("random", "init", "shuffled")
"""Kinds of oracles that know nothing from outside: they ask a question of their own, and aren't one more try of the method."""


@dataclass(frozen=True, order=True)
class Family:
    """Rows that do one thing: `kind` of method, towards a `control`'s oracle of that kind, or (empty) towards any other or none."""

    kind: str
    control: str = ""


def family_of(arm: Arm) -> Family:
    """The family of a row: by what its method does, and neither by its name nor by its kind, which a suite is free to choose."""
    identity = arm.records[0].identity
    kind, oracle = kind_of(identity.method_configuration, arm.method), oracle_kind(identity)
    # MIRO's own oracle is the detector's start (docs/method.md, Oracles).
    own = kind == "miro" and oracle == "init"
    return Family(kind, oracle if oracle in CONTROL_ORACLES and not own else "")


def kind_of(configuration: Mapping[str, Any], name: str) -> str:
    """What a method does, as the kind with such defaults; its name where a stranger's record doesn't say a kind as a text."""
    kind = configuration.get("kind")
    if kind not in OF_ONE_MAKE or not {"lambda", "attention", "variance"} <= set(configuration):
        return kind if isinstance(kind, str) else name
    if configuration["lambda"] == 0:
        return "attention_only"
    if configuration["attention"] != "none":
        return "samiro"
    return "feature_distillation" if configuration["variance"] == "fixed" else "miro"


def oracle_kind(identity: Identity) -> str:
    """What stands before the colon of an oracle's name; empty without one, and where a stranger's record has no such text."""
    oracle = identity.oracle or {}
    if "shuffled" in oracle:
        return "shuffled"
    configuration = oracle.get("configuration")
    name = configuration.get("name") if isinstance(configuration, dict) else None
    return name.partition(":")[0] if isinstance(name, str) else ""
