"""Which upstream model each of our variants is compared with. Listing them imports nothing."""

from __future__ import annotations

REFERENCES: dict[str, str] = {}
"""Variant name -> "module:class" of its `Reference`."""
