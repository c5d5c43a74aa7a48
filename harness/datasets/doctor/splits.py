"""What is odd about the splits of any form: which are missing, how large they are, and which images two of them share."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from harness.datasets.doctor.contents import Contents
from harness.datasets.doctor.findings import Finding, grouped
from harness.datasets.doctor.layouts import Place
from harness.datasets.doctor.links import broken_link
from harness.datasets.doctor.sources import CULANE_PAGE, IMAGES, LLAMAS_ARCHIVES, LLAMAS_PAGE, SCENARIOS
from harness.datasets.llamas import SPLITS as LLAMAS_FOLDERS
from harness.datasets.rendering import RENDERING_FILE, SCENARIOS_FILE
from harness.errors import InputError

SPLITS_FROM = {
    "culane": f"unpack list.tar.gz from {CULANE_PAGE} into the root",
    "llamas": f"unpack {' and '.join(LLAMAS_ARCHIVES.values())} from {LLAMAS_PAGE} into the root",
}
"""Form -> where its splits come from; TuSimple's missing labels are findings of their own."""


def count_findings(place: Place, found: Contents, spec: dict[str, object] | None) -> list[Finding]:
    """Splits and scenarios whose size isn't the known one."""
    known: dict[str, int] = {}
    scenarios: dict[str, int] = {}
    if spec is not None:
        known = _rendered_counts(place, spec)
    elif not place.own:
        known = IMAGES.get(place.form, {})
        scenarios = SCENARIOS if place.form == "culane" else {}
    findings = []
    for split, frames in found.frames.items():
        if split in known and len(frames) != known[split]:
            what = f"split {split} has {len(frames):,} images instead of {known[split]:,}"
            findings.append(
                Finding("warning", "count", split, what, place.restore("restore its list or labels from the source"))
            )
    findings += _missing_splits(place, found, known)
    named = Counter(frame.scenario for frame in found.frames.get("test", ()) if frame.scenario)
    if found.frames.get("test") and not named and (scenarios or spec is not None):
        findings += _no_scenarios(place, found)
    elif scenarios and len(found.frames.get("test", ())) == known.get("test"):
        for scenario, count in named.items():
            if count != scenarios.get(scenario):
                what = f"scenario {scenario} has {count:,} images instead of {scenarios.get(scenario, 0):,}"
                findings.append(
                    Finding("warning", "count", "list/test_split", what, "restore the list from the source")
                )
    return findings


def _rendered_counts(place: Place, spec: dict[str, object]) -> dict[str, int]:
    """Split -> the images that a rendered dataset was asked for."""
    splits = spec.get("splits")
    counts = {}
    for split, part in splits.items() if isinstance(splits, dict) else ():
        count = part.get("frames") if isinstance(part, dict) else None
        if not isinstance(count, int):
            raise InputError(
                f"{place.root / RENDERING_FILE}: the spec has no number of frames of split {split}; render the dataset again"
            )
        counts[split] = count
    return counts


def _missing_splits(place: Place, found: Contents, known: dict[str, int]) -> list[Finding]:
    """Splits that should be there, unless another finding says why they aren't; of one's own data that train isn't is a note."""
    earlier = (*place.findings, *found.findings)
    if found.dataset is None or place.form not in SPLITS_FROM or any(finding.kind == "case" for finding in earlier):
        return []
    there = found.dataset.splits()
    said = {finding.file for finding in earlier if finding.kind == "no-labels"}
    expected = known or (IMAGES[place.form] if "train" not in there else {})
    file_of = {
        split: f"list/{split}.txt" if place.form == "culane" else f"labels/{LLAMAS_FOLDERS[split]}"
        for split in expected
    }
    missing = [
        split
        for split, file in file_of.items()
        if split not in there and file not in said and broken_link(place.root, file) is None
    ]
    if not missing:
        return []
    what = f"there is no split {' and no split '.join(missing)}, only {', '.join(there)}"
    whose = "" if known else "if it is the public dataset's, "
    fix = place.restore(f"nothing if you don't need it; else {whose}{SPLITS_FROM[place.form]}")
    return [Finding("warning" if known else "note", "no-split", file_of[missing[0]], what, fix)]


def _no_scenarios(place: Place, found: Contents) -> list[Finding]:
    if any(finding.kind == "test-split" for finding in found.findings):
        return []
    file = "list/test_split" if place.form == "culane" else SCENARIOS_FILE
    what = "the scenarios of split test aren't there: their columns will be missing from every table"
    fix = place.restore(f"unpack list.tar.gz from {CULANE_PAGE} into the root again")
    return [Finding("warning", "no-scenarios", file, what, fix)]


def shared_images(found: Contents) -> list[Finding]:
    """Images of two splits: whoever trains on one has seen the other."""
    findings = []
    for one, other in combinations(found.frames, 2):
        seen = {frame.image for frame in found.frames[one]}
        both = [frame.id for frame in found.frames[other] if frame.image in seen]
        findings += grouped(
            "error", "two-splits", both, f"images are in split {one} and in split {other}",
            f"take them out of one of the two: what is trained on {one} would have seen images of {other}",
        )  # fmt: skip
    return findings


def clip_findings(place: Place, found: Contents) -> list[Finding]:
    """Clips of somebody's own data that two splits share by different images, and a test split of one clip."""
    # Where lists name images wrongly, their folders are no clips.
    if not place.own or any(finding.kind.startswith("list-") for finding in found.findings):
        return []
    findings = []
    for one, other in combinations(found.frames, 2):
        both = {frame.image for frame in found.frames[one]} & {frame.image for frame in found.frames[other]}
        seen, shared = (
            {frame.clip for frame in found.frames[split] if frame.image not in both} for split in (one, other)
        )
        findings += grouped(
            "warning", "shared-clip", sorted(clip or "." for clip in seen & shared),
            f"clips (folders) have images in split {one} and in split {other}",
            f"put every recording into one split: what is trained on {one} would have seen the roads of {other}",
        )  # fmt: skip
    clips = {frame.clip for frame in found.frames.get("test", ())}
    if len(clips) == 1:
        clip = clips.pop() or "."
        what = f"all {len(found.frames['test']):,} images of split test are of one clip (folder {clip}): no interval can be"
        fix = "put every recording into a folder of its own; a note only, if there is but one"
        findings.append(Finding("note", "one-clip", clip, what, fix))
    return findings
