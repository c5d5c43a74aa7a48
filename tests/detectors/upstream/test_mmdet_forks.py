from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from detectors.upstream.mmdet_forks import bias_init_with_prob, build_from_cfg, deform_conv, mmdet_fork
from detectors.upstream.openmmlab import Registry


def test_what_is_built_has_the_options_and_by_default_the_others_and_they_stay_as_they_are() -> None:
    registry = Registry()
    registry.register_module(nn.Linear)
    options = {"type": "Linear", "in_features": 2}
    built = build_from_cfg(options, registry, {"in_features": 5, "out_features": 3})
    assert (built.in_features, built.out_features) == (2, 3)
    assert options == {"type": "Linear", "in_features": 2}


def test_a_bias_says_its_share() -> None:
    assert float(torch.sigmoid(torch.tensor(bias_init_with_prob(0.01)))) == pytest.approx(0.01)


def test_where_nothing_moves_a_deformable_convolution_is_a_convolution() -> None:
    torch.manual_seed(0)
    features, weight = torch.randn(2, 4, 5, 6), torch.randn(3, 4, 1, 5)
    still = torch.zeros(2, 10, 5, 6)
    output = deform_conv(features, still, weight, (1, 1), (0, 2))
    torch.testing.assert_close(output, F.conv2d(features, weight, padding=(0, 2)), atol=1e-5, rtol=1e-5)


def test_packages_of_the_fork_are_found_in_its_checkout_and_their_own_imports_are_not_run(tmp_path: Path) -> None:
    modules = {module.__name__: module for module in mmdet_fork(tmp_path)}
    assert list(modules["mmdet.models.necks"].__path__) == [str(tmp_path / "mmdet" / "models" / "necks")]
    assert modules["mmdet.core"].auto_fp16()(deform_conv) is deform_conv
