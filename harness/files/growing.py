"""Files of lines that another process is still writing."""

from __future__ import annotations

from pathlib import Path


def new_lines(path: Path, offset: int) -> tuple[list[bytes], int]:
    """The whole lines from byte `offset` on, without their ends, and the offset after them; a last line without its end waits for it.

    OSError as `open` raises it.
    """
    with open(path, "rb") as stream:
        stream.seek(offset)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    return whole.splitlines(), offset + len(whole)
