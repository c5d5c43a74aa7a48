"""What a detector's backbone starts from: its name, whether it is at hand, and its content.

Published weights lie in the cache folder as `<name>.safetensors`, beside `<name>.json`, the card that says where they come from. What
is cached is the tensors under timm's names in one layout, so its sha256 is that of the weights, whatever file they came in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from detectors.backbone_sources import BACKBONES
from detectors.meta import FILE, Data, DetectorMeta, Form
from harness.errors import InputError
from harness.files.stored import cache_folder, expanded, sha256_of_file
from harness.records.record import Artefact

if TYPE_CHECKING:
    from torch import Tensor

    from detectors.base import Detector

KIND = "backbone weights"
"""How records call the artefact."""

MISSING = "missing"
"""Stands for the sha256 of a file that isn't there."""

_FILE_IDENTITY = re.compile(rf"{FILE}(?P<sha256>[0-9a-f]{{64}})")


class WeightsCard(Data):
    """What is known of cached weights.

    sha256: of the cached file. source: where they were fetched from, or the name of the file that they were given in; source_sha256: of
    that file. published: whether that is certainly the published file, by its address or by its sha256. licence: as timm's registry has
    it. data: what they were trained on. entries: how many tensors.
    """

    name: str
    backbone: str
    sha256: str
    source: str
    source_sha256: str
    published: bool
    licence: str | None
    data: str
    entries: int


@dataclass(frozen=True)
class WeightsState:
    """Where the weights stand that a backbone starts from.

    name: what a cell's identity calls them: `none`, timm's name, or `file:` and the file's sha256, never a path. state: `none` where
    there are none to have. sha256: of the content, None unless present. fix: what is to be done where they are missing.
    """

    name: str
    state: Literal["none", "present", "missing"]
    path: Path | None = None
    sha256: str | None = None
    fix: str = ""


def weights_folder() -> Path:
    """Where published weights are cached. It may not exist yet."""
    return cache_folder() / "weights"


def cached_path(name: str) -> Path:
    """The file of published weights in the cache, whether it is there or not."""
    return weights_folder() / f"{name}.safetensors"


def published_name(backbone: str) -> str:
    """What timm calls the weights that `weights: imagenet` stands for. InputError for a backbone without."""
    source = BACKBONES.get(backbone)
    if source is None or source.imagenet is None:
        there = ", ".join(name for name, source in BACKBONES.items() if source.imagenet is not None)
        raise InputError(
            f"there are no published ImageNet weights for the backbone {backbone!r} (only for {there}): say `weights: none` or "
            "`weights: file:PATH`"
        )
    return source.imagenet


def weights_state(meta: DetectorMeta, form: Form) -> WeightsState:
    """Where the weights of a detector's configuration for `form` stand. Nothing is fetched, read into memory or written.

    InputError for `imagenet` where there are no such weights, or whose card can't be read.
    """
    weights = meta.configurations[form].weights
    if weights == "none":
        return WeightsState("none", "none")
    if weights.startswith(FILE):
        return file_state(weights)
    fetch = f"run `samiro-bench weights fetch {meta.backbone}`, or say `weights: none` or `weights: file:PATH` for the detector"
    return published_state(published_name(meta.backbone), fetch)


def published_state(name: str, fetch: str) -> WeightsState:
    """The same for weights that timm calls `name`. fetch: what is to be done where they aren't in the cache."""
    path = cached_path(name)
    card = read_card(path)
    if card is None:
        return WeightsState(name, "missing", path, fix=f"{path} isn't there: {fetch}")
    found = content_of(path)
    if found != card.sha256:
        fix = f"{path} is damaged (sha256 {found[:12]}, its card says {card.sha256[:12]}): delete it, then {fetch}"
        return WeightsState(name, "missing", path, fix=fix)
    return WeightsState(name, "present", path, found)


def file_state(weights: str) -> WeightsState:
    """The same for `file:PATH`. A checkpoint's `file:<sha256>` doesn't say where the file lies."""
    path = Path(weights.removeprefix(FILE))
    if path.is_file():
        digest = content_of(path)
        return WeightsState(f"{FILE}{digest}", "present", path, digest)
    if _FILE_IDENTITY.fullmatch(weights):
        return WeightsState(weights, "missing", fix=f"say where the file with sha256 {weights.removeprefix(FILE)} lies")
    there = (
        "that is a folder, give the file in it" if path.is_dir() else "there is no such file; correct `weights: file:`"
    )
    return WeightsState(f"{FILE}{MISSING}", "missing", path, fix=f"{path}: {there}")


def required(state: WeightsState, what: str = KIND) -> WeightsState:
    """The same state, or an InputError that says what to do where the weights are missing. what: how it calls them."""
    if state.state == "missing":
        raise InputError(f"{what} {state.name}: {state.fix}")
    return state


def rooted_weights(weights: str, folder: Path) -> str:
    """`file:PATH` with the path looked for from `folder`; anything else as it is."""
    if not weights.startswith(FILE) or weights == FILE:
        return weights
    return f"{FILE}{(folder / expanded(weights.removeprefix(FILE))).resolve()}"


def content_of(path: Path) -> str:
    """The sha256 of a file, read once as long as it isn't touched."""
    stat = path.stat()
    return _content_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _content_of(path: Path, size: int, modified: int) -> str:
    return sha256_of_file(path)


def card_path(weights: Path) -> Path:
    """Where the card of cached weights lies."""
    return weights.with_suffix(".json")


def read_card(weights: Path) -> WeightsCard | None:
    """The card of cached weights, None unless both are there. InputError where the card can't be read."""
    beside = card_path(weights)
    if not (weights.is_file() and beside.is_file()):
        return None
    try:
        return WeightsCard.model_validate_json(beside.read_bytes())
    except ValidationError as error:
        raise InputError(
            f"{beside}: not the card of backbone weights ({error.errors()[0]['msg']}): delete it and fetch them again"
        ) from error


def check_file(detector: Detector) -> None:
    """InputError where `start_detector` would find by names and shapes that the detector's file isn't its backbone's weights.

    A file is read once as long as it isn't touched, and no value is looked at, so that the detector may be one without memory. Says
    nothing of weights that don't come from a file, or of one that isn't there.
    """
    from detectors.pretrained import fitting_detector

    state = weights_state(detector.meta, detector.form)
    if state.name.startswith(FILE) and state.path is not None and state.sha256 is not None:
        stat = state.path.stat()
        fitting_detector(detector, _shapes_of(state.path, stat.st_size, stat.st_mtime_ns), where=state.path)


@lru_cache(maxsize=64)
def _shapes_of(path: Path, size: int, modified: int) -> dict[str, Tensor]:
    """What a file of weights holds, as tensors without memory."""
    from detectors.checkpoints import read_state

    return {name: value.to("meta") for name, value in read_state(path).items()}


def start_detector(detector: Detector) -> Artefact | None:
    """Give a new detector the backbone weights of its configuration; None where those are random.

    Call it before anything is attached to the detector. The artefact is what a record states of the weights. InputError where they are
    missing or don't fit.
    """
    from detectors.checkpoints import read_state
    from detectors.pretrained import start_backbone

    state = required(weights_state(detector.meta, detector.form))
    if state.path is None or state.sha256 is None:
        return None
    tensors: dict[str, Tensor] = read_state(state.path)
    start = start_backbone(detector, tensors, where=state.path)
    facts: dict[str, object] = {"taken": start.taken, "ignored": start.ignored}
    card = None if state.name.startswith(FILE) else read_card(state.path)
    if card is None:
        facts |= {"source": state.path.name, "licence": None, "data": None}
    else:
        facts |= card.model_dump(include={"source", "source_sha256", "licence", "data"})
        facts |= {"checks": {"is the published file": card.published}}
    return Artefact(kind=KIND, name=state.name, key=state.sha256, sha256=state.sha256, facts=facts)
