"""Makes text from files and databases safe to show, on a terminal and everywhere else."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline; the bidirectional overrides that can make shown text differ
# from real text (CVE-2021-42574); and what no UTF-8 or XML document may hold: lone surrogates, which
# stand for the bytes of a file name that is not UTF-8, and two noncharacters.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def printable(text: str) -> str:
    """The text with control and bidirectional-override characters written as ``\\xNN``/``\\uNNNN``."""
    return _UNSAFE.sub(_escaped, text)


def one_line(text: str) -> str:
    """Printable text on one line: a line break in a name is shown as ``\\n``."""
    return printable(text).replace("\n", "\\n").replace("\t", " ")


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\r":
        return ""
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
