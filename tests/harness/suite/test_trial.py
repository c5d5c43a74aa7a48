"""What a suite changes of a detector is tried when the suite is read: its start from a file, its network at another input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from detectors import checkpoints
from detectors.backbones import build_backbone
from harness.errors import InputError
from harness.files import remembered
from harness.suite import Suite
from harness.suite.trial import check_input, check_start


def refusal(loading: Any, **parts: Any) -> str:
    with pytest.raises(InputError) as caught:
        loading(**parts)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of resnet_micro in both layouts, those of another network, and an image under a network's name."""
    folder = tmp_path_factory.mktemp("files")
    right = build_backbone("resnet_micro").state_dict()
    torch.save(right, folder / "right.pth")
    save_file(right, folder / "right.safetensors")
    torch.save(build_backbone("resnet18s").state_dict(), folder / "other.pth")
    torch.save({name: value[:1] for name, value in right.items() if value.dim()}, folder / "cut.pth")
    assert cv2.imwrite(str(folder / "image.png"), np.zeros((8, 8, 3), np.uint8))
    return folder


@pytest.mark.parametrize("name", ["right.pth", "right.safetensors", "gone.pth"])
def test_a_file_that_fits_or_is_not_there_yet_is_taken(loading: Any, files: Path, name: str) -> None:
    assert isinstance(loading(detectors={"ufldv2_micro": {"weights": f"file:{files / name}"}}), Suite)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image.png", "image.png: not a"),
        ("other.pth", "other.pth: doesn't fit the backbone of ufldv2_micro"),
        ("cut.pth", "of another shape"),
    ],
)
def test_a_wrong_file_of_weights_is_told_with_its_key(loading: Any, files: Path, name: str, said: str) -> None:
    message = refusal(loading, detectors={"ufldv2_micro": {"weights": f"file:{files / name}"}})
    assert "key 'detectors.ufldv2_micro.weights': " in message
    assert said in message


def test_a_file_of_weights_is_read_once_for_all_detectors(
    loading: Any, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes((files / "right.pth").read_bytes())
    read: list[Path] = []
    real = checkpoints.read_state
    monkeypatch.setattr(checkpoints, "read_state", lambda path: read.append(path) or real(path))
    for _ in range(2):
        loading(defaults={"weights": f"file:{copy}"})
    assert read == [copy]


def test_an_input_that_the_network_cannot_take_is_told_with_its_key(loading: Any) -> None:
    message = refusal(loading, detectors={"resa_micro": {"input": {"network": [7, 9]}}})
    assert "key 'detectors.resa_micro.input.network': the network of resa_micro can't take images of 7x9" in message
    # Of several that say something of it, the last is what is tried.
    told = refusal(
        loading,
        defaults={"input": {"network": [64, 160]}},
        detectors={"resa_micro": {"input": {"network": [7, 9]}}},
    )
    assert told == message
    message = refusal(loading, defaults={"input": {"network": [64, -1]}})
    assert "key 'defaults.input.network': [64, -1]" in message


@pytest.mark.parametrize("size", [[128, 0], [0, 320]])
def test_an_input_is_looked_at_where_either_side_is_not_the_published_one(loading: Any, size: list[int]) -> None:
    message = refusal(loading, detectors={"resa_micro": {"input": {"network": size}}})
    assert f"{size} is no height and width" in message


def test_an_input_is_tried_on_a_form_that_the_detector_has_no_configuration_for(loading: Any) -> None:
    form = {"like": "tusimple", "input": {"network": [7, 9]}}
    message = refusal(
        loading,
        datasets={"road": {"form": "llamas"}},
        oracles={},
        methods={"baseline": None},
        detectors={"resa_resnet18": {"forms": {"llamas": form}}},
    )
    assert "key 'detectors.resa_resnet18.forms.llamas.input.network': " in message


def test_an_input_that_was_taken_once_says_nothing_of_another(
    loading: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "1")
    monkeypatch.setattr(remembered, "_LIGHT", True)
    loading(detectors={"resa_micro": {"input": {"network": [64, 160]}}})
    assert "can't take images of 7x9" in refusal(loading, detectors={"resa_micro": {"input": {"network": [7, 9]}}})


@pytest.mark.parametrize("size", [[64, 160], [97, 201]])
def test_an_input_that_the_network_can_take_is_taken(loading: Any, size: list[int]) -> None:
    loading(defaults={"input": {"network": size}})


def test_a_network_that_only_runs_with_memory_is_tried_with_it(loading: Any) -> None:
    """ufldv2_micro runs at 8x8, but not without memory."""
    suite = loading(detectors={"ufldv2_micro": {"input": {"network": [8, 8]}}})
    before = torch.get_rng_state()
    check_input(suite, "ufldv2_micro", "culane")
    check_start(suite, "ufldv2_micro", "culane")
    assert torch.equal(torch.get_rng_state(), before)
