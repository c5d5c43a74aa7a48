from __future__ import annotations

import errno
import json
import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.cell import artefacts
from harness.cell.artefacts import build_rendering, open_part, rendering_phase
from harness.cli.main import main
from harness.errors import InputError
from harness.files.stored import write_json
from harness.matrix import preflight as looking
from harness.matrix.builds import builds_of
from harness.matrix.data import Need, data_needs, reads_of
from harness.matrix.plan import make_plan
from harness.matrix.preflight import (
    BYTES_A_PIXEL,
    disk_need,
    memory_needs,
    oracle_needs,
    preflight,
    shared_memory_warnings,
)
from harness.suite import Choice, Suite, cells_of, load_suite
from harness.training.pretraining import identity_of_images
from tests.benchmarks.finished import finish, finished

REAL = """
title: Real
datasets:
  culane: {form: culane, image_size: [59, 164]}
detectors:
  ufldv2_micro:
methods:
  baseline:
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    (tmp_path / "real.yaml").write_text(REAL)
    return load_suite(str(tmp_path / "real.yaml"))


@pytest.fixture
def culane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The smallest folder in CULane's layout: one frame a split."""
    root = tmp_path / "CULane"
    for split in ("train", "test"):
        image = root / f"driver_1/{split}.MP4/00000.jpg"
        image.parent.mkdir(parents=True)
        assert cv2.imwrite(str(image), np.zeros((59, 164, 3), np.uint8))
        image.with_name("00000.lines.txt").write_text("10 50 20 40\n")
        (root / "list").mkdir(exist_ok=True)
        (root / "list" / f"{split}.txt").write_text(f"/driver_1/{split}.MP4/00000.jpg\n")
    monkeypatch.setenv("SAMIRO_BENCH_DATA_CULANE", str(root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_a_dataset_without_a_folder_is_missing_and_says_where_it_comes_from(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SAMIRO_BENCH_DATA_CULANE", raising=False)
    monkeypatch.chdir(tmp_path)
    (need,) = data_needs(suite, cells_of(suite), tmp_path)
    assert need.missing
    assert "SAMIRO_BENCH_DATA_CULANE" in need.detail
    assert need.images == {"train": 88_880, "test": 34_680}  # as published: enough to price a training
    assert "xingangpan.github.io" in need.detail


def test_a_whole_dataset_is_there_with_its_counts(suite: Suite, culane: Path, tmp_path: Path) -> None:
    (need,) = data_needs(suite, cells_of(suite), tmp_path)
    assert not need.missing
    assert need.images == {"test": 1, "train": 1}


@pytest.mark.parametrize(
    "broken", ["list/test.txt", "driver_1/test.MP4/00000.jpg", "driver_1/train.MP4/00000.lines.txt"]
)
def test_what_is_missing_of_a_dataset_is_named(suite: Suite, culane: Path, tmp_path: Path, broken: str) -> None:
    (culane / broken).unlink()
    (need,) = data_needs(suite, cells_of(suite), tmp_path)
    assert need.missing
    assert Path(broken).name in need.detail


def test_rendered_data_is_made_and_never_missing(tmp_path: Path) -> None:
    smoke = load_suite("smoke")
    (need,) = data_needs(smoke, cells_of(smoke), tmp_path)
    assert not need.missing
    assert need.images == {"train": 72, "test": 36}


def withheld(path: Path, mode: str) -> None:
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda path: path.write_text("".join(path.open().readlines()[:-2])),
            "list/train.txt: 4 images were rendered for split train, 2 are listed",
        ),
        (lambda path: shutil.rmtree(path.parent), "list"),
        (lambda path: path.write_text("/driver_1"), "list/train.txt"),
    ],
)
def test_rendered_data_that_lost_frames_since_is_refused_and_made_anew_by_what_the_refusal_says(
    tmp_path: Path, damage: Callable[[Path], None], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefacts, "available_cores", lambda: 1)  # other processes start for longer than they render
    spec = "{seed: 7, width: 820, height: 295, splits: {train: {frames: 4}, test: {frames: 2}}}"
    (tmp_path / "roads.yaml").write_text(REAL.replace("{form: culane, image_size: [59, 164]}", f"{{rendered: {spec}}}"))
    suite = load_suite(str(tmp_path / "roads.yaml"))
    rendered = suite.datasets["culane"].rendered
    assert rendered is not None

    def need() -> Need:
        (found,) = data_needs(suite, cells_of(suite), tmp_path)
        return found

    build_rendering(tmp_path, rendered, "job", lambda event: None)
    assert not need().missing
    folder = rendering_phase(tmp_path, rendered).folder
    with monkeypatch.context() as lost_mount:
        lost_mount.setattr("harness.datasets.base.open", withheld, raising=False)
        assert need().detail.endswith(
            "; it may be whole: see to what keeps it from being read, then run the same again"
        )
    damage(folder / "dataset/list/train.txt")
    refused = need()
    assert refused.missing
    assert refused.detail.startswith(f"{folder}: not as it was finished (")
    assert told in refused.detail
    assert refused.detail.endswith("; move the folder away and run `bench` again")
    folder.rename(tmp_path / "away")
    assert not need().missing
    build_rendering(tmp_path, rendered, "job", lambda event: None)
    assert not need().missing


@pytest.mark.parametrize(
    ("allowed", "told"), [(3.0, "of which a cell keeps all"), (0.5, "keeps 0.5 GB and decodes the others every time")]
)
def test_the_memory_of_decoded_images_is_told_beside_its_limit(tmp_path: Path, allowed: float, told: str) -> None:
    (tmp_path / "real.yaml").write_text(REAL + f"training: {{cache_gigabytes: {allowed}}}\n")
    cells = cells_of(load_suite(str(tmp_path / "real.yaml")))
    crop = cells[0].configuration.input.crop_of((59, 164))
    assert crop[2] - crop[0] < 2 * cells[0].configuration.input.network[0], "these images are kept as they are"
    (need,) = memory_needs([*cells, *cells], {"culane": 100_000})
    assert need.name == "culane ufldv2_micro"
    assert not need.missing
    assert f"take {59 * 164 * 3 * 100_000 / 1e9:.1f} GB" in need.detail
    assert told in need.detail
    assert memory_needs(cells, {}) == []


@pytest.mark.parametrize(("gpu", "image"), [(True, 590 * 1640), (False, 320 * 1600)])
def test_shared_memory_that_may_not_hold_the_batches_is_told_beforehand(
    gpu: bool, image: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of UFLDv2's network and batch; on a GPU the processes hand over decoded images, elsewhere the network's views of them.
    cells = cells_of(load_suite("rendered"), Choice(1, ("detector=ufldv2_resnet18,dataset=hard",), (), "A"))
    assert {(cell.configuration.recipe.batch_size, cell.training.workers) for cell in cells} == {(256, 8)}
    monkeypatch.setattr(looking, "on_gpu", lambda device: gpu)
    usage, wanted = namedtuple("usage", "total used free"), 2 * 8 * 256 * 3 * image
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 0, wanted))
    assert shared_memory_warnings(cells) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 0, wanted // 2))
    (line,) = shared_memory_warnings(cells)
    assert "batches of 256 images from 8 processes" in line
    assert f"up to {wanted / 1e9:.1f} GB" in line
    assert "/dev/shm" in line
    assert "at most 4 'training.workers'" in line
    monkeypatch.setattr(looking, "SHARED_MEMORY", Path("no/such/folder"))
    assert shared_memory_warnings(cells) == []


def test_a_disk_without_room_is_told_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, place = load_suite("smoke").datasets["roads"].rendered, tmp_path / "not" / "there" / "yet"
    assert spec is not None
    assert not disk_need(place, [spec], 0, 0).missing
    wanted = BYTES_A_PIXEL * 1640 * 590 * (72 + 36)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1, 0, int(wanted + 1e6)))
    assert not disk_need(place, [spec], 0, 0).missing
    for kept, meanwhile in ((2e6, 0), (0, 2e6)):
        need = disk_need(place, [spec], int(kept), int(meanwhile))
        assert need.missing
        assert "--results" in need.detail
    assert not disk_need(place, [], int(wanted), 0).missing


def test_what_is_rendered_and_what_nobody_waits_for_any_more_takes_no_more_room(tmp_path: Path) -> None:
    suite = load_suite("tuned")

    def disk() -> str:
        (need,) = (need for need in preflight(make_plan(suite, tmp_path, Choice(1))).needs if need.kind == "disk")
        return need.detail

    def told(frames: int) -> str:
        return f"about {BYTES_A_PIXEL * 1640 * 590 * frames / 1e9:.1f} GB"

    assert disk().startswith(told(1080 + 720 + 1080))
    hard, _, oracle = builds_of(tmp_path, make_plan(suite, tmp_path, Choice(1)).pending)
    finish(oracle.phase)
    assert disk().startswith(told(1080 + 720))
    finish(hard.phase)
    assert " GB will be kept" not in disk()


def test_what_is_chosen_on_and_what_an_oracle_learns_from_is_needed_too(tmp_path: Path) -> None:
    text = (
        REAL + "  samiro: {oracle: own}\noracles: {own: {dataset: others, configuration: {name: mim:resnet_micro}}}\n"
    )
    text = text.replace("detectors:", "  others: {form: tusimple}\nexclude: [{dataset: others}]\ndetectors:")
    for rule in ("confidence", "selection"):
        (tmp_path / "real.yaml").write_text(f"{text}training: {{{rule}: val-best}}\n")
        cells = cells_of(load_suite(str(tmp_path / "real.yaml")))
        read = {name: reads.splits for name, reads in reads_of(cells).items()}
        assert read == {"culane": {"train", "val", "test"}, "others": {"train"}}


def test_bench_tells_everything_that_is_missing_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("CULANE", "TUSIMPLE", "LLAMAS"):
        monkeypatch.delenv(f"SAMIRO_BENCH_DATA_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    text = REAL.replace("detectors:", "  tusimple: {form: tusimple}\ndetectors:")
    (tmp_path / "two.yaml").write_text(text.replace("ufldv2_micro", "ufldv2_resnet18"))
    assert main(["bench", "two.yaml"]) == 2
    said = capsys.readouterr().err
    for name in ("CULANE", "TUSIMPLE"):
        assert f"SAMIRO_BENCH_DATA_{name}=FOLDER" in said
    assert "nothing was run, for this is missing: culane, tusimple" in said
    assert not (tmp_path / "results").exists()


def test_a_plan_shows_needs_and_price_as_json(
    suite: Suite, culane: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", suite.file, "--results", str(tmp_path / "results"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    kinds = [(need["kind"], need["missing"]) for need in shown["needs"]]
    assert kinds == [("data", False), ("memory", False), ("disk", False)]
    ((name, price),) = shown["prices"].items()
    assert name == shown["cells"][0]["name"]
    assert price["basis"] == "unknown"
    assert price["disk_bytes"] > 0


def test_only_what_the_chosen_cells_read_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SAMIRO_BENCH_DATA_CULANE", raising=False)
    monkeypatch.chdir(tmp_path)
    splits = "{train: {frames: 4}, test: {frames: 2}}"
    text = REAL.replace("detectors:", f"  roads: {{rendered: {{splits: {splits}}}}}\ndetectors:")
    (tmp_path / "two.yaml").write_text(text)
    both = load_suite("two.yaml")
    whole = preflight(make_plan(both, tmp_path / "results"))
    assert [need.name for need in whole.missing] == ["culane"]
    assert not preflight(make_plan(both, tmp_path / "results", Choice(only=("dataset=roads",)))).missing


def test_an_adapter_that_cannot_be_built_is_one_line_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", "new", "my_lanes"]) == 0
    adapter = tmp_path / "my_lanes.py"
    adapter.write_text(adapter.read_text().replace("= build_backbone(", "= bild_backbone("))
    capsys.readouterr()
    assert main(["plan", "my_lanes.yaml"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "bild_backbone" in said
    assert "my_lanes.py:" in said


@pytest.mark.parametrize("crop", ["[500, 0, 100, 1640]", "[0, 0, 590, 1641]", "[-1, 0, 590, 1640]"])
def test_a_crop_that_shows_nothing_of_the_frame_is_refused_by_its_key(tmp_path: Path, crop: str) -> None:
    (tmp_path / "crop.yaml").write_text(REAL.replace("ufldv2_micro:", f"ufldv2_micro: {{input: {{crop: {crop}}}}}"))
    with pytest.raises(InputError, match=r"detectors.ufldv2_micro.input.*no part of a frame of 590x1640"):
        cells_of(load_suite(str(tmp_path / "crop.yaml")))


def test_a_checkpoint_that_did_not_come_along_is_missed_before_anything_is_rendered(tmp_path: Path) -> None:
    """Of a cell whose record is whole nobody needs it; one that was cut off in its time measurement would begin and fail."""
    whole = finished(tmp_path, 1)
    for state in whole.cells:
        (state.states[0][0].folder / "checkpoint.safetensors").unlink()
    cut_off = whole.cells[1]
    shutil.rmtree(tmp_path / "artefacts/rendered")
    shutil.rmtree(cut_off.states[-1][0].folder)
    (need,) = preflight(make_plan(load_suite("mini"), tmp_path, Choice(seeds=1))).missing
    assert (need.kind, need.name) == ("checkpoint", cut_off.cell.id)
    assert f"{cut_off.states[0][0].folder}/checkpoint.safetensors is gone, and time needs it" in need.detail


def test_an_oracle_of_other_images_than_its_dataset_lists_now_is_told_before_anything_is_trained(
    culane: Path, tmp_path: Path
) -> None:
    made_of = "{configuration: {name: mim:resnet_micro, steps: 2, batch_size: 2}}"
    (tmp_path / "real.yaml").write_text(f"{REAL}  samiro: {{oracle: small}}\noracles:\n  small: {made_of}\n")
    suite = load_suite(str(tmp_path / "real.yaml"))
    plan = make_plan(suite, tmp_path)
    ((oracle, _),) = plan.artefacts
    finish(oracle)
    frames = open_part(tmp_path, "culane", suite.datasets["culane"]).frames("train")
    data = identity_of_images([frame.image for frame in frames], [frame.clip for frame in frames])
    write_json(oracle.folder / "oracle.json", {"data": data})
    assert preflight(make_plan(suite, tmp_path)).missing == ()
    train = culane / "list/train.txt"
    second = culane / "driver_1/train.MP4/00001.jpg"
    for ending in (".jpg", ".lines.txt"):
        shutil.copyfile(second.with_name(f"00000{ending}"), second.with_name(f"00001{ending}"))
    train.write_text(f"{train.read_text()}/{second.relative_to(culane)}\n")
    (need,) = preflight(make_plan(suite, tmp_path)).missing
    assert (need.kind, need.name) == ("oracle", oracle.name)
    assert need.detail.startswith(
        f"{oracle.folder}: was pre-trained on another list of images than split train of culane"
    )
    write_json(oracle.folder / "phase.json", {"key": oracle.key, "fingerprint": {"gone.py": "0"}})
    stale = make_plan(suite, tmp_path)
    assert [state.state for _, state in stale.artefacts] == ["stale"]
    assert preflight(stale).missing == (need,), "also where --accept-stale would keep it"
    oracle.folder.rename(tmp_path / "away")
    assert preflight(make_plan(suite, tmp_path)).missing == ()


def test_the_images_of_an_oracle_are_listed_once_for_all_of_its_cells(
    culane: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_of = "{configuration: {name: mim:resnet_micro, steps: 2, batch_size: 2}}"
    (tmp_path / "real.yaml").write_text(f"{REAL}  samiro: {{oracle: small}}\noracles:\n  small: {made_of}\n")
    plan = make_plan(load_suite(str(tmp_path / "real.yaml")), tmp_path, Choice(seeds=3))
    ((oracle, _),) = plan.artefacts
    finish(oracle)
    write_json(oracle.folder / "oracle.json", {"data": {"list_sha256": "of others"}})
    opened: list[str] = []
    monkeypatch.setattr(looking, "open_part", lambda *part: opened.append(part[1]) or open_part(*part))
    assert [need.name for need in oracle_needs(plan)] == [oracle.name]
    frames = open_part(tmp_path, "culane", plan.suite.datasets["culane"]).frames("train")
    data = identity_of_images([frame.image for frame in frames], [frame.clip for frame in frames])
    write_json(oracle.folder / "oracle.json", {"data": data})
    assert oracle_needs(plan) == []
    assert opened == ["culane"] * 2


def test_no_machine_is_offered_for_what_no_machine_has_a_price(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = REAL.replace("  culane:", "  own:").replace(
        "ufldv2_micro:", "ufldv2_micro: {recipe: {epochs: 2, steps: null}}"
    )
    (tmp_path / "own.yaml").write_text(own)
    results = tmp_path / "results"
    plan = make_plan(load_suite(str(tmp_path / "own.yaml")), results)
    (cell,) = plan.untrained
    record = {
        "identity": cell.identity.model_dump(mode="json"),
        "training": {"steps": 6, "seconds": 60.0},
        "environment": {"device": "NVIDIA H200", "cpu": "Example CPU"},
    }
    folder = results / "elsewhere/records"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text(json.dumps(record))
    found = preflight(plan)
    assert (found.prices[cell.id].steps, found.elsewhere) == (None, ())
