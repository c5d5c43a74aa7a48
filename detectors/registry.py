"""Names of detectors -> the adapters behind them. Listing names imports nothing.

A detector has a name in `TABLE`, or one that an installed package gives it under the entry-point group `samiro_bench.detectors`, or
is called by its file: `path/to/file.py:Class`, with `@variant` behind it where the class offers several.
"""

from __future__ import annotations

import hashlib
import re
import sys
import traceback
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pydantic import ValidationError

from detectors import meta as meta_models
from harness.errors import InputError, did_you_mean
from harness.files.stored import sha256_of_json
from harness.files.validation import first_complaint, plain_complaint

if TYPE_CHECKING:
    from detectors.base import Detector
    from detectors.meta import DetectorMeta
    from detectors.upstream.bridge import Bridge

TABLE: dict[str, str] = {
    "bezierlanenet_micro": "detectors.bezierlanenet:BezierLaneNet",
    "bezierlanenet_resnet18": "detectors.bezierlanenet:BezierLaneNet",
    "bezierlanenet_resnet34": "detectors.bezierlanenet:BezierLaneNet",
    "clrernet_dla34": "detectors.clrernet:CLRerNet",
    "clrernet_dla34_ema": "detectors.clrernet:CLRerNet",
    "clrernet_micro": "detectors.clrernet:CLRerNet",
    "clrnet_convnext_tiny": "detectors.clrnet:CLRNet",
    "clrnet_dla34": "detectors.clrnet:CLRNet",
    "clrnet_micro": "detectors.clrnet:CLRNet",
    "clrnet_resnet101": "detectors.clrnet:CLRNet",
    "clrnet_resnet18": "detectors.clrnet:CLRNet",
    "clrnet_resnet34": "detectors.clrnet:CLRNet",
    "condlanenet_micro": "detectors.condlanenet:CondLaneNet",
    "condlanenet_resnet101": "detectors.condlanenet:CondLaneNetLarge",
    "condlanenet_resnet18": "detectors.condlanenet:CondLaneNet",
    "condlanenet_resnet34": "detectors.condlanenet:CondLaneNet",
    "ganet_micro": "detectors.ganet:GANet",
    "ganet_resnet101": "detectors.ganet:GANet",
    "ganet_resnet18": "detectors.ganet:GANet",
    "ganet_resnet34": "detectors.ganet:GANet",
    "laneatt_micro": "detectors.laneatt:LaneATT",
    "laneatt_resnet122": "detectors.laneatt:LaneATT",
    "laneatt_resnet18": "detectors.laneatt:LaneATT",
    "laneatt_resnet34": "detectors.laneatt:LaneATT",
    "lstr_micro": "detectors.lstr:LSTR",
    "lstr_resnet18s": "detectors.lstr:LSTR",
    "lstr_resnet18s_1x": "detectors.lstr:LSTR",
    "lstr_resnet18s_2x": "detectors.lstr:LSTR",
    "lstr_resnet34": "detectors.lstr:LSTR",
    "polylanenet_efficientnet_b0": "detectors.polylanenet:PolyLaneNetB0",
    "polylanenet_efficientnet_b1": "detectors.polylanenet:PolyLaneNetB1",
    "polylanenet_micro": "detectors.polylanenet:PolyLaneNet",
    "polylanenet_resnet34": "detectors.polylanenet:PolyLaneNet",
    "polylanenet_resnet50": "detectors.polylanenet:PolyLaneNet",
    "resa_micro": "detectors.resa:RESA",
    "resa_micro_2x": "detectors.resa:RESA",
    "resa_micro_4x": "detectors.resa:RESA",
    "resa_resnet101": "detectors.resa:RESA",
    "resa_resnet18": "detectors.resa:RESA",
    "resa_resnet34": "detectors.resa:RESA",
    "scnn_micro": "detectors.scnn:SCNN",
    "scnn_resnet101": "detectors.scnn:SCNN",
    "scnn_resnet18": "detectors.scnn:SCNN",
    "scnn_resnet34": "detectors.scnn:SCNN",
    "ufld_micro": "detectors.ufld:UFLD",
    "ufld_resnet101": "detectors.ufld:UFLD",
    "ufld_resnet18": "detectors.ufld:UFLD",
    "ufld_resnet34": "detectors.ufld:UFLD",
    "ufldv2_micro": "detectors.ufldv2:UFLDv2",
    "ufldv2_resnet18": "detectors.ufldv2:UFLDv2",
    "ufldv2_resnet34": "detectors.ufldv2:UFLDv2",
}
"""Variant name -> "module:class" of its adapter."""

UPSTREAM: dict[str, str] = {
    f"{variant}_upstream": f"detectors.upstream.bridges.{place}"
    for place, variants in {
        "clrernet:UpstreamCLRerNet": ("clrernet_dla34", "clrernet_dla34_ema"),
        "clrkdnet:UpstreamCLRKDNet": ("clrkdnet_resnet18", "clrkdnet_dla34"),
        "clrnet:UpstreamCLRNet": ("clrnet_resnet18", "clrnet_resnet34", "clrnet_resnet101", "clrnet_dla34"),
        "laneatt:UpstreamLaneATT": ("laneatt_resnet18", "laneatt_resnet34", "laneatt_resnet122"),
        "lstr:UpstreamLSTR": ("lstr_resnet18s",),
        "polarrcnn:UpstreamPolarRCNN": ("polarrcnn_resnet18", "polarrcnn_resnet34", "polarrcnn_dla34"),
        "pytorch_auto_drive:UpstreamBezierLaneNet": ("bezierlanenet_resnet18", "bezierlanenet_resnet34"),
        "pytorch_auto_drive:UpstreamLSTR": ("lstr_resnet18s_1x", "lstr_resnet18s_2x", "lstr_resnet34"),
        "pytorch_auto_drive:UpstreamRESA": ("resa_resnet18", "resa_resnet34", "resa_resnet101"),
        "pytorch_auto_drive:UpstreamSCNN": ("scnn_resnet18", "scnn_resnet34", "scnn_resnet101"),
        "srlane:UpstreamSRLane": ("srlane_resnet18",),
        "ultra_fast_lane_detection:UpstreamUFLD": ("ufld_resnet18", "ufld_resnet34", "ufld_resnet101"),
        "ultra_fast_lane_detection_v2:UpstreamUFLDv2": ("ufldv2_resnet18", "ufldv2_resnet34"),
    }.items()
    for variant in variants
}
"""Names of third-party code itself -> "module:class" of its bridge. Each is that of our variant, where there is one, with `_upstream`
behind it."""

ENTRY_POINTS = "samiro_bench.detectors"
"""The group in which a package says `variant = "module:Class"`."""

DESCRIPTIONS = (".yaml", ".yml")
"""How the files end that describe detectors which aren't imported but run as programs."""

_FILE = re.compile(r"(?P<path>.+\.py)(?::(?P<attribute>[^:@]+))?(?:@(?P<variant>.+))?")


@dataclass(frozen=True)
class Adapter:
    """One variant of a detector, found and imported.

    origin: None for the project's own; `distribution` of an installed package; `file` (its name, without folders) and `sha256` of an
    adapter file. It goes into a cell's identity and into checkpoints.
    """

    detector: type[Detector]
    meta: DetectorMeta
    origin: dict[str, str] | None


def detector_names() -> list[str]:
    """The names that there are: the project's own, then those of installed packages."""
    own = [*TABLE, *UPSTREAM]
    return [*own, *(name for name in installed() if name not in own)]


def detector_class(name: str) -> type[Detector]:
    """The adapter class behind a name or an adapter file. Raises InputError as `find_adapter` does."""
    return find_adapter(name).detector


def detector_meta(name: str) -> DetectorMeta:
    """The metadata of the variant behind a name or an adapter file."""
    return find_adapter(name).meta


def bridge_class(name: str) -> type[Bridge]:
    """The bridge behind a name of `UPSTREAM`; needs no checkout."""
    module, attribute = UPSTREAM[name].split(":")
    found: type[Bridge] = getattr(import_module(module), attribute)
    return found


def find_adapter(name: str) -> Adapter:
    """Import what a name or an adapter file stands for. Never call it with somebody else's file: that runs it.

    Raises InputError for a name that there isn't (with the nearest one), that two sides lay claim to, or whose adapter is broken.
    """
    if is_program(name):
        raise InputError(f"{name}: a program isn't imported and can only be run: name it under 'detectors' of a suite")
    reference = _FILE.fullmatch(name)
    if reference is not None:
        return _from_file(Path(reference["path"]), reference["attribute"], reference["variant"])
    offers = installed().get(name, ())
    own = TABLE.get(name) or UPSTREAM.get(name)
    claims = [f"{own} of samiro-bench"] if own else []
    claims += [f"{point.value} of the package {_distribution(point)}" for point in offers]
    if not claims:
        raise InputError(
            f"unknown detector {name!r}: {did_you_mean(name, detector_names())}; `samiro-bench detectors list` has all: a package "
            "of its own has to be installed here, and an adapter file is path/to/file.py:Class"
        )
    if len(claims) > 1:
        raise InputError(
            f"detector {name!r} is offered twice, as {' and as '.join(claims)}: rename one, or uninstall a package"
        )
    if own:
        module, attribute = own.split(":")
        return _adapter(getattr(import_module(module), attribute), name, None, where=f"detector {name!r}")
    where = f"detector {name!r}, {claims[0]}"
    try:
        with redirect_stdout(sys.stderr):
            found = offers[0].load()
    except (Exception, SystemExit) as error:
        raise InputError(f"{where}: {_reason(error)}; mend the package, or uninstall it") from error
    return _adapter(found, name, {"distribution": _distribution(offers[0])}, where=where)


def own_module(name: str) -> str | None:
    """The module of one of the project's own detectors; None for bridges, which depend on a checkout, and for all others."""
    return TABLE[name].partition(":")[0] if name in TABLE and name not in installed() else None


def is_program(name: str) -> bool:
    """Whether a name is the file of a program's description (`detectors.programs`)."""
    return name.endswith(DESCRIPTIONS)


def rooted(name: str, folder: Path) -> str:
    """A detector's name as it is; a file, of an adapter or of a program's description, is looked for from `folder`, and comes back
    with its whole path.
    """
    if is_program(name):
        return str((folder / name).resolve())
    reference = _FILE.fullmatch(name)
    if reference is None:
        return name
    path = (folder / reference["path"]).resolve()
    return f"{path}{name.removeprefix(reference['path'])}"


def adapter_file(name: str) -> Path | None:
    """The file in what may be the name of an adapter file; None if it is another kind of name."""
    reference = _FILE.fullmatch(name)
    return None if reference is None else Path(reference["path"])


@cache
def installed() -> dict[str, tuple[EntryPoint, ...]]:
    """What installed packages offer, by name. Read once a process; nothing is imported."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        found[point.name] = (*found.get(point.name, ()), point)
    return dict(sorted(found.items()))


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "of unknown name"


def _from_file(path: Path, attribute: str | None, variant: str | None) -> Adapter:
    module, digest = _load_file(path)
    from detectors.base import Detector

    offered = {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Detector) and value.__module__ == module.__name__
    }
    if attribute is None or attribute not in offered:
        asked = "names no class" if attribute is None else f"has no detector class {attribute!r}"
        raise InputError(f"{path}: {asked}: {did_you_mean(attribute or '', list(offered))}; say {path}:Class")
    where = f"{path}:{attribute}"
    found = offered[attribute]
    variants = list(getattr(found, "metas", {}))
    if variant is None and len(variants) != 1:
        raise InputError(f"{where} has the variants {', '.join(variants) or 'none'}: say {where}@variant")
    variant = variants[0] if variant is None else variant
    if variant not in variants:
        raise InputError(f"{where} has no variant {variant!r}: {did_you_mean(variant, variants)}")
    if variant in detector_names():
        taken = (
            TABLE.get(variant)
            or UPSTREAM.get(variant)
            or ", ".join(f"{p.value} of {_distribution(p)}" for p in installed()[variant])
        )
        raise InputError(
            f"{where}: its variant {variant!r} has the name of {taken}: rename it, or tables would confuse them"
        )
    return _adapter(found, variant, {"file": path.name, "sha256": digest}, where=where)


def _load_file(path: Path) -> tuple[ModuleType, str]:
    """Run an adapter file as a module of its own, once for each content; gives the module and the sha256 of the file.

    The file's folder isn't searched for imports: what one file can't hold is a package with an entry point.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; give the path of an adapter file, as path/to/file.py:Class"
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    name = f"samiro_bench_adapter_{sha256_of_json([str(path.resolve()), digest])[:16]}"
    if name in sys.modules:
        return sys.modules[name], digest
    module = ModuleType(name)
    module.__file__ = str(path.resolve())
    # Dataclasses and pydantic look a class's module up while they are made.
    sys.modules[name] = module
    try:
        # What it prints is no part of what a command answers, which may be JSON.
        with redirect_stdout(sys.stderr):
            exec(compile(content, str(path), "exec"), vars(module))
    except KeyboardInterrupt:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        raise InputError(f"{path}{f':{line}' if line else ''}: {_reason(error)}; mend the adapter file") from error
    return module, digest


def _adapter(found: object, variant: str, origin: dict[str, str] | None, *, where: str) -> Adapter:
    """Check that what was found is an adapter that offers the variant."""
    from detectors.base import Detector

    if not (isinstance(found, type) and issubclass(found, Detector)):
        raise InputError(f"{where}: not a subclass of detectors.base.Detector; mend the adapter")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    missing += [name for name in ("metas", "architecture") if not hasattr(found, name)]
    if missing:
        raise InputError(f"{where}: the class lacks {', '.join(missing)}; add what detectors.base.Detector asks for")
    meta = found.metas.get(variant)
    if meta is None or meta.name != variant:
        raise InputError(
            f"{where}: `metas` has no variant that is called {variant!r}, but "
            + (f"under that key one whose `name` is {meta.name!r}" if meta else ", ".join(found.metas) or "none")
            + "; give key and name of the variant that name"
        )
    own = found.origin()
    return Adapter(found, meta, origin if own is None else (origin or {}) | own)


def _reason(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return f"ends the program while it is imported (SystemExit: {error.code})"
    if isinstance(error, ValidationError):
        # An adapter's own models are known to nobody here: the nearest key can't be named.
        model = vars(meta_models).get(error.title)
        said = plain_complaint(error) if model is None else first_complaint(model, error)
        return f"{error.title}: {said}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
