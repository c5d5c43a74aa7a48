"""Whether files of lanes lie where a list of images says: wrong roots and wrong lists score 0 in silence otherwise."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.errors import InputError
from harness.metrics.image_lists import LANES_SUFFIX

LanesFile = Callable[[Path, str], str]
"""The path of an image's lanes below a root."""


def check_roots(labels: Path, predictions: Path, images: Sequence[str], lanes_file: LanesFile) -> None:
    """InputError unless both roots are folders, and each has a file of lanes for one of the images.

    Of a single image the prediction may be missing: it counts as no lanes, as in the official program.
    """
    for root, role in ((labels, "labels"), (predictions, "predictions")):
        if not root.is_dir():
            raise InputError(f"{root}: no such folder: give the root of the {role}")
    for root, role, enough in ((labels, "label", 0), (predictions, "prediction", 1)):
        if len(images) > enough and not any(os.path.isfile(lanes_file(root, image)) for image in images):
            wanted = os.path.relpath(lanes_file(root, images[0]), root)
            of = "the listed image" if len(images) == 1 else f"any of the {len(images)} listed images"
            raise InputError(f"{root}: holds no {role} of {of}: there is no {wanted}; {instead(root, wanted, role)}")


def instead(root: Path, wanted: str, role: str) -> str:
    """What lies below `root` in the place of a file, and what to do about it."""
    parts = Path(wanted).parts
    for cut in range(1, len(parts)):
        if root.joinpath(*parts[cut:]).is_file():
            above = os.path.join(*parts[:cut])
            return f"{os.path.join(*parts[cut:])} is there: give the folder that holds {above}, or a list without {above}{os.sep}"
    plain = f"{wanted.removesuffix(LANES_SUFFIX)}.txt"
    if (root / plain).is_file():
        return f"{plain} is there: name the files ...{LANES_SUFFIX}"
    first = None
    for folder, names in folders_below(root):
        if os.path.isfile(os.path.join(folder, wanted)):
            return f"it lies below {folder}: give that as the root"
        first = first or next((os.path.join(folder, name) for name in names if name.endswith(LANES_SUFFIX)), None)
    if first is None:
        return f"not a single {LANES_SUFFIX} file lies in this folder: give the root of the {role}s"
    return f"the first there is {os.path.relpath(first, root)}: give a root and a list that belong together (`data doctor`)"


def folders_below(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below `root`, links not followed, in sorted order, with the sorted names of its files."""
    for folder, below, names in os.walk(root):
        below.sort()
        yield folder, sorted(names)
