"""Reads EXPLAIN's YAML format, which is a small and regular part of YAML.

ExplainProperty and ExplainOpenGroup in explain.c print block mappings and lists by indentation,
strings in JSON's double quotes, numbers and booleans bare, and grouping keys as ``["a", "b"]``. A
file written by another program may have plain or single-quoted strings. Anchors, tags, references
and block scalars do not occur and are not understood.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from sqladvisor.plan.read_parts import MAX_DEPTH, Damaged, Properties, number
from sqladvisor.plan.read_text import Line

_PAIR = re.compile(r"((?:[A-Za-z_][\w/ .$-]*)|\"(?:[^\"\\]|\\.)*\"|'[^']*'):(?: +(.*))?")
_START = re.compile(r"- +(?:Plan|Query Text|Query Identifier):")
_BARE_START = re.compile(r"(?:Query Text: \"|Plan: *$)")
_WORDS = {"true": True, "false": False, "null": None, "~": None}


def starts_yaml(lines: Sequence[Line], at: int) -> bool:
    """Whether a line begins a plan in YAML: an item of a list, or auto_explain's bare mapping."""
    text = lines[at].text
    if _START.match(text.lstrip()):
        return True
    if not _BARE_START.match(text):
        return False
    ahead = lines[at : at + 60]
    return any(re.match(r"\s*(?:- )?Node Type: ", line.text) for line in ahead)


def read_yaml(lines: Sequence[Line], start: int) -> tuple[Properties, int]:
    """The object that begins on ``lines[start]`` and where it ends. Raises Damaged."""
    first = lines[start].text
    margin = len(first) - len(first.lstrip())
    items = first.lstrip().startswith("- ")
    root = Properties(lines[start].number)
    # Open blocks, innermost last: their column (that of their keys or dashes), and what they are.
    stack: list[tuple[int, Any]] = [(margin + 2 if items else margin, root)]
    waiting: tuple[int, Any, str] | None = None
    at = start
    while at < len(lines):
        line = lines[at]
        text = line.text.strip()
        column = len(line.text) - len(line.text.lstrip())
        if text and at > start and _ends(column, margin, items, text):
            break
        at += 1
        if not text or text.startswith("#"):
            continue
        if at - 1 == start and items:
            column, text = margin + 2, text[2:].lstrip()
        waiting = _place(stack, waiting, column, text, line)
    if "Plan" not in root:
        raise Damaged(lines[start].number, "a YAML plan without its Plan")
    return root, at


def _ends(column: int, margin: int, items: bool, text: str) -> bool:
    if items:
        return column <= margin
    return column < margin or (column == margin and not _PAIR.fullmatch(text))


def _place(
    stack: list[tuple[int, Any]],
    waiting: tuple[int, Any, str] | None,
    column: int,
    text: str,
    line: Line,
) -> tuple[int, Any, str] | None:
    """Put one line where its indentation says; what it leaves open for the next, if anything."""
    dash = text == "-" or text.startswith("- ")
    if waiting:
        above, holder, key = waiting
        if column > above or (dash and column == above):
            block: Any = [] if dash else Properties(line.number)
            holder[key] = block
            stack.append((column, block))
    while stack and (
        stack[-1][0] > column or (stack[-1][0] == column and dash is not _is_list(stack[-1][1]))
    ):
        stack.pop()
    if not stack or stack[-1][0] != column:
        raise Damaged(line.number, f"YAML that is indented wrongly: {text[:60]!r}")
    if len(stack) > 2 * MAX_DEPTH:
        raise Damaged(line.number, "nested too deeply")
    block = stack[-1][1]
    if dash:
        inner = text[1:].lstrip()
        if not _PAIR.fullmatch(inner) or inner.startswith("["):
            block.append(_scalar(inner, line))
            return None
        item = Properties(line.number)
        block.append(item)
        column += len(text) - len(inner)
        stack.append((column, item))
        block, text = item, inner
    pair = _PAIR.fullmatch(text)
    if pair is None:
        raise Damaged(line.number, f"neither a property nor an item of a list: {text[:60]!r}")
    key = str(_scalar(pair[1], line))
    value = (pair[2] or "").strip()
    if key in ("Node Type", "Plan") and isinstance(block, Properties):
        block.line = line.number
    if value:
        block[key] = _scalar(value, line)
        return None
    block[key] = _EMPTY.get(key, list)()
    return column, block, key


_EMPTY: dict[str, Any] = {"Settings": dict, "Planning": dict}


def _is_list(block: Any) -> bool:
    return isinstance(block, list)


def _scalar(text: str, line: Line) -> Any:
    if text.startswith(('"', "[", "{")):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Damaged(line.number, f"a value breaks off: {text[:60]!r}") from None
    if len(text) > 1 and text.startswith("'") and text.endswith("'"):
        return text[1:-1].replace("''", "'")
    if text in _WORDS:
        return _WORDS[text]
    value = number(text)
    return text if value is None else value
