"""Writes a rendered dataset as a CULane dataset: folders, images, labels, lists; all of it or nothing under the final
name."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from harness.datasets.culane import write_lines_file
from harness.errors import InputError
from harness.files import sha256_of_json, sync_folder, write_json, write_text
from harness.lanes import Lane
from harness.rendered.frame import prepare, render_frame
from harness.rendered.sampling import sample_scene
from harness.rendered.spec import RENDERER_VERSION, SCENARIOS, RenderSpec, dataset_key

JPEG_QUALITY = 92
CLIPS_PER_DRIVER = 20
FRAME_STEP = 30
"""CULane keeps every 30th frame of its recordings and names the files so."""
MASK_FOLDER = "laneseg_label_w16"
MASK_WIDTH = 16
"""CULane's lane masks are 16 px wide at 590 rows."""
RENDERING_FILE = "rendering.json"


@dataclass(frozen=True)
class Clip:
    """One clip to render: its split, folder (relative, no leading slash), scenario, seed and number of frames."""

    split: str
    folder: str
    scenario: str
    seed: int
    frames: int

    def images(self) -> list[str]:
        """The image paths relative to the root."""
        return [f"{self.folder}/{FRAME_STEP * number:05d}.jpg" for number in range(self.frames)]


def plan_clips(spec: RenderSpec) -> list[Clip]:
    """The clips of a spec: every scenario gets its share of each split's frames, by largest remainder, at least one
    clip while there are
    enough clips. The seed of a clip depends on the spec's seed, the split and the clip's number only."""
    clips = []
    for split, wanted in spec.splits.items():
        count = -(-wanted.frames // wanted.frames_per_clip)
        order = _spread(_quotas(wanted.shares, count))
        left = wanted.frames
        for number, scenario in enumerate(order):
            digest = sha256_of_json({"seed": spec.seed, "split": split, "clip": number})
            folder = f"driver_{split}_{number // CLIPS_PER_DRIVER:02d}/{number:04d}_{digest[:4]}.MP4"
            frames = min(wanted.frames_per_clip, left)
            left -= frames
            clips.append(Clip(split, folder, scenario, int(digest[:15], 16), frames))
    return clips


def _quotas(shares: dict[str, float], count: int) -> dict[str, int]:
    """Whole numbers of clips that sum to `count`: one each where there are enough clips, the rest by largest
    remainder."""
    least = 1 if count >= len(shares) else 0
    free = count - least * len(shares)
    exact = {name: share * count for name, share in shares.items()}
    above = {name: max(value - least, 0.0) for name, value in exact.items()}
    total = sum(above.values())
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


def render_clip(clip: Clip, spec: RenderSpec, root: Path) -> list[list[int]]:
    """Render one clip's images, labels and lane masks under `root`; returns each frame's four existence flags."""
    scene = sample_scene(clip.scenario, spec.difficulty, clip.seed, clip.frames)
    stage = prepare(scene)
    flags = []
    (root / clip.folder).mkdir(parents=True, exist_ok=True)
    masks = clip.split in ("train", "val")
    if masks:
        (root / MASK_FOLDER / clip.folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(clip.images()):
        frame = render_frame(stage, number, width=spec.width, height=spec.height)
        path = root / image
        if not cv2.imwrite(str(path), frame.image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]):
            raise OSError(f"{path}: could not be written: is the disk full?")
        write_lines_file(path.with_suffix("").with_suffix(".lines.txt"), frame.lanes)
        if masks:
            mask = lane_mask(frame.lanes, frame.slots, (spec.height, spec.width))
            target = (root / MASK_FOLDER / image).with_suffix(".png")
            if not cv2.imwrite(str(target), mask, [cv2.IMWRITE_PNG_COMPRESSION, 1]):
                raise OSError(f"{target}: could not be written: is the disk full?")
        flags.append([int(slot in frame.slots) for slot in range(4)])
    return flags


def lane_mask(lanes: list[Lane], slots: list[int], size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """CULane's training mask: 0 for background, slot + 1 along each lane."""
    mask = np.zeros(size, np.uint8)
    thickness = max(round(MASK_WIDTH * size[0] / 590), 1)
    for lane, slot in zip(lanes, slots, strict=True):
        points = np.round(lane.points * 16).astype(np.int32)
        cv2.polylines(mask, [points], False, slot + 1, thickness, cv2.LINE_8, 4)
    return mask


def render_dataset(
    spec: RenderSpec, root: Path, *, workers: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Render a whole dataset at `root` with `workers` processes; equal specs give equal bytes whatever the number of
    workers.

    It is written to a folder aside and renamed at the end, so that a kill leaves nothing under the final name
    (folders left aside by a
    killed run are swept by the next one). `progress` gets frames done and frames in all. Raises InputError if `root`
    exists and isn't
    an empty folder.
    """
    root = Path(root)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InputError(f"{root}: exists already: remove it or name another folder for the rendered dataset")
    root.parent.mkdir(parents=True, exist_ok=True)
    _sweep(root)
    aside = Path(tempfile.mkdtemp(prefix=f".{root.name}.{os.getpid()}.", suffix=".part", dir=root.parent))
    try:
        clips = plan_clips(spec)
        total = sum(clip.frames for clip in clips)
        flags: dict[str, list[list[int]]] = {}
        done = 0
        for clip, found in _rendered(clips, spec, aside, workers):
            flags[clip.folder] = found
            done += clip.frames
            if progress is not None:
                progress(done, total)
        _write_lists(spec, clips, flags, aside)
        write_json(aside / RENDERING_FILE, _rendering(spec, clips))
        umask = os.umask(0)
        os.umask(umask)
        aside.chmod(0o777 & ~umask)
        if root.exists():
            root.rmdir()
        aside.rename(root)
        sync_folder(root.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _rendered(clips: list[Clip], spec: RenderSpec, root: Path, workers: int) -> Iterator[tuple[Clip, list[list[int]]]]:
    """Clips with their flags as they get done: in this process for one worker, else in fresh ones."""
    if workers <= 1:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(1)
        try:
            for clip in clips:
                yield clip, render_clip(clip, spec, root)
        finally:
            cv2.setNumThreads(threads)
        return
    # Fresh processes: a fork of one that runs threads (torch, numba, OpenCV) may hang.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, len(clips)), mp_context=context, initializer=_start_worker)
    try:
        pending: dict[Future[list[list[int]]], Clip] = {}
        waiting = iter(clips)
        for clip in waiting:
            pending[pool.submit(render_clip, clip, spec, root)] = clip
            if len(pending) >= 2 * workers:
                break
        while pending:
            finished, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in finished:
                yield pending.pop(future), future.result()
                following = next(waiting, None)
                if following is not None:
                    pending[pool.submit(render_clip, following, spec, root)] = following
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    import signal

    # Ctrl-C reaches the whole process group: the parent ends the pool, workers just finish the clip they are at.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)


def _sweep(root: Path) -> None:
    """Remove what killed runs left beside `root`."""
    for folder in root.parent.glob(f".{root.name}.*.part"):
        owner = folder.name.removeprefix(f".{root.name}.").split(".")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_lists(spec: RenderSpec, clips: list[Clip], flags: dict[str, list[list[int]]], root: Path) -> None:
    for split in spec.splits:
        mine = [clip for clip in clips if clip.split == split]
        write_text(root / "list" / f"{split}.txt", "".join(f"/{image}\n" for clip in mine for image in clip.images()))
        if split == "test":
            for number, scenario in enumerate(SCENARIOS):
                images = [image for clip in mine if clip.scenario == scenario for image in clip.images()]
                # An empty list isn't written: a split without images has no score.
                if images:
                    write_text(
                        root / "list" / "test_split" / f"test{number}_{scenario}.txt",
                        "".join(f"{image}\n" for image in images),
                    )
            continue
        rows = []
        for clip in mine:
            for image, exist in zip(clip.images(), flags[clip.folder], strict=True):
                rows.append(f"/{image} /{MASK_FOLDER}/{image.removesuffix('.jpg')}.png {' '.join(map(str, exist))}\n")
        write_text(root / "list" / f"{split}_gt.txt", "".join(rows))


def _rendering(spec: RenderSpec, clips: list[Clip]) -> dict[str, Any]:
    return {
        "renderer": RENDERER_VERSION,
        "dataset_key": dataset_key(spec),
        "spec": spec.model_dump(mode="json"),
        "clips": [asdict(clip) for clip in clips],
    }
