"""An exported graph is held against its network by the size of each output, whatever that is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness.errors import InputError
from harness.inference.export import TOLERANCE, check_exported


@pytest.mark.parametrize(
    ("largest", "off", "same"),
    [
        (1000.0, 900 * TOLERANCE, True),
        (1000.0, 1100 * TOLERANCE, False),
        # Of outputs below 1, as probabilities are, a share says too much.
        (0.01, 0.9 * TOLERANCE, True),
        (0.01, 1.1 * TOLERANCE, False),
        (1.0, float("nan"), False),
    ],
)
def test_a_graph_may_be_off_by_a_share_of_a_large_output_and_by_as_much_of_any_small_one(
    monkeypatch: pytest.MonkeyPatch, largest: float, off: float, same: bool
) -> None:
    values = np.array([[largest, -largest / 2]])
    session = SimpleNamespace(run=lambda names, inputs: [values + np.array([[0, -off]])])
    runtime = SimpleNamespace(InferenceSession=lambda path, providers: session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)

    def check(wanted: torch.Tensor) -> None:
        check_exported(Path("x.onnx"), torch.zeros(1), {"lanes": wanted}, "mine")

    if same:
        check(torch.from_numpy(values))
    else:
        with pytest.raises(InputError, match="mine: output 'lanes' of the exported graph isn't the network's"):
            check(torch.from_numpy(values))
    with pytest.raises(InputError, match="isn't the network's"):
        check(torch.from_numpy(values[0]))
