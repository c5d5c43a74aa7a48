"""An answer is given again until something that it depends on changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from detectors.meta import DetectorMeta
from detectors.registry import TABLE, detector_class, detector_meta, own_module
from harness.files import remembered as module
from harness.files.remembered import remembered

CODE = ("harness.cell.changes",)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that were asked in earnest; answers are remembered in a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "1")
    monkeypatch.setattr(module, "_LIGHT", True)
    return []


def ask(asked: list[str], about: object = "a", code: tuple[str, ...] = CODE) -> object:
    def answer() -> list[int]:
        asked.append(str(about))
        return [len(asked)]

    return remembered("how many", about, code, answer)


def test_an_answer_is_asked_once(asked: list[str]) -> None:
    assert ask(asked) == ask(asked) == [1]
    assert ask(asked, "b") == [2]
    assert remembered("how old", "a", CODE, lambda: 7) == 7
    assert asked == ["a", "b"]


def test_other_code_and_other_packages_are_asked_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    ask(asked)
    ask(asked, code=("harness.errors", "harness.processes.progress"))
    monkeypatch.setattr(module, "packages", lambda: {"torch": "99"})
    ask(asked)
    assert asked == ["a", "a", "a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_a_damaged_answer_is_asked_again_and_mended(asked: list[str], tmp_path: Path, text: str) -> None:
    ask(asked)
    (file,) = (tmp_path / "samiro-bench" / "answers").iterdir()
    file.write_text(text)
    ask(asked)
    assert asked == ["a", "a"]
    assert ask(asked) == [2]


def test_what_raises_is_not_remembered(asked: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            remembered("broken", None, CODE, lambda: 1 // 0)


def test_a_cache_that_cannot_be_written_only_costs_time(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "samiro-bench").write_text("no folder")
    assert ask(asked) == [1]
    assert ask(asked) == [2]


@pytest.mark.parametrize("why", ["switched off", "torch was there already"])
def test_where_torch_is_at_hand_or_nobody_wants_it_answers_are_live(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    ask(asked)
    if why == "switched off":
        monkeypatch.setenv("SAMIRO_BENCH_REMEMBER", "0")
    else:
        monkeypatch.setattr(module, "_LIGHT", False)
    assert ask(asked) == [2]


@pytest.mark.parametrize("name", TABLE)
def test_metadata_come_back_from_json_as_they_were(name: str) -> None:
    meta, options = detector_meta(name), detector_class(name).architecture
    back = DetectorMeta.model_validate(meta.model_dump(mode="json"))
    assert back.model_dump(mode="json") == meta.model_dump(mode="json")
    for form, one in meta.configurations.items():
        # JSON has lists for tuples, which an adapter's own options make tuples again.
        other = back.configurations[form]
        assert options.model_validate(other.architecture) == options.model_validate(one.architecture)
        assert other.model_copy(update={"architecture": {}}) == one.model_copy(update={"architecture": {}})
    assert own_module(name) == TABLE[name].split(":")[0]
