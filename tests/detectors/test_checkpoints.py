from __future__ import annotations

import errno
import math
import os
import pickle
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.checkpoints import import_checkpoint, read_state, renamed
from detectors.lstr import LSTR
from detectors.registry import detector_meta
from harness.errors import InputError

NAME, FORM = "lstr_micro", "culane"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return LSTR(detector_meta(NAME), FORM).state_dict()


def saved(path: Path, value: Any) -> Path:
    torch.save(value, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module.", "net.", "module.model.", "model.net.module."])
@pytest.mark.parametrize("container", [None, "model", "state_dict", "net", "state_dict.model", "net.state_dict"])
def test_a_state_dict_is_found_whatever_it_is_wrapped_in(
    tmp_path: Path, weights: dict[str, Tensor], prefix: str, container: str | None
) -> None:
    state: Any = {prefix + name: value for name, value in weights.items()}
    for key in reversed(container.split(".") if container else []):
        state = {key: state, "epoch": 3}
    path = saved(tmp_path / "a.pt", state)
    detector = import_checkpoint(NAME, FORM, path)
    assert not detector.training
    assert all(torch.equal(value, weights[name]) for name, value in detector.state_dict().items())


def test_a_prefix_of_some_entries_only_is_part_of_their_names(tmp_path: Path) -> None:
    one = torch.ones(1)
    assert set(read_state(saved(tmp_path / "a.pt", {"model.a": one, "b": one}))) == {"model.a", "b"}


def test_what_a_profiler_left_behind_is_dropped(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    counters = {f"module.{key}": torch.zeros(1) for key in ("total_ops", "backbone.total_params")}
    path = saved(tmp_path / "a.pt", {f"module.{name}": value for name, value in weights.items()} | counters)
    assert set(import_checkpoint(NAME, FORM, path).state_dict()) == set(weights)


def test_names_are_replaced_in_order_and_never_merged(tmp_path: Path) -> None:
    one = torch.ones(1)
    rules = ((r"^a\.", "b."), (r"^b\.(\d)", r"c.\1"))
    assert set(renamed({"a.1": one, "d": one}, rules, where=tmp_path)) == {"c.1", "d"}
    with pytest.raises(InputError, match="two entries stand for"):
        renamed({"a.1": one, "b.1": one}, rules, where=tmp_path)


def test_entries_that_do_not_fit_are_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    state = dict(weights)
    state["extra"] = state.pop("lane.bias")
    state["queries"] = torch.zeros(9, 32)
    path = saved(tmp_path / "a.pt", state)
    with pytest.raises(InputError) as raised:
        import_checkpoint(NAME, FORM, path)
    message = str(raised.value)
    assert str(path) in message
    assert "1 of another shape: queries (9, 32) instead of (7, 32)" in message
    assert "1 missing: lane.bias" in message
    assert "1 unknown: extra" in message


@pytest.mark.parametrize(
    "broken",
    [
        lambda value: torch.full_like(value, math.nan),
        lambda value: torch.full_like(value, 1e6).half(),
        lambda value: value.to(torch.complex64),
        lambda value: value.to_sparse(),
        lambda value: value.to("meta"),
    ],
    ids=["nan", "overflown", "complex", "sparse", "empty"],
)
def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, weights: dict[str, Tensor], broken: Any) -> None:
    path = saved(tmp_path / "a.pt", weights | {"queries": broken(weights["queries"])})
    with pytest.raises(
        InputError, match=r"a\.pt: entry 'queries' doesn't hold finite floating-point numbers; give the checkpoint"
    ):
        import_checkpoint(NAME, FORM, path)


def test_a_file_that_holds_itself_is_refused(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    with pytest.raises(InputError, match=r"a\.pt: holds no state dict"):
        read_state(saved(tmp_path / "a.pt", endless))


def test_what_a_file_needs_beside_tensors_is_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "a.pt", {"model": weights, "options": Namespace(lr=1)})
    with pytest.raises(
        InputError, match=r"a\.pt: not a file .*\(it needs argparse\.Namespace\); give a model's state dict"
    ):
        read_state(path)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    broken = saved(tmp_path / "whole.pt", weights)
    broken.write_bytes(broken.read_bytes()[:-2000])
    # The layout before torch 1.6, which older downloads have, breaks in ways of its own.
    older = tmp_path / "older.pt"
    torch.save(weights, older, _use_new_zipfile_serialization=False)
    whole = older.read_bytes()
    cuts = []
    for size in (1, 20, len(whole) // 3, len(whole) - 2000, len(whole) - 3):
        cuts.append(tmp_path / f"older-{size}.pt")
        cuts[-1].write_bytes(whole[:size])
    code = tmp_path / "code.pkl"
    code.write_bytes(pickle.dumps(Harmful(), protocol=2))
    text = tmp_path / "text.json"
    text.write_text('{"a": 1}')
    numbers, empty = saved(tmp_path / "numbers.pt", {"model": 3}), saved(tmp_path / "empty.pt", {})
    for path in (broken, *cuts, code, text, numbers, empty, tmp_path / "absent.pt"):
        with pytest.raises(InputError, match=path.name) as raised:
            import_checkpoint(NAME, FORM, path)
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pt", "a.safetensors"])
def test_weights_that_the_system_withholds_are_neither_missing_nor_to_be_copied_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """safetensors calls every file that it can't open missing."""

    def withheld(path: Path, *_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    (tmp_path / name).write_bytes(b"")
    monkeypatch.setattr("builtins.open", withheld)
    with pytest.raises(InputError, match=r"Too many open files.*; it may be whole: ") as refused:
        read_state(tmp_path / name)
    assert "missing" not in str(refused.value)
    assert "copy it" not in str(refused.value)


def test_a_form_that_a_variant_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"lstr_resnet34.*llamas.*culane"):
        import_checkpoint("lstr_resnet34", "llamas", tmp_path / "a.pt")
