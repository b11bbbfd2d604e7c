"""Turns the placeholders of clients, psql and templates into what PostgreSQL can parse.

``:id``, ``?``, ``%s``, ``%(id)s``, ``@id``, ``${id}`` and ``{{ id }}`` become ``$n``; where the
parser then says that no value can stand there, an identifier; where not even that, nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqladvisor.sql.libpg import Parsed, ParseProblem, parse
from sqladvisor.sql.split import Token
from sqladvisor.sql.statement import Placeholder

_QUOTED = re.compile(r"""['"]([A-Za-z_]\w*)['"]\s*\)?\s*\}""")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NUMBER = re.compile(r"\$(\d+)")


@dataclass(frozen=True, slots=True)
class Readable:
    """A statement PostgreSQL can parse, and how it differs from the text as written."""

    sql: str
    parsed: list[Parsed]
    placeholders: tuple[Placeholder, ...]
    offsets: tuple[tuple[int, int], ...]


def readable(text: str, marks: Sequence[Token], variables: Mapping[str, str]) -> Readable:
    """Parse a statement whose ``marks`` (offsets in ``text``) PostgreSQL cannot read as they are.

    Raises ParseProblem, its offset in ``text``, when no reading of the marks makes it parse.
    """
    how = ["value"] * len(marks)
    first: ParseProblem | None = None
    for _ in range(3 * len(marks) + 1):
        sql, placeholders, offsets, places = _substitute(text, marks, how, variables)
        try:
            return Readable(sql, parse(sql), placeholders, offsets)
        except ParseProblem as problem:
            here = _back(problem.offset, offsets)
            first = first or ParseProblem(problem.message, here)
            at = _mark_at(problem.offset, places)
            after = None if at is None else _NEXT[_family(text, marks[at])].get(how[at])
            if at is None or after is None:
                break
            how[at] = after
    assert first is not None
    raise first


# What to take a mark for next when the parser refuses it as what it was taken for: `?` and `@x`
# are operators too, everything else may stand for a name or for a whole clause.
_NEXT = {
    "operator": {"value": "as written"},
    "name": {"value": "identifier", "identifier": "nothing"},
}


def _family(text: str, mark: Token) -> str:
    return "operator" if text[mark.start] in "?@" else "name"


def _substitute(
    text: str, marks: Sequence[Token], how: Sequence[str], variables: Mapping[str, str]
) -> tuple[str, tuple[Placeholder, ...], tuple[tuple[int, int], ...], list[tuple[int, int]]]:
    used = [int(n) for n in _NUMBER.findall(text)]
    following = max(used, default=0) + 1
    numbers: dict[str, int] = {}
    parts: list[str] = []
    placeholders = []
    offsets = [(0, 0)]
    places: list[tuple[int, int]] = []
    length = position = 0
    for mark, reading in zip(marks, how, strict=True):
        written = text[mark.start : mark.end]
        before = text[position : mark.start]
        number = 0
        if mark.kind == "param" and written[1:].isdigit():
            number, replacement = int(written[1:]), written
        elif reading == "as written":
            replacement = written
        elif written.startswith(':"') or reading == "identifier":
            replacement = _identifier(written, variables)
        elif reading == "nothing" or written.startswith("{%"):
            replacement = " "
        else:
            key = written if written not in ("?", "%s") else f"{written}{mark.start}"
            if key.startswith(":'"):
                key = ":" + key[2:-1]
            number = numbers.setdefault(key, following)
            following = max(following, number + 1)
            replacement = f"${number}"
            if before[-1:].isalnum() or text[mark.end : mark.end + 1].isalnum():
                replacement = f" {replacement} "
        parts += (before, replacement)
        length += len(before)
        places.append((length, length + len(replacement)))
        length += len(replacement)
        placeholders.append(Placeholder(written, number, mark.start, mark.end))
        if replacement != written:
            offsets.append((places[-1][0], mark.start))
            offsets.append((length, mark.end))
        position = mark.end
    parts.append(text[position:])
    changed = len(offsets) > 1
    return "".join(parts), tuple(placeholders), tuple(offsets) if changed else (), places


def _identifier(written: str, variables: Mapping[str, str]) -> str:
    if written.startswith(':"'):
        return written[1:]
    if written.startswith("{{"):
        quoted = _QUOTED.findall(written + "}")
        if quoted:
            return str(quoted[-1])
    name = _NAME.search(written)
    word = name[0] if name else "placeholder"
    value = variables.get(word, word)
    return value if _NAME.fullmatch(value) else word


def _mark_at(offset: int, places: Sequence[tuple[int, int]]) -> int | None:
    """The placeholder at (or ending just before) an error's offset."""
    for index, (start, end) in enumerate(places):
        if start <= offset < end:
            return index
    nearest = [i for i, (_, end) in enumerate(places) if end <= offset <= end + 1]
    return nearest[-1] if nearest else None


def _back(offset: int, offsets: Sequence[tuple[int, int]]) -> int:
    result = offset
    for in_sql, in_text in offsets:
        if in_sql <= offset:
            result = in_text + offset - in_sql
    return result
