"""What a bridge can't build or run of a checkout that lacks files or was changed is told in a line."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from detectors.registry import find_adapter
from detectors.upstream import checkouts
from harness.errors import InputError, InputWarning
from tests.checkouts import CHECKOUTS, needs_checkouts


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (
            "clrnet/models/necks/fpn.py",
            "its code can't be imported (No module named 'clrnet.models.necks.fpn'); restore",
        ),
        ("configs/clrnet/clr_resnet18_culane.py", "has no configs/clrnet/clr_resnet18_culane.py; restore the checkout"),
        ("clrnet/models/heads/clr_head.py", "has no clrnet/models/heads/clr_head.py; give a checkout"),
    ],
)
def test_a_checkout_that_lacks_a_file_is_told_in_a_line(gone, told, tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    (tmp_path / "CLRNet" / gone).unlink()
    with pytest.warns(InputWarning, match="with local changes; CLRNet is known at"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    with pytest.raises(InputError) as refused:
        adapter.detector(adapter.meta, "culane")
    assert told in str(refused.value)


@pytest.mark.slow
@needs_checkouts
@pytest.mark.parametrize(("added", "told"), [("raise OSError('mine')", "OSError: mine"), ("def (:", "SyntaxError: ")])
def test_changed_code_that_can_not_be_built_is_told_in_a_line(added, told, tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    with (tmp_path / "CLRNet" / "clrnet" / "models" / "heads" / "clr_head.py").open("a") as stream:
        stream.write(f"\n{added}\n")
    with pytest.warns(InputWarning, match="with local changes; CLRNet is known at"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    with pytest.raises(InputError, match=rf"its code can't be built \({told}.*\); check out 7269e9d1c1c6\w+, without"):
        adapter.detector(adapter.meta, "culane")


@pytest.mark.slow
@needs_checkouts
def test_what_is_missing_when_the_code_runs_is_told_in_a_line(tmp_path, monkeypatch):
    assert CHECKOUTS is not None
    clone = ["git", "clone", "-q", "--shared", str(Path(CHECKOUTS) / "CLRNet"), str(tmp_path / "CLRNet")]
    subprocess.run(clone, check=True)
    monkeypatch.setenv(checkouts.VARIABLE, str(tmp_path))
    file = tmp_path / "CLRNet" / "clrnet" / "datasets" / "culane.py"
    file.write_text(f"import a_missing_package\n{file.read_text()}")
    with pytest.warns(InputWarning, match="with local changes"):
        adapter = find_adapter("clrnet_resnet18_upstream")
    detector = adapter.detector(adapter.meta, "culane").eval()
    outputs = torch.zeros(1, 192, 78)
    outputs[..., 1], outputs[..., 5], outputs[..., 6:] = 9.0, 60 / 71, 0.3
    with pytest.raises(InputError, match="CLRNet: its code needs the package a_missing_package: install it, or name"):
        detector.decode(outputs, [detector.geometry_of((590, 1640))])
