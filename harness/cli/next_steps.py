"""What to try after a run that went well, each with the command or the address: only what is there and works as it stands."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from harness.cli.console import say

if TYPE_CHECKING:
    from harness.matrix.plan import Plan

NAME = "samiro-bench"
PICTURES = (".jpg", ".png")
MASKS = "laneseg_label_w16"
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "README.md"


def program() -> str:
    """How this program was called, for commands that a user shall copy: its path where a shell doesn't find it by its name."""
    called = Path(sys.argv[0])
    found = shutil.which(NAME)
    if called.name != NAME or (found is not None and Path(found).resolve() == called.resolve()):
        return NAME
    return str(called)


def show_next_steps(plan: Plan, with_seeds: Sequence[str], console: Console) -> None:
    """Print what to try next.

    plan: of the whole suite. with_seeds: the words of the command that ran, without a choice of cells but of their tier, and with the
    seeds that verdicts take.
    """
    console.print("what to try next:", highlight=False)
    for why, what in next_steps(plan, with_seeds):
        say(console, f"  {why}:\n    {what}")


def next_steps(plan: Plan, with_seeds: Sequence[str]) -> list[tuple[str, str]]:
    """What for, and the command, the address or the file."""
    from harness.cell.keys import scored_part
    from harness.report.statistics import SEEDS_FOR_A_VERDICT
    from harness.scoring import is_reported
    from harness.suite.schema import form_of

    page = plan.results / plan.suite.name / "site" / "index.html"
    steps = [("the page, in a browser", page.resolve().as_uri())]
    identities = [cell.identity for cell in plan.all_cells]
    judged = any(
        is_reported(form_of(scored_part(cell, part)), part.split)
        for cell in plan.all_cells
        for part in cell.evaluations.values()
    )
    paired = judged and len({identity.method for identity in identities}) > 1
    if paired and len({identity.seed for identity in identities}) < SEEDS_FOR_A_VERDICT:
        steps.append((f"verdicts, which take {SEEDS_FOR_A_VERDICT} paired seeds", shlex.join(with_seeds)))
    drawn = lanes_command(plan)
    if drawn:
        steps.append(("lanes drawn on images, here on rendered ones", shlex.join(drawn)))
    if GUIDE.is_file():
        steps.append(("other suites, real datasets, a detector of your own", str(GUIDE)))
    return steps


def lanes_command(plan: Plan) -> list[str] | None:
    """The command that draws the lanes of a trained cell on images of its rendered dataset; None where these aren't there."""
    from harness.cell.artefacts import rendering_phase
    from harness.cell.keys import cell_folder
    from harness.suite import Cell

    for cell in plan.all_cells:
        if not isinstance(cell, Cell) or cell.dataset.rendered is None:
            continue
        checkpoint = cell_folder(plan.results, cell) / "train" / "checkpoint.safetensors"
        images = last_folder_of_images(rendering_phase(plan.results, cell.dataset.rendered).folder / "dataset")
        if checkpoint.is_file() and images is not None:
            words = [program(), "predict", cell.adapter, "--checkpoint", str(checkpoint)]
            return [*words, "--out", "lanes", "--overlay", str(images)]
    return None


def last_folder_of_images(folder: Path) -> Path | None:
    """The folder below a dataset's that holds its last images, by their paths and of its test split if it has one; None without any."""
    images = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix in PICTURES)
    found = {image.parent for image in images if image.parts[0] != MASKS}
    return folder / max(found, key=lambda parent: ("test" in str(parent), parent)) if found else None
