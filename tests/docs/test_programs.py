"""docs/programs.md shows the description that lies beside the example's script."""

from __future__ import annotations

from pathlib import Path

import yaml

from detectors.programs import PLACEHOLDERS, read_program
from detectors.upstream import programs
from tests.docs.pages import blocks

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "programs.md").read_text(encoding="utf-8")
EXAMPLE = Path(programs.__file__).parent / "lstr.yaml"


def test_the_page_shows_the_example_and_explains_every_placeholder() -> None:
    shown = yaml.safe_load(blocks(PAGE, "yaml")[0])
    assert shown == yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert read_program(EXAMPLE).program.name == "lstr_original"
    for word in PLACEHOLDERS:
        assert f"`{{{word}}}`" in PAGE
