"""What `predict` leaves in its folder: a .lines.txt a picture or one file of JSON lines, and overlays beside them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.datasets.lines import lines_text
from harness.datasets.tusimple import line_text, sampled
from harness.datasets.videos import WRITTEN_SUFFIX
from harness.errors import InputError
from harness.files.stored import write_text, written_aside
from harness.lanes import Lane, archived
from harness.prediction.frames import Picture
from harness.prediction.sources import OVERLAY, Source

OutputFormat = Literal["lines", "tusimple"]

LINES_SUFFIX = ".lines.txt"
JSON_FILE = "predictions.json"
"""The one file of format tusimple."""

TUSIMPLE_HEIGHT, TUSIMPLE_FIRST_ROW, TUSIMPLE_STEP = 720, 160, 10
"""TuSimple's frames, and the first and the step of the rows that its test labels sample."""

Write = Callable[[Picture, Sequence[Lane]], None]


@dataclass(frozen=True)
class Outputs:
    """Where predictions go and what they look like."""

    folder: Path
    format: OutputFormat
    overlay: bool

    def lines_of(self, name: str) -> Path:
        """The file of a picture's lanes."""
        return self.folder / f"{name}{LINES_SUFFIX}"

    def output_of(self, source: Source) -> Path:
        """Where a source's lanes are: a file, or the folder of a video's."""
        if self.format == "tusimple":
            return self.folder / JSON_FILE
        return self.folder / source.name if source.is_video else self.lines_of(source.name)

    def overlay_of(self, source: Source) -> Path:
        """The picture or video that shows a source's lanes."""
        return self.folder / f"{source.name}{OVERLAY}{WRITTEN_SUFFIX if source.is_video else '.jpg'}"

    def existing(self, sources: Iterable[Source]) -> list[Path]:
        """The files there that these sources would be written to, a video's earlier frames among them."""
        expected: dict[Path, None] = {}
        for source in sources:
            output = self.output_of(source)
            frames = sorted(output.glob(f"[0-9]*{LINES_SUFFIX}")) if output.is_dir() else [output]
            expected |= dict.fromkeys(frames + ([self.overlay_of(source)] if self.overlay else []))
        return [path for path in expected if path.exists()]

    def prepare(self, sources: Sequence[Source], *, overwrite: bool) -> None:
        """Make the folder; with `overwrite`, clear away what these sources left there before.

        Raises InputError if the folder can't be written, and without `overwrite` if anything of theirs is there.
        """
        found = self.existing(sources)
        if found and not overwrite:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise InputError(f"{found[0]}{more}: there already; give --overwrite to replace, or another --out")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
            for path in found:
                path.unlink()
        except OSError as error:
            raise InputError(f"--out {self.folder}: can't be written ({error.strerror}); give another folder") from None

    def withdraw(self, made: bool) -> None:
        """Take back what a run without a single picture left: the list without a line and, where it `made` it, the empty folder."""
        if self.format == "tusimple":
            (self.folder / JSON_FILE).unlink(missing_ok=True)
        if made and not any(self.folder.iterdir()):
            self.folder.rmdir()

    @contextmanager
    def writer(self) -> Iterator[Write]:
        """Yield what takes each picture with its lanes. A .lines.txt appears at once; the JSON lines all at the end."""
        if self.format == "lines":
            yield lambda picture, lanes: write_text(self.lines_of(picture.name), lines_text(archived(lanes)))
            return
        with (
            written_aside(self.folder / JSON_FILE) as aside,
            open(aside, "w", encoding="utf-8", newline="\n") as stream,
        ):

            def write(picture: Picture, lanes: Sequence[Lane]) -> None:
                stream.write(tusimple_text(picture, lanes))

            yield write


def tusimple_rows(height: int) -> list[int]:
    """The rows to sample in an image of `height` pixels: every tenth, from the share of the height where TuSimple's begin."""
    first = round(height * TUSIMPLE_FIRST_ROW / TUSIMPLE_HEIGHT / TUSIMPLE_STEP) * TUSIMPLE_STEP
    return list(range(first, height, TUSIMPLE_STEP))


def tusimple_text(picture: Picture, lanes: Sequence[Lane]) -> str:
    """A picture's line, with the rows that its lanes are sampled at; a lane that reaches none of them is left out."""
    rows = tusimple_rows(picture.geometry.original[0])
    seen = [lane for lane, (found,) in ((lane, sampled([lane], rows)) for lane in lanes) if len(found)]
    return line_text(picture.file, seen, rows, h_samples=rows, run_time=0)
