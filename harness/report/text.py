"""Numbers and names as text: how a table shows them, and how foreign text is kept from breaking it."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

CACHED = 2**16
"""Texts that are escaped once: the cells of a long table repeat themselves."""

# Besides line breaks and what terminals obey: what turns the direction of text, can't be seen, or is half a character.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)
_MARKDOWN = re.compile(r"([\\`*\[\]|~])|(?<!\w)(_)|(_)(?!\w)")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "`": r"\`{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "Δ": r"$\Delta$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "↓": r"$\downarrow$",
    "≥": r"$\geq$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
}
"""How LaTeX writes what it would read as a command, an option behind a line's end, or not at all."""

# Between two dollars GitHub reads mathematics, which can be coloured and moved; its documentation keeps one out of it so.
_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "<span>$</span>"})


def one_line(text: str) -> str:
    """Text without line breaks, control characters and others that can't be seen, which become single spaces."""
    return (text if text.isprintable() else _CONTROLS.sub(" ", text)).strip()


def escaped(text: str) -> str:
    r"""Text in which line breaks, control characters and others that can't be seen are written as `\x1b`: names can be found."""
    return text if text.isprintable() else _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


@lru_cache(maxsize=CACHED)
def markdown(text: str) -> str:
    """Text that shows as itself in a cell or a sentence of GitHub's Markdown."""
    return _MARKDOWN.sub(lambda match: "\\" + match.group(0), one_line(text).translate(_HTML))


@lru_cache(maxsize=CACHED)
def latex(text: str) -> str:
    """Text that shows as itself in LaTeX, in ASCII: letters lose their accents, and what LaTeX has no plain word for becomes `?`."""
    bare = (sign for sign in unicodedata.normalize("NFKD", one_line(text)) if not unicodedata.combining(sign))
    written = "".join(_LATEX.get(sign, sign if sign.isascii() else "?") for sign in bare)
    return written.replace("--", "-{}-").replace("--", "-{}-")


def csv_text(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a leading quote marks what begins like one."""
    plain = one_line(text)
    return f"'{plain}" if plain.startswith(("=", "+", "-", "@")) else plain


def number(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number with fixed decimals, never `-0`; blank for None."""
    if value is None:
        return ""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{decimals}f}"


def points(fraction: float | None, decimals: int = 2, *, sign: bool = False) -> str:
    """A fraction in points (x 100), as `number` has it; blank for None."""
    return number(None if fraction is None else fraction * 100, decimals, sign=sign)


def significant(value: float | None, digits: int) -> str:
    """A positive number with so many significant digits, without an exponent; blank for None."""
    if value is None:
        return ""
    decimals = max(0, digits - len(str(int(abs(value)))) if abs(value) >= 1 else digits)
    return f"{value:.{decimals}f}"


def mebibytes(value: int | None) -> str:
    """Bytes as whole MiB; blank for None."""
    return number(value / 2**20 if value is not None else None, 0)


def p_text(value: float | None) -> str:
    """A p-value with three decimals."""
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def counted(amount: int, singular: str) -> str:
    """`1 seed`, `3,000 seeds`."""
    return f"{amount:,} {singular if amount == 1 else singular + 's'}"
