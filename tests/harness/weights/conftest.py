"""A cache of one's own, and what a download would be: timm's resnet18 with drawn weights, classifier included."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.pytorch.torchvision_guard import ensure_torchvision


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the weights' cache, which isn't there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "samiro-bench" / "weights"


def drawn(model: str, seed: int) -> dict[str, Tensor]:
    """The state dict of a whole timm network."""
    ensure_torchvision()
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return timm.create_model(model).state_dict()


@pytest.fixture(scope="session")
def resnet18() -> dict[str, Tensor]:
    return drawn("resnet18", 7)


@pytest.fixture(scope="session")
def downloads(tmp_path_factory: pytest.TempPathFactory, resnet18: dict[str, Tensor]) -> Path:
    """Files that somebody might give: good ones in both layouts, another seed's, another network's."""
    folder = tmp_path_factory.mktemp("downloads")
    torch.save(resnet18, folder / "resnet18.pth")
    save_file(resnet18, folder / "resnet18.safetensors")
    torch.save(drawn("resnet18", 8), folder / "other.pth")
    torch.save(drawn("resnet34", 7), folder / "resnet34.pth")
    (folder / "short.pth").write_bytes((folder / "resnet18.pth").read_bytes()[:5000])
    return folder
