"""Pydantic's complaints as the one clear line that a user gets: which file, which key, what is wrong, what was perhaps meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from harness.errors import InputError, did_you_mean, mending
from harness.files.stored import read_bounded

Model = TypeVar("Model", bound=BaseModel)
Stored = TypeVar("Stored")

KEY = "key '"
"""How a message that names a key begins."""


LIST_LIMIT = 64 << 20
"""Bytes of what `read_stored_list` reads: a line a job, of which a suite has some thousand."""

WORDS = {
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), "must be a mapping"),
}
"""Kind of pydantic's error -> what to say instead, where it speaks of Python's types."""


def validated(model: type[Model], value: object, *, where: str, under: str = "", strict: bool | None = None) -> Model:
    """`value` as `model`, or an InputError that begins with `where` (a file, or a file and a key) and names the first bad key.

    under: the key at which `value` stands in the file, so that the message names the whole path. strict: False for words
    of a command line, which has no numbers; else the model says whether it turns values into other types.
    """
    try:
        return model.model_validate(value, strict=strict)
    except ValidationError as error:
        raise InputError(f"{where}: {first_complaint(model, error, under=under)}") from error
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def first_complaint(model: type[BaseModel], error: ValidationError, *, under: str = "") -> str:
    """The first error of a validation in words, an unknown key before any other: a misspelt key is often missed as well."""
    complaints = error.errors()
    complaint = next((found for found in complaints if found["type"] == "extra_forbidden"), complaints[0])
    keys, _ = followed(model, complaint["loc"])
    path = ".".join([under, *keys] if under else keys)
    if complaint["type"] == "extra_forbidden":
        _, parent = followed(model, complaint["loc"][:-1])
        return f"unknown key '{path}': {did_you_mean(keys[-1], known_keys(parent))}"
    message = WORDS.get(complaint["type"]) or complaint["msg"].removeprefix("Value error, ")
    shown = "" if complaint["type"] in {"missing", "value_error"} else f" (it is {complaint['input']!r:.80})"
    if path and message.startswith(KEY):
        # A model's own check names a key inside the model.
        return f"{KEY}{path}.{message.removeprefix(KEY)}{shown}"
    return f"{KEY}{path}': {message}{shown}" if path else f"{message}{shown}"


def read_stored_list(
    path: Path, adapter: TypeAdapter[Stored], what: str, advice: str, limit: int = LIST_LIMIT
) -> Stored | None:
    """What a program keeps as JSON in a small file, or None where there is no such file.

    Raises InputError, which calls it a list of `what` and ends with `advice`, if it can't be read, isn't that or has more bytes than
    `limit`.
    """
    try:
        return adapter.validate_json(read_bounded(path, limit))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValidationError) as error:
        reason = plain_complaint(error) if isinstance(error, ValidationError) else error.strerror
        raise InputError(f"{path}: not a readable list of {what} ({reason}); {mending(error, advice)}") from error


def plain_complaint(error: ValidationError) -> str:
    """The first error of a validation of what a program stored or made: which key, and what is wrong with it. Nobody mistyped it."""
    complaint = error.errors()[0]
    # Marks of a union's members look like <overlap>: no file has them.
    key = ".".join(str(part) for part in complaint["loc"] if not str(part).startswith("<"))
    if complaint["type"] == "value_error":
        message = complaint["msg"].removeprefix("Value error, ")
        return f"key '{key}': {message}" if key else message
    if not key:
        message = WORDS.get(complaint["type"]) or complaint["msg"]
        return f"{message[:1].lower()}{message[1:]}"
    plain = {"missing": "is missing", "extra_forbidden": "is unknown"}
    return f"key '{key}' {plain.get(complaint['type']) or f'''can't be {shown_input(complaint['input'])}'''}"


def shown_input(value: object) -> str:
    """A value of a file, cut short; whole numbers of more than 4,300 digits can't be written out."""
    try:
        return f"{value!r:.60}"
    except ValueError:
        return "a number of thousands of digits"


def followed(annotation: Any, location: Sequence[int | str]) -> tuple[list[str], Any]:
    """The keys that a user wrote on the way to an error's `location`, and the type annotation that stands there.

    Pydantic's location also names the member of a union that it tried, and marks a bad key of a mapping: no user wrote those.
    """
    keys: list[str] = []
    for part in location:
        annotation, written = below(annotation, part)
        keys += [str(part)] if written else []
    return keys, annotation


def below(annotation: Any, part: int | str) -> tuple[Any, bool]:
    """The type annotation one part of a location further in, and whether that part is a key of the file's."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = field_named(annotation, part)
        return (None if field is None else field.annotation), part != "[key]"
    origin, arguments = get_origin(annotation), [kind for kind in get_args(annotation) if kind is not NoneType]
    if origin is Annotated or (origin in {Union, UnionType} and len(arguments) == 1):
        return below(arguments[0], part)
    if origin in {Union, UnionType}:
        return annotation, False
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return arguments[1], True
    return (arguments[0] if arguments else None), part != "[key]"


def field_named(model: type[BaseModel], name: int | str) -> FieldInfo | None:
    """The field that YAML writes as `name`."""
    return model.model_fields.get(str(name)) or next((f for f in model.model_fields.values() if f.alias == name), None)


def known_keys(annotation: Any) -> list[str]:
    """The keys, as YAML writes them, of the models in a type annotation."""
    # What a model leaves out of its dumps isn't written by users either.
    return sorted(
        {
            field.alias or name
            for model in models_within(annotation)
            for name, field in model.model_fields.items()
            if not field.exclude
        }
    )


def models_within(annotation: Any) -> list[type[BaseModel]]:
    """Every pydantic model named anywhere in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_within(argument)]
