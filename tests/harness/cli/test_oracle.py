"""`samiro-bench oracle`: pre-training from the command line, on any folder of images."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.cli.main import main
from harness.files.stored import sha256_of_file
from harness.methods.card import card_path
from harness.training.pretraining import STATE_FILE

SMALL = (
    "--backbone resnet_micro --steps 6 --batch-size 4 --size 64x96 --decoder-width 16 --recalibration-batches 1 --device cpu "
    "--threads 1"
)


def photos(folder: Path, count: int = 12, size: tuple[int, int] = (72, 104)) -> Path:
    """Images at several depths, each a grating."""
    y, x = np.mgrid[: size[0], : size[1]]
    for index in range(count):
        path = folder / f"clip{index % 3}" / ("deep" if index % 2 else ".") / f"{index}.{'jpg' if index % 4 else 'PNG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.uint8(127 + 100 * np.sin((x + index * y) / (3 + index))))
    return folder


def words(images: Path, out: Path, *more: str) -> list[str]:
    return ["oracle", "pretrain", str(images), "--out", str(out), *SMALL.split(), *more]


def test_a_folder_of_images_becomes_an_oracle_with_card_and_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "oracle.safetensors"
    code = main(words(photos(tmp_path / "photos"), out))
    said = capsys.readouterr().out
    # Whether six steps pass a check is chance; the exit code says it.
    assert code == int("FAILED: " in said)
    assert "mim:resnet_micro: 6 steps on 10 images" in said
    assert "held-out images, error in normalised pixels" in said
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "oracle.json",
        "oracle.loss.png",
        "oracle.png",
        "oracle.safetensors",
    ]
    assert cv2.imread(str(out.with_suffix(".png"))).shape == (2 * 64, 5 * 96, 3)
    assert cv2.imread(str(out.with_suffix(".loss.png"))).shape[2] == 3
    stamp = out.stat().st_mtime_ns
    assert main(words(tmp_path / "photos", out, "--json")) == code
    card = json.loads(capsys.readouterr().out)
    assert card["sha256"] == sha256_of_file(out)
    assert out.stat().st_mtime_ns == stamp, "what is finished isn't made again"
    assert main(words(tmp_path / "photos", out, "--seed", "1")) == 2
    assert "other options or another seed" in capsys.readouterr().err
    kept = card_path(out).read_text()
    card_path(out).write_text(json.dumps({**json.loads(kept), "drawn_apart": False}))
    assert main(words(tmp_path / "photos", out)) == 2
    assert "began with the weights that a detector on its backbone begins with" in capsys.readouterr().err
    card_path(out).write_text(kept)
    assert main(words(photos(tmp_path / "others", count=9), out)) == 2
    assert "an oracle of other images lies there" in capsys.readouterr().err
    repainted = photos(tmp_path / "repainted", size=(80, 120))
    assert main(words(repainted, out)) == 2, "the same names, other pictures"
    assert "an oracle of other images lies there" in capsys.readouterr().err
    assert main(["oracle", "list", str(out), "--json"]) == 0
    (row, *_) = json.loads(capsys.readouterr().out)["oracles"]
    assert (row["name"], row["sha256"], row["checks"]) == ("mim:resnet_micro", card["sha256"], card["checks"])
    assert main(["oracle", "list", str(out)]) == 0
    assert card["sha256"][:12] in capsys.readouterr().out


def prepared(case: str, folder: Path) -> Path:
    """A folder of images with something wrong in it."""
    images = folder / "photos"
    if case == "empty":
        images.mkdir()
        (images / "notes.txt").write_text("no image")
        return images
    if case == "absent":
        return images
    photos(images)
    if case == "file":
        return images / "clip0" / "0.PNG"
    if case == "unreadable":
        (images / "clip1" / "zz.jpg").write_bytes(b"\xff\xd8nothing")
    if case == "tiny":
        cv2.imwrite(str(images / "clip2" / "tiny.png"), np.zeros((20, 40, 3), np.uint8))
    if case == "single":
        for path in [path for path in images.rglob("*") if path.is_file()][1:]:
            path.unlink()
    return images


@pytest.mark.parametrize(
    ("case", "more", "said"),
    [
        ("empty", (), "holds no images, at any depth"),
        ("absent", (), "there is no such folder"),
        ("file", (), "this is a file; give the folder of images"),
        ("unreadable", (), "zz.jpg"),
        ("tiny", (), "tiny.png: 40 x 20 pixels are too small, 32 are needed"),
        ("single", (), "too few"),
        ("fine", ("--backbone", "resnet_mikro"), "did you mean 'resnet_micro'"),
        ("fine", ("--size", "64x90"), "isn't divisible by the masked unit of 32 px"),
        ("fine", ("--size", "64"), "isn't HEIGHTxWIDTH"),
        ("fine", ("--mask-ratio", "1"), "mask_ratio"),
        ("fine", ("--check",), "--check and --labels ROOT belong together"),
        ("fine", ("--check", "--labels", "nowhere"), "nowhere isn't in CULane's layout"),
        ("fine", ("--out", "oracle.pth"), "ends in .safetensors"),
    ],
)
def test_what_cannot_be_is_answered_in_one_line(
    case: str, more: tuple[str, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / "oracle.safetensors"
    assert main(words(prepared(case, tmp_path), out, *more)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not out.exists()


def test_label_masks_are_no_images(tmp_path: Path) -> None:
    from harness.training.pretraining_images import images_below

    photos(tmp_path / "root")
    photos(tmp_path / "root" / "laneseg_label_w16" / "driver_1")
    found = images_below(tmp_path / "root", smallest=32)
    assert len(found) == 12
    assert found == sorted(found)
    assert len(images_below(tmp_path / "root" / "laneseg_label_w16", smallest=32)) == 12


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, out = photos(tmp_path / "photos"), tmp_path / "oracle.safetensors"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # Writing beyond it fails, as on a disk without room.
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
        assert main(words(images, out)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    (line,) = capsys.readouterr().err.splitlines()
    assert "can't be written at step 6" in line
    assert "make room" in line
    assert not out.exists()
    assert main(words(images, out)) in (0, 1)
    assert out.exists()


def test_a_run_that_ended_between_weights_and_card_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import harness.methods.oracle as oracle

    images, out = photos(tmp_path / "photos"), tmp_path / "oracle.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(oracle, "write_text", lambda path, text: (_ for _ in ()).throw(KeyboardInterrupt))
        assert main(words(images, out)) not in (0, 1)
    assert out.exists()
    assert not out.with_suffix(".json").exists()
    assert main(words(images, out)) in (0, 1)
    assert json.loads(out.with_suffix(".json").read_text())["sha256"] == sha256_of_file(out)


def test_what_fails_a_check_or_diverges_ends_with_exit_code_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.training.pretraining import Pretraining

    images, out = photos(tmp_path / "photos"), tmp_path / "oracle.safetensors"
    # One step learns nothing: its error lies above that of the units' means.
    assert main(words(images, out, "--steps", "1")) == 1
    assert "FAILED: normalised error below the units' means" in capsys.readouterr().out
    optimize = Pretraining._optimize

    def spoilt(self: Pretraining, batch: Any) -> Any:
        return optimize(self, batch * float("nan") if self.step == 2 else batch)

    monkeypatch.setattr(Pretraining, "_optimize", spoilt)
    assert main(words(images, tmp_path / "other.safetensors")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the loss is nan at step 3; batch: " in line
    assert len(line.partition("batch: ")[2].split(", ")) == 4


@pytest.mark.slow
def test_a_killed_pre_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    images = photos(tmp_path / "photos")

    def command(out: Path) -> list[str]:
        return [sys.executable, "-m", "harness.cli.main", *words(images, out, "--steps", "250", "--json")]

    whole = tmp_path / "whole.safetensors"
    subprocess.run(command(whole), capture_output=True, timeout=600)
    out = tmp_path / "parts.safetensors"
    state = tmp_path / "parts.partial" / STATE_FILE
    killed = 0
    while not out.exists():
        seen = state.stat().st_mtime_ns if state.exists() else 0
        running = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while running.poll() is None and killed < 2:
            if state.exists() and state.stat().st_mtime_ns != seen:
                running.kill()
                killed += 1
                break
            time.sleep(0.02)
        running.wait(timeout=600)
    cards: list[dict[str, Any]] = [json.loads(path.with_suffix(".json").read_text()) for path in (whole, out)]
    assert killed == 2
    assert sha256_of_file(out) == sha256_of_file(whole)
    assert cards[0]["losses"] == cards[1]["losses"]
    assert cards[0]["reconstruction"] == cards[1]["reconstruction"]
    assert out.with_suffix(".loss.png").read_bytes() == whole.with_suffix(".loss.png").read_bytes()
