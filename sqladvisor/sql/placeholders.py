"""Turns the placeholders of clients, psql and templates into what PostgreSQL can parse.

``:id``, ``?``, ``%s``, ``%(id)s``, ``@id``, ``${id}`` and ``{{ id }}`` become ``$n``; where the
parser then says that no value can stand there, they are what they say in SQL (``?`` and ``@`` are
operators, ``a[1:n]`` a slice), an identifier, a list of one value (``IN %s``) or nothing.
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
_TAG = re.compile(r"\{%-?\s*(\w+)")
_MAX_NUMBER = 65535
"""Parameters of one statement: the protocol counts them in 16 bits."""


@dataclass(frozen=True, slots=True)
class Readable:
    """A statement PostgreSQL can parse, and where and how it differs from the text as written.

    It is ``text[start:end]``; ``offsets`` and ``placeholders`` count from ``start``.
    """

    start: int
    end: int
    sql: str
    parsed: Parsed
    placeholders: tuple[Placeholder, ...]
    offsets: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class _Reading:
    """One way to take the marks: the text it gives, and where the marks are in it."""

    sql: str
    placeholders: list[Placeholder]
    places: list[tuple[int, int]]
    offsets: list[tuple[int, int]]
    """(offset in sql, offset in text) of the start of each run of equal text."""


MAX_READINGS = 200
"""Readings of one statement that are tried. Each costs its length: without a bound a statement of

many marks that none of them suits takes the square of it."""


def readable(text: str, marks: Sequence[Token], variables: Mapping[str, str]) -> list[Readable]:
    """Parse a statement whose ``marks`` (offsets in ``text``) PostgreSQL cannot read as they are.

    Raises ParseProblem, its offset in ``text``, when no reading of the marks makes it parse.
    """
    marks = _first_branches(text, marks)
    how = [0] * len(marks)
    ways = [_ways(text, m) for m in marks]
    first: ParseProblem | None = None
    for _ in range(MAX_READINGS):
        reading = _read(text, marks, [w[h] for w, h in zip(ways, how, strict=True)], variables)
        try:
            found = parse(reading.sql)
        except ParseProblem as problem:
            first = first or ParseProblem(problem.message, _back(problem.offset, reading.offsets))
            at = _mark_at(problem.offset, reading.places)
            if at is None or how[at] + 1 == len(ways[at]):
                raise first from None
            how[at] += 1
        else:
            return [_part(text, marks, reading, parsed) for parsed in found]
    assert first
    raise first


# Words that an operand can follow, of those that stand before placeholders.
_BEFORE_VALUES = frozenset(
    ("all", "and", "any", "array", "as", "between", "by", "case", "distinct", "else", "escape",
     "except", "exists", "fetch", "filter", "first", "for", "from", "group", "having", "if",
     "ilike", "in", "intersect", "interval", "into", "is", "join", "lateral", "like", "limit",
     "next", "not", "null", "of", "offset", "on", "or", "order", "over", "overriding", "partition",
     "range", "returning", "rows", "select", "set", "similar", "some", "symmetric", "table", "then",
     "to", "union", "update", "using", "values", "when", "where", "window", "with", "zone")
)  # fmt: skip
_LAST_WORD = re.compile(r"[A-Za-z_]\w*$")


def _ways(text: str, mark: Token) -> tuple[str, ...]:
    """What a mark can be, in the order in which it is tried."""
    written = text[mark.start : mark.end]
    if written.startswith(("{%", "{#")):
        return ("nothing",)
    if written.startswith(':"'):
        return ("identifier", "nothing")
    if mark.kind == "param" and written[1:].isdigit():
        return ("as written",)
    if written[0] == "{" and not mark.start:
        return ("nothing", "value")  # {{ config(…) }}
    before, behind = text[max(mark.start - 80, 0) : mark.start], text[mark.end : mark.end + 1]
    if written[0] in "{$":
        if before[-1:].isalnum() or before[-1:] == "_" or behind.isalnum() or behind == "_":
            return ("identifier", "value", "list", "nothing")  # a part of a name
        return ("value", "identifier", "list", "nothing")
    # Behind an operand ? and %s are operators, and :n ends a slice. (libpg_query would read the
    # operand before a $1 as the name of a type.)
    near, word = before.rstrip(), _LAST_WORD.search(before.rstrip())
    operand = near[-1:].isalnum() or near[-1:] in tuple("_)]\"'")
    if word:
        operand = word[0].lower() not in _BEFORE_VALUES
    if written[0] == ":":
        operand = operand and near == before
    first = ("as written", "value") if operand else ("value", "as written")
    return (*first, "list") if written[0] in "?@" else (*first, "identifier", "list", "nothing")


def _read(
    text: str, marks: Sequence[Token], ways: Sequence[str], variables: Mapping[str, str]
) -> _Reading:
    used = [int(m) for m in (text[m.start + 1 : m.end] for m in marks) if m.isdigit()]
    following = min(max(used, default=0), _MAX_NUMBER) + 1
    numbers: dict[str, int] = {}
    parts: list[str] = []
    reading = _Reading("", [], [], [(0, 0)])
    length = position = 0
    for mark, way in zip(marks, ways, strict=True):
        written = text[mark.start : mark.end]
        before = text[position : mark.start]
        number = 0
        if way == "as written":
            replacement = written
            number = int(written[1:]) if mark.kind == "param" else 0
        elif way == "identifier":
            replacement = _identifier(written, variables)
        elif way == "nothing":
            replacement = " "
        else:
            key = written if written not in ("?", "%s") else f"{written}{mark.start}"
            if key.startswith(":'"):
                key = ":" + key[2:-1]
            number = numbers.setdefault(key, following)
            following = max(following, number + 1)
            replacement = f"${number}" if way == "value" else f"(${number})"
            if before[-1:].isalnum() or text[mark.end : mark.end + 1].isalnum():
                replacement = f" {replacement} "
        parts += (before, replacement)
        length += len(before)
        reading.places.append((length, length + len(replacement)))
        if way != "as written" or number:
            reading.placeholders.append(Placeholder(written, number, mark.start, mark.end))
        if replacement != written:
            reading.offsets.append((length, mark.start))
            reading.offsets.append((length + len(replacement), mark.end))
        length += len(replacement)
        position = mark.end
    parts.append(text[position:])
    reading.sql = "".join(parts)
    return reading


def _part(text: str, marks: Sequence[Token], reading: _Reading, parsed: Parsed) -> Readable:
    start = _back(parsed.start, reading.offsets)
    end = len(text)
    if parsed.end < len(reading.sql):
        end = max(_back(parsed.end - 1, reading.offsets) + 1, start)
        for mark, (first, last) in zip(marks, reading.places, strict=True):
            if first < parsed.end <= last:
                end = max(end, mark.end)
    offsets = [
        (max(in_sql - parsed.start, 0), max(in_text - start, 0))
        for in_sql, in_text in reading.offsets[1:]
        if parsed.start <= in_sql <= parsed.end
    ]
    return Readable(
        start,
        end,
        reading.sql[parsed.start : parsed.end],
        parsed,
        tuple(
            Placeholder(p.text, p.number, p.start - start, p.end - start)
            for p in reading.placeholders
            if start <= p.start and p.end <= end
        ),
        ((0, 0), *offsets) if offsets else (),
    )


def _first_branches(text: str, marks: Sequence[Token]) -> list[Token]:
    """The marks, with each ``{% else %} … {% endif %}`` as one: only the first branch is read."""
    result: list[Token] = []
    depth, skipped = 0, -1
    for mark in marks:
        found = _TAG.match(text, mark.start, mark.end)
        tag = found[1] if found else ""
        if skipped < 0:
            if tag in ("else", "elif"):
                skipped, depth = mark.start, 1
            else:
                result.append(mark)
        elif tag == "if":
            depth += 1
        elif tag == "endif":
            depth -= 1
            if not depth:
                result.append(Token("template", skipped, mark.end))
                skipped = -1
    if skipped >= 0:
        result += (m for m in marks if m.start >= skipped)
    return result


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
    """The offset in the text of an offset in the SQL."""
    result = offset
    for index, (in_sql, in_text) in enumerate(offsets):
        if in_sql > offset:
            break
        result = in_text + offset - in_sql
        if index + 1 < len(offsets):
            result = min(result, offsets[index + 1][1])
    return result
