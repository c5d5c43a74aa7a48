"""`samiro-bench oracle pretrain`: masked image modelling on a folder of images, and the gate."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from harness.cli.console import bar_on_stderr
from harness.cli.options import Json, height_and_width
from harness.errors import InputError

if TYPE_CHECKING:
    import torch

    from harness.methods.card import OracleCard
    from harness.methods.config import OracleConfiguration
    from harness.training.gate import Labelled

EPILOG = "Example: samiro-bench oracle pretrain photos --backbone resnet18 --out oracle.safetensors --steps 5000"

BAR = (
    TextColumn("{task.description}"),
    BarColumn(),
    MofNCompleteColumn(),
    TextColumn("{task.fields[told]}"),
    TimeRemainingColumn(),
)


def pretrain(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="A folder of images, at any depth; no labels.")],
    backbone: Annotated[str, typer.Option(metavar="NAME", help="A backbone of the project, such as resnet18.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The .safetensors file to write; cards and pictures go beside.")
    ],
    steps: Annotated[int, typer.Option(min=1)] = 5000,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    size: Annotated[str, typer.Option(metavar="HxW", help="Height and width of the crops in pixels.")] = "128x320",
    mask_ratio: Annotated[float, typer.Option(min=0, max=1, help="Share of the units that is hidden.")] = 0.6,
    decoder_width: Annotated[int, typer.Option(min=16)] = 256,
    recalibration_batches: Annotated[
        int, typer.Option(min=1, help="Unmasked batches to which batch normalisation is fitted at the end.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights, crops and masks.")] = 0,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option()] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; part of what makes a result bit-equal.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images.")] = 0,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Then the gate: probes on lane cells against drawn networks, 3 seeds; needs --labels."
        ),
    ] = False,
    labels: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="A dataset with labelled training images, for --check.")
    ] = None,
    form: Annotated[str, typer.Option(help="Of that dataset: culane, tusimple or llamas.")] = "culane",
    as_json: Json = False,
) -> int:
    """Pre-train an oracle `mim:NAME` on the images below IMAGES; writes weights, their card and two pictures.

    A run that was stopped goes on from its last checkpoint, bit for bit on the same device with the same threads. FILE.png shows
    held-out images: as they are, what the network sees, its reconstruction, OpenCV's inpainting, the patches' means; FILE.loss.png the
    loss against what these score. A suite takes FILE as `{name: mim:NAME, file: FILE}`. Exit code 1 where a check on the card fails.
    """
    from harness.datasets.base import open_dataset
    from harness.files.validation import validated
    from harness.inference.detector import chosen_device
    from harness.methods.config import OracleConfiguration
    from harness.training.gate import labelled_frames
    from harness.training.pretraining_images import images_below

    if check != (labels is not None):
        raise InputError("--check and --labels ROOT belong together: give both, or neither")
    if out.suffix != ".safetensors":
        raise InputError(f"--out {out}: give a file that ends in .safetensors")
    values = {
        "name": f"mim:{backbone}",
        "steps": steps,
        "batch_size": batch_size,
        "image_size": height_and_width(size),
        "mask_ratio": mask_ratio,
        "decoder_width": decoder_width,
        "recalibration_batches": recalibration_batches,
        "seed": seed,
    }
    configuration = validated(OracleConfiguration, values, where="oracle pretrain")
    used = chosen_device(device)
    files = images_below(images, smallest=deepest_stride(backbone))
    clips = [path.parent.relative_to(images).as_posix() for path in files]
    card = finished(out, configuration, files, clips)
    # Before hours of training: what is wrong with the labels is told now.
    labelled = None if labels is None else labelled_frames(open_dataset(form, labels), configuration.image_size)
    if card is None:
        try:
            card = trained(configuration, files, clips, out, used, threads=threads, workers=workers)
        except FloatingPointError as error:
            typer.echo(f"samiro-bench: {error}", err=True)
            return 1
    if labelled is not None:
        card = checked(card, configuration, files, out, labelled, used)
    if as_json:
        typer.echo(card.model_dump_json())
    else:
        for line in told(card, out):
            typer.echo(line)
    return 0 if all(card.checks.values()) else 1


def deepest_stride(backbone: str) -> int:
    """Of a backbone, which is the side of a masked unit: smaller images have nothing to hide. InputError for an unknown one."""
    from harness.methods.oracle import drawn_backbone, oracle_taps

    return max(tap.stride for tap in oracle_taps(drawn_backbone(backbone, seed=0)))


def finished(out: Path, configuration: OracleConfiguration, files: list[Path], clips: list[str]) -> OracleCard | None:
    """The card of what lies at `out` already, None where nothing whole does. InputError where that was made otherwise or of others.

    Where the checkpoint is still there, a run ended between writing the weights and their card, which is written last.
    """
    from harness.methods.card import card_path
    from harness.methods.oracle import load_card
    from harness.training.pretraining import checkpoint_folder, identity_of_images

    if not out.exists() or (checkpoint_folder(out).is_dir() and not card_path(out).exists()):
        return None
    card = load_card(out)
    # Cards from before a configuration had a seed have it beside that alone.
    if card.configuration | {"seed": card.seed} != configuration.model_dump(mode="json") | {"seed": configuration.seed}:
        raise InputError(
            f"{out}: an oracle of other options or another seed lies there: give another --out, or move it away"
        )
    if not card.drawn_apart:
        raise InputError(
            f"{out}: an oracle lies there that an earlier version began with the weights that a detector on its backbone begins with: "
            "give another --out, or move it away (`oracle probe` tells what it knows)"
        )
    # Cards from before bytes were counted have the hash alone.
    if any(card.data.get(key, value) != value for key, value in identity_of_images(files, clips).items()):
        raise InputError(f"{out}: an oracle of other images lies there: give another --out, or move it away")
    return card


def trained(
    configuration: OracleConfiguration,
    files: list[Path],
    clips: list[str],
    out: Path,
    device: torch.device,
    *,
    threads: int | None,
    workers: int,
) -> OracleCard:
    """Pre-train under a bar on standard error."""
    from harness.training.pretraining import pretrain as run

    with bar_on_stderr(*BAR) as bar:
        task = bar.add_task("pre-training", total=configuration.steps, told="")
        return run(
            configuration,
            files,
            clips=clips,
            out=out,
            device=device,
            threads=threads,
            workers=workers,
            progress=lambda step, total, loss: bar.update(task, completed=step, total=total, told=f"loss {loss:.3f}"),
        )


def checked(
    card: OracleCard,
    configuration: OracleConfiguration,
    files: list[Path],
    out: Path,
    labelled: Labelled,
    device: torch.device,
) -> OracleCard:
    """The card with what the gate found, written anew."""
    from harness.files.stored import write_text
    from harness.methods.card import card_path
    from harness.methods.oracle import load_oracle
    from harness.training.gate import CHECK, drawn, probe_gate

    with Console(stderr=True).status("probing") as status:
        found = probe_gate(
            load_oracle(out),
            partial(drawn, configuration, files, device=device),
            labelled,
            device=device,
            progress=lambda done, total: status.update(f"probing, seed {done + 1} of {total}"),
        )
    card = card.model_copy(update={"probe": found, "checks": {**card.checks, CHECK: found["passed"]}})
    write_text(card_path(out), card.model_dump_json(indent=1) + "\n")
    return card


def told(card: OracleCard, out: Path) -> list[str]:
    """What is known now, in lines."""
    lines = [f"{card.name}: {card.steps} steps on {card.data['images']} images, sha256 {card.sha256[:12]}, in {out}"]
    found = card.reconstruction
    if found is not None:
        fill = "" if found.normalised_fill is None else f", inpainting {found.normalised_fill:.3f}"
        lines.append(
            f"{found.images} held-out images, error in normalised pixels: {found.normalised:.3f} (patches' means "
            f"{found.normalised_mean:.3f}{fill})"
        )
    for tap in card.taps:
        probe = probe_figures(card.probe, tap.path)
        rank = (
            f"effective rank {tap.effective_rank:.1f} of {tap.channels}, {100 * tap.dead_channels:.0f} % dead channels"
        )
        lines.append(f"{tap.path}: {rank}{probe}")
    lines += [f"{'passed' if passed else 'FAILED'}: {name}" for name, passed in card.checks.items()]
    return lines


def probe_figures(probe: dict[str, Any] | None, path: str) -> str:
    """Mean average precision over seeds of a tap's probes, as the end of a line."""
    if probe is None:
        return ""
    means = {name: sum(values) / len(values) for name, values in probe["average_precision"][path].items()}
    return f"; probe {100 * means['oracle']:.1f} against {100 * means['random']:.1f} % average precision"
