"""`samiro-bench throughput`: how fast a checkpoint's detector is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.table import Table

from harness.cli.console import bar_on_stderr
from harness.cli.options import Json
from harness.report.text import counted

if TYPE_CHECKING:
    from harness.records.timings import InferenceCost, Throughput

app = typer.Typer(add_completion=False)

EPILOG = "Example: samiro-bench throughput ufldv2_micro --checkpoint FILE --data /data/CULane"

WIDTH = 250
"""Characters of a line where nobody watches: no column is cut."""

RENDERED = "rendered images"
"""The flag of times that were taken on roads that nobody drove on."""


@app.command(epilog=EPILOG)
def throughput(
    name: Annotated[
        str, typer.Argument(metavar="DETECTOR", help="The checkpoint's detector: a name, or path/to/file.py:Class.")
    ],
    checkpoint: Annotated[
        Path, typer.Option(metavar="FILE", help="Of a run (cells/*/train/checkpoint.safetensors) or an import.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(metavar="ROOT", help="A dataset of the checkpoint's form; default: rendered images, flagged so."),
    ] = None,
    split: Annotated[str, typer.Option(help="Whose images it is timed on.")] = "test",
    images: Annotated[
        int, typer.Option(min=1, help="How many, evenly over the scenarios; the protocol's are 512.")
    ] = 512,
    mode: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODE",
            help="fp32-strict, tf32, amp-bf16 or amp-fp16, and +channels_last, +compile; repeatable. Default: fp32-strict and "
            "every precision that the device has instructions for.",
        ),
    ] = None,
    threads: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="CPU threads; repeatable. Default: 1, and on a CPU also all cores."),
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where the detector runs.")] = "auto",
    short: Annotated[
        bool, typer.Option("--short", help="lane-latency/1-short: one process and 100 iterations, for orientation.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Measure a detector by protocol lane-latency/1 (docs/throughput.md): minutes a mode, in which nothing else should run.

    Batch 1 from host memory to lanes, in three fresh processes; its regions; batches up to 128; memory; operations; what each mode
    does to the score, and what the method costs at inference. Latencies of one table must come from one machine. Exit code 1 where a
    mode that was asked for can't be compiled here.
    """
    import torch

    from harness.datasets.base import open_dataset
    from harness.errors import InputError
    from harness.files.stored import sha256_of_file
    from harness.inference.detector import chosen_device
    from harness.latency.images import rendered_roads, stratified
    from harness.latency.protocol import measure_all, native_modes
    from harness.latency.subject import Subject, loaded
    from harness.processes.limits import available_cores
    from harness.throughput.modes import HEADLINE, check_mode, mode_of

    named = tuple(map(mode_of, mode or ()))
    where: Literal["cpu", "cuda"] = "cuda" if chosen_device(device).type == "cuda" else "cpu"
    if where == "cpu":  # this process must not be seen on a GPU while others measure there
        for asked in named:
            check_mode(asked, torch.device(where))
    detector = loaded(Subject(checkpoint=checkpoint, adapter=name, images=()))
    with bar_on_stderr(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()) as bar:
        task = bar.add_task("rendering images", total=None)
        if data is None:
            if split != "test":
                raise InputError(
                    f"--split {split}: rendered images have a split 'test' alone; give --data ROOT for others"
                )
            dataset = rendered_roads(
                detector.form, images, lambda done, total: bar.update(task, completed=done, total=total)
            )
        else:
            dataset = open_dataset(detector.form, data)
        frames = stratified(dataset, split, images)
        subject = Subject(checkpoint=checkpoint, adapter=name, images=tuple(frame.image for frame in frames))
        measured, cost = measure_all(
            subject,
            tuple(dict.fromkeys((HEADLINE, *(named or native_modes(subject, where))))),
            dataset,
            split,
            protocol="lane-latency/1-short" if short else "lane-latency/1",
            device=where,
            threads=list(dict.fromkeys(threads or ([1, available_cores()] if where == "cpu" else [1]))),
            flags=(RENDERED,) if data is None else (),
            progress=lambda done, total, what: bar.update(task, description=what, completed=done, total=total),
        )
    if as_json:
        facts = {
            "detector": detector.meta.name,
            "checkpoint": str(checkpoint),
            "sha256": sha256_of_file(checkpoint),
            "dataset": str(dataset.root),
            "split": split,
            "throughput": [one.model_dump(mode="json") for one in measured],
            "inference_cost": [one.model_dump(mode="json") for one in cost],
        }
        typer.echo(json.dumps(facts))
    else:
        show(measured, cost)
    return 0 if {str(one) for one in named} <= {one.precision for one in measured} else 1


def show(measured: list[Throughput], cost: tuple[InferenceCost, ...]) -> None:
    """Print one table of the times, and a line a graph of what the method costs."""
    first = measured[0]
    size = f"{first.parameters / 1e6:.3f} M parameters"
    if first.gflops is not None:
        size += f", {'at least ' if first.gflops_is_lower_bound else ''}{first.gflops:.3g} GFLOPs"
    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    console.print(
        f"{first.protocol} on {first.device}, {counted(first.images, 'image')}; {size}", soft_wrap=True, highlight=False
    )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for title in ("Mode", "Threads"):
        table.add_column(title, no_wrap=True)
    titles = (
        "FPS",
        "p50 ms",
        "range",
        "p90",
        "p95",
        "p99",
        "model",
        "post",
        "from file",
        "relative",
        "img/s",
        "Δ score",
    )
    for title in titles:
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("Flags", no_wrap=True)
    for one in measured:
        latency, best = (
            one.latency_ms,
            max((point.images_per_second, point.size) for point in one.batches) if one.batches else None,
        )
        figures = (
            f"{one.fps:.1f}",
            f"{latency.p50:.2f}",
            "" if one.p50_range_ms is None else f"{one.p50_range_ms[0]:.2f} to {one.p50_range_ms[1]:.2f}",
            *(f"{value:.2f}" for value in (latency.p90, latency.p95, latency.p99, one.model_ms.p50, one.post_ms.p50)),
            "" if one.end_to_end_ms is None else f"{one.end_to_end_ms.p50:.2f}",
            f"{2 * latency.p50 / sum(one.reference_ms):.3f}",
            "" if best is None else f"{best[0]:.1f} at {best[1]}",
            "" if one.score_change is None else f"{100 * one.score_change:+.2f}",
        )
        table.add_row(one.precision, str(one.threads), *figures, escape(", ".join(one.flags)))
    console.print(table)
    for item in cost:
        flags = f" ({', '.join(item.flags)})" if item.flags else ""
        console.print(
            f"the method's network, {item.graph}: {item.ratio:.3f} times its baseline's time, 95 % interval "
            f"{item.ratio_low:.3f} to {item.ratio_high:.3f}{escape(flags)}",
            soft_wrap=True,
            highlight=False,
        )
