"""What differs between two sets of options, said so that a reader finds the key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

SHOWN = 40
"""Characters of a value that are shown."""


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`key.of.mapping: old -> new` of every value that differs, in the order of keys; `nothing` where a side lacks the key."""
    old, new = dict(_flat(before)), dict(_flat(now))
    return [
        f"{key}: {_shown(old, key)} -> {_shown(new, key)}"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key) or (key in old) != (key in new)
    ]


def _flat(value: Mapping[str, Any], under: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        if isinstance(part, Mapping) and part:
            yield from _flat(part, f"{under}{key}.")
        else:
            # JSON has lists alone, and that is what the stored side was read from.
            yield f"{under}{key}", list(part) if isinstance(part, tuple) else part


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing"
    text = str(values[key])
    return text if len(text) <= SHOWN else f"{text[:12]}..."
