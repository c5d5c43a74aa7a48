from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

FAKE = """
import torch
if not hasattr(torch.ops.torchvision, "nms"):
    raise RuntimeError("operator torchvision::nms does not exist")
if not hasattr(torch.ops.torchvision, "qnms"):
    raise RuntimeError("operator torchvision::qnms does not exist")
"""


def run(program: str, first_on_path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    lines = f"import sys; sys.path[:0] = [{str(first_on_path)!r}, {str(ROOT)!r}]\n" + program
    return subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, timeout=120, check=False)


def test_timm_builds_a_network_after_the_guard() -> None:
    done = run(
        "from harness.pytorch.torchvision_guard import ensure_torchvision\n"
        "ensure_torchvision(); ensure_torchvision()\n"
        "import timm, torch\n"
        "network = timm.create_model('resnet18', features_only=True)\n"
        "print(len(network(torch.zeros(1, 3, 64, 64))))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5"]


def test_operators_are_declared_where_they_are_missing_and_nowhere_else(tmp_path: Path) -> None:
    package = tmp_path / "torchvision" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    done = run(
        "import pathlib, torch\n"
        "from harness.pytorch.torchvision_guard import ensure_torchvision\n"
        "ensure_torchvision()\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))\n"
        # Of another length: the module that was compiled from the empty file isn't taken for it.
        f"pathlib.Path({str(package)!r}).write_text({FAKE!r})\n"
        "del sys.modules['torchvision']\n"
        "ensure_torchvision()\n"
        "print(hasattr(torch.ops.torchvision, 'nms'))\n",
        tmp_path,
    )
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_other_failures_of_the_import_are_raised_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('libcudart is broken')")
    done = run("from harness.pytorch.torchvision_guard import ensure_torchvision; ensure_torchvision()", tmp_path)
    assert done.returncode != 0
    assert "libcudart is broken" in done.stderr
