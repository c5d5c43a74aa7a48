"""Pre-training of oracles by masked image modelling: images in, frozen weights with their card out.

Every batch, crop and mask is a function of seed and step alone, so a pre-training that was stopped goes on bit for bit on the same
device with the same threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from detectors.base import normalise
from detectors.meta import Normalisation
from harness.errors import InputError
from harness.files.stored import remove_torn, sha256_of_json, sha256_of_text
from harness.methods.assessment import assess_reconstruction, assess_taps
from harness.methods.card import OracleCard, curve_path, picture_path
from harness.methods.config import OracleConfiguration
from harness.methods.masked_image_model import MaskedImageModel, random_visible
from harness.methods.oracle import Oracle, drawn_backbone, oracle_taps, save_oracle
from harness.processes.stopping import after_checkpoint, stop_asked
from harness.pytorch.random_state import ORACLES, seed_apart
from harness.training.checkpoint import load_training_state, save_training_state
from harness.training.determinism import deterministic
from harness.training.loading import batches_in_order
from harness.training.pretraining_curve import draw_curve
from harness.training.pretraining_images import Pictures, held_out_split

Progress = Callable[[int, int, float], None]

PROGRESS_EVERY = 10
"""Steps between two reports of the loss: each waits for the device."""

STATE_FILE = "pretraining.safetensors"
"""The checkpoint of a pre-training that isn't finished."""


def pretrain(
    configuration: OracleConfiguration,
    images: Sequence[Path],
    *,
    out: Path,
    device: torch.device,
    clips: Sequence[str] | None = None,
    threads: int | None = None,
    workers: int = 0,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> OracleCard:
    """Make the oracle that `configuration` names from unlabelled images; write weights, card and pictures to `out` and beside it.

    out: a .safetensors file; the card becomes .json, the picture of reconstructions .png, that of the loss .loss.png. clips: of each
    image, default the name of its folder; some clips are held out to check what was learned. threads: CPU threads while this runs.
    workers: processes that read images. A checkpoint every `checkpoint_every` steps lies beside `out` until the end, and is gone on
    with. progress: called with (steps done, steps in all, loss).

    `random:` oracles take no steps: their weights stay as drawn, only batch normalisation is fitted to the images. Raises
    InputError for images that are missing or broken, options that don't fit the backbone, and a checkpoint of another
    pre-training; FloatingPointError with the step and its files where the loss isn't finite.
    """
    if not configuration.made_of_images:
        raise InputError(
            f"oracle {configuration.name!r} isn't made from images: give mim:<backbone> or random:<backbone>"
        )
    started = time.monotonic()
    clip_names = [path.parent.name for path in images] if clips is None else list(clips)
    training, held_out = held_out_split(clip_names, configuration.held_out, configuration.held_out_images)
    if not training or not held_out:
        raise InputError(f"oracle {configuration.name!r}: {len(images)} images are too few: give at least 2")
    pictures = Pictures([images[i] for i in training], configuration)
    checks = Pictures([images[i] for i in held_out], configuration)
    data = {"images": len(training), "held_out": len(held_out), **identity_of_images(images, clip_names)}
    with deterministic(threads=threads or torch.get_num_threads()), torch.random.fork_rng(devices=[]):
        run = Pretraining(configuration, pictures, data, device=device, workers=workers)
        folder = checkpoint_folder(out)
        if configuration.kind == "mim":
            run.train(folder / STATE_FILE, checkpoint_every, progress or (lambda step, total, loss: None))
        batch = checks.whole_frames(device)
        reconstruction = (
            assess_reconstruction(run.model, run.normalisation, batch, configuration.mask_ratio, picture_path(out))
            if configuration.kind == "mim"
            else None
        )
        run.recalibrate()
        backbone = run.trained_backbone()
        oracle = Oracle(backbone, oracle_taps(backbone), run.normalisation).to(device)
        card = OracleCard(
            name=configuration.name,
            backbone=configuration.backbone,
            configuration=configuration.model_dump(mode="json"),
            data=data,
            seed=configuration.seed,
            drawn_apart=True,
            steps=configuration.steps if configuration.kind == "mim" else 0,
            threads=torch.get_num_threads(),
            device=device.type,
            torch=torch.__version__,
            seconds=time.monotonic() - started,
            normalisation=run.normalisation,
            losses=run.mean_losses(),
            reconstruction=reconstruction,
            taps=assess_taps(oracle, batch),
            checks={}
            if reconstruction is None
            else {
                "normalised error below the units' means": reconstruction.normalised < reconstruction.normalised_mean,
                "pixel error below inpainting": reconstruction.pixels < reconstruction.pixels_fill,
            },
        )
        card = save_oracle(backbone, card, out)
        if reconstruction is not None:
            draw_curve(curve_path(out), run.losses.cpu().numpy(), reconstruction, configuration.name)
    (folder / STATE_FILE).unlink(missing_ok=True)
    remove_torn(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return card


def masked_model(configuration: OracleConfiguration, backbone: nn.Module) -> tuple[MaskedImageModel, tuple[int, int]]:
    """A backbone as it learns, and how many units its images have, (down, across); InputError where the options don't fit it."""
    taps = oracle_taps(backbone)
    unit = configuration.patch_unit or max(tap.stride for tap in taps)
    height, width = configuration.image_size
    if height % unit or width % unit:
        raise InputError(
            f"oracle {configuration.name!r}: key 'image_size': [{height}, {width}] isn't divisible by the masked unit of "
            f"{unit} px: give sides that are"
        )
    units = (height // unit, width // unit)
    if units[0] * units[1] < 2:
        raise InputError(
            f"oracle {configuration.name!r}: key 'image_size': one unit of {unit} px has nothing to hide: enlarge it"
        )
    model = MaskedImageModel(backbone, taps, unit=unit, width=configuration.decoder_width, name=configuration.backbone)
    return model, units


class Pretraining:
    """One pre-training: model, optimizer, and the step that it is at."""

    def __init__(
        self,
        configuration: OracleConfiguration,
        pictures: Pictures,
        data: dict[str, object],
        *,
        device: torch.device,
        workers: int,
    ) -> None:
        self.configuration, self.pictures, self.device = configuration, pictures, device
        self.workers = workers
        self.normalisation = Normalisation()
        self.identity = sha256_of_json(
            [
                configuration.model_dump(mode="json", exclude={"seed"}),
                data,
                seed_apart(configuration.seed, ORACLES),
                device.type,
            ]
        )
        backbone = drawn_backbone(configuration.backbone, configuration.seed)
        torch.manual_seed(configuration.seed)
        self.model, self.units = masked_model(configuration, backbone)
        self.model.to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=configuration.learning_rate,
            betas=configuration.betas,
            weight_decay=configuration.weight_decay,
        )
        self.step = 0
        self.losses = torch.zeros(configuration.steps, device=device)

    def train(self, checkpoint: Path, checkpoint_every: int, progress: Progress) -> None:
        """All steps that are left, from `checkpoint` where there is one."""
        self._restore(checkpoint)
        self._refuse_leaks()
        total = self.configuration.steps
        self.model.train()
        with after_checkpoint(), closing(self._batches(self.step, total)) as batches:
            for images in batches:
                loss = self._optimize(images)
                stops = stop_asked()
                if self.step % PROGRESS_EVERY == 0 or self.step == total:
                    self._refuse_not_finite()
                    progress(self.step, total, float(loss))
                if self.step % checkpoint_every == 0 or self.step == total or stops:
                    self._save(checkpoint)
                if stops:
                    return

    def _refuse_not_finite(self) -> None:
        """FloatingPointError, in one line, at the first step of the last ones whose loss isn't finite."""
        first = max(0, self.step - PROGRESS_EVERY)
        for step, value in enumerate(self.losses[first : self.step].tolist(), first):
            if not math.isfinite(value):
                files = ", ".join(str(path) for path in self.pictures.files_of(step))
                raise FloatingPointError(
                    f"oracle {self.configuration.name!r}: the loss is {value} at step {step + 1}; batch: {files}"
                )

    @torch.no_grad()
    def recalibrate(self) -> None:
        """Refit batch normalisation to unmasked images: the mean statistics of `recalibration_batches` batches."""
        layers = [module for module in self.model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        self.model.backbone.train()
        first = self.configuration.steps
        with closing(self._batches(first, first + self.configuration.recalibration_batches)) as batches:
            for images in batches:
                self.model.backbone(images)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        self.model.eval()

    def trained_backbone(self) -> nn.Module:
        """The weights in a backbone as it is without a mask."""
        backbone = drawn_backbone(self.configuration.backbone, self.configuration.seed)
        backbone.load_state_dict(self.model.backbone.state_dict())
        return backbone

    def mean_losses(self) -> tuple[float, ...]:
        """The mean loss of each tenth of the steps; empty without steps."""
        tenths = np.arange(self.step) * 10 // self.configuration.steps
        losses = self.losses[: self.step].double().cpu().numpy()
        return tuple(float(losses[tenths == tenth].mean()) for tenth in np.unique(tenths))

    def _optimize(self, images: Tensor) -> Tensor:
        configuration = self.configuration
        factor = learning_rate_factor(self.step, configuration.steps, configuration.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = configuration.learning_rate * factor
        generator = torch.Generator().manual_seed(configuration.seed * 1_000_003 + self.step)
        visible = random_visible(len(images), self.units, configuration.mask_ratio, generator)
        loss = self.model.loss(images, visible)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.losses[self.step] = loss.detach()
        self.step += 1
        return loss.detach()

    def _batches(self, first: int, last: int) -> Generator[Tensor, None, None]:
        """Normalised images of steps `first` to `last`, on the device."""
        size = self.configuration.batch_size
        crops = batches_in_order(
            self.pictures.crop,
            lambda items: torch.from_numpy(np.stack(items)),
            range(first * size, last * size),
            batch_size=size,
            workers=self.workers,
            pin_memory=self.device.type == "cuda",
        )
        with closing(crops):
            for batch in crops:
                images = batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2)
                yield normalise(images, self.normalisation).contiguous()

    @torch.no_grad()
    def _refuse_leaks(self) -> None:
        """What is hidden may not change what is seen: InputError for a backbone whose layers don't obey the mask."""
        self.model.eval()
        generator = torch.Generator().manual_seed(0)
        visible = random_visible(1, self.units, self.configuration.mask_ratio, generator).to(self.device)
        height, width = self.configuration.image_size
        images = torch.randn(2, 3, height, width, generator=generator).to(self.device)
        mask = visible.repeat_interleave(self.model.unit, 1).repeat_interleave(self.model.unit, 2).unsqueeze(1)
        first, second = images[:1], torch.where(mask, images[:1], images[1:])
        for one, other in zip(self.model.features(first, visible), self.model.features(second, visible), strict=True):
            if not torch.equal(one, other):
                raise InputError(
                    f"oracle {self.configuration.name!r}: hidden pixels reach visible features of this backbone: choose "
                    "another, such as a ResNet"
                )

    def _save(self, path: Path) -> None:
        state = {
            "identity": self.identity,
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
        }
        try:
            save_training_state(path, state)
        except (OSError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:120]
            raise InputError(
                f"{path}: can't be written at step {self.step} ({reason}): make room, then the same command goes on from the "
                "checkpoint before"
            ) from error

    def _restore(self, path: Path) -> None:
        if not path.exists():
            return
        state = load_training_state(path)
        if state.get("identity") != self.identity:
            raise InputError(
                f"{path}: a checkpoint of another pre-training (images, options, seed or device differ): delete it to begin anew"
            )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.losses = state["losses"].to(self.device)


def checkpoint_folder(out: Path) -> Path:
    """Where the checkpoint of a pre-training lies by default until the oracle is whole."""
    return out.parent / f"{out.stem}.partial"


def identity_of_images(images: Sequence[Path], clips: Sequence[str]) -> dict[str, object]:
    """By what a card, and a checkpoint, knows the images again: a hash of their clips and names, and their bytes in all."""
    names = "\n".join(f"{clip}/{path.name}" for clip, path in zip(clips, images, strict=True))
    # One that isn't there is named when it is read.
    return {
        "list_sha256": sha256_of_text(names),
        "bytes": sum(path.stat().st_size for path in images if path.is_file()),
    }


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Linear warm-up over a share of the steps, then a half cosine to 0."""
    warmup = round(warmup_share * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
