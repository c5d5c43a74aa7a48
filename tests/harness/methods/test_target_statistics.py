"""The statistics that targets are standardised by: what they are of, how they are stored, and when they are refused."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from harness.errors import InputError
from harness.methods.config import method_configuration
from harness.methods.pairing import tap_pairs
from harness.methods.statistics import load_statistics, save_statistics, target_statistics


def test_statistics_are_the_moments_of_the_normalised_target(toy: ModuleType, tmp_path: Path) -> None:
    configuration = method_configuration("samiro", {"oracle": "o"})
    oracle, detector = toy.oracle(), toy.detector()
    pairs = tap_pairs(detector, oracle, configuration)
    images = [toy.batch(seed).images for seed in range(3)]
    statistics = target_statistics(oracle, pairs, configuration, images)
    assert statistics.images == 12
    assert [(one.tap, one.oracle_tap) for one in statistics.pairs] == [
        ("stages.0", "backbone.first"),
        ("stages.1", "backbone.second"),
        ("stages.2", "backbone.second"),
    ]
    # The toy's stage 1 has the second tap's stride, but its cells lie 3.5 px up and left: the target is moved there.
    features = torch.cat([oracle(batch)[1] for batch in images])
    target = nn.functional.layer_norm(features.permute(0, 2, 3, 1), (14,)).permute(0, 3, 1, 2)
    shift = torch.eye(4)
    shift[1:, 1:] = torch.tensor([[9 / 16, 0, 0], [7 / 16, 9 / 16, 0], [0, 7 / 16, 9 / 16]])
    shift[1, 0] = 7 / 16
    rows = torch.einsum("ij,bcjx->bcix", shift, target)
    wide = torch.zeros(8, 8)
    wide[0, 0] = 1
    for i in range(1, 8):
        wide[i, i - 1], wide[i, i] = 7 / 16, 9 / 16
    moved = torch.einsum("ij,bcyj->bcyi", wide, rows)
    torch.testing.assert_close(statistics.pairs[1].mean, moved.mean((0, 2, 3)), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(statistics.pairs[1].variance, moved.var((0, 2, 3), correction=0), atol=1e-5, rtol=1e-4)
    path = tmp_path / "statistics.safetensors"
    save_statistics(statistics, path)
    loaded = load_statistics(path)
    assert loaded.images == 12
    for one, other in zip(statistics.pairs, loaded.pairs, strict=True):
        assert (one.tap, one.oracle_tap) == (other.tap, other.oracle_tap)
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.variance, other.variance)
    with pytest.raises(InputError, match="take them anew"):
        loaded.matching(pairs[:2])


def test_broken_or_empty_statistics_are_refused(toy: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "statistics.safetensors"
    for content in (b"", b"nonsense", b"\x10" * 100):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"statistics\.safetensors"):
            load_statistics(path)
    with pytest.raises(InputError, match=r"statistics"):
        load_statistics(tmp_path / "none.safetensors")
    configuration = method_configuration("samiro", {"oracle": "o"})
    oracle = toy.oracle()
    with pytest.raises(InputError, match="training split is empty"):
        target_statistics(oracle, tap_pairs(toy.detector(), oracle, configuration), configuration, [])
