"""`samiro-bench detectors import`: a published checkpoint of an upstream repository becomes one of this program."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from detectors.meta import Form
from harness.errors import InputError, InputWarning, did_you_mean

EPILOG = "Example: samiro-bench detectors import lstr_resnet18s LSTR_500000.pkl --out lstr.safetensors"


def import_published(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The variant that the checkpoint was trained as.")],
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="A file that torch wrote.")],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The inference checkpoint to write.")],
    form: Annotated[
        str | None,
        typer.Option(metavar="FORM", help="The dataset it was trained for; by default the variant's first."),
    ] = None,
) -> None:
    """Write upstream's CHECKPOINT as an inference checkpoint that every other command reads."""
    from detectors.checkpoints import import_checkpoint
    from detectors.registry import detector_meta
    from harness.files.stored import sha256_of_file
    from harness.methods.config import method_configuration
    from harness.training.checkpoint import save_inference_checkpoint

    if out.is_dir():
        raise InputError(f"--out {out}: this is a folder; give the name of a file in it, as {out / name}.safetensors")
    forms = list(get_args(Form))
    if form is not None and form not in forms:
        raise InputError(f"--form {form}: no such form: {did_you_mean(form, forms)}")
    offered = list(detector_meta(name).configurations)
    chosen = cast(Form, form) if form else offered[0]
    detector = import_checkpoint(name, chosen, checkpoint)
    if form is None and len(offered) > 1:
        # Crop, anchors and thresholds differ where shapes don't.
        warnings.warn(
            InputWarning(
                f"{checkpoint}: taken as trained for {chosen}; where it was for {' or '.join(offered[1:])}, say so with --form"
            ),
            stacklevel=2,
        )
    meta = detector.meta.model_copy(update={"configurations": {chosen: detector.configuration}})
    facts = {
        "detector": name,
        "form": chosen,
        "meta": meta.model_dump(mode="json"),
        "method": method_configuration("baseline", None).model_dump(mode="json", by_alias=True),
        "imported": {"file": checkpoint.name, "sha256": sha256_of_file(checkpoint)},
    }
    digest = save_inference_checkpoint(out, detector, facts)
    typer.echo(f"wrote {out}: {name} for {chosen}, {len(detector.state_dict())} entries, sha256 {digest}")
