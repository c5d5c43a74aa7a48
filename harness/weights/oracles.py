"""The weights of oracles that were trained elsewhere: what they are called, and where they stand."""

from __future__ import annotations

from dataclasses import replace

from detectors.backbone_sources import BACKBONES
from detectors.meta import FILE
from detectors.timm_registry import timm_name, timm_with
from harness.errors import InputError
from harness.files.remembered import remembered
from harness.methods.config import OracleConfiguration
from harness.weights.cache import WeightsState, file_state, published_name, published_state
from harness.weights.fetch import TIMM

TIMM_MODULES = ("detectors.timm_registry",)


def oracle_state(configuration: OracleConfiguration) -> WeightsState:
    """Where the weights of an oracle that `has_weights` stand. Nothing is fetched or written.

    name: timm's full name, or `file:` and the file's sha256. InputError for a network that there isn't or nobody published weights of.
    """
    if configuration.file is not None:
        state = file_state(f"{FILE}{configuration.file}")
        return replace(state, fix=state.fix.replace("`weights: file:`", "key 'file' of the oracle"))
    asked = asked_as(configuration)
    name = full_name(asked.removeprefix(TIMM)) if asked.startswith(TIMM) else published_name(asked)
    fetch = (
        f"run `samiro-bench weights fetch {asked}` where there is a network, give the oracle a `file` of them, or pre-train one on "
        "the images that there are, `mim:<backbone>`"
    )
    return published_state(name, fetch)


def full_name(name: str) -> str:
    """timm's full name of a network. InputError as `timm_name`."""
    return str(remembered("timm name", name, TIMM_MODULES, lambda: timm_name(name)))


def asked_as(configuration: OracleConfiguration) -> str:
    """What `weights fetch` calls the published weights of an oracle: one of our backbones where it is one, else `timm:NAME`."""
    name = configuration.backbone
    if configuration.kind == "supervised" and name in BACKBONES:
        if BACKBONES[name].imagenet is None:
            raise InputError(
                f"oracle {configuration.name!r}: nobody published weights of {name!r}: give it a `file`, such as the checkpoint of a "
                "detector with that backbone"
            )
        return name
    return f"{TIMM}{name}"


def check_network(configuration: OracleConfiguration) -> None:
    """InputError where an oracle's network is none that there is."""
    if configuration.kind == "timm" or (configuration.kind == "supervised" and configuration.backbone not in BACKBONES):
        remembered("timm has", configuration.backbone, TIMM_MODULES, lambda: bool(timm_with(configuration.backbone)))
