"""Where weights stand, what a cell's identity says of them, and a detector's start from them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from detectors.meta import DetectorMeta
from detectors.registry import detector_meta
from detectors.resa import RESA
from harness.cell.keys import cell_phases
from harness.cell.phases import phase_state, run_phase
from harness.cell.run import run_cell
from harness.cell.train import meta_without_path
from harness.errors import InputError
from harness.files.stored import sha256_of_file
from harness.matrix.plan import make_plan
from harness.matrix.preflight import preflight
from harness.suite import Cell, cells_of, load_suite
from harness.weights.cache import cached_path, card_path, required, start_detector, weights_state
from harness.weights.fetch import add

NAME = "resnet18.tv_in1k"


def resa(weights: str) -> DetectorMeta:
    meta = detector_meta("resa_resnet18")
    configurations = {
        form: configuration.model_copy(update={"weights": weights})
        for form, configuration in meta.configurations.items()
    }
    return meta.model_copy(update={"configurations": configurations})


def built(weights: str) -> RESA:
    torch.manual_seed(5)
    return RESA(resa(weights), "culane")


def cells(
    folder: Path, options: dict[str, Any] | None, detector: str = "resa_resnet18", **parts: Any
) -> tuple[Cell, ...]:
    suite = {
        **parts,
        "title": "test",
        "datasets": {"roads": {"rendered": {"splits": {"train": {"frames": 4}, "test": {"frames": 4}}}}},
        "oracles": {"small": {"dataset": "roads", "configuration": {"name": "mim:resnet_micro", "steps": 2}}},
        "detectors": {detector: options},
        "methods": {"baseline": None, "samiro": {"oracle": "small"}},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.yaml").write_text(yaml.safe_dump(suite, sort_keys=False))
    return cells_of(load_suite(str(folder / "mine.yaml")))


def test_random_weights_need_nothing() -> None:
    state = required(weights_state(resa("none"), "culane"))
    assert (state.name, state.state, state.sha256) == ("none", "none", None)
    assert start_detector(built("none")) is None


def test_published_weights_are_missing_until_they_are_cached_and_then_known_by_their_content(
    downloads: Path, cache: Path
) -> None:
    state = weights_state(resa("imagenet"), "culane")
    assert (state.name, state.state, state.path, state.sha256) == (NAME, "missing", cache / f"{NAME}.safetensors", None)
    with pytest.raises(InputError, match=r"weights fetch resnet18.*weights: none.*weights: file:PATH") as raised:
        required(state)
    assert "\n" not in str(raised.value)
    assert not cache.exists()
    add("resnet18", downloads / "resnet18.pth")
    state = required(weights_state(resa("imagenet"), "culane"))
    assert (state.name, state.state) == (NAME, "present")
    assert state.sha256 == sha256_of_file(cached_path(NAME))


def test_a_backbone_without_published_weights_says_which_have_some() -> None:
    with pytest.raises(InputError, match=r"'resnet_micro' \(only for resnet18, resnet34, [^)]*\): say `weights: none`"):
        weights_state(
            resa("imagenet").model_copy(update={"backbone": "resnet_micro"}),
            "culane",
        )


def test_damaged_weights_are_missing_ones(downloads: Path) -> None:
    add("resnet18", downloads / "resnet18.pth")
    content = bytearray(cached_path(NAME).read_bytes())
    content[-1] ^= 1
    cached_path(NAME).write_bytes(content)
    state = weights_state(resa("imagenet"), "culane")
    assert state.state == "missing"
    assert "is damaged" in state.fix
    card_path(cached_path(NAME)).write_text("{")
    with pytest.raises(InputError, match=r"resnet18.tv_in1k.json: not the card"):
        weights_state(resa("imagenet"), "culane")


def test_a_file_is_known_by_its_content_not_by_its_name(downloads: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes((downloads / "resnet18.pth").read_bytes())
    one, other = (weights_state(resa(f"file:{path}"), "culane") for path in (downloads / "resnet18.pth", copy))
    assert one.name == other.name == f"file:{sha256_of_file(copy)}"
    copy.write_bytes((downloads / "other.pth").read_bytes())
    assert weights_state(resa(f"file:{copy}"), "culane").name == f"file:{sha256_of_file(copy)}" != one.name
    copy.unlink()
    gone = weights_state(resa(f"file:{copy}"), "culane")
    assert (gone.name, gone.state) == ("file:missing", "missing")
    assert str(copy) in gone.fix


def test_the_start_is_bit_for_bit_what_was_downloaded_and_the_artefact_says_what_that_is(
    downloads: Path, resnet18: dict[str, Tensor]
) -> None:
    card = add("resnet18", downloads / "resnet18.pth")
    detector = built("imagenet")
    artefact = start_detector(detector)
    assert artefact is not None
    for key, value in detector.backbone.state_dict().items():
        assert torch.equal(value, resnet18[key]), key
    assert (artefact.kind, artefact.name, artefact.sha256, artefact.key) == (
        "backbone weights",
        NAME,
        card.sha256,
        card.sha256,
    )
    facts = artefact.facts
    assert (facts["licence"], facts["data"]) == ("bsd-3-clause", "ImageNet-1k (ILSVRC 2012)")
    assert (facts["source"], facts["source_sha256"]) == ("resnet18.pth", sha256_of_file(downloads / "resnet18.pth"))
    # Drawn weights can't be the published ones, and a record flags a check that failed.
    assert facts["checks"] == {"is the published file": False}


def test_a_file_gives_the_same_start_as_the_cache(downloads: Path) -> None:
    add("resnet18", downloads / "resnet18.safetensors")
    cached, direct = built("imagenet"), built(f"file:{downloads / 'resnet18.pth'}")
    start_detector(cached)
    artefact = start_detector(direct)
    assert all(torch.equal(value, direct.state_dict()[key]) for key, value in cached.state_dict().items())
    assert artefact is not None
    assert artefact.name == f"file:{sha256_of_file(downloads / 'resnet18.pth')}"
    assert artefact.facts["source"] == "resnet18.pth"


class Harmful:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", ["truncated", "text", "pickle", "empty"])
def test_files_that_hold_no_weights_are_refused_in_a_line(
    downloads: Path, tmp_path: Path, suffix: str, content: str
) -> None:
    path = tmp_path / f"broken.{suffix}"
    whole = (downloads / f"resnet18.{suffix}").read_bytes()
    path.write_bytes(
        {
            "truncated": whole[: len(whole) // 2],
            "text": b"<html>log in</html>",
            "pickle": pickle.dumps({"conv1.weight": Harmful(tmp_path / "ran")}, protocol=2),
            "empty": b"",
        }[content]
    )
    for attempt in (lambda: start_detector(built(f"file:{path}")), lambda: add("resnet18", path)):
        with pytest.raises(InputError, match=rf"broken\.{suffix}") as raised:
            attempt()
        assert "\n" not in str(raised.value)
    assert not (tmp_path / "ran").exists()
    assert not cached_path(NAME).exists()


def test_published_recipes_name_their_weights_and_a_suite_may_choose_others(downloads: Path, tmp_path: Path) -> None:
    assert {cell.identity.weights for cell in cells(tmp_path, None)} == {NAME}
    assert {cell.identity.weights for cell in cells(tmp_path, {"weights": "none"})} == {"none"}
    assert {cell.identity.weights for cell in cells(tmp_path, None, "resa_micro")} == {"none"}
    chosen = [cells(tmp_path, options)[0].id for options in (None, {"weights": "none"}, {"weights": "imagenet"})]
    assert chosen[0] == chosen[2] != chosen[1]


def test_the_path_of_a_file_starts_at_the_suite_and_is_no_part_of_a_cell(downloads: Path, tmp_path: Path) -> None:
    for name, folder in (("start.pth", "a"), ("elsewhere.pth", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_bytes((downloads / "resnet18.pth").read_bytes())
    one = cells(tmp_path / "a", {"weights": "file:start.pth"})
    other = cells(tmp_path / "b", {"weights": "file:elsewhere.pth"})
    assert [cell.id for cell in one] == [cell.id for cell in other]
    assert one[0].identity.weights == f"file:{sha256_of_file(downloads / 'resnet18.pth')}"
    assert str(tmp_path) not in one[0].identity.model_dump_json()
    assert str(tmp_path) not in meta_without_path(one[0]).model_dump_json()
    assert meta_without_path(one[0]).configurations["culane"].weights == one[0].identity.weights
    (tmp_path / "a" / "start.pth").write_bytes((downloads / "other.pth").read_bytes())
    assert {cell.id for cell in one}.isdisjoint(
        cell.id for cell in cells(tmp_path / "a", {"weights": "file:start.pth"})
    )


@pytest.mark.parametrize(
    ("detector", "weights", "said"),
    [
        ("resa_resnet18", "imagnet", r"detectors.resa_resnet18.weights.*'imagnet' is no start.*imagenet, none or file:PATH"),
        ("resa_resnet18", "file:", r"detectors.resa_resnet18.weights.*'file:' is no start"),
        ("resa_resnet18", 3, r"detectors.resa_resnet18.weights"),
        ("resa_micro", "imagenet", r"detectors.resa_micro.weights.*no published ImageNet weights.*'resnet_micro'"),
    ],
)  # fmt: skip
def test_a_start_that_there_is_not_is_refused_with_file_and_key(
    tmp_path: Path, detector: str, weights: object, said: str
) -> None:
    with pytest.raises(InputError, match=said) as raised:
        cells(tmp_path, {"weights": weights}, detector)
    assert "mine.yaml" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_plan_shows_missing_weights_and_goes_on(downloads: Path, tmp_path: Path) -> None:
    def needs(options: dict[str, Any] | None) -> list[tuple[str, bool]]:
        cells(tmp_path, options)
        plan = make_plan(load_suite(str(tmp_path / "mine.yaml")), tmp_path / "results")
        found = [need for need in preflight(plan).needs if need.kind == "weights"]
        assert all(need.detail for need in found)
        return [(need.name, need.missing) for need in found]

    assert needs(None) == [(NAME, True)]
    add("resnet18", downloads / "resnet18.pth")
    assert needs(None) == [(NAME, False)]
    assert needs({"weights": "file:gone.pth"}) == [("file:missing", True)]
    assert needs({"weights": "none"}) == []


def test_an_override_for_one_form_or_for_all_detectors_is_rooted_and_blamed_where_it_stands(
    downloads: Path, tmp_path: Path
) -> None:
    (tmp_path / "start.pth").write_bytes((downloads / "resnet18.pth").read_bytes())
    (cell, *_) = cells(tmp_path, {"weights": "none", "forms": {"culane": {"weights": "file:start.pth"}}})
    assert cell.configuration.weights == f"file:{tmp_path.resolve() / 'start.pth'}"
    (cell, *_) = cells(tmp_path, None, defaults={"weights": "file:start.pth"})
    assert cell.configuration.weights == f"file:{tmp_path.resolve() / 'start.pth'}"
    with pytest.raises(InputError, match=r"key 'defaults\.weights': there are no published ImageNet weights"):
        cells(tmp_path, None, "resa_micro", defaults={"weights": "imagenet"})


def test_training_rests_on_the_content_of_the_weights(downloads: Path, tmp_path: Path) -> None:
    (cell, *_) = cells(tmp_path, None)

    def keys() -> tuple[str, str]:
        phases = cell_phases(tmp_path / "results", cell)
        return phases.train.key, phases.predict["test"].key

    found = [keys()]
    for name in ("resnet18.pth", "other.pth"):
        add("resnet18", downloads / name)
        found.append(keys())
        cached_path(NAME).unlink()
    add("resnet18", downloads / "resnet18.safetensors")
    assert keys() == found[1]
    assert len({key for pair in found for key in pair}) == 6


def test_a_cell_without_its_weights_does_not_train_and_loses_nothing(downloads: Path, tmp_path: Path) -> None:
    (cell, *_) = cells(tmp_path, None)
    add("resnet18", downloads / "resnet18.pth")
    trained = run_phase(cell_phases(tmp_path / "results", cell).train, lambda folder: None)
    cached_path(NAME).unlink()
    with pytest.raises(InputError, match=r"resnet18\.tv_in1k.*weights fetch resnet18"):
        run_cell(tmp_path / "results", cell, lambda event: None)
    assert trained.is_dir()
    assert not (trained.parent / "superseded").exists()
    add("resnet18", downloads / "resnet18.safetensors")
    assert phase_state(cell_phases(tmp_path / "results", cell).train).state == "done"


def test_both_arms_of_a_seed_start_from_the_same_weights(downloads: Path, tmp_path: Path) -> None:
    from harness.cell.train import new_detector
    from harness.training.determinism import seed_everything

    states = []
    for cell in cells(tmp_path, {"weights": f"file:{downloads / 'resnet18.pth'}"}):
        seed_everything(cell.identity.seed)
        detector = new_detector(cell)
        start_detector(detector)
        states.append(detector.state_dict())
    assert len(states) == 2
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_a_folder_of_weights_is_missing_and_called_a_folder(tmp_path: Path) -> None:
    state = weights_state(resa(f"file:{tmp_path}"), "culane")
    assert (state.name, state.state, state.fix) == (
        "file:missing",
        "missing",
        f"{tmp_path}: that is a folder, give the file in it",
    )


def test_planning_reads_a_file_of_weights_once(downloads: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.weights import cache as module

    read: list[Path] = []
    monkeypatch.setattr(module, "sha256_of_file", lambda path: read.append(path) or "0" * 64)
    module._content_of.cache_clear()
    for _ in range(3):
        weights_state(resa(f"file:{downloads / 'resnet18.pth'}"), "culane")
    module._content_of.cache_clear()
    assert len(read) == 1
