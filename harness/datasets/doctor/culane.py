"""CULane's layout: its lists, which files belong to an image, and what is known to go wrong with them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from harness.datasets.base import Frame, read_bytes
from harness.datasets.culane import LISTS, CULane, read_list
from harness.datasets.doctor.contents import Contents, refused, unexamined
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.links import absent, broken_link, broken_links
from harness.datasets.doctor.misnamed import IMAGE_ENDINGS, joined_lines, misnamed, missing_images
from harness.datasets.doctor.sources import CULANE_DRIVERS, CULANE_MASKS, CULANE_PAGE, culane_source
from harness.datasets.doctor.tree import archives, entries, files_below, mangled
from harness.datasets.lines import LABEL_ENDING, label_name, parse_lines
from harness.errors import InputError
from harness.lanes import Points


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
            found.findings.append(replace(refused(error, root, "no-lists"), file="list"))
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
    if not any(finding.kind == "test-split" for finding in found.findings):
        found.findings += _empty_scenarios(root, [name for name in lists if name not in linked])
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


def _empty_scenarios(root: Path, lists: Collection[str]) -> list[Finding]:
    """Scenarios that no table will have."""
    empty = [name for name in lists if name.startswith("list/test_split/") and not read_bytes(root / name).strip()]
    what = "lists of scenarios are empty: no table will have them"
    return grouped("warning", "empty-scenario", empty, what, "write the scenario's images into it, or delete it")


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
    findings, called_otherwise = joined_lines(root, missing, on_disk)
    told, otherwise = misnamed(root, [name for name in missing if name not in called_otherwise], on_disk)
    findings += told
    called_otherwise |= otherwise
    missing = [name for name in missing if name not in called_otherwise]
    told, gone, nested = _wrong_folders(place, folders, missing, on_disk, packed)
    findings += told

    def explained(name: str) -> bool:
        folder = name.partition("/")[0]
        return folder in gone or (folder in nested and f"{folder}/{name}" in on_disk)

    findings += missing_images(
        root, [name for name in missing if not explained(name)], on_disk, of="of the lists", named_by="lists",
        fix=place.restore(
            f"restore them from the dataset's source ({CULANE_PAGE} for CULane)",
            "restore them, or take them off the lists",
        ),
    )  # fmt: skip
    wanted = {name for names in found.labels.values() for name in names}
    lost = wanted - on_disk - {label_name(name) for name in called_otherwise}
    without = [name for name in sorted(lost) if not explained(name)]
    empty = "an image without lanes has an empty file"
    findings += absent(
        root, "error", "missing-label", without, "images of the lists have no label file",
        place.restore(
            f"restore them (annotations_new.tar.gz of {CULANE_PAGE} for CULane); {empty}",
            f"write them beside their images; {empty}",
        ),
    )  # fmt: skip
    if not whole or gone or nested or called_otherwise or any(finding.kind == "case" for finding in findings):
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


def _wrong_folders(
    place: Place, folders: Collection[str], missing: Collection[str], on_disk: Collection[str], packed: Collection[str]
) -> tuple[list[Finding], set[str], set[str]]:
    """Findings on the first folders of lists' images, which of them aren't there, and which hold their images one folder too deep."""
    there = entries(place.root)
    findings, gone, nested = [], set[str](), set[str]()
    for folder in sorted(folders):
        inside = [name for name in missing if name.startswith(f"{folder}/")]
        if folder not in there:
            gone.add(folder)
            if inside and folder not in packed and folder not in mangled(there, [folder]):
                what = f"the folder isn't there: {len(inside):,} images of the lists lie in it"
                fix = place.restore(
                    culane_source(folder), f"restore the folder {folder}, or take its images off the lists"
                )
                findings.append(Finding("error", "missing-folder", folder, what, fix))
        elif any(f"{folder}/{name}" in on_disk for name in inside):
            nested.add(folder)
            what = f"its images lie one folder too deep, in {folder}/{folder}"
            fix = f"move what is in {folder}/{folder} up into {folder}"
            findings.append(Finding("error", "nested", folder, what, fix))
    return findings, gone, nested
