"""Makes text from files and databases safe to print on a terminal."""

from __future__ import annotations

import re

# C0 and C1 controls but tab and newline; and the bidirectional overrides that can make shown text
# differ from real text (CVE-2021-42574).
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """The text with control and bidirectional-override characters written as ``\\xNN``/``\\uNNNN``."""
    return _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if match[0] == "\r":
        return ""
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
