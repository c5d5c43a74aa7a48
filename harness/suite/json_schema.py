"""The JSON Schema of suites, for editors: what the models say, and what `load_suite` takes besides."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter

from detectors.meta import InputSize, Recipe
from harness.methods.config import KINDS, MethodConfiguration
from harness.suite.schema import Suite

REFERENCE = "#/$defs/{model}"


def suite_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a suite's file, as YAML writes it.

    It knows names of keys, types and ranges; what only `load_suite` can check (references, a detector's own options) it leaves open.
    """
    schema = Suite.model_json_schema(by_alias=True)
    for key in ("name", "file"):
        del schema["properties"][key]
    schema["required"] = [key for key in schema["required"] if key in schema["properties"]]
    schema["description"] = "A suite of SAMIRO-Bench: docs/suites.md explains every key."
    methods = schema["properties"]["methods"]
    # Pydantic describes a mapping whose keys have a pattern so; what stands under a key depends on the key here.
    (pattern,) = methods.pop("patternProperties")
    methods |= methods_schema() | {"propertyNames": {"pattern": pattern}}
    definitions = schema["$defs"]
    for name in ("DetectorPart", "NamedDetectorPart", "FormOverrides"):
        keys = definitions[name]["properties"]
        keys["recipe"] |= overrides_schema(Recipe, definitions)
        keys["input"] |= overrides_schema(InputSize, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def methods_schema() -> dict[str, Any]:
    """Under the name of a kind stand that kind's options, or nothing; under another name the key `kind` says which."""
    kinds = {
        kind: {"anyOf": [{"$ref": REFERENCE.format(model=model.__name__)}, {"type": "null"}]}
        for kind, model in KINDS.items()
    }
    other = TypeAdapter(MethodConfiguration).json_schema(by_alias=True, ref_template=REFERENCE)
    del other["$defs"]
    return {"properties": kinds, "additionalProperties": {**other, "required": ["kind"]}}


def overrides_schema(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    """Any of a model's keys, and no other: an override names only what differs."""
    whole = model.model_json_schema(ref_template=REFERENCE)
    definitions |= whole.get("$defs", {})
    return {"properties": whole["properties"], "additionalProperties": False}
