"""`samiro-bench detectors show`: what is known of one detector, its published recipes included, in the keys of a suite."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harness.cli.options import Json

EPILOG = "Example: samiro-bench detectors show ufldv2_resnet18 --form culane"


def show(
    name: Annotated[str, typer.Argument(metavar="DETECTOR", help="A name, or path/to/file.py:Class.")],
    form: Annotated[str | None, typer.Option(help="One dataset form; default: all that it is configured for.")] = None,
    as_json: Json = False,
) -> None:
    """Print what is known of a detector, as YAML: its source, and the input, architecture, weights and recipe of each dataset form.

    Under `configurations` stand the values of a cell whose suite overrides nothing; what isn't used may be left out.
    """
    import yaml

    from detectors.registry import UPSTREAM, bridge_class
    from harness.errors import InputError
    from harness.suite import known_detector

    # Third-party code is known without its checkout.
    meta = bridge_class(name).metas[name] if name in UPSTREAM else known_detector(name).meta
    if form is not None and form not in meta.configurations:
        raise InputError(f"--form {form}: {name} is configured for {', '.join(meta.configurations)}; give one of these")
    facts = meta.model_dump(mode="json", exclude_none=True)
    facts["configurations"] = {key: value for key, value in facts["configurations"].items() if form in (None, key)}
    if as_json:
        typer.echo(json.dumps(facts))
        return

    class Dumper(yaml.SafeDumper):
        """Numbers that belong together stand in one line."""

    Dumper.add_representer(list, lambda dumper, value: dumper.represent_sequence("tag:yaml.org,2002:seq", value, True))
    typer.echo(yaml.dump(facts, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=10_000), nl=False)
