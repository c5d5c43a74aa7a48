from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from harness.errors import InputError
from harness.processes.faults import fault_of
from harness.training.checkpoint import (
    load_inference_checkpoint,
    load_training_state,
    save_inference_checkpoint,
    save_training_state,
)

FACTS = {"detector": "toy", "form": "culane", "meta": {"name": "toy", "paper": "é"}, "threshold": 0.4}


def network() -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.Linear(4, 4))
    net[3].weight = net[2].weight
    return net.to(memory_format=torch.channels_last)


def test_an_inference_checkpoint_round_trips_with_its_facts(tmp_path):
    net = network()
    sha256 = save_inference_checkpoint(tmp_path / "a.safetensors", net, FACTS)
    loaded = load_inference_checkpoint(tmp_path / "a.safetensors")
    assert loaded.facts == FACTS
    other = network()
    other.load_state_dict(loaded.tensors)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
    assert hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest() == sha256


def test_an_inference_checkpoint_is_plain_safetensors(tmp_path):
    net = network()
    save_inference_checkpoint(tmp_path / "a.safetensors", net, FACTS)
    assert set(load_file(tmp_path / "a.safetensors")) == set(net.state_dict())


def test_equal_detectors_give_equal_files(tmp_path):
    net = network()
    first = save_inference_checkpoint(tmp_path / "a", net, FACTS)
    assert first == save_inference_checkpoint(tmp_path / "b", net, dict(reversed(FACTS.items())))


def test_broken_inference_checkpoints_are_named(tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(InputError, match=r"a\.safetensors is missing"):
        load_inference_checkpoint(path)
    save_inference_checkpoint(path, network(), FACTS)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"a\.safetensors: not a readable safetensors file"):
        load_inference_checkpoint(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match=r"a\.safetensors: no metadata"):
        load_inference_checkpoint(path)
    for text in ("{", json.dumps([1])):
        save_file({"a": torch.zeros(1)}, path, metadata={"samiro_bench": text})
        with pytest.raises(InputError, match=r"a\.safetensors: its metadata"):
            load_inference_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_is_answered_with_the_way_to_import_it(tmp_path, zipped):
    path = tmp_path / "official.pkl"
    torch.save(network().state_dict(), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match=r"detectors import NAME .*official\.pkl --out official\.safetensors"):
        load_inference_checkpoint(path)


def test_a_training_state_round_trips(tmp_path):
    state = {
        "step": 3,
        "tensors": {"a": torch.arange(4)},
        "list": [1.5, None, "text", math.inf, 0.1 + 0.2],
        0: {1: True},
    }
    save_training_state(tmp_path / "a", state)
    loaded = load_training_state(tmp_path / "a")
    assert torch.equal(loaded["tensors"].pop("a"), state["tensors"].pop("a"))
    assert loaded == state
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_state_of_an_optimizer_and_of_shared_weights_comes_back_bit_for_bit(tmp_path):
    net = network()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    sum(parameter.square().sum() for parameter in net.parameters()).backward()
    optimizer.step()
    save_training_state(tmp_path / "a", {"model": net.state_dict(), "optimizer": optimizer.state_dict()})
    assert "model/2.weight" in load_file(tmp_path / "a")
    loaded = load_training_state(tmp_path / "a")
    other = network()
    other.load_state_dict(loaded["model"])
    again = torch.optim.AdamW(other.parameters(), lr=0.3)
    again.load_state_dict(loaded["optimizer"])
    for state, parameters in ((optimizer, net), (again, other)):
        state.zero_grad()
        sum(parameter.sin().sum() for parameter in parameters.parameters()).backward()
        state.step()
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04 cut"])
def test_a_broken_training_state_is_named(tmp_path, content):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=r"a: not a readable training checkpoint \([^\n]+\); delete it") as caught:
        load_training_state(tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_training_state_that_was_cut_is_named(tmp_path):
    save_training_state(tmp_path / "a", {"tensor": torch.zeros(1000)})
    whole = (tmp_path / "a").read_bytes()
    for size in (4, 60, len(whole) - 1):
        (tmp_path / "a").write_bytes(whole[:size])
        with pytest.raises(InputError, match="a: not a readable training checkpoint"):
            load_training_state(tmp_path / "a")


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"items": 3}', '{"items": [["a", {"tensor": "missing"}]]}', "{}"])
def test_something_else_is_no_training_state(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "a", metadata={"samiro_bench_training": text})
    with pytest.raises(InputError, match=r"a: not a (readable )?training checkpoint.*delete it to train again"):
        load_training_state(tmp_path / "a")


def test_weights_alone_are_no_training_state(tmp_path):
    save_inference_checkpoint(tmp_path / "a", network(), FACTS)
    with pytest.raises(InputError, match="a: not a readable training checkpoint"):
        load_training_state(tmp_path / "a")


def test_two_tensors_that_would_lie_at_one_path_are_refused(tmp_path):
    """Else both would come back as the one that was written last."""
    for state in ({"a/b": torch.zeros(1), "a": {"b": torch.ones(1)}}, {0: torch.zeros(1), "0": torch.ones(1)}):
        with pytest.raises(TypeError, match=r"two tensors lie at '(a/b|0)'"):
            save_training_state(tmp_path / "a", state)
    assert not list(tmp_path.iterdir())


def test_a_write_that_the_system_does_not_let_through_is_an_error_of_the_system(tmp_path, monkeypatch):
    """A full disk, as safetensors tells of it, is answered as one is that any other file met."""

    def full(tensors, path, metadata):
        raise SafetensorError('Error while serializing: Io(Os { code: 28, kind: StorageFull, message: "" })')

    monkeypatch.setattr("harness.files.tensors.save_file", full)
    for write in (
        lambda path: save_training_state(path, {"step": 1}),
        lambda path: save_inference_checkpoint(path, network(), FACTS),
    ):
        with pytest.raises(OSError, match="No space left") as raised:
            write(tmp_path / "a")
        assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_state(tmp_path, monkeypatch):
    save_training_state(tmp_path / "a", {"step": 1})
    with pytest.raises(TypeError, match="a function at 'bad' can't be kept"):
        save_training_state(tmp_path / "a", {"step": 2, "bad": lambda: None})

    def half(tensors, path, metadata):
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("harness.files.tensors.save_file", half)
    with pytest.raises(OSError, match="disk full"):
        save_training_state(tmp_path / "a", {"step": 2})
    assert load_training_state(tmp_path / "a") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "have whoever made it let you read it"),
        (errno.EMFILE, "it may be whole: "),
        (errno.ESTALE, "it may be whole: "),
    ],
)
@pytest.mark.parametrize("read", [load_training_state, load_inference_checkpoint])
def test_nobody_is_told_that_a_checkpoint_which_the_system_withholds_is_missing_or_to_be_deleted(
    tmp_path, monkeypatch, read, number, advice
):
    """safetensors calls every file that it can't open missing."""

    def withheld(path, *_):
        raise OSError(number, os.strerror(number), path)

    (tmp_path / "a").write_bytes(b"PK")
    monkeypatch.setattr("builtins.open", withheld)
    with pytest.raises(InputError) as caught:
        read(tmp_path / "a")
    told = str(caught.value)
    assert f"({os.strerror(number)}); {advice}" in told
    assert "missing" not in told
    assert "again or" not in told
    assert "delete" not in told
    passing = number != errno.EACCES
    assert fault_of(caught.value).kind == ("infrastructure" if passing else "input")
