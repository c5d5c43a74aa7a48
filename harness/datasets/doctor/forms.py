"""What differs between the forms: which files belong to an image, and what is known to go wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from harness.datasets.doctor.contents import Contents, refused, unexamined
from harness.datasets.doctor.culane import culane
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.links import broken_links
from harness.datasets.doctor.misnamed import missing_images
from harness.datasets.doctor.sources import CURVELANES_PAGE, LLAMAS_ARCHIVES, LLAMAS_PAGE, TUSIMPLE_PAGE
from harness.datasets.doctor.tree import entries, files_below
from harness.datasets.llamas import IMAGE_SUFFIX, LLAMAS, SPLITS, read_points, read_scored_points
from harness.datasets.rendering import rendering_spec
from harness.datasets.tusimple import FOLDERS, LABELS, Labelled, TuSimple, read_labels
from harness.errors import InputError
from harness.lanes import Points

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
        labelled = {str(path.relative_to(root)): read_labels(path) for path in dataset.label_files(split)}
        found.labels[split] = [file for file, images in labelled.items() for _ in images]
        found.findings += _lanes_without_points(labelled, split)
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


def _lanes_without_points(labels: dict[str, list[Labelled]], split: str) -> list[Finding]:
    """Lanes of TuSimple's form that are absent at every row: those of a scored split are scored, the training never sees them."""
    pointless = {file: sum(int((one.xs < 0).all(axis=1).sum()) for one in images) for file, images in labels.items()}
    files = [file for file, lanes in pointless.items() if lanes]
    what = f"label files of split {split} hold {sum(pointless.values()):,} lanes without a point"
    if split == "train":
        return grouped(
            "note", "short-lane", files, what, "nothing: they are left out of training; 537 public labels are such"
        )
    fix = "leave them out: the official script counts each as a lane, and a prediction of few points as one that agrees with it"
    return grouped("warning", "short-lane", files, what, fix)


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
