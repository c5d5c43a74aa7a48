"""`samiro-bench detectors`: what there is, what passes, what a scaffold is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from detectors import registry
from detectors.meta import DetectorMeta
from harness.cli.main import main
from harness.conformance import battery
from harness.conformance.battery import CheckResult


def test_list_counts_parameters_without_building_anything(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detectors", "list", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)["detectors"]}
    assert set(found) == set(registry.TABLE)
    # 206.3 and 96.4 million: the published network, counted in the authors' own code.
    assert found["ufldv2_resnet18"]["parameters"] == {"culane": 206_300_640, "tusimple": 96_369_888}
    assert found["ufldv2_resnet18"]["datasets"] == ["culane", "tusimple"]
    assert found["ufldv2_resnet18"]["licence"] == "MIT"
    assert found["ufldv2_resnet18"]["year"] == 2022


def test_show_prints_what_a_suite_that_overrides_nothing_has(capsys: pytest.CaptureFixture[str]) -> None:
    bridge = "laneatt_resnet18_upstream"  # shown without a checkout of it
    metas = [registry.detector_meta(name) for name in ("ufldv2_resnet18", "clrernet_dla34_ema")]
    for meta in [*metas, registry.bridge_class(bridge).metas[bridge]]:
        name = meta.name
        assert main(["detectors", "show", name]) == 0
        shown = yaml.safe_load(capsys.readouterr().out)
        assert DetectorMeta.model_validate(shown).model_dump(mode="json") == meta.model_dump(mode="json")
        assert main(["detectors", "show", name, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == shown


def test_show_of_one_form_has_that_alone_and_names_the_others_for_one_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["detectors", "show", "ufldv2_resnet18", "--form", "tusimple"]) == 0
    assert list(yaml.safe_load(capsys.readouterr().out)["configurations"]) == ["tusimple"]
    assert main(["detectors", "show", "ufldv2_resnet18", "--form", "llamas"]) == 2
    assert "configured for culane, tusimple" in capsys.readouterr().err


def test_list_goes_on_when_a_detector_cannot_be_had(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import EntryPoint

    broken = EntryPoint("broken_lanes", "nothing_of_the_kind:Lanes", registry.ENTRY_POINTS)
    monkeypatch.setattr(registry, "installed", lambda: {"broken_lanes": (broken,)})
    monkeypatch.setattr(registry, "TABLE", {"ufldv2_micro": registry.TABLE["ufldv2_micro"]})
    assert main(["detectors", "list"]) == 0
    out = capsys.readouterr().out
    assert "ufldv2_micro" in out
    assert "nothing_of_the_kind" in out


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, bool]]:
    """The battery is replaced by one whose only check fails for one name; what was asked for is kept."""
    calls: list[tuple[str, str, bool]] = []

    def check_adapter(name, form, *, quick, demands, report):
        calls.append((name, form, quick))
        outcome = "failed" if name == "ufldv2_resnet34" else "passed"
        results = (CheckResult("taps", "adapter", outcome, f"{demands.f1} [red]", 0.1),)
        report(results[0])
        return results

    monkeypatch.setattr(battery, "check_adapter", check_adapter)
    return calls


def test_check_without_a_name_takes_every_micro_detector(asked: list[tuple[str, str, bool]]) -> None:
    assert main(["detectors", "check", "--quick"]) == 0
    assert asked
    names = [name for name in registry.TABLE if name.endswith("_micro")]
    forms = {name: list(registry.detector_meta(name).configurations) for name in names}
    assert [(name, form) for name, form, _ in asked] == [(name, form) for name in names for form in forms[name]]
    assert all(quick for _, _, quick in asked)


def test_check_takes_every_form_unless_one_is_named(asked: list[tuple[str, str, bool]]) -> None:
    main(["detectors", "check", "ufldv2_resnet18"])
    main(["detectors", "check", "ufldv2_resnet18", "--form", "tusimple"])
    assert [form for _, form, _ in asked] == ["culane", "tusimple", "tusimple"]


def test_a_failed_check_is_exit_code_one_and_json_says_which(
    asked: list[tuple[str, str, bool]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["detectors", "check", "ufldv2_resnet34", "ufldv2_micro", "--form", "culane", "--f1", "0.5", "--json"])
        == 1
    )
    first, second = json.loads(capsys.readouterr().out)["detectors"]
    assert (first["detector"], first["form"], first["passed"], second["passed"]) == (
        "ufldv2_resnet34",
        "culane",
        False,
        True,
    )
    assert first["checks"] == [
        {"check": "taps", "arm": "adapter", "outcome": "failed", "detail": "0.5 [red]", "seconds": 0.1}
    ]
    assert main(["detectors", "check", "ufldv2_resnet34", "--form", "culane"]) == 1
    assert "0.95 [red]" in capsys.readouterr().out


def test_the_page_holds_every_check_and_no_detail_ends_a_cell(
    asked: list[tuple[str, str, bool]], tmp_path: Path
) -> None:
    from harness.conformance import table
    from harness.conformance.battery import CheckResult

    page = tmp_path / "page.md"
    assert main(["detectors", "check", "ufldv2_micro", "--table", str(page)]) in {0, 1}
    assert "0.95 [red]" in page.read_text()
    assert ("without a GPU, torch" in page.read_text()) is not torch.cuda.is_available()
    skipped = CheckResult("CPU and GPU", "samiro", "skipped", "no | GPU", 0.1)
    learned = CheckResult("overfits 8 images", "samiro", "passed", "F1@50 0.97", 0.1)
    text = table.page([table.Report("mine", "culane", (skipped, learned))], "a machine")
    row = next(line for line in text.splitlines() if line.startswith("| mine "))
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["mine", "culane", "1", "0", "1", "-", "F1@50 0.97"]
    assert "no \\| GPU" in text
    assert "0.1" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["check", "ufldv2_mikro"], "did you mean 'ufldv2_micro'"),
        (["check", "lstr_resnet34", "--form", "llamas"], "no configuration for form 'llamas'"),
        (["new", "My-Lanes"], "small letters"),
        (["new", "ufldv2_micro"], "already"),
        (["new", "class"], "'class' is a word of Python's"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", *words]) == 2
    complaint = capsys.readouterr().err
    assert said in complaint
    assert complaint.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_new_writes_three_files_and_never_over_others(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["detectors", "new", "my_lanes", "--out", "mine"]) == 0
    assert "samiro-bench detectors check mine/my_lanes.py:MyLanes --quick" in capsys.readouterr().out
    assert sorted(path.name for path in Path("mine").iterdir()) == ["my_lanes.py", "my_lanes.yaml", "test_my_lanes.py"]
    Path("mine/my_lanes.py").unlink()
    assert main(["detectors", "new", "my_lanes", "--out", "mine"]) == 2
    assert "my_lanes.yaml: exists already" in capsys.readouterr().err
    assert not Path("mine/my_lanes.py").exists()


def test_new_into_a_file_says_that_it_is_no_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert main(["detectors", "new", "my_lanes", "--out", str(tmp_path / "file")]) == 2
    assert "file: this is no folder; give one to write into" in capsys.readouterr().err


def test_the_suite_of_a_scaffold_is_a_suite(tmp_path: Path) -> None:
    from harness.suite import cells_of, load_suite

    assert main(["detectors", "new", "my_lanes", "--out", str(tmp_path)]) == 0
    cells = cells_of(load_suite(str(tmp_path / "my_lanes.yaml")))
    assert [(cell.identity.detector, cell.identity.method) for cell in cells] == [
        ("my_lanes", "baseline"),
        ("my_lanes", "samiro"),
    ]
