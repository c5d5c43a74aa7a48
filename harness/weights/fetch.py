"""Getting published backbone weights into the cache: from the addresses that timm knows, or from a file that was carried here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from filelock import FileLock

from detectors.timm_registry import data_of, timm_name
from harness.errors import InputError
from harness.files.scratch import scratch_folder
from harness.files.stored import located, sha256_of_file, write_text, written_aside
from harness.processes.faults import is_full_disk
from harness.pytorch.torchvision_guard import ensure_torchvision
from harness.weights.cache import WeightsCard, cached_path, card_path, published_name, read_card

DATA = "ImageNet-1k (ILSVRC 2012)"
"""What every network that `weights: imagenet` stands for was trained on."""

TIMM = "timm:"
"""Stands before the name of a network that timm publishes weights of, to tell it from a backbone's."""

PATIENCE = 15.0
"""Seconds without a byte after which a source is given up. No source is asked twice."""

PIECE = 1 << 20
HUB_FILE = "model.safetensors"
"""The file of a model of timm's on the Hugging Face hub."""

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all where that is known)."""


@dataclass(frozen=True)
class Source:
    """Where published weights can be had. digest: how the file's sha256 begins, where its address says so, else empty."""

    url: str
    digest: str


@dataclass(frozen=True)
class Published:
    """What timm's registry says of published weights; the first source is the one that shows by its name that it is whole.

    data: what they were trained on.
    """

    name: str
    licence: str | None
    sources: tuple[Source, ...]
    data: str = DATA


def published(backbone: str) -> Published:
    """What is known of the weights that `weights: imagenet` stands for, or of those of `timm:NAME`. InputError for one without."""
    ensure_torchvision()
    import timm
    from huggingface_hub import hf_hub_url

    named = backbone.startswith(TIMM)
    name = timm_name(backbone.removeprefix(TIMM)) if named else published_name(backbone)

    facts: Any = timm.get_pretrained_cfg(name)
    # PyTorch's convention, which torch.hub checks as well: NAME-<first eight digits of the sha256>.pth.
    digest = re.search(r"-([0-9a-f]{8})\.\w+$", facts.url or "")
    sources = [Source(facts.url, digest[1])] if digest else []
    sources += [Source(hf_hub_url(facts.hf_hub_id, HUB_FILE), "")] if facts.hf_hub_id else []
    if not sources:
        raise InputError(
            f"{backbone}: timm knows no address of these weights: give the oracle a `file`, or another model"
        )
    return Published(name, facts.license, tuple(sources), data_of(name) if named else DATA)


def fetch(backbone: str, progress: Progress | None = None) -> WeightsCard:
    """Get published weights into the cache unless they are there, and give their card.

    InputError that names the ways out where no source can be reached, after PATIENCE seconds of silence each. OSError where there is
    no room for them here, which no other source changes.
    """
    what = published(backbone)
    with _locked(what.name):
        card = read_card(cached_path(what.name))
        if card is not None and sha256_of_file(cached_path(what.name)) == card.sha256:
            return card
        reasons = []
        with scratch_folder() as folder:
            for source in what.sources:
                file = folder / Path(urlsplit(source.url).path).name
                try:
                    download(source.url, file, progress)
                    if not sha256_of_file(file).startswith(source.digest):
                        raise InputError("what came isn't the published file")
                    return _store(backbone, what, file, source=source.url, published=True)
                except (OSError, HTTPException, InputError) as error:
                    if is_full_disk(error):
                        raise
                    reason = getattr(error, "reason", None) or str(error) or type(error).__name__
                    reasons.append(f"{urlsplit(source.url).hostname}: {reason}")
    raise InputError(f"{what.name} cannot be fetched ({'; '.join(reasons)}): {ways_out(backbone, what)}")


def add(backbone: str, file: Path) -> WeightsCard:
    """Put a file that was downloaded elsewhere into the cache: a state dict of torch, or a .safetensors; gives its card.

    InputError where it can't be read, isn't that network's, or the cache holds other weights under the name.
    """
    what = published(backbone)
    if file.is_dir():
        raise InputError(f"--from {file}: this is a folder; give the file in it that holds the weights")
    if not file.is_file():
        raise InputError(f"--from {file}: there is no such file; {ways_out(backbone, what)}")
    digest = sha256_of_file(file)
    certain = any(source.digest and digest.startswith(source.digest) for source in what.sources)
    with _locked(what.name):
        return _store(backbone, what, file, source=file.name, published=certain)


def ways_out(backbone: str, what: Published) -> str:
    """What can be done where nothing can be fetched."""
    address = what.sources[0].url
    name = Path(urlsplit(address).path).name
    if backbone.startswith(TIMM):
        return (
            f"download {address} where there is a network and run `samiro-bench weights fetch {backbone} --from {name}`, give the "
            f"oracle `file: {name}`, or pre-train one on the images that there are, `mim:<backbone>`"
        )
    return (
        f"download {address} where there is a network and run `samiro-bench weights fetch {backbone} --from {name}`, or say "
        f"`weights: file:{name}` or `weights: none` for the detector in the suite"
    )


def download(url: str, file: Path, progress: Progress | None = None) -> None:
    """Write what lies at an address to `file`. OSError (a URLError mostly) where it can't be had, or less came than was announced."""
    request = Request(url, headers={"User-Agent": "samiro-bench"})
    with urlopen(request, timeout=PATIENCE) as answer, open(file, "wb") as stream:
        announced = answer.headers.get("Content-Length")
        total = int(announced) if announced else None
        done = 0
        while piece := answer.read(PIECE):
            with located(file):
                stream.write(piece)
            done += len(piece)
            if progress is not None:
                progress(done, total)
    if total is not None and done != total:
        raise OSError(f"the connection broke after {done:,} of {total:,} bytes")


def _store(backbone: str, what: Published, file: Path, *, source: str, published: bool) -> WeightsCard:
    """Check that a file holds the weights of a backbone, and put it into the cache. The lock is held."""
    from detectors.backbones import build_backbone
    from detectors.checkpoints import read_state
    from detectors.pretrained import is_counter, start_network
    from harness.files.tensors import write_tensors
    from harness.methods.timm_networks import timm_oracle

    tensors = {name: value for name, value in read_state(file).items() if not is_counter(name)}
    if backbone.startswith(TIMM):
        timm_oracle(what.name, tensors, where=file)
    else:
        start_network(build_backbone(backbone), backbone, tensors, where=file, what=f"the backbone {backbone}")
    target = cached_path(what.name)
    before = read_card(target)
    with written_aside(target) as aside:
        write_tensors({name: tensors[name].contiguous().clone() for name in sorted(tensors)}, aside)
        card = WeightsCard(
            name=what.name,
            backbone=backbone,
            sha256=sha256_of_file(aside),
            source=source,
            source_sha256=sha256_of_file(file),
            published=published,
            licence=what.licence,
            data=what.data,
            entries=len(tensors),
        )
        if before is not None and before.sha256 != card.sha256:
            raise InputError(
                f"{target}: other weights are cached under this name (sha256 {before.sha256[:12]}, not {card.sha256[:12]}), and "
                "cells may rest on them: move them away first"
            )
    write_text(card_path(target), card.model_dump_json(indent=1) + "\n")
    return card


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Hold the cache's lock of a name; whoever comes second waits, and then finds the weights there."""
    target = cached_path(name)
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.with_name(f".{name}.lock")):
        yield
