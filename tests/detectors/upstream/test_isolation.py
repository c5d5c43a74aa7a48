"""Code of a checkout runs under its own names, and nothing of it is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils import _pytree as pytree

from detectors.registry import bridge_class, find_adapter
from detectors.upstream.isolation import (
    Isolation,
    bare_package,
    cuda_is_here,
    former_numpy_names,
    replaced,
    running_on,
    stand_in,
)
from harness.errors import InputError
from harness.pytorch.torchvision_guard import ensure_torchvision
from harness.training.determinism import seed_everything
from tests.checkouts import CHECKOUTS, needs_checkouts


@pytest.fixture(autouse=True, scope="module")
def _third_party_packages_that_stay() -> None:
    ensure_torchvision()


def write(root: Path, **files: str) -> Path:
    """A checkout of Python files; `lib__net` is lib/net.py."""
    for name, text in files.items():
        file = root / (name.replace("__", "/") + ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def interpreter() -> tuple[Any, ...]:
    return list(sys.path), dict(sys.modules), os.getcwd(), sys.dont_write_bytecode


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return write(
        tmp_path / "one",
        lib__net="from lib import helper\n\ndef late():\n    from lib import lazy\n    return lazy.VALUE, helper.VALUE\n",
        lib__helper="VALUE = 1\n",
        lib__lazy="VALUE = 2\n",
        lib__broken="from lib import helper\nraise OSError('no network')\n",
    )


def test_two_checkouts_have_the_same_names_in_one_process(checkout: Path, tmp_path: Path) -> None:
    one, two = Isolation(checkout), Isolation(write(tmp_path / "two", lib__net="def late():\n    return 'two'\n"))
    before = interpreter()
    with one:
        from lib.net import late as first  # type: ignore[import-not-found]
    with two:
        from lib.net import late as second
    assert interpreter() == before
    with one:
        assert first() == (2, 1)
    with two:
        assert second() == "two"
    assert interpreter() == before


def test_modules_are_the_same_ones_on_the_next_entry(checkout: Path) -> None:
    isolation = Isolation(checkout)
    with isolation:
        import lib.helper as first  # type: ignore[import-not-found]

        first.VALUE = 7
    with isolation, isolation:
        import lib.helper as again

        assert again is first
    with isolation:
        assert sys.modules["lib.helper"].VALUE == 7


def test_a_module_of_ours_with_such_a_name_is_hidden_and_comes_back(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = ModuleType("lib")
    monkeypatch.setitem(sys.modules, "lib", ours)
    with Isolation(checkout):
        from lib.helper import VALUE

        assert VALUE == 1
    assert sys.modules["lib"] is ours
    assert "lib.helper" not in sys.modules


def test_an_error_inside_restores_everything(checkout: Path) -> None:
    before = interpreter()
    with pytest.raises(OSError, match="no network"), Isolation(checkout):
        import lib.broken  # type: ignore[import-not-found] # noqa: F401
    assert interpreter() == before


def test_an_error_in_a_patch_restores_everything(checkout: Path) -> None:
    before = interpreter()

    def fails() -> Any:
        raise ValueError("patch")

    with pytest.raises(ValueError, match="patch"), Isolation(checkout, patches=[fails]):
        pass
    assert interpreter() == before


def test_a_checkout_that_went_away_restores_everything(checkout: Path) -> None:
    isolation, before = Isolation(checkout), interpreter()
    checkout.rename(checkout.parent / "moved")
    with pytest.raises(FileNotFoundError), isolation:
        pass
    assert interpreter() == before


def test_nothing_is_written_into_the_checkout(checkout: Path) -> None:
    before = sorted(checkout.rglob("*"))
    with Isolation(checkout):
        import lib.net  # noqa: F401

        assert Path.cwd() == checkout
    assert sorted(checkout.rglob("*")) == before


def test_stand_ins_are_imported_by_any_form_of_import_and_hide_real_packages(tmp_path: Path) -> None:
    text = (
        "import absent.ops\n"
        "from absent import ops\n"
        "from absent.ops import Box\n"
        "import json\n"
        "assert absent.ops is ops and ops.Box is Box\n"
    )
    real = sys.modules["json"]
    names = stand_in("absent"), stand_in("absent.ops", Box=int), stand_in("json", loads=None)
    isolation = Isolation(write(tmp_path, lib__net=text), stand_ins=names)
    with isolation:
        import lib.net as net  # type: ignore[import-not-found]
    assert net.Box is int
    assert net.json is names[2]
    assert sys.modules["json"] is real
    assert "absent" not in sys.modules


def test_a_bare_package_has_its_modules_and_not_what_its_init_does(tmp_path: Path) -> None:
    root = write(tmp_path, utils__small="VALUE = 3\n")
    (root / "utils" / "__init__.py").write_text("raise ImportError('a package that is not here')\n")
    with pytest.raises(ImportError, match="not here"), Isolation(root):
        import utils.small  # type: ignore[import-not-found]
    with Isolation(root, stand_ins=[bare_package("utils", root / "utils")]):
        import utils.small

        assert utils.small.VALUE == 3


def test_patches_hold_inside_only(checkout: Path) -> None:
    tensor, layer = torch.zeros(1), torch.nn.Linear(1, 1)
    cuda = torch.Tensor.cuda
    isolation = Isolation(
        checkout, patches=[cuda_is_here, former_numpy_names, replaced(torch.cuda, "FloatTensor", torch.FloatTensor)]
    )
    with isolation:
        assert tensor.cuda(0, non_blocking=True) is tensor
        assert layer.cuda() is layer
        assert np.float is float  # type: ignore[attr-defined]
        assert np.int64 in np.sctypes["int"]  # type: ignore[attr-defined]
        assert torch.cuda.FloatTensor is torch.FloatTensor  # type: ignore[comparison-overlap]
    assert torch.Tensor.cuda is cuda
    assert not hasattr(np, "sctypes")


@pytest.mark.filterwarnings("error")
def test_what_upstream_says_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "import sys, warnings\nprint('loading')\nprint('50 %', file=sys.stderr)\nwarnings.warn('deprecated')\n"
    with Isolation(write(tmp_path, lib__net=text)):
        import lib.net  # noqa: F401
    assert capsys.readouterr() == ("", "")


def test_a_wrong_folder_is_refused_with_its_name(checkout: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        Isolation(checkout / "nowhere")
    with pytest.raises(InputError, match=r"one: has no lib/other\.py"):
        Isolation(checkout, needs=["lib/net.py", "lib/other.py"])


def test_code_that_names_a_gpu_runs_where_its_input_is() -> None:
    tensor = torch.zeros(2)
    with cuda_is_here():
        assert tensor.cuda().device.type == "cpu"
        with running_on(torch.device("meta")):
            assert tensor.cuda().device.type == "meta"
        assert tensor.cuda(0).device.type == "cpu"


CLASHING = ("ufld_resnet18", "lstr_resnet18s", "ufldv2_resnet18", "laneatt_resnet122", "resa_resnet18")
"""Bridges to repositories that have `utils`, `model`, `models`, `lib`, `data` and `configs` among them, several of each."""


def state_of(checkout: Path) -> tuple[str, list[Path]]:
    """What git says of a checkout, and its files of byte code."""
    said = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(checkout), "status", "--porcelain", "--ignored"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return said, sorted(checkout.rglob("*.pyc"))


@pytest.mark.slow
@needs_checkouts
def test_bridges_whose_packages_have_the_same_names_run_in_one_process_in_either_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = {name: ModuleType(name) for name in ("utils", "model", "models", "lib", "libs", "data", "configs", "config")}
    for name, module in ours.items():
        monkeypatch.setitem(sys.modules, name, module)
    assert CHECKOUTS is not None
    repositories = {bridge_class(f"{name}_upstream").reference.repository for name in CLASHING}
    before = {one: state_of(Path(CHECKOUTS) / one) for one in repositories}
    path, folder = list(sys.path), os.getcwd()
    seen: list[dict[str, Any]] = []
    for order in (CLASHING, CLASHING[::-1]):
        built = {}
        for name in order:
            adapter = find_adapter(f"{name}_upstream")
            seed_everything(0)
            built[name] = adapter.detector(adapter.meta, "tusimple").eval()
        outputs = {}
        with torch.no_grad():
            # In turns, when all are there.
            for name, detector in built.items():
                size = detector.configuration.input.network
                shown = torch.arange(3 * size[0] * size[1]).reshape(1, 3, *size).remainder(251).to(torch.uint8)
                outputs[name] = detector(shown)
                detector.decode(outputs[name], [detector.geometry_of(detector.configuration.input.frame)])
        seen.append(outputs)
        assert {name: sys.modules[name] for name in ours} == ours
        assert not [name for name in sys.modules if name.partition(".")[0] in ours and name not in ours]
        assert (list(sys.path), os.getcwd()) == (path, folder)
    for name in CLASHING:
        for one, other in zip(*(pytree.tree_leaves(outputs[name]) for outputs in seen), strict=True):
            assert torch.equal(torch.as_tensor(one), torch.as_tensor(other)), name
    assert {one: state_of(Path(CHECKOUTS) / one) for one in repositories} == before
