"""`samiro-bench detectors fetch`: the checkout of an upstream repository at the commit that this program knows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.errors import InputError, did_you_mean

EPILOG = "Example: samiro-bench detectors fetch CLRNet"


def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A repository, or a variant that comes from one.")],
    source: Annotated[
        str | None, typer.Option(metavar="URL", help="Clone from here, an address or a folder, in place of its own.")
    ] = None,
    into: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Put it below this folder; default: the cache.")
    ] = None,
) -> None:
    """Clone an upstream repository at the pinned commit and verify it; none of its code is run."""
    from detectors.upstream.checkouts import VARIABLE, cached_checkout
    from detectors.upstream.fetching import fetch_checkout
    from detectors.upstream.repositories import REPOSITORIES

    repository = repository_of(name)
    target = cached_checkout(repository) if into is None else into / repository
    known = REPOSITORIES[repository]
    done = fetch_checkout(repository, target, source=source)
    typer.echo(f"{done}: {repository} at {known.commit}, licence {known.licence or 'none'}")
    if known.licence is None:
        typer.echo("it has no licence file: run it from this checkout, and pass nothing of it on")
    if into is not None:
        typer.echo(f"have it found: export {VARIABLE}={into.resolve()}")


def repository_of(name: str) -> str:
    """The repository that a name means: its own, or that of a variant. InputError names the nearest."""
    from detectors.registry import TABLE, UPSTREAM, bridge_class, detector_meta
    from detectors.upstream.repositories import REPOSITORIES

    if name in REPOSITORIES:
        return name
    if name in UPSTREAM:
        return bridge_class(name).reference.repository
    if name in TABLE:
        address = detector_meta(name).upstream
        found = [key for key, known in REPOSITORIES.items() if known.url == address]
        if found:
            return found[0]
        raise InputError(f"{name} comes from {address}, of which no commit is known here; clone it yourself")
    raise InputError(
        f"unknown repository or variant {name!r}: {did_you_mean(name, [*REPOSITORIES, *TABLE, *UPSTREAM])}"
    )
