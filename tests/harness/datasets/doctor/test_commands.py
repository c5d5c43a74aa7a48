"""`samiro-bench data doctor` and `data index` on small trees: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from harness.cli.main import main
from tests.harness.datasets.doctor.trees import CLIP, LABEL, first_label


def test_the_command_says_what_to_do_and_how_it_went(culane: Path, tmp_path: Path, capsys) -> None:
    assert main(["data", "doctor", str(culane), "--sheet", str(tmp_path / "sheet.jpg")]) == 0
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] == 4 * 480
    capsys.readouterr()
    (culane / f"{CLIP}/00001.jpg").unlink()
    assert main(["data", "doctor", str(culane), "--json"]) == 1
    printed = json.loads(capsys.readouterr().out)
    assert printed["healthy"] is False
    assert [(one["kind"], one["file"]) for one in printed["findings"]] == [("missing-image", f"{CLIP}/00001.jpg")]
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, expected in (
        ([str(empty)], "looked for list/"),
        ([str(tmp_path / "nowhere")], "no such folder"),
        ([str(culane), "--form", "llamas"], "no dataset of form llamas"),
        ([str(culane), "--form", "culan"], "did you mean 'culane'"),
    ):
        assert main(["data", "doctor", *words]) == 2
        assert expected in capsys.readouterr().err


def test_the_index_command_prints_counts_and_rehashes(culane: Path, capsys) -> None:
    assert main(["data", "index", str(culane), "--json"]) == 0
    splits = {row["split"]: row for row in json.loads(capsys.readouterr().out)["splits"]}
    assert {name: (row["images"], row["lanes"]) for name, row in splits.items()} == {
        "train": (3, 6),
        "val": (1, 2),
        "test": (2, 4),
    }
    assert main(["data", "index", str(culane), "--rehash"]) == 0
    assert "train: 3 images, 6 lanes" in capsys.readouterr().out
    (culane / f"{CLIP}/00001.lines.txt").write_text("1 2 3\n")
    assert main(["data", "index", str(culane)]) == 2
    assert "00001.lines.txt:1: 3 numbers, an odd count" in capsys.readouterr().err


def test_an_index_that_cant_be_stored_is_one_clean_line_and_never_called_cached(
    culane: Path, tusimple: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    first_label(LABEL + "100 100\n")(culane)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert main(["data", "index", str(culane)]) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2  # three splits, one cache; and the short lane
    assert lines[0].startswith(f"warning: the label index can't be stored in {tmp_path / 'file/samiro-bench/labels'} (")
    assert lines[1].startswith(f"warning: {culane}: 1 lanes of split train have fewer than two points")
    assert "cached in" not in printed.out
    assert "not cached, read again next time: train, val, test" in printed.out
    assert main(["data", "index", str(culane), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cache"] is None
    assert [row["cached"] for row in told["splits"]] == [False] * 3
    assert told["warnings"] == [line.removeprefix("warning: ") for line in lines]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "good"))
    assert main(["data", "index", str(culane)]) == 0
    assert f"cached in {tmp_path / 'good/samiro-bench/labels'}\n" in capsys.readouterr().out
    # TuSimple has no index in the cache, so none is claimed.
    assert main(["data", "index", str(tusimple)]) == 0
    assert "\ncached" not in capsys.readouterr().out
