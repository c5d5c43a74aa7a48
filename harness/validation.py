"""Pydantic's complaints as the one clear line that a user gets: which file, which key, what is wrong, what was perhaps meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from harness.errors import InputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], value: object, *, where: str) -> Model:
    """`value` as `model`, or an InputError that begins with `where` (a file, or a file and a key) and names the first bad key."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{where}: {first_complaint(model, error)}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def first_complaint(model: type[BaseModel], error: ValidationError) -> str:
    """The first error of a validation in words; for an unknown key the nearest known one."""
    complaint = error.errors()[0]
    location = complaint["loc"]
    key = ".".join(str(part) for part in location)
    if complaint["type"] == "extra_forbidden":
        known = known_keys(model, location[:-1])
        return f"unknown key '{key}': {did_you_mean(str(location[-1]), known)}"
    message = complaint["msg"].removeprefix("Value error, ")
    shown = "" if complaint["type"] in {"missing", "value_error"} else f" (it is {complaint['input']!r:.80})"
    return f"key '{key}': {message}{shown}" if key else f"{message}{shown}"


def known_keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """The field names (as YAML writes them) of the model that lies at `location` inside `model`."""
    models = [model]
    for part in location:
        inner: list[type[BaseModel]] = []
        for candidate in models:
            field = candidate.model_fields.get(str(part)) or next(
                (f for f in candidate.model_fields.values() if f.alias == part), None
            )
            if field is not None:
                inner += models_within(field.annotation)
        models = inner or models
    # What a model leaves out of its dumps isn't written by users either.
    return sorted(
        {
            field.alias or name
            for candidate in models
            for name, field in candidate.model_fields.items()
            if not field.exclude
        }
    )


def models_within(annotation: Any) -> list[type[BaseModel]]:
    """Every pydantic model named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_within(argument)]
