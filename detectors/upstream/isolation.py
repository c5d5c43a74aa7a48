"""Runs code of a checkout in this process without leaving a trace of its modules.

Research repositories name their packages `lib`, `utils`, `models`, `nms`, `config`: two of them can't be imported under these names in
one process, nor beside a package of ours that has the name. Inside an `Isolation` the checkout's names are the checkout's; outside
they are whoever's they were before.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self
from unittest import mock

import numpy as np
import torch

from harness.errors import InputError
from harness.pytorch.torchvision_guard import ensure_torchvision

Patch = Callable[[], AbstractContextManager[Any]]
"""Makes a change that lasts as long as the context that it gives."""


class Isolation:
    """The scope in which one checkout's code is imported and runs: `with isolation: ...`, as often as needed, also nested.

    Inside, the checkout is the working directory and comes first on `sys.path`; modules of the same top-level names that are not its
    own are hidden; `stand_ins` are importable under their names, in the place of packages that are missing here or are not to run; and
    `patches` hold. Nothing is written beside the checkout's sources, and what the code prints or warns of is dropped. On leaving, also
    by an exception, all of that is undone, and the checkout's modules are kept for the next time, so that a function of upstream's
    that imports when it is called runs inside too.

    Third-party packages that were imported inside stay imported. It is no sandbox: the code has all that the process has.
    """

    def __init__(
        self,
        checkout: Path,
        *,
        needs: Sequence[str] = (),
        stand_ins: Sequence[ModuleType] = (),
        patches: Sequence[Patch] = (),
    ) -> None:
        """needs: files that the checkout must have.

        Raises InputError where the checkout isn't a folder or lacks one of the files.
        """
        self.checkout = checkout.resolve()
        if not self.checkout.is_dir():
            raise InputError(f"{checkout}: no such folder; give the path of a checkout")
        for name in needs:
            if not (self.checkout / name).exists():
                raise InputError(f"{checkout}: has no {name}; give a checkout of the repository that has it")
        self._patches = tuple(patches)
        self._modules = {module.__name__: module for module in stand_ins}
        self._stand_ins = frozenset(self._modules)
        _bind_children(self._modules)
        # The names that belong to the checkout inside, with all that lies below them.
        self._names = frozenset(self._modules).union(_importable(self.checkout))
        self._top_names = frozenset(name.partition(".")[0] for name in self._names)
        self._depth = 0
        self._undo = ExitStack()

    @property
    def stand_ins(self) -> tuple[str, ...]:
        """The names of packages and modules that something stands in for, without what lies below one of them."""
        return tuple(sorted(name for name in self._stand_ins if name.rpartition(".")[0] not in self._stand_ins))

    def __enter__(self) -> Self:
        if self._depth == 0:
            with ExitStack() as undo:
                # Before its modules could be hidden or patched.
                ensure_torchvision()
                undo.enter_context(redirect_stdout(io.StringIO()))
                undo.enter_context(redirect_stderr(io.StringIO()))
                undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                undo.enter_context(self._importing())
                for patch in self._patches:
                    undo.enter_context(patch())
                self._undo = undo.pop_all()
        self._depth += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._undo.close()

    @contextmanager
    def _importing(self) -> Iterator[None]:
        path, directory, no_bytecode = list(sys.path), os.getcwd(), sys.dont_write_bytecode
        hidden = self._take_out()
        try:
            sys.modules.update(self._modules)
            sys.path.insert(0, str(self.checkout))
            sys.dont_write_bytecode = True
            os.chdir(self.checkout)
            yield
        finally:
            sys.dont_write_bytecode = no_bytecode
            sys.path[:] = path
            self._modules = self._take_out()
            sys.modules.update(hidden)
            os.chdir(directory)

    def _take_out(self) -> dict[str, ModuleType]:
        """Take every module out of `sys.modules` that has one of the checkout's names."""
        taken = [
            name
            for name in sys.modules
            if name.partition(".")[0] in self._top_names and any(parent in self._names for parent in _parents(name))
        ]
        return {name: sys.modules.pop(name) for name in taken}


def stand_in(name: str, **attributes: Any) -> ModuleType:
    """A module of the dotted `name` with nothing but `attributes`, in place of one that upstream imports and doesn't need here.

    It counts as a package. Where its parents are none that can be imported, they need stand-ins too.
    """
    module = ModuleType(name)
    module.__path__ = []
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    vars(module).update(attributes)
    return module


def bare_package(name: str, folder: Path) -> ModuleType:
    """The package `name` that lies in `folder`, with its modules importable and without what its `__init__` would do."""
    module = stand_in(name)
    module.__path__ = [str(folder)]
    assert module.__spec__ is not None
    module.__spec__.submodule_search_locations = [str(folder)]
    return module


def replaced(target: Any, name: str, value: Any) -> Patch:
    """The attribute `name` of a module or class is `value`, whether it has one or not."""
    return lambda: mock.patch.object(target, name, value, create=True)


_DEVICE: ContextVar[torch.device | None] = ContextVar("device", default=None)


@contextmanager
def running_on(device: torch.device) -> Iterator[None]:
    """Inside, `cuda_is_here` means this device; elsewhere the CPU."""
    token = _DEVICE.set(device)
    try:
        yield
    finally:
        _DEVICE.reset(token)


@contextmanager
def cuda_is_here() -> Iterator[None]:
    """`.cuda()` of tensors and modules gives them on the device of `running_on`: for code that names a device where it should follow
    its input.
    """

    def here(self: Any, *args: Any, **options: Any) -> Any:
        return self.to(_DEVICE.get() or "cpu")

    with mock.patch.object(torch.Tensor, "cuda", here), mock.patch.object(torch.nn.Module, "cuda", here):
        yield


@contextmanager
def former_numpy_names() -> Iterator[None]:
    """Names that NumPy 2 no longer has: `np.float`, `np.int`, `np.object`, `np.str`, `np.sctypes` and others."""
    names: dict[str, Any] = {
        "float": float,
        "int": int,
        "object": object,
        "str": str,
        "float_": np.float64,
        "Inf": np.inf,
        "sctypes": {
            "int": [np.int8, np.int16, np.int32, np.int64],
            "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
            "float": [np.float16, np.float32, np.float64],
            "complex": [np.complex64, np.complex128],
            "others": [bool, object, bytes, str, np.void],
        },
    }
    added = {name: value for name, value in names.items() if name not in vars(np)}
    vars(np).update(added)
    try:
        yield
    finally:
        for name in added:
            delattr(np, name)


def _importable(folder: Path) -> Iterator[str]:
    """The top-level names that imports find in a folder; a folder without `__init__` is a package too."""
    for entry in folder.iterdir():
        name = entry.stem if entry.suffix == ".py" else entry.name
        if name.isidentifier() and (entry.suffix == ".py" or entry.is_dir()):
            yield name


def _parents(name: str) -> Iterator[str]:
    """a.b.c -> a, a.b, a.b.c."""
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _bind_children(modules: dict[str, ModuleType]) -> None:
    """`import a.b` gives `a`: it has to have `b`, which the import system sets only on what it loads itself."""
    for name, module in modules.items():
        parent, _, child = name.rpartition(".")
        if parent in modules and not hasattr(modules[parent], child):
            setattr(modules[parent], child, module)
