"""Lists where a strict model asks for tuples: neither YAML nor JSON has another word for them.

Strict are the models of what people write, so that a truth value is no number there, and a text is neither.
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from pydantic import BaseModel


def lists_as_tuples(cls: type[BaseModel], values: Any) -> Any:
    """What is validated as `cls`, with tuples for the lists of those fields that are tuples: a `before` validator of a model."""
    if not isinstance(values, dict):
        return values
    tuples = {
        key
        for name, field in cls.model_fields.items()
        if names_tuple(field.annotation)
        for key in (name, field.alias or name)
    }
    return {key: as_tuples(value) if key in tuples else value for key, value in values.items()}


def names_tuple(annotation: Any) -> bool:
    """Whether a type annotation names a tuple anywhere."""
    return get_origin(annotation) is tuple or any(names_tuple(argument) for argument in get_args(annotation))


def as_tuples(value: object) -> object:
    """A list as a tuple, also those within it and within mappings; anything else as it is."""
    if isinstance(value, dict):
        return {key: as_tuples(part) for key, part in value.items()}
    return tuple(as_tuples(part) for part in value) if isinstance(value, list) else value
