from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness.conformance.second_device import SECOND_DEVICE, second_device
from harness.errors import InputError
from harness.methods.card import card_path, picture_path
from harness.methods.config import OracleConfiguration
from harness.methods.oracle import load_card, load_oracle
from harness.training.loading import batches_in_order
from harness.training.pretraining import Pretraining, learning_rate_factor, pretrain
from harness.training.pretraining_images import Pictures, evenly_spread, held_out_split

CPU = torch.device("cpu")


def stripes(folder: Path, count: int, *, size: tuple[int, int] = (72, 104), clips: int = 4) -> list[Path]:
    """Images of one thing only: a grating whose phase, period and direction any part of it gives away."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]]
    paths = []
    for index in range(count):
        angle, period, phase = random.uniform(0, np.pi), random.uniform(24, 40), random.uniform(0, 2 * np.pi)
        wave = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + phase)
        image = np.repeat((127 + 100 * wave)[:, :, None], 3, 2).astype(np.uint8)
        path = folder / f"clip{index % clips}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        paths.append(path)
    return paths


def options(**changes: Any) -> OracleConfiguration:
    values: dict[str, Any] = {
        "name": "mim:resnet_micro",
        "steps": 6,
        "batch_size": 4,
        "image_size": (64, 96),
        "decoder_width": 32,
        "recalibration_batches": 2,
    }
    return OracleConfiguration(**(values | changes))


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    return stripes(tmp_path / "images", 16)


def test_pre_training_writes_weights_a_card_and_a_picture(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "oracle" / "small.safetensors"
    steps: list[tuple[int, int]] = []
    state = torch.get_rng_state()
    card = pretrain(
        options(),
        images,
        out=out,
        device=CPU,
        threads=1,
        progress=lambda step, total, loss: steps.append((step, total)),
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert steps == [(6, 6)]
    assert load_card(out) == card
    assert (card.data["images"], card.data["held_out"]) == (12, 4)
    assert set(card.checks) == {"normalised error below the units' means", "pixel error below inpainting"}
    assert card.reconstruction is not None
    assert card.reconstruction.normalised_mean == pytest.approx(1.0, abs=1e-3)
    assert [tap.channels for tap in card.taps] == [16, 32, 64, 128]
    assert all(1.0 <= tap.effective_rank <= tap.channels for tap in card.taps)
    picture = cv2.imread(str(picture_path(out)))
    assert picture.shape == (4 * 64, 5 * 96, 3)
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "small.json",
        "small.loss.png",
        "small.png",
        "small.safetensors",
    ]
    features = load_oracle(out)(torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8))
    assert [feature.shape[1] for feature in features] == [16, 32, 64, 128]


def test_one_seed_gives_one_oracle_and_another_another(images: list[Path], tmp_path: Path) -> None:
    hashes = [
        pretrain(options(seed=seed), images, out=tmp_path / f"{name}.safetensors", device=CPU, threads=1).sha256
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


class Stopped(Exception):
    """Takes the place of a kill."""


def test_a_stopped_pre_training_goes_on_bit_for_bit(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain(options(), images, out=tmp_path / "whole.safetensors", device=CPU, threads=1)
    optimize = Pretraining._optimize

    def stop_at_the_sixth(self: Pretraining, batch: torch.Tensor) -> torch.Tensor:
        if self.step == 5:
            raise Stopped
        return optimize(self, batch)

    out = tmp_path / "parts.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(Pretraining, "_optimize", stop_at_the_sixth)
        with pytest.raises(Stopped):
            pretrain(options(), images, out=out, device=CPU, threads=1, checkpoint_every=2)
    assert not out.exists()
    (tmp_path / "parts.partial" / ".state.killed.part").write_text("half of a checkpoint")
    taken: list[int] = []

    def counted(self: Pretraining, batch: torch.Tensor) -> torch.Tensor:
        taken.append(self.step)
        return optimize(self, batch)

    monkeypatch.setattr(Pretraining, "_optimize", counted)
    resumed = pretrain(options(), images, out=out, device=CPU, threads=1, checkpoint_every=2)
    assert taken == [4, 5]
    assert resumed.sha256 == whole.sha256
    assert resumed.losses == whole.losses
    assert resumed.reconstruction == whole.reconstruction
    assert not (tmp_path / "parts.partial").exists()


def test_a_checkpoint_of_another_pre_training_is_refused(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o.safetensors"
    monkeypatch.setattr(Pretraining, "recalibrate", lambda self: (_ for _ in ()).throw(Stopped))
    with pytest.raises(Stopped):
        pretrain(options(), images, out=out, device=CPU, threads=1)
    with pytest.raises(InputError, match="another pre-training"):
        pretrain(options(learning_rate=2e-3), images, out=out, device=CPU, threads=1)
    with pytest.raises(InputError, match="another pre-training"):
        pretrain(options(seed=1), images, out=out, device=CPU, threads=1)


def test_every_step_hides_other_units_and_a_seed_the_same_ones_again(images: list[Path]) -> None:
    def seen(seed: int) -> list[torch.Tensor]:
        """What is visible in the first three steps: (4, 2, 3) each."""
        given = options(image_size=(64, 96), batch_size=4, seed=seed)
        run = Pretraining(given, Pictures(images, given), {}, device=CPU, workers=0)
        loss, found, rates = run.model.loss, [], []

        def kept(batch: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
            found.append(visible)
            rates.append(run.optimizer.param_groups[0]["lr"])
            return loss(batch, visible)

        run.model.loss = kept  # type: ignore[method-assign]
        for batch in run._batches(0, 3):
            run._optimize(batch)
        # Without warm-up steps, for a twentieth of 6 is none: 1e-3 times a half cosine.
        assert rates == pytest.approx([1e-3, 1e-3 * (1 + np.sqrt(3) / 2) / 2, 1e-3 * 0.75])
        return found

    masks = seen(1)
    assert not any(torch.equal(masks[one], masks[other]) for one, other in ((0, 1), (0, 2), (1, 2)))
    assert all(torch.equal(*pair) for pair in zip(masks, seen(1), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(masks, seen(2), strict=True))
    assert any(not torch.equal(mask[0], mask[1]) for mask in masks), "images of one step have masks of their own"


def test_a_card_has_the_mean_loss_of_each_tenth_of_the_steps(images: list[Path]) -> None:
    run = Pretraining(options(steps=20), Pictures(images, options()), {}, device=CPU, workers=0)
    run.losses, run.step = torch.arange(20.0), 20
    assert run.mean_losses() == tuple(2 * tenth + 0.5 for tenth in range(10))


@pytest.mark.slow
def test_what_is_learned_beats_the_trivial_fills(tmp_path: Path) -> None:
    images = stripes(tmp_path / "images", 200, clips=20)
    configuration = options(steps=300, batch_size=16, recalibration_batches=10, decoder_width=64)
    card = pretrain(configuration, images, out=tmp_path / "o.safetensors", device=CPU, threads=1)
    assert card.reconstruction is not None
    # A guess that doesn't look at what is visible scores 1 at best.
    assert card.reconstruction.normalised < 0.9 * card.reconstruction.normalised_mean
    assert card.reconstruction.pixels < card.reconstruction.pixels_fill
    assert all(card.checks.values())
    assert card.losses[-1] < card.losses[0]


def test_a_random_oracle_keeps_its_drawn_weights_and_fits_batch_normalisation(
    images: list[Path], tmp_path: Path
) -> None:
    from harness.methods.oracle import drawn_backbone

    out = tmp_path / "random.safetensors"
    card = pretrain(options(name="random:resnet_micro", seed=3), images, out=out, device=CPU, threads=1)
    assert (card.seed, card.configuration["seed"]) == (3, 3)
    assert (card.steps, card.losses, card.reconstruction, card.checks) == (0, (), None, {})
    fresh, stored = drawn_backbone("resnet_micro", 3).state_dict(), load_file(out)
    for name, value in stored.items():
        assert torch.equal(value, fresh[name]) == ("running" not in name and "num_batches" not in name), name
    assert not picture_path(out).exists()
    assert card_path(out).exists()


def test_recalibration_gives_the_mean_statistics_of_unmasked_batches(images: list[Path]) -> None:
    run = Pretraining(options(), Pictures(images, options()), {}, device=CPU, workers=0)
    run.recalibrate()
    batches = list(run._batches(6, 8))
    outputs = [run.model.backbone.conv1[0](batch) for batch in batches]
    expected = torch.stack([output.mean((0, 2, 3)) for output in outputs]).mean(0)
    torch.testing.assert_close(run.model.backbone.conv1[1].running_mean, expected.detach(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"image_size": (64, 90)}, "isn't divisible"),
        ({"image_size": (32, 32)}, "nothing to hide"),
        ({"name": "mim:resnet_mikro"}, "resnet_micro"),
        ({"patch_unit": 16, "image_size": (64, 96)}, "patch_unit"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    images: list[Path], tmp_path: Path, changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        pretrain(options(**changes), images, out=tmp_path / "o.safetensors", device=CPU)
    assert "\n" not in str(caught.value)


def test_missing_and_too_few_images_are_refused(images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    with pytest.raises(InputError, match="too few"):
        pretrain(options(), images[:1], out=out, device=CPU)
    images[3].write_bytes(b"")
    with pytest.raises(InputError, match=images[3].name):
        pretrain(options(), images, out=out, device=CPU)


def test_a_loss_that_is_not_finite_stops_with_its_step_and_files(images: list[Path], tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"loss is (nan|inf) at step [2-9]; batch: .*\.png"):
        pretrain(options(steps=20, learning_rate=1e30), images, out=tmp_path / "o.safetensors", device=CPU)


def test_clips_are_held_out_whole_and_by_name_alone() -> None:
    clips = [f"clip{index // 5}" for index in range(100)]
    training, held_out = held_out_split(clips, 0.1, 100)
    assert {clips[i] for i in training} & {clips[i] for i in held_out} == set()
    assert len(held_out) == 10
    shuffled = clips[::-1]
    assert {shuffled[i] for i in held_out_split(shuffled, 0.1, 100)[1]} == {clips[i] for i in held_out}
    assert len(held_out_split(clips, 0.5, 7)[1]) == 7
    assert len(held_out_split(["one"] * 10, 0.2, 100)[1]) == 2
    assert [len(part) for part in held_out_split(["a", "b"], 0.99, 100)] == [1, 1], "something is left to train on"
    assert evenly_spread(range(10), 3) in ([0, 4, 9], [0, 5, 9])


def test_an_epoch_shows_every_image_once_and_crops_stay_inside(images: list[Path]) -> None:
    pictures = Pictures(images, options(seed=5))
    for epoch in range(2):
        assert sorted(pictures._index(epoch * 16 + place) for place in range(16)) == list(range(16))
    crop = pictures.crop(3)
    assert crop.shape == (64, 96, 3)
    assert crop.dtype == np.uint8
    assert np.array_equal(crop, Pictures(images, options(seed=5)).crop(3))
    assert not np.array_equal(crop, Pictures(images, options(seed=6)).crop(3))


@pytest.mark.parametrize(("crop_scale", "flip"), [((0.25, 0.25), 0.0), ((0.25, 0.25), 1.0), ((0.4, 1.0), 0.5)])
def test_crops_have_the_share_of_the_area_that_is_asked_for_and_as_many_are_mirrored(
    tmp_path: Path, crop_scale: tuple[float, float], flip: float
) -> None:
    """Of a ramp a crop shows where it was taken from: a quarter of the area is half of the width."""
    path = tmp_path / "ramp.png"
    cv2.imwrite(str(path), np.broadcast_to(np.arange(192, dtype=np.uint8)[None, :, None], (128, 192, 3)))
    pictures = Pictures([path], options(crop_scale=crop_scale, flip=flip, seed=3))
    ends = np.array([pictures.crop(position)[32, [0, -1], 0] for position in range(200)], float)
    shares = (np.abs(ends[:, 1] - ends[:, 0]) / 192 * 96 / 95) ** 2
    assert crop_scale[0] - 0.03 < shares.min()
    assert shares.max() < crop_scale[1] + 0.03
    # Even over areas, not over lengths: the standard error of 200 draws from .4 to 1 is .012.
    assert shares.mean() == pytest.approx(sum(crop_scale) / 2, abs=0.04)
    assert (ends[:, 1] < ends[:, 0]).mean() == pytest.approx(flip, abs=0 if flip in (0, 1) else 0.11)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_are_decoded_once_by_all_workers_together(images: list[Path], workers: int) -> None:
    def crops(pictures: Pictures, first: int, last: int) -> list[torch.Tensor]:
        return list(
            batches_in_order(
                pictures.crop,
                lambda items: torch.from_numpy(np.stack(items)),
                range(first, last),
                batch_size=4,
                workers=workers,
                pin_memory=False,
            )
        )

    reference = crops(Pictures(images, options()), 16, 32)
    pictures = Pictures(images, options())
    crops(pictures, 0, 16)
    for path in images:
        path.unlink()
    assert all(torch.equal(*pair) for pair in zip(crops(pictures, 16, 32), reference, strict=True))


def test_whole_frames_are_the_frames_at_the_networks_size(tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :192]
    ramp = np.stack([x, y, np.zeros_like(x)], 2).astype(np.uint8)
    path = tmp_path / "ramp.png"
    cv2.imwrite(str(path), cv2.cvtColor(ramp, cv2.COLOR_RGB2BGR))
    frames = Pictures([path], options()).whole_frames(CPU)
    assert frames.shape == (1, 3, 64, 96)
    # Outer edges lie on outer edges: pixel i of the half-sized image is centred at 2 i + 0.5.
    assert frames[0, 0, 10].numpy() == pytest.approx(2 * np.arange(96) + 0.5, abs=1.6)
    assert frames[0, 1, :, 10].numpy() == pytest.approx(2 * np.arange(64) + 0.5, abs=1.6)


def test_the_learning_rate_rises_for_a_twentieth_and_falls_to_nothing() -> None:
    factors = [learning_rate_factor(step, 200, 0.05) for step in range(200)]
    assert factors[10] == 1.0
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[105] == pytest.approx(0.5)
    assert factors[-1] < 1e-3


@pytest.mark.parametrize("name", ["mim:resnet_micro", "random:resnet_micro"])
def test_an_oracle_learns_on_another_device_what_it_learns_on_the_host(
    images: list[Path], tmp_path: Path, name: str
) -> None:
    found = []
    for device in (CPU, SECOND_DEVICE):
        out = tmp_path / str(device) / "oracle.safetensors"
        with second_device():
            card = pretrain(options(name=name), images, out=out, device=device, threads=1)
        found.append((card.losses, load_file(out)))
    (losses, weights), (there, reached) = found
    assert there == pytest.approx(losses, rel=1e-3)
    for key, value in weights.items():
        torch.testing.assert_close(reached[key], value, rtol=1e-3, atol=1e-4)
