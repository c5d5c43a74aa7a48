"""The labels that published rows were scored on, as one archive a split: the files that scoring reads, byte for byte.

Only rendered labels are archived. Laid out in a folder again, they are a dataset without images, which the same scorers read. The
archive holds the specification too: its hash is the content key that records state, and the labels are made again from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from harness.datasets.base import Dataset, open_dataset, read_bytes
from harness.errors import InputError
from harness.files.arrays import DAMAGE, Arrays, read_arrays, write_arrays
from harness.files.validation import plain_complaint
from harness.publishing.checksums import RESTORE
from harness.records.counts import Stored
from harness.rendered.dataset import label_dataset
from harness.rendered.spec import FORMS, RenderSpec, dataset_key, gives_labels_of

FRAME_LIMIT = 200_000
"""Labels of more frames, in all splits together, aren't made again: CULane has 133,235, and a frame takes 4 ms."""


class LabelFacts(Stored):
    """What an archive says of its labels: the version of the renderer and the specification that they were made from."""

    dataset: str
    split: str
    lane_width: int | None = Field(ge=2, le=1_000)
    renderer: str
    spec: RenderSpec


@dataclass(frozen=True, eq=False)
class Labels:
    """An archive that was read. files: path below the dataset's folder -> content."""

    facts: LabelFacts
    files: dict[str, bytes]


def labels_name(dataset: str, split: str, dataset_sha256: str) -> str:
    """What the archive of a split is called: `<dataset>.<split>.<first 12 digits of the content key>.npz`."""
    return f"{dataset}.{split}.{dataset_sha256[:12]}.npz"


def pack_labels(path: Path, dataset: Dataset, split: str, spec: RenderSpec) -> None:
    """Write the archive of a split's labels, rendered from `spec`, atomically; equal labels give equal bytes with one zlib."""
    names = sorted(dataset.scored_files(split))
    contents = [read_bytes(dataset.root / name) for name in names]
    facts = LabelFacts(
        dataset=dataset.name,
        split=split,
        lane_width=getattr(dataset, "lane_width", None),
        renderer=FORMS[spec.form].version,
        spec=spec,
    )
    arrays: Arrays = {
        "facts": text_array(facts.model_dump_json()),
        "names": text_array("\n".join(names)),
        "sizes": np.array([len(content) for content in contents], dtype=np.int64),
        "content": np.frombuffer(b"".join(contents), np.uint8),
    }
    write_arrays(path, arrays)


def text_array(text: str) -> Any:
    """A text as an array of its UTF-8 bytes."""
    return np.frombuffer(text.encode(), np.uint8)


def unpack_labels(path: Path) -> Labels:
    """Read an archive; safe on archives from strangers. InputError, naming it, on damage and on a path that leaves its folder."""
    try:
        return _labels(read_arrays(path))
    except FileNotFoundError:
        raise InputError(f"{path} is missing; {RESTORE}") from None
    except (*DAMAGE, ValidationError) as error:
        reason = plain_complaint(error) if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise InputError(f"{path}: not a whole archive of labels ({reason}); {RESTORE}") from None


def _labels(arrays: Arrays) -> Labels:
    for name, kind in {"facts": np.uint8, "names": np.uint8, "sizes": np.int64, "content": np.uint8}.items():
        if arrays[name].dtype != np.dtype(kind) or arrays[name].ndim != 1:
            raise ValueError(f"{name} is of type {arrays[name].dtype}")
    facts = LabelFacts.model_validate_json(arrays["facts"].tobytes())
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
            raise InputError(f"archived labels: {name[:80]!r}: {error.strerror}; {RESTORE}") from None
    return opened(labels.facts, folder)


def opened(facts: LabelFacts, folder: Path) -> Dataset:
    """The dataset without images whose lists and labels lie in a folder."""
    size = (facts.spec.height, facts.spec.width)
    return open_dataset(facts.spec.form, folder, name=facts.dataset, image_size=size, lane_width=facts.lane_width)


def doubt_of(labels: Labels, dataset_sha256: str, folder: Path) -> str | None:
    """Why it can't be shown that archived labels are those of the specification whose hash a record states; None if it was shown.

    They are made again in `folder`, new and empty. InputError if the archive's specification has another hash, or gives other labels.
    """
    facts = labels.facts
    key = dataset_key(facts.spec, facts.renderer)
    if key != dataset_sha256:
        raise InputError(
            f"archived labels: their specification has the hash {key[:12]}, but key 'dataset_sha256' is "
            f"{dataset_sha256[:12]}; {RESTORE}"
        )
    if not gives_labels_of(facts.renderer, facts.spec.form):
        return (
            f"scored again, but the labels were rendered by version {facts.renderer[:40]!r} and can't be made again by version "
            f"{FORMS[facts.spec.form].version!r}"
        )
    frames = sum(split.frames for split in facts.spec.splits.values())
    if frames > FRAME_LIMIT:
        return f"scored again, but the labels of {frames} frames aren't made again: the limit is {FRAME_LIMIT}"
    if facts.split not in facts.spec.splits:
        raise InputError(f"archived labels: their specification has no split {facts.split[:40]!r}; {RESTORE}")
    label_dataset(facts.spec, folder, facts.split)
    made = opened(facts, folder)
    names = set(made.scored_files(facts.split))
    unlike = sorted(names ^ set(labels.files)) or [
        name for name in sorted(names) if read_bytes(folder / name) != labels.files[name]
    ]
    if unlike:
        raise InputError(
            f"archived labels: {unlike[0][:80]} isn't what the specification gives ({len(unlike)} of {len(names)} files); "
            f"{RESTORE}"
        )
    return None
