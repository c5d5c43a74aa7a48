"""What `predict` is asked to look at: image and video files, out of paths, folders and patterns, each with a name of its own."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from harness.datasets.videos import VIDEO_SUFFIXES
from harness.errors import InputError

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""How the names of image files end, in small letters."""

OVERLAY = ".overlay"
"""What stands before the extension of an overlay. In a folder such files aren't taken for images."""


@dataclass(frozen=True)
class Source:
    """One file to look at. file: its name for a list of predictions, with extension; name: what its outputs are called.

    Both are posix paths. A video's outputs lie in a folder of that name.
    """

    path: Path
    file: str
    name: str

    @property
    def is_video(self) -> bool:
        """Whether it holds frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_sources(words: Sequence[str], root: Path | None = None) -> list[Source]:
    """The files that paths, folders (searched through) and patterns stand for, in their order, each once.

    A file's name is its path below `root`. Without one it is its path below the folder that was given, its bare name if it was given
    itself; where that gives two files one name, all are named by their paths below the deepest folder that holds all. The extension
    is left off unless another file has the same name but for that (x.jpg beside x.png). Raises InputError for a path that isn't
    there, a folder or pattern without any, a file of another kind, and one outside `root`.
    """
    folder_of: dict[Path, Path] = {}
    for word in words:
        for path, folder in _files(word):
            folder_of.setdefault(path, folder)
    if not folder_of:
        raise InputError("no image is given; name image or video files, or folders of them")
    paths = list(folder_of)
    if root is not None:
        below = Path(os.path.abspath(root))
        outside = next((path for path in paths if not path.is_relative_to(below)), None)
        if outside is not None:
            raise InputError(f"{outside} doesn't lie in --root {root}; give a folder that holds all images")
        return _named(paths, lambda path: path.relative_to(below))
    common = Path(os.path.commonpath([path.parent for path in paths]))
    files = {path.relative_to(folder) for path, folder in folder_of.items()}
    if len(files) < len(paths):
        return _named(paths, lambda path: path.relative_to(common))
    return _named(paths, lambda path: path.relative_to(folder_of[path]))


def find_images(words: Sequence[str]) -> list[Source]:
    """`find_sources` where no video can be shown: InputError for one."""
    sources = find_sources(words)
    for source in sources:
        if source.is_video:
            raise InputError(f"{source.path} is a video; give images, `samiro-bench predict --overlay` draws on videos")
    return sources


def _files(word: str) -> list[tuple[Path, Path]]:
    """Files, absolute, and the folder below which each is named."""
    path = Path(os.path.abspath(word))
    if path.is_dir():
        known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
        found = [
            file
            for file in sorted(path.rglob("*"))
            if file.suffix.lower() in known
            and not file.stem.endswith(OVERLAY)
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and (file.is_file() or is_dangling(file))
        ]
        if not found:
            raise InputError(f"{word}: no image or video in this folder; give one that has some")
        return [(file, path) for file in found]
    if path.exists():
        if path.suffix.lower() not in IMAGE_SUFFIXES | VIDEO_SUFFIXES:
            known_suffixes = " ".join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))
            raise InputError(f"{word}: neither an image nor a video by its name; known are {known_suffixes}")
        return [(path, path.parent)]
    if not glob.has_magic(word):
        raise InputError(f"{word} is missing; give the path of an image, a video or a folder of them")
    matches = sorted(glob.glob(word, recursive=True))
    if not matches:
        raise InputError(f"{word}: nothing is called so; correct the pattern")
    return [file for match in matches for file in _files(match)]


def is_dangling(path: Path) -> bool:
    """Whether it is a link to what isn't there, as of data that was never fetched: whoever reads it says so, rather than nobody."""
    return path.is_symlink() and not path.exists()


def _named(paths: Sequence[Path], relative: Callable[[Path], Path]) -> list[Source]:
    """Sources named by a relative path, without extensions where that is enough to tell them apart."""
    files = [PurePosixPath(relative(path).as_posix()) for path in paths]
    whole = [Source(path, str(file), str(file)) for path, file in zip(paths, files, strict=True)]
    short = [replace(source, name=str(file.with_suffix(""))) for source, file in zip(whole, files, strict=True)]
    taken = _taken(short)
    mixed = [long if one.name in taken else one for one, long in zip(short, whole, strict=True)]
    return whole if _taken(mixed) else mixed


def _taken(sources: Sequence[Source]) -> set[str]:
    """Names that two sources share, and those of videos whose folder of frames another source lies in."""
    counts = Counter(source.name for source in sources)
    videos = {source.name for source in sources if source.is_video}
    folders = {str(parent) for name in counts for parent in PurePosixPath(name).parents}
    return {name for name, count in counts.items() if count > 1} | (videos & folders)
