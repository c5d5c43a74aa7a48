"""The labels that published rows were scored on, as one archive a split: the files that scoring reads, byte for byte.

Only rendered labels are archived. Laid out in a folder again, they are a dataset without images, which the same scorers read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from harness.counts import Stored
from harness.datasets.base import FORMS, Dataset, open_dataset, read_bytes
from harness.errors import InputError
from harness.files import written_aside
from harness.stored_arrays import DAMAGE, Arrays, read_arrays


class LabelFacts(Stored):
    """What an archive says of its labels. dataset_sha256: the content key of the dataset that they are from, as records state it."""

    form: str
    dataset: str
    dataset_sha256: str
    split: str
    image_size: tuple[int, int]
    lane_width: int | None


@dataclass(frozen=True, eq=False)
class Labels:
    """An archive that was read. files: path below the dataset's folder -> content."""

    facts: LabelFacts
    files: dict[str, bytes]


def labels_name(dataset: str, split: str, dataset_sha256: str) -> str:
    """What the archive of a split is called: `<dataset>.<split>.<first 12 digits of the content key>.npz`."""
    return f"{dataset}.{split}.{dataset_sha256[:12]}.npz"


def pack_labels(path: Path, dataset: Dataset, split: str, dataset_sha256: str) -> None:
    """Write the archive of a split's labels, atomically; equal labels give equal bytes with one zlib."""
    names = sorted(dataset.scored_files(split))
    contents = [read_bytes(dataset.root / name) for name in names]
    facts = LabelFacts(
        form=dataset.form,
        dataset=dataset.name,
        dataset_sha256=dataset_sha256,
        split=split,
        image_size=dataset.image_size,
        lane_width=getattr(dataset, "lane_width", None),
    )
    arrays: Arrays = {
        "facts": text_array(facts.model_dump_json()),
        "names": text_array("\n".join(names)),
        "sizes": np.array([len(content) for content in contents], dtype=np.int64),
        "content": np.frombuffer(b"".join(contents), np.uint8),
    }
    with written_aside(path) as aside, open(aside, "wb") as stream:
        np.savez_compressed(stream, allow_pickle=False, **arrays)


def text_array(text: str) -> Any:
    """A text as an array of its UTF-8 bytes."""
    return np.frombuffer(text.encode(), np.uint8)


def unpack_labels(path: Path) -> Labels:
    """Read an archive; safe on archives from strangers. InputError, naming it, on damage and on a path that leaves its folder."""
    try:
        return _labels(read_arrays(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; publish again or restore it") from None
    except (*DAMAGE, ValidationError) as error:
        reason = "its facts are none" if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise InputError(f"{path}: not a whole archive of labels ({reason}); publish again or restore it") from None


def _labels(arrays: Arrays) -> Labels:
    for name, kind in {"facts": np.uint8, "names": np.uint8, "sizes": np.int64, "content": np.uint8}.items():
        if arrays[name].dtype != np.dtype(kind) or arrays[name].ndim != 1:
            raise ValueError(f"{name} is of type {arrays[name].dtype}")
    facts = LabelFacts.model_validate_json(arrays["facts"].tobytes())
    if facts.form not in FORMS:
        raise ValueError(f"unknown form {facts.form[:40]!r}")
    names = arrays["names"].tobytes().decode().split("\n")
    sizes, content = arrays["sizes"].astype(np.int64), arrays["content"].tobytes()
    stops = np.cumsum(sizes)
    if (
        len(names) != len(sizes)
        or (sizes < 0).any()
        or (sizes > len(content)).any()
        or (stops[-1:] != len(content)).any()
        or len(set(names)) != len(names)
    ):
        raise ValueError("its parts contradict each other")
    for name in names:
        if not stays_inside(name):
            raise ValueError(f"{name[:80]!r} isn't a path inside the dataset")
    pieces = [content[stop - size : stop] for stop, size in zip(stops.tolist(), sizes.tolist(), strict=True)]
    return Labels(facts, dict(zip(names, pieces, strict=True)))


def stays_inside(name: str) -> bool:
    """Whether a name is a plain relative posix path that can't leave the folder it is put into."""
    return name.isprintable() and "\\" not in name and not {"", ".", ".."} & set(name.split("/"))


def laid_out(labels: Labels, folder: Path) -> Dataset:
    """Write the files of an archive into a new, empty folder and open it as a dataset without images.

    InputError if they aren't labels of the stated form.
    """
    made: set[Path] = set()
    for name, content in labels.files.items():
        path = folder / name
        try:
            if path.parent not in made:
                path.parent.mkdir(parents=True, exist_ok=True)
                made.add(path.parent)
            path.write_bytes(content)
        except OSError as error:
            raise InputError(
                f"archived labels: {name[:80]!r}: {error.strerror}; publish again or restore them"
            ) from None
    facts = labels.facts
    return open_dataset(
        facts.form, folder, name=facts.dataset, image_size=facts.image_size, lane_width=facts.lane_width
    )
