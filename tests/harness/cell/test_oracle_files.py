"""Oracles out of files and out of the cache: what fits, what a cell says of it, and one line for what doesn't."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from detectors.backbones import build_backbone
from detectors.meta import Normalisation
from detectors.pretrained import is_counter
from detectors.registry import find_adapter
from harness.cell.artefacts import oracle_key
from harness.cell.keys import cell_phases
from harness.cell.oracle import oracle_artefact, source_oracle, weighted_oracle
from harness.cell.phases import run_phase
from harness.cell.run import run_cell
from harness.cell.train import new_detector
from harness.cli.main import main
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.matrix.needed_weights import backbones_of
from harness.methods.card import OracleCard
from harness.methods.config import OracleConfiguration
from harness.methods.oracle import drawn_backbone, save_oracle
from harness.pytorch.torchvision_guard import ensure_torchvision
from harness.suite import Cell, cells_of, load_suite
from harness.training.checkpoint import save_inference_checkpoint
from harness.weights.cache import cached_path
from harness.weights.fetch import add, published


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def state_of(name: str, seed: int) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_backbone(name).state_dict()


def timm_state(name: str) -> dict[str, Tensor]:
    ensure_torchvision()
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return timm.create_model(name).state_dict()


def checkpoint(path: Path, detector: str = "ufldv2_micro", *, attended: bool = False) -> dict[str, Tensor]:
    """The checkpoint of a detector as a cell leaves it; gives its state dict."""
    adapter = find_adapter(detector)
    torch.manual_seed(5)
    built = adapter.detector(adapter.meta, "culane")
    if attended:
        built.add_module("spatial_attention", torch.nn.Conv2d(2, 1, 7))
    facts = {
        "detector": detector,
        "form": "culane",
        "meta": adapter.meta.model_dump(mode="json"),
        "method": {"kind": "baseline"},
    }
    save_inference_checkpoint(path, built, facts)
    return built.state_dict()


def mim_file(path: Path, backbone: str = "resnet_micro") -> None:
    card = {
        "name": f"mim:{backbone}",
        "backbone": backbone,
        "configuration": {},
        "data": {"images": 4},
        "seed": 0,
        "steps": 2,
        "threads": 1,
        "device": "cpu",
        "torch": "2",
        "seconds": 1.0,
        "normalisation": Normalisation(),
        "taps": (),
        "checks": {"learned something": False},
    }
    save_oracle(drawn_backbone(backbone, 4), OracleCard.model_validate(card), path)


def cell_with(folder: Path, configuration: dict[str, Any]) -> Cell:
    """The one cell of a suite whose oracle is this."""
    splits = {"train": {"frames": 4}, "test": {"frames": 4}}
    suite = {
        "title": "oracle",
        "datasets": {"roads": {"rendered": {"seed": 1, "splits": splits}}},
        "oracles": {"given": {"configuration": configuration}},
        "detectors": {"ufldv2_micro": None},
        "methods": {"samiro": {"oracle": "given"}},
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    (cell,) = cells_of(load_suite(str(path)))
    return cell


def images() -> Tensor:
    return torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_a_state_dict_of_a_backbone_is_an_oracle(tmp_path: Path) -> None:
    state = state_of("resnet_micro", 7)
    torch.save(state, tmp_path / "weights.pth")
    oracle = weighted_oracle(OracleConfiguration(name="supervised:resnet_micro", file=str(tmp_path / "weights.pth")))
    for name, value in oracle.backbone.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not any(parameter.requires_grad for parameter in oracle.parameters())
    assert [feature.shape[1] for feature in oracle(images())] == [16, 32, 64, 128]


def test_the_backbone_of_a_detectors_checkpoint_is_an_oracle_that_learned_from_labels(tmp_path: Path) -> None:
    state = checkpoint(tmp_path / "checkpoint.safetensors")
    oracle = weighted_oracle(
        OracleConfiguration(name="supervised:resnet_micro", file=str(tmp_path / "checkpoint.safetensors"))
    )
    for name, value in oracle.backbone.state_dict().items():
        assert torch.equal(value, state[f"backbone.{name}"]), name


@pytest.mark.parametrize(
    ("make", "name", "said"),
    [
        (checkpoint, "mim:resnet_micro", "learned from labels: name the oracle 'supervised:resnet_micro'"),
        (checkpoint, "supervised:resnet18", "whose backbone is 'resnet_micro', not 'resnet18'"),
        (lambda path: checkpoint(path, attended=True), "supervised:resnet_micro", "give the checkpoint of a baseline"),
        (lambda path: checkpoint(path, "resa_micro"), "supervised:resnet_micro", "doesn't fit the backbone"),
        (mim_file, "mim:resnet18", "an oracle on 'resnet_micro'"),
        (lambda path: save_file(state_of("resnet18", 1), path), "supervised:resnet_micro", "doesn't fit the backbone"),
        (lambda path: save_file(timm_state("test_vit"), path), "timm:test_vit2", "doesn't fit timm's test_vit2"),
        (lambda path: path.write_bytes(b"nonsense"), "timm:test_vit", r"not readable as weights \(\w+: \w"),
        (lambda path: path.mkdir(), "timm:test_vit", "that is a folder"),
        (lambda path: None, "timm:test_vit", "there is no such file; correct key 'file' of the oracle"),
    ],
    ids=["labels", "another", "attended", "fewer stages", "mim", "backbone", "timm", "damaged", "folder", "missing"],
)
def test_files_that_do_not_fit_are_refused_in_a_line(
    make: Callable[[Path], Any], name: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "given.safetensors"
    make(path)
    with pytest.raises(InputError, match=said) as caught:
        weighted_oracle(OracleConfiguration(name=name, file=str(path)))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_cell_knows_a_file_by_its_content_and_not_by_where_it_lies(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        mim_file(tmp_path / folder / "oracle.safetensors")
    cells = [
        cell_with(tmp_path / folder, {"name": "mim:resnet_micro", "file": "oracle.safetensors"})
        for folder in ("one", "other")
    ]
    digest = sha256_of_file(tmp_path / "one" / "oracle.safetensors")
    assert cells[0].id == cells[1].id
    assert cells[0].identity.oracle == {
        "configuration": {"name": "mim:resnet_micro"},
        "weights": f"file:{digest}",
    }
    assert str(tmp_path) not in cells[0].identity.model_dump_json()
    before = (oracle_key(tmp_path, cells[0]), cell_phases(tmp_path, cells[0], {"roads": "content"}).train.key)
    save_file({name: value + 1 for name, value in state_of("resnet_micro", 7).items()}, tmp_path / "plain.safetensors")
    changed = cell_with(tmp_path, {"name": "mim:resnet_micro", "file": "plain.safetensors"})
    after = (oracle_key(tmp_path, changed), cell_phases(tmp_path, changed, {"roads": "content"}).train.key)
    assert changed.id != cells[0].id
    assert not set(before) & set(after)


def test_a_record_says_what_the_card_says_and_a_failed_check_is_among_it(tmp_path: Path) -> None:
    mim_file(tmp_path / "oracle.safetensors")
    cell = cell_with(tmp_path, {"name": "mim:resnet_micro", "file": "oracle.safetensors"})
    detector = new_detector(cell)
    artefact = oracle_artefact(tmp_path, cell, detector)
    assert artefact is not None
    assert (artefact.kind, artefact.name) == ("oracle", "mim:resnet_micro")
    assert artefact.sha256 == sha256_of_file(tmp_path / "oracle.safetensors")
    assert artefact.facts["checks"] == {"learned something": False}
    assert source_oracle(tmp_path, cell, detector).taps[0].channels == 16
    checkpoint(tmp_path / "trained.safetensors")
    supervised = cell_with(tmp_path, {"name": "supervised:resnet_micro", "file": "trained.safetensors"})
    artefact = oracle_artefact(tmp_path, supervised, detector)
    assert artefact is not None
    assert (artefact.facts["detector"], artefact.facts["source"]) == ("ufldv2_micro", "trained.safetensors")


def test_published_weights_are_missing_until_they_are_cached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = cell_with(tmp_path, {"name": "timm:test_vit.r160_in1k"})
    assert cell.identity.oracle == {
        "configuration": {"name": "timm:test_vit.r160_in1k"},
        "weights": "test_vit.r160_in1k",
    }
    with pytest.raises(InputError, match="weights fetch timm:test_vit") as caught:
        source_oracle(tmp_path, cell, new_detector(cell))
    assert "`file`" in str(caught.value)
    assert "`mim:<backbone>`" in str(caught.value)
    assert main(["plan", "mine.yaml", "--json"]) == 0
    needs = {need["name"]: need for need in json.loads(capsys.readouterr().out)["needs"]}
    assert needs["test_vit.r160_in1k"]["missing"]
    assert main(["bench", "mine.yaml"]) == 2
    assert "weights missing: test_vit.r160_in1k" in capsys.readouterr().err
    state = timm_state("test_vit")
    save_file(state, tmp_path / "model.safetensors")
    assert backbones_of("mine.yaml") == ["timm:test_vit.r160_in1k"]
    words = ["weights", "fetch", "timm:test_vit.r160_in1k", "--from", "model.safetensors"]
    assert main(words) == 0
    assert "test_vit.r160_in1k" in capsys.readouterr().out
    artefact = oracle_artefact(tmp_path, cell, new_detector(cell))
    assert artefact is not None
    assert artefact.sha256 == sha256_of_file(cached_path("test_vit.r160_in1k"))
    assert artefact.facts["licence"] == published("timm:test_vit").licence
    assert artefact.facts["data"] == "ImageNet-1k"
    # Given by hand, and the address has no hash: it may be anything of the right shape, and rows say so.
    assert artefact.facts["checks"] == {"is the published file": False}
    oracle = source_oracle(tmp_path, cell, new_detector(cell))
    own = oracle.backbone.network.state_dict()
    assert all(torch.equal(own[name], state[name]) for name in own)
    assert main(["oracle", "list", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["oracles"]
    assert [row["name"] for row in listed] == ["timm:test_vit.r160_in1k"]
    assert main(["oracle", "list"]) == 0
    assert "shuffled:<oracle>" in capsys.readouterr().out
    # A training that rests on them stays where it is while they are gone.
    trained = run_phase(cell_phases(tmp_path, cell).train, lambda folder: None)
    cached_path("test_vit.r160_in1k").unlink()
    with pytest.raises(InputError, match="weights fetch timm:test_vit"):
        run_cell(tmp_path, cell, lambda event: None)
    assert trained.is_dir()


def test_a_supervised_backbone_of_ours_is_what_imagenet_stands_for(tmp_path: Path) -> None:
    cell = cell_with(tmp_path, {"name": "supervised:resnet18"})
    assert cell.identity.oracle is not None
    assert cell.identity.oracle["weights"] == "resnet18.tv_in1k"
    state = timm_state("resnet18")
    torch.save(state, tmp_path / "resnet18.pth")
    add("resnet18", tmp_path / "resnet18.pth")
    oracle = weighted_oracle(OracleConfiguration(name="supervised:resnet18"))
    for name, value in oracle.backbone.state_dict().items():
        assert is_counter(name) or torch.equal(value, state[name])


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"name": "supervised:resnet_micro"}, "nobody published weights of 'resnet_micro'"),
        ({"name": "timm:resnet19"}, "did you mean 'resnet18'"),
        ({"name": "supervised:resnet18.tv_in2k"}, "did you mean 'resnet18.tv_in1k'"),
        ({"name": "mim:resnet19", "file": "a.pth"}, "did you mean 'resnet18'"),
        ({"name": "mim:resnet18", "file": "a.pth", "steps": 3}, "configuration.steps': means nothing"),
        ({"name": "init", "file": "a.pth"}, "configuration.file': means nothing"),
        ({"name": "random:resnet18", "file": "a.pth"}, "configuration.file': means nothing"),
    ],
)
def test_oracles_that_there_are_not_are_refused_with_file_and_key(
    configuration: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said) as caught:
        cell_with(tmp_path, configuration)
    assert "oracles.given" in str(caught.value)
    assert "\n" not in str(caught.value)
