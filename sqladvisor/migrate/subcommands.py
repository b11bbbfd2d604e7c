"""ALTER TABLE with several subcommands, as its parts: each can be a statement of its own."""

from __future__ import annotations

from dataclasses import dataclass

from sqladvisor.sql import libpg
from sqladvisor.sql.spans import Spans
from sqladvisor.sql.statement import Statement

_OPENING = frozenset(("ASCII_40", "ASCII_91"))
_CLOSING = frozenset(("ASCII_41", "ASCII_93"))
_COMMA, _DOT, _STAR = "ASCII_44", "ASCII_46", "ASCII_42"


@dataclass(frozen=True, slots=True)
class Subcommands:
    """``head`` is ALTER TABLE with the table's name, ``parts`` what is done to it, as written."""

    head: str
    parts: tuple[str, ...]

    def of(self, *chosen: int) -> str:
        """A statement of these parts (by ordinal, from 1), in the order given."""
        return f"{self.head} " + ",\n    ".join(self.parts[i - 1] for i in chosen)


def subcommands(statement: Statement) -> Subcommands | None:
    """The parts of an ALTER TABLE; None where its text and its tree do not go together for certain."""
    text, commands = statement.text, statement.tree.get("cmds", ())
    if statement.kind != "AlterTableStmt" or len(text) != len(statement.sql) or statement.offsets:
        return None
    try:
        tokens = Spans(text).tokens
    except libpg.ParseProblem:
        return None
    first = _behind_name(tokens, text)
    if first is None:
        return None
    spans, depth, begin = [], 0, first
    for i in range(first, len(tokens)):
        kind = tokens[i][2]
        depth += (kind in _OPENING) - (kind in _CLOSING)
        if kind == _COMMA and not depth:
            spans.append((begin, i - 1))
            begin = i + 1
    spans.append((begin, len(tokens) - 1))
    if len(spans) != len(commands) or any(a > b for a, b in spans):
        return None
    head = text[: tokens[first - 1][1]]
    return Subcommands(head, tuple(text[tokens[a][0] : tokens[b][1]] for a, b in spans))


def _behind_name(tokens: list[tuple[int, int, str]], text: str) -> int | None:
    """The token behind ``ALTER TABLE [IF EXISTS] [ONLY] name [*]``."""
    words = [text[start:end].upper() for start, end, _ in tokens]
    at = 2
    if words[:2] != ["ALTER", "TABLE"]:
        return None
    if words[at : at + 2] == ["IF", "EXISTS"]:
        at += 2
    if words[at : at + 1] == ["ONLY"]:
        at += 1
    at += 1
    while at + 1 < len(tokens) and tokens[at][2] == _DOT:
        at += 2
    if at < len(tokens) and tokens[at][2] == _STAR:
        at += 1
    return at if at < len(tokens) else None
