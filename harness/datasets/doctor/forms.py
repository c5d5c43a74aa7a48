"""What differs between the forms: their lists, which files belong to an image, and what is known to go wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.datasets.base import Dataset, Frame, read_bytes
from harness.datasets.culane import LISTS, CULane, label_name, read_list
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.links import absent, broken_link, broken_links
from harness.datasets.doctor.misnamed import IMAGE_ENDINGS, misnamed, missing_images
from harness.datasets.doctor.sources import (
    CULANE_DRIVERS,
    CULANE_MASKS,
    CULANE_PAGE,
    CURVELANES_PAGE,
    LLAMAS_ARCHIVES,
    LLAMAS_PAGE,
    TUSIMPLE_PAGE,
    culane_source,
)
from harness.datasets.doctor.tree import archives, entries, files_below, mangled
from harness.datasets.lines import parse_lines
from harness.datasets.llamas import IMAGE_SUFFIX, LLAMAS, SPLITS, read_points, read_scored_points
from harness.datasets.rendering import rendering_spec
from harness.datasets.tusimple import FOLDERS, LABELS, TuSimple, read_labels
from harness.errors import InputError
from harness.lanes import Points

LABEL_ENDING = ".lines.txt"


@dataclass
class Contents:
    """What a form's check found. dataset is None where none can be opened.

    frames: of the splits that can be listed. labels: split -> the label file of each of its frames, relative to the root.
    read_label: the lanes of one of them, by its split and its whole path, or InputError, for forms with a file an image.
    """

    dataset: Dataset | None = None
    frames: dict[str, tuple[Frame, ...]] = field(default_factory=dict)
    labels: dict[str, list[str]] = field(default_factory=dict)
    read_label: Callable[[str, str], Sequence[Points]] | None = None
    findings: list[Finding] = field(default_factory=list)


def refused(error: InputError, root: Path, kind: str) -> Finding:
    """A reader's own refusal as a finding."""
    text = str(error).replace(f"{root}/", "")
    what, _, fix = text.rpartition("; ")
    return Finding(
        "error", kind, text.partition(": ")[0].split(":")[0], what or text, fix or "restore it from its source"
    )


def unexamined(finding: Finding, split: str) -> Finding:
    """A fault of a whole split, which says that it hides what else may be wrong with it."""
    return replace(finding, what=f"{finding.what} (nothing else of split {split} was examined)")


def culane(place: Place) -> Contents:
    """CULane and datasets in its layout."""
    root, found = place.root, Contents(read_label=_read_lines)
    for name in archives(root):
        stem = name.lower().partition(".t")[0].removesuffix(".zip").removesuffix(".rar")
        if stem not in entries(root) and (stem == "list" or stem in CULANE_DRIVERS):
            found.findings.append(Finding("error", "packed", name, "the archive isn't unpacked", f"tar xf {name}"))
    packed = {finding.file.partition(".")[0].lower() for finding in found.findings}
    if not (root / "list").is_dir():
        if broken_link(root, "list"):
            found.findings += broken_links(root, ["list"])
        elif not place.findings and "list" not in packed:
            what, fix = "there is no folder list/", f"unpack list.tar.gz from {CULANE_PAGE} into the root"
            missing = Finding("error", "no-lists", "list", what, place.restore(fix))
            found.findings.append(_predictions(root, missing) or missing)
        return found
    lists = sorted(str(path.relative_to(root)) for path in (root / "list").rglob("*.txt"))
    linked = {name for name in lists if broken_link(root, name)}
    found.findings += broken_links(root, sorted(linked))
    dataset = CULane(root)
    try:
        splits = dataset.splits()
    except InputError as error:
        if not linked:
            found.findings.append(refused(error, root, "no-lists"))
        return found
    found.dataset = dataset
    for split in splits:
        try:
            dataset.images(split)
        except InputError as error:
            found.findings.append(unexamined(refused(error, root, "list"), split))
            continue
        try:
            found.frames[split] = dataset.frames(split)
        except InputError as error:
            if not any(name.startswith("list/test_split/") for name in linked):
                found.findings.append(refused(error, root, "test-split"))
            found.frames[split] = tuple(
                Frame(name, root / name, None, name.rpartition("/")[0]) for name in dataset.images(split)
            )
        found.labels[split] = [label_name(frame.id) for frame in found.frames[split]]
    found.findings += _second_lists(root)
    found.findings += grouped(
        "note", "crlf", [name for name in lists if name not in linked and b"\r" in read_bytes(root / name)],
        "lists have Windows line ends",
        "nothing: the harness, the official evaluator and CLRNet pass over them; for other programs: sed -i 's/\\r$//' FILE",
    )  # fmt: skip
    found.findings += _culane_files(place, found, whole=len(found.frames) == len(splits), packed=packed)
    if place.layout == "CULane" and CULANE_MASKS not in entries(root):
        what = "the folder of lane masks isn't there"
        found.findings.append(
            Finding("note", "no-masks", CULANE_MASKS, what, "nothing: the harness makes its own targets")
        )
    return found


def _predictions(root: Path, missing: Finding) -> Finding | None:
    """What is to be said of a folder of lanes and no images, for as such predictions lie; None of any other."""
    files = files_below(root, [name for name, is_folder in entries(root).items() if is_folder])
    lanes = 0
    for name in files:
        if name.lower().endswith(IMAGE_ENDINGS):
            return None
        lanes += name.endswith(LABEL_ENDING)
    if not lanes:
        return None
    what = f"{lanes:,} files of lanes, no image and no list/: it looks like a folder of predictions"
    fix = "score them: samiro-bench score culane --labels CULANE --predictions FOLDER LIST; if it is to be CULane: "
    return Finding("error", "predictions", ".", what, fix + missing.fix)


def _second_lists(root: Path) -> list[Finding]:
    """Second lists of a split, which the harness doesn't read, that name other images than the first."""
    findings = []
    for names in LISTS.values():
        read, *others = [name for name in names if (root / "list" / name).is_file()] or [""]
        for other in others:
            try:
                first, second = ({*read_list(root / "list" / name)} for name in (read, other))
            except InputError as error:
                findings.append(replace(refused(error, root, "list"), severity="warning"))
                continue
            if first != second:
                what = f"it names {len(second):,} images and {read} names {len(first):,}: {len(first & second):,} are on both"
                fix = f"the harness reads {read}: make {other} name the same, or take away the one that is wrong"
                findings.append(Finding("warning", "lists-differ", f"list/{other}", what, fix))
    return findings


def _read_lines(split: str, path: str) -> list[Points]:
    return parse_lines(read_bytes(path), source=path)


def _culane_files(place: Place, found: Contents, *, whole: bool, packed: set[str]) -> list[Finding]:
    """Images and labels that are missing, and, where all lists could be read, those that are on no list."""
    root = place.root
    images = {frame.id for frames in found.frames.values() for frame in frames}
    folders = {name.partition("/")[0] for name in images if "/" in name}
    there = entries(root)
    # Besides the listed folders only those that look like CULane's hold images that a list should name.
    walked = folders | {name for name, is_folder in there.items() if is_folder and name.startswith("driver_")}
    on_disk = set(files_below(root, sorted(walked))) | {name for name in there if (root / name).is_file()}
    missing = sorted(images - on_disk)
    findings, called_otherwise = misnamed(root, missing, on_disk)
    missing = [name for name in missing if name not in called_otherwise]
    explained: set[str] = set()
    for folder in sorted(folders):
        if folder not in there:
            explained.add(folder)
            if folder not in packed and folder not in mangled(there, [folder]):
                count = sum(name.startswith(f"{folder}/") for name in missing)
                if not count:
                    continue
                what = f"the folder isn't there: {count:,} images of the lists lie in it"
                findings.append(Finding("error", "missing-folder", folder, what, place.restore(culane_source(folder))))
        elif entries(root / folder).get(folder):
            explained.add(folder)
            what = f"its images lie one folder too deep, in {folder}/{folder}"
            findings.append(
                Finding("error", "nested", folder, what, f"move what is in {folder}/{folder} up into {folder}")
            )
    missing = [name for name in missing if name.partition("/")[0] not in explained]
    findings += missing_images(
        root, missing, on_disk, of="of the lists", named_by="lists",
        fix=place.restore(f"restore them from the dataset's source ({CULANE_PAGE} for CULane)"),
    )  # fmt: skip
    wanted = {name for names in found.labels.values() for name in names}
    lost = wanted - on_disk - {label_name(name) for name in called_otherwise}
    without = [name for name in sorted(lost) if name.partition("/")[0] not in explained]
    findings += absent(
        root, "error", "missing-label", without, "images of the lists have no label file",
        place.restore(
            f"restore them (annotations_new.tar.gz of {CULANE_PAGE} for CULane); an image without lanes has an empty file"
        ),
    )  # fmt: skip
    if not whole or explained or called_otherwise or any(finding.kind == "case" for finding in findings):
        return findings
    extra = [name for name in on_disk - images if name.lower().endswith(IMAGE_ENDINGS)]
    findings += grouped(
        "warning", "orphan-image", sorted(extra), "images are on no list", "add them to a list, or take them away"
    )
    # The label of an image on no list is no fault of its own.
    lone = on_disk - wanted - {label_name(name) for name in extra}
    findings += grouped(
        "warning", "orphan-label", sorted(name for name in lone if name.endswith(LABEL_ENDING)),
        "labels belong to no image of the lists", "add their images to a list, or take them away",
    )  # fmt: skip
    return findings


TUSIMPLE_LABELS_FROM = {
    "train": "train_set.zip, which holds label_data_*.json",
    "val": "train_set.zip, which holds label_data_*.json",
    "test": "test_label.json, a file of its own that isn't in test_set.zip (whose test_tasks_0627.json has no labels)",
}
"""Split -> where TuSimple's labels come from."""


def tusimple(place: Place) -> Contents:
    """TuSimple in one folder or as its archives unpack."""
    root, found = place.root, Contents()
    missing = [
        name
        for name in (label for labels in LABELS.values() for label in labels)
        if not any((root / folder / name).is_file() for folder in FOLDERS)
    ]
    called_otherwise = {path.rpartition("/")[2] for path in place.called_otherwise}
    asked = _rendered_splits(root)
    for split, labels in LABELS.items():
        if asked is not None and split not in asked:
            continue
        lost = [name for name in labels if name in missing and name not in called_otherwise]
        places = [f"{folder}/{name}".lstrip("/") for name in lost for folder in FOLDERS]
        if linked := broken_links(root, places):
            found.findings += linked
        elif lost:
            there = [name for name in labels if name not in missing]
            only = f"; with {', '.join(there)} alone the split can't be opened" if there else ""
            what = f"the labels of split {split} aren't there ({', '.join(lost)}){only}"
            found.findings.append(
                Finding(
                    # A dataset of one's own may do without a split, but not with half of its labels.
                    "note" if place.own and not place.rendered and set(labels) <= {*missing} else "error",
                    "no-labels",
                    lost[0],
                    what,
                    place.restore(f"get {TUSIMPLE_LABELS_FROM[split]}: {TUSIMPLE_PAGE}"),
                )
            )
    try:
        found.dataset = dataset = TuSimple(root)
    except InputError:
        return found
    for split in dataset.splits():
        try:
            found.frames[split] = dataset.frames(split)
        except InputError as error:
            found.findings.append(unexamined(refused(error, root, "broken-label"), split))
            continue
        found.labels[split] = [
            str(path.relative_to(root)) for path in dataset.label_files(split) for _ in read_labels(path)
        ]
        archive = "test_set" if split == "test" else "train_set"
        missing = [os.path.relpath(frame.image, root) for frame in found.frames[split] if not frame.image.is_file()]
        if place.called_otherwise & {"clips", archive, f"{archive}/clips"}:
            missing = [name for name in missing if not name.startswith("clips/")]
        first = {name.partition("/")[0].lower() for name in missing}
        on_disk = set(files_below(root, [name for name in entries(root) if name.lower() in first]))
        found.findings += missing_images(
            root, missing, on_disk, of=f"of split {split}", named_by="labels",
            fix=place.restore(f"unpack {archive}.zip from {TUSIMPLE_PAGE}"),
        )  # fmt: skip
    return found


def _rendered_splits(root: Path) -> set[str] | None:
    """The splits that a rendered dataset was asked for; None for any other."""
    spec = rendering_spec(root)
    splits = spec.get("splits") if spec is not None else None
    return {*splits} if isinstance(splits, dict) else None


def llamas(place: Place) -> Contents:
    """LLAMAS; that the labels of its test split are missing is as it should be."""
    root, found = place.root, Contents(read_label=_read_markers)
    there = entries(root)
    for folder, archive in LLAMAS_ARCHIVES.items():
        if folder not in there and folder not in place.called_otherwise:
            what, fix = "the folder isn't there", place.restore(f"unpack {archive} from {LLAMAS_PAGE} into the root")
            found.findings.append(Finding("error", "missing-folder", folder, what, fix))
    if "labels" in there:
        found.findings += _llamas_without_labels(place)
    try:
        found.dataset = dataset = LLAMAS(root)
    except InputError:
        return found
    for split in dataset.splits():
        folder = f"color_images/{SPLITS[split]}"
        on_disk = set(files_below(root, [folder]))
        # What has no labels is listed from its images, by their ending.
        passed_over = [] if dataset.has_labels(split) else sorted(
            name for name in on_disk if name.lower().endswith(IMAGE_SUFFIX) and not name.endswith(IMAGE_SUFFIX)
        )  # fmt: skip
        found.findings += grouped(
            "error", "case", passed_over, f"images of split {split} are passed over: they don't end in {IMAGE_SUFFIX}",
            "rename them so that they do",
        )  # fmt: skip
        try:
            found.frames[split] = dataset.frames(split)
        except InputError as error:
            if not passed_over:
                found.findings.append(unexamined(refused(error, root, "list"), split))
            continue
        if dataset.has_labels(split):
            found.labels[split] = [dataset.label_name(frame) for frame in found.frames[split]]
        if "color_images" not in there or folder in place.called_otherwise:
            continue
        wanted = {frame.id for frame in found.frames[split]}
        found.findings += missing_images(
            root, sorted(wanted - on_disk), on_disk, of=f"of split {split}", named_by="labels",
            fix=place.restore(f"unpack {LLAMAS_ARCHIVES['color_images']} from {LLAMAS_PAGE}"),
        )  # fmt: skip
        extra = sorted(name for name in on_disk - wanted if name.endswith(IMAGE_SUFFIX))
        found.findings += grouped(
            "warning", "orphan-image", extra, f"images of split {split} have no label",
            place.restore(f"unpack {LLAMAS_ARCHIVES['labels']} from {LLAMAS_PAGE}"),
        )  # fmt: skip
    return found


def _read_markers(split: str, path: str) -> list[Points]:
    # As the dataset does: what is scored is held to more than what is trained on.
    return (read_points if split == "train" else read_scored_points)(path)


def _llamas_without_labels(place: Place) -> list[Finding]:
    """Splits whose images are there and whose folder of labels isn't; test, whose labels are private, aside."""
    findings = []
    for split, folder in SPLITS.items():
        if split == "test" or (place.root / "labels" / folder).is_dir() or f"labels/{folder}" in place.called_otherwise:
            continue
        images = f"color_images/{folder}"
        count = sum(name.endswith(IMAGE_SUFFIX) for name in files_below(place.root, [images]))
        if count:
            what = f"the labels of split {split} aren't there, but {count:,} images in {images} are"
            fix = place.restore(f"unpack {LLAMAS_ARCHIVES['labels']} from {LLAMAS_PAGE} into the root")
            findings += broken_links(place.root, [f"labels/{folder}"]) or [
                Finding("error", "no-labels", f"labels/{folder}", what, fix)
            ]
    return findings


def curvelanes(place: Place) -> Contents:
    """CurveLanes as it unpacks, which is no form that is trained on or scored."""
    what = f"CurveLanes' own layout ({CURVELANES_PAGE}) isn't one that is trained on"
    fix = "write it in CULane's layout: samiro-bench data convert ROOT OUT --to culane"
    return Contents(findings=[Finding("error", "convert", ".", what, fix)])


FORMS: dict[str, Callable[[Place], Contents]] = {
    "culane": culane,
    "tusimple": tusimple,
    "llamas": llamas,
    "curvelanes": curvelanes,
}
"""Form -> its check."""


def readable_labels(found: Contents, split: str, root: Path) -> tuple[dict[str, Sequence[Points]], list[Finding]]:
    """The lanes of the label files of a split that can be read, and what is to be said of the others that are there."""
    assert found.read_label is not None
    read: dict[str, Sequence[Points]] = {}
    broken: dict[str, str] = {}
    for name in found.labels[split]:
        try:
            read[name] = found.read_label(split, f"{root}/{name}")
        except InputError as error:
            if (root / name).is_file():
                text = str(error).replace(f"{root}/", "")
                broken[name] = text.rpartition("; ")[0] or text
    return read, grouped(
        "error", "broken-label", list(broken), f"label files are refused ({next(iter(broken.values()), '')})",
        "correct them or restore them from the dataset's source",
    )  # fmt: skip
