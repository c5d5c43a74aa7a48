"""Makes `import torchvision`, and with it `import timm`, work beside a CPU build of torch.

The torchvision wheel on PyPI is a CUDA build. Beside a CPU build of torch its compiled library can't be loaded, so the operators
`torchvision::nms` and `torchvision::qnms` don't exist when its Python code refers to them, and the import raises RuntimeError. None
of our detectors calls these operators: it is enough that they are declared.
"""

from __future__ import annotations

import importlib
import sys

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
"""Of both operators: torchvision/csrc/ops/nms.cpp and torchvision/csrc/ops/quantized/cpu/qnms_kernel.cpp."""


def ensure_torchvision() -> None:
    """Import torchvision; where that fails for want of its operators, declare them and import it again.

    Call it before any `import timm`. Nothing is declared where the import succeeds: on a machine whose torchvision loads its own
    operators, declaring them as well would collide. Any other failure of the import is raised as it is.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    for operator in ("torchvision::nms", "torchvision::qnms"):
        torch.library.define(operator, _SCHEMA)
