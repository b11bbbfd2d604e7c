"""Query files of sqlc and pgtyped: SQL whose comments name each query, and whose parameters are

their own. Such queries are called one by one: none follows another as it does in a script.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from sqladvisor.finding import InputProblem
from sqladvisor.source.embed import Template, located
from sqladvisor.source.literal import Piece, Text, line_starts, verbatim
from sqladvisor.sql.inputs import STDIN
from sqladvisor.sql.source import Source, statements
from sqladvisor.sql.split import tokens
from sqladvisor.sql.statement import Statement

_SQLC = re.compile(r"^[ \t]*--\s*name:\s*\w+\s+:\w+", re.MULTILINE)
_PGTYPED = re.compile(r"/\*\s*@name\s+\w+")
_SPREAD = re.compile(
    r"@param\s+(?P<name>\w+)\s*->\s*\((?P<keys>.*?)\)[ \t]*(?=\r?\n|@|\*|\Z)", re.DOTALL
)
_SQLC_CALL = re.compile(
    r"sqlc\s*\.\s*(?P<what>n?arg|slice|embed)\s*\(\s*'?(?P<name>\w+)'?\s*\)", re.IGNORECASE
)


def annotated(source: Source) -> tuple[list[Statement], list[InputProblem]]:
    """The statements of a file that looks like one of theirs; of any other, as it is read."""
    if source.path == STDIN or not (_SQLC.search(source.text) or _PGTYPED.search(source.text)):
        return statements(source)
    pieces = list(_pieces(source.text))
    if all(isinstance(p, Text) and len(p.value) == p.end - p.start for p in pieces):
        found, problems = statements(source)
        return [replace(s, run=run) for run, s in enumerate(found, 1)], problems
    template = Template(pieces)
    lines = line_starts(source.text)
    found, problems = statements(replace(source, text=template.text))
    placed = [
        template.placed(s, "SQL", "", lines, _end(template, s), run)
        for run, s in enumerate(found, 1)
    ]
    return placed, [located(p, template, lines) for p in problems]


def _end(template: Template, statement: Statement) -> int:
    """Where a statement ends in the file."""
    end = statement.start + len(statement.text)
    at, start, last = [p for p in template.places if p[0] < end][-1]
    return min(start + end - at, last)


def _pieces(text: str) -> Iterator[Piece]:
    """The file's text, with parameters as a colon and a name, lists of them in parentheses."""
    spread: dict[str, str] = {}
    position = skip = 0
    for token in tokens(text):
        if token.start < skip:
            continue
        written = text[token.start : token.end]
        if token.kind == "comment" and "@param" in written:
            spread = {m["name"]: m["keys"] for m in _SPREAD.finditer(written)}
        end, value = token.end, ""
        if token.kind == "word" and written.lower() == "sqlc":
            call = _SQLC_CALL.match(text, token.start)
            if call:
                end = call.end()
                value = (
                    f"{call['name']}.*" if call["what"].lower() == "embed" else f":{call['name']}"
                )
        elif token.kind == "colon" and written[1:].isidentifier():
            keys = spread.get(written[1:])
            required = text[end : end + 1] == "!" and text[end + 1 : end + 2] != "="
            end += required
            if keys is not None:
                value = _listed(written, keys)
            elif required:
                value = written
        if value:
            yield from verbatim(text, position, token.start)
            yield Text(value, token.start, end)
            position = skip = end
    yield from verbatim(text, position, len(text))


def _listed(name: str, keys: str) -> str:
    """What pgtyped makes of ``-> (…)`` (a list), ``-> (a, b)`` and ``-> ((a, b)…)`` (rows)."""
    names = re.findall(r"[A-Za-z_]\w*", keys)
    return f"({', '.join(f'{name}_{n}' for n in names)})" if names else f"({name})"
