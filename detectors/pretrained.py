"""The start of a detector's backbone: weights that were trained before, on another task.

They go into a detector that was built already, so that everything else of it is drawn as it would have been without them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detectors.backbone_sources import BACKBONES
from detectors.backbones import whole_network
from detectors.base import Detector
from detectors.checkpoints import check_fit, refuse_not_finite
from harness.errors import InputError

COUNTER = "num_batches_tracked"
"""Of batch normalisation: how many batches it saw, on which nothing depends. Older files lack it."""

FIX = "give the weights of that backbone, or say `weights: none`"


@dataclass(frozen=True)
class Start:
    """What became of a state dict: how many of its entries the backbone took, and how many it has no place for."""

    taken: int
    ignored: int


def backbone_of(detector: Detector) -> nn.Module:
    """The submodule that a detector's `backbone_path` names. InputError where there is none."""
    try:
        return detector.get_submodule(detector.backbone_path)
    except AttributeError:
        raise InputError(
            f"detector {detector.meta.name!r} has no submodule {detector.backbone_path!r} that weights could go into: say which "
            "it is as `backbone_path` in its adapter, or `weights: none`"
        ) from None


def start_backbone(detector: Detector, tensors: Mapping[str, Tensor], *, where: Path) -> Start:
    """Copy weights into a detector's backbone, in place; draws nothing from any generator.

    tensors: a state dict under the names of the backbone, which is timm's network where `detectors.backbones` made it. Every weight
    of the backbone has to be there, in its shape. Entries of parts that the detector leaves out (later stages, the classifier) are
    ignored and counted; any other entry shows that they are the weights of another network. where: the file that messages name.
    Raises InputError, and then the detector is as it was.
    """
    kept = fitting_detector(detector, tensors, where=where)
    return _started(backbone_of(detector), kept, tensors, where=where)


def fitting_detector(detector: Detector, tensors: Mapping[str, Tensor], *, where: Path) -> dict[str, Tensor]:
    """The entries that `start_backbone` would copy, by names and shapes alone, so that no tensor needs memory. InputError as there."""
    what = f"the backbone of {detector.meta.name}"
    return fitting(backbone_of(detector), detector.meta.backbone, tensors, where=where, what=what)


def start_network(network: nn.Module, backbone: str, tensors: Mapping[str, Tensor], *, where: Path, what: str) -> Start:
    """The same for a network that is (a part of) the backbone of that name, or one of an adapter's own. what: how messages call it."""
    return _started(network, fitting(network, backbone, tensors, where=where, what=what), tensors, where=where)


def fitting(
    network: nn.Module, backbone: str, tensors: Mapping[str, Tensor], *, where: Path, what: str
) -> dict[str, Tensor]:
    """The entries that `start_network` would copy, by names and shapes alone. InputError where they don't fit."""
    whole = whole_network(backbone).state_dict().keys() | BACKBONES[backbone].unused if backbone in BACKBONES else ()
    return fitting_part(network, whole, tensors, where=where, what=what, fix=FIX)


def fitting_part(
    network: nn.Module, whole: Collection[str], tensors: Mapping[str, Tensor], *, where: Path, what: str, fix: str
) -> dict[str, Tensor]:
    """The entries of a state dict that a network takes which is part of a larger one; `whole`: the names of all entries of that.

    InputError where one of the network's is missing or of another shape, or one is of neither.
    """
    ours = {name: value for name, value in network.state_dict().items() if not is_counter(name)}
    given = {name: value for name, value in tensors.items() if not is_counter(name)}
    kept = {name: value for name, value in given.items() if name in ours or name not in whole}
    check_fit(kept, ours, where=where, what=what, fix=fix)
    return kept


def _started(network: nn.Module, kept: dict[str, Tensor], tensors: Mapping[str, Tensor], *, where: Path) -> Start:
    """Copy the entries that fit, once their values are looked at."""
    refuse_not_finite(kept, where=where, fix=FIX)
    network.load_state_dict(kept, strict=False)
    given = sum(not is_counter(name) for name in tensors)
    return Start(len(kept), given - len(kept))


def is_counter(name: str) -> bool:
    """Whether an entry of a state dict is no weight but batch normalisation's count of batches."""
    return name.rpartition(".")[2] == COUNTER
