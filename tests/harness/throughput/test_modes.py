"""Modes: their names, and what a device has."""

from __future__ import annotations

import pytest
import torch

from harness.errors import InputError
from harness.throughput.modes import HEADLINE, Mode, check_mode, mode_of, native_precisions

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("fp32-strict", HEADLINE),
        ("amp-bf16+channels_last", Mode("amp-bf16", channels_last=True)),
        ("tf32+channels_last+compile", Mode("tf32", channels_last=True, compiled=True)),
    ],
)
def test_a_mode_is_named_by_its_parts(text: str, mode: Mode) -> None:
    assert str(mode) == text
    assert mode_of(text) == mode


@pytest.mark.parametrize(("text", "told"), [("fp32", "fp32-strict"), ("amp-bf16+compiled", r"\+compile")])
def test_an_unknown_mode_is_refused_with_what_there_is(text: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        mode_of(text)


def test_tf32_is_refused_where_there_is_none() -> None:
    with pytest.raises(InputError, match="TF32"):
        check_mode(Mode("tf32"), CPU)


@pytest.mark.parametrize(
    ("has", "precisions"),
    [
        ({}, ("fp32-strict",)),
        ({"avx512_bf16": True, "amx_fp16": False}, ("fp32-strict", "amp-bf16")),
        ({"amx_bf16": True, "avx512_fp16": True}, ("fp32-strict", "amp-bf16", "amp-fp16")),
    ],
)
def test_a_cpu_offers_what_it_has_instructions_for(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, bool], precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    assert native_precisions(CPU) == precisions


@pytest.mark.parametrize(
    ("capability", "precisions"),
    [
        ((6, 1), ("fp32-strict",)),
        ((7, 5), ("fp32-strict", "amp-fp16")),
        ((9, 0), ("fp32-strict", "tf32", "amp-bf16", "amp-fp16")),
    ],
)
def test_a_gpu_offers_what_its_compute_capability_has(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precisions: tuple[str, ...]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert native_precisions(torch.device("cuda")) == precisions


def test_an_amd_gpu_has_no_tf32_whatever_torch_says_of_its_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 4))
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert native_precisions(torch.device("cuda")) == ("fp32-strict", "amp-bf16", "amp-fp16")
    with pytest.raises(InputError, match="TF32"):
        check_mode(Mode("tf32"), torch.device("cuda"))
