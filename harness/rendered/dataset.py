"""Writes a rendered dataset in any of the forms: folders, images, labels, lists; all of it or nothing under the final
name."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2

from harness.datasets.rendering import RENDERING_FILE
from harness.errors import InputError
from harness.files.stored import follow_umask, sha256_of_json, sync_folder, write_json
from harness.processes.children import die_with_parent
from harness.rendered import culane_form, llamas_form, tusimple_form
from harness.rendered.clip import Clip
from harness.rendered.spec import FORMS, SCENARIOS, Form, RenderSpec, dataset_key
from harness.sums import added_in_order


@dataclass(frozen=True)
class FormWriter:
    """How a form is written. `folder` names a clip's folder from its split, number and digest; `render` writes a clip's frames
    and returns what `finish` needs of it, a picklable value; `label` does the same without images; `finish` writes what clips
    share, from the names of the splits to write, the clips of all splits, and those values of the former's by folder."""

    folder: Callable[[str, int, str], str]
    label: Callable[[Clip, RenderSpec, Path], Any]
    render: Callable[[Clip, RenderSpec, Path], Any]
    finish: Callable[[list[str], list[Clip], dict[str, Any], Path], None]


WRITERS: dict[Form, FormWriter] = {
    "culane": FormWriter(culane_form.folder, culane_form.label_clip, culane_form.render_clip, culane_form.finish),
    "tusimple": FormWriter(
        tusimple_form.folder, tusimple_form.label_clip, tusimple_form.render_clip, tusimple_form.finish
    ),
    "llamas": FormWriter(llamas_form.folder, llamas_form.label_clip, llamas_form.render_clip, llamas_form.finish),
}


def plan_clips(spec: RenderSpec) -> list[Clip]:
    """The clips of a spec: every scenario gets its share of each split's frames, by largest remainder, at least one
    clip while there are
    enough clips. The seed of a clip depends on the spec's seed, the split and the clip's number only."""
    clips = []
    for split, wanted in spec.splits.items():
        count = -(-wanted.frames // wanted.frames_per_clip)
        order = _spread(_quotas(wanted.shares(spec.form), count))
        left = wanted.frames
        for number, scenario in enumerate(order):
            digest = sha256_of_json({"seed": spec.seed, "split": split, "clip": number})
            folder = WRITERS[spec.form].folder(split, number, digest)
            frames = min(wanted.frames_per_clip, left)
            left -= frames
            clips.append(Clip(split, number, folder, scenario, int(digest[:15], 16), frames))
    return clips


def _quotas(shares: dict[str, float], count: int) -> dict[str, int]:
    """Whole numbers of clips that sum to `count`: one each where there are enough clips, the rest by largest
    remainder."""
    least = 1 if count >= len(shares) else 0
    free = count - least * len(shares)
    exact = {name: share * count for name, share in shares.items()}
    above = {name: max(value - least, 0.0) for name, value in exact.items()}
    total = added_in_order([*above.values()])
    scaled = {name: free * value / total if total > 0 else 0.0 for name, value in above.items()}
    quotas = {name: least + int(value) for name, value in scaled.items()}
    rest = sorted(scaled, key=lambda name: int(scaled[name]) - scaled[name])
    for name in rest[: count - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def _spread(quotas: dict[str, int]) -> list[str]:
    """The scenarios in an order that mixes them evenly, so that any first part of a split holds all of them."""
    slots = [((k + 0.5) / number, name) for name, number in quotas.items() for k in range(number)]
    order = {name: n for n, name in enumerate(SCENARIOS)}
    return [name for _, name in sorted(slots, key=lambda slot: (slot[0], order[slot[1]]))]


def render_dataset(
    spec: RenderSpec, root: Path, *, workers: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Render a whole dataset at `root` with `workers` processes; equal specs give equal bytes whatever the number of
    workers.

    It is written to a folder aside and renamed at the end, so that a kill leaves nothing under the final name (folders left aside by a
    killed run are swept by the next one). `progress` gets frames done and frames in all. Raises InputError if `root` exists and isn't
    an empty folder, can't be made, or was made by another process meanwhile.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: exists already: remove it or name another folder for the rendered dataset")
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        _sweep(root)
        aside = Path(tempfile.mkdtemp(prefix=f".{root.name}.{os.getpid()}.", suffix=".part", dir=root.parent))
    except OSError as error:
        raise InputError(
            f"{root}: no folder can be made in {root.parent} ({error.strerror}); name one where you may write"
        ) from None
    try:
        clips = plan_clips(spec)
        total = sum(clip.frames for clip in clips)
        facts: dict[str, Any] = {}
        done = 0
        for clip, found in _rendered(clips, spec, aside, workers):
            facts[clip.folder] = found
            done += clip.frames
            if progress is not None:
                progress(done, total)
        WRITERS[spec.form].finish(list(spec.splits), clips, facts, aside)
        write_json(aside / RENDERING_FILE, _rendering(spec, clips))
        follow_umask(aside)
        try:
            aside.rename(root)  # an empty folder gives way
        except OSError as error:
            raise InputError(
                f"{root}: was made by another process meanwhile ({error.strerror}); use that one, or name another folder"
            ) from None
        sync_folder(root.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def label_dataset(spec: RenderSpec, root: Path, split: str) -> None:
    """Write what scoring a split of a rendered dataset reads into an empty folder: lists, labels and scenarios as `render_dataset`
    writes them, byte for byte, without images and masks, and without the labels of other splits. split: one of the specification's."""
    writer = WRITERS[spec.form]
    clips = plan_clips(spec)
    facts = {clip.folder: writer.label(clip, spec, root) for clip in clips if clip.split == split}
    writer.finish([split], clips, facts, root)


def _rendered(clips: list[Clip], spec: RenderSpec, root: Path, workers: int) -> Iterator[tuple[Clip, Any]]:
    """Clips with what is to be kept of them, as they get done: in this process for one worker, else in fresh ones."""
    render = WRITERS[spec.form].render
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for clip in clips:
                yield clip, render(clip, spec, root)
        finally:
            cv2.setNumThreads(threads)
        return
    # Fresh processes: a fork of one that runs threads (torch, numba, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(clips)), context, initializer=_start_worker, initargs=(os.getpid(),))
    try:
        pending: dict[Future[Any], Clip] = {}
        waiting = iter(clips)
        for clip in waiting:
            pending[pool.submit(render, clip, spec, root)] = clip
            if len(pending) >= 2 * workers:
                break
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield pending.pop(future), future.result()
                following = next(waiting, None)
                if following is not None:
                    pending[pool.submit(render, following, spec, root)] = following
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(parent: int) -> None:
    import signal

    # Ctrl-C reaches the whole process group: the parent ends the pool, workers just finish the clip they are at.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A pool doesn't notice that whoever waits for it was killed.
    die_with_parent(signal.SIGKILL, parent)
    cv2.setNumThreads(1)


def _sweep(root: Path) -> None:
    """Remove what killed runs left beside `root`: of this very name, for `roads.7` may be rendered beside `roads`."""
    left = re.compile(re.escape(f".{root.name}.") + r"(\d+)\.[^.]+\.part")
    for folder in root.parent.iterdir():
        found = left.fullmatch(folder.name)
        if found and not _alive(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _rendering(spec: RenderSpec, clips: list[Clip]) -> dict[str, Any]:
    return {
        "renderer": FORMS[spec.form].version,
        "dataset_key": dataset_key(spec),
        "spec": spec.model_dump(mode="json"),
        "clips": [asdict(clip) for clip in clips],
    }
