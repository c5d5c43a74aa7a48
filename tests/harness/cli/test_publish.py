"""What `publish` says of what it wrote."""

from __future__ import annotations

from pathlib import Path

from harness.cli.publish import MANY, told


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
