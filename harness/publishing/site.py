"""The page of a publication, `site/`: made from the publication alone, but for the pictures of rendered frames, which a run has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.datasets.base import Dataset
from harness.publishing.frames import Frames, frames_of, plain_file, with_pictures, write_pictures
from harness.publishing.logs import TRAINING, losses_of
from harness.report.figures import figure_names, write_figures
from harness.report.leaderboard import Leaderboard
from harness.report.site.details import Extras
from harness.report.site.page import to_page, write_page

SITE = "site"
PAGE = f"{SITE}/index.html"
WITHOUT = "No frames: the page shows those of its first rows alone."


def write_site(folder: Path, board: Leaderboard, images: Mapping[str, Dataset]) -> Path:
    """Write the page of the publication in `folder`, with the figures for papers and the pictures of frames; returns the page's path.

    images: rendered datasets by content, as far as they are at hand; pictures that the page has already are kept without them.
    InputError if something that the page rests on is damaged.
    """
    found = frames_of(folder, board)
    write_pictures(folder / SITE / "frames", found, images)
    write_figures(folder / SITE / "figures", board)
    return write_page(folder / SITE, board, extras_of(folder, board, found))


def page_of(folder: Path, board: Leaderboard) -> str:
    """The page that a publication gives, for comparison; pictures and figures are taken as they lie there."""
    return to_page(board, extras_of(folder, board, frames_of(folder, board)))


def extras_of(folder: Path, board: Leaderboard, found: Frames) -> Extras:
    """What a publication holds beyond records and counts that its page shows."""
    records = {record.id for part in board.shown for row in part.rows for record in row.arm.records}
    figures = folder / SITE / "figures"
    return Extras(
        losses={name: losses_of(folder / TRAINING / f"{name}.jsonl") for name in sorted(records)},
        frames=with_pictures(found, folder / SITE),
        overlays=found.overlays,
        why_no_overlays=WITHOUT,
        figures={
            number: {
                kind: paths
                for kind, names in figure_names(number).items()
                if (paths := tuple(f"figures/{name}" for name in names if plain_file(figures / name)))
            }
            for number in range(1, len(board.shown) + 1)
        },
    )
