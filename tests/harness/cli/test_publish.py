"""What `publish` says of what it wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.publish import MANY, readme_page, told
from harness.errors import InputError


def test_folders_of_many_files_are_one_line_and_others_are_named(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    many = [tmp_path / "frames" / f"{number}.webp" for number in range(MANY + 1)]
    few = [tmp_path / "leaderboard.md", tmp_path / "badge.svg"]
    for path in [*many, *few]:
        path.write_bytes(b"x" * 1_500)
    few[0].write_bytes(b"x" * 2_500_000)
    assert told([*many, *few]) == [
        f"wrote {few[0]}, 2.5 MB",
        f"wrote {few[1]}, 1.5 kB",
        f"wrote {MANY + 1} files to {tmp_path / 'frames'}/, 19.5 kB",
        f"{MANY + 3} files, 2.5 MB",
    ]


@pytest.mark.parametrize(
    ("text", "filled", "said"),
    [
        ("<!-- leaderboard:mini -->\n<!-- badge:mini -->", True, ""),
        ("<!-- leaderboard:mini -->", True, "has no line <!-- badge:mini --> and gets no badge\n"),
        ("<!-- leaderboard:smoke -->", False, "has no line <!-- leaderboard:mini --> and is left as it is\n"),
    ],
)
def test_a_readme_that_does_not_show_the_suite_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, filled: bool, said: str
) -> None:
    readme = tmp_path / "README.md"
    with pytest.raises(InputError, match=r"README\.md: no such file; give --readme another one"):
        readme_page(readme, "mini")
    readme.write_text(text)
    assert readme_page(readme, "mini") == (readme if filled else None)
    assert capsys.readouterr().out.removeprefix(f"{readme} ") == said
