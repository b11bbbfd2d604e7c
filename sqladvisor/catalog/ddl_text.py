"""The text of expressions inside a DDL statement, found by its tokens.

libpg_query's trees have no end positions, and a deparser would rewrite what the user wrote: so
expressions are cut out of the statement as they stand. Nothing in here knows the catalog.
"""

from __future__ import annotations

import re
from functools import cached_property

from sqladvisor.sql import libpg
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.spans import Spans
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap, walk

_OPEN, _CLOSE, _COMMA = (
    frozenset(("ASCII_40", "ASCII_91")),
    frozenset(("ASCII_41", "ASCII_93")),
    "ASCII_44",
)

# A number, a string or a word, alone or as a call; what follows cannot belong to it.
_PLAIN = re.compile(
    r"(?:\d+(?:\.\d+)?|'(?:[^'\\]|'')*'|[A-Za-z_]\w*(?:\(\))?)(?=\s*(?:[,;)]|NOT\b|NULL\b|$))"
)

# What ruleutils.c (looks_like_function) prints without parentheses around it as an index key.
_LIKE_FUNCTIONS = frozenset(
    ("FuncCall", "CoalesceExpr", "MinMaxExpr", "SQLValueFunction", "XmlExpr")
)


class DdlText:
    """One DDL statement's text; scanned only when an expression is asked for."""

    def __init__(self, sql: str) -> None:
        self.sql = sql

    @cached_property
    def _spans(self) -> Spans:
        return Spans(self.sql)

    @property
    def _tokens(self) -> list[tuple[int, int, str]]:
        return self._spans.tokens

    def check(self, location: int) -> str:
        """The condition of the CHECK constraint that begins at ``location``."""
        return self._group(self._next(self._spans.token_at(location), "CHECK") + 1)

    def default(self, location: int, stop: int | None = None) -> str:
        """The expression after DEFAULT in the clause that begins at ``location``.

        ``stop`` is where the column's next constraint begins, if any.
        """
        first = self._next(self._spans.token_at(location), "DEFAULT") + 1
        return self._cut(first, self._end(first, stop, frozenset(("COLLATE",))))

    def plain_default(self, location: int, raw: Node) -> str:
        """The same for a lone constant or a call without arguments, found without tokens; else ""."""
        kind, node = unwrap(raw)
        at = node.get("location", -1)
        if at <= location or (kind != "A_Const" and (kind != "FuncCall" or "args" in node)):
            return ""
        if self.sql[location:at].split() not in (["DEFAULT"], ["default"]):
            return ""
        found = _PLAIN.match(self.sql, at)
        return found[0] if found else ""

    def default_of(self, kind: str, node: Node) -> str:
        """The text of an ALTER COLUMN … SET DEFAULT's expression."""
        places = [n["location"] for _, n in walk(kind, node) if n.get("location", -1) >= 0]
        index = self._spans.token_at(min(places, default=0))
        while index > 0 and self._tokens[index][2] != "DEFAULT":
            index -= 1
        return self._cut(index + 1, self._end(index + 1, None))

    def predicate(self) -> str:
        """The WHERE of a CREATE INDEX, without enclosing parentheses' blanks."""
        first = self._depth_zero("WHERE") + 1
        return self._cut(first, len(self._tokens))

    def query(self) -> str:
        """What follows the first AS of a CREATE VIEW or CREATE TABLE AS: the query."""
        tokens = self._tokens
        first, last = self._depth_zero("AS") + 1, len(tokens)
        if tokens[-1][2] in ("DATA_P", "OPTION"):
            last = max(i for i, t in enumerate(tokens) if t[2].startswith("WITH"))
        return self._cut(first, last)

    def index_keys(self, elements: list[Node], location: int | None = None) -> list[str | None]:
        """Per key its expression as PostgreSQL would print it, None for plain columns.

        ``location`` is where an EXCLUDE constraint begins; None for a CREATE INDEX, in which the
        first parenthesis always opens the keys.
        """
        start = 0 if location is None else self._next(self._spans.token_at(location), "EXCLUDE")
        spans = self._split(self._next(start, "ASCII_40"))
        return [
            self._expression(unwrap(e["expr"])[0], *span) if "expr" in e else None
            for e, span in zip(elements, spans, strict=False)
        ]

    def exclusion_predicate(self, location: int) -> str:
        """The WHERE condition of the EXCLUDE constraint that begins at ``location``."""
        keys = self._next(self._next(self._spans.token_at(location), "EXCLUDE"), "ASCII_40")
        return self._group(self._next(self._closing(keys), "WHERE") + 1)

    def _expression(self, kind: str, first: int, last: int) -> str:
        if self._tokens[first][2] != "ASCII_40":
            opened = self._next(first, "ASCII_40")
            return self._cut(first, self._closing(opened) + 1 if opened < last else last)
        inner = self._group(first)
        return inner if kind in _LIKE_FUNCTIONS else f"({inner})"

    def _next(self, index: int, name: str) -> int:
        tokens = self._tokens
        return next((i for i in range(index, len(tokens)) if tokens[i][2] == name), len(tokens) - 1)

    def _depth_zero(self, name: str) -> int:
        depth = 0
        for i, (_, _, token) in enumerate(self._tokens):
            depth += (token in _OPEN) - (token in _CLOSE)
            if depth == 0 and token == name:
                return i
        return len(self._tokens) - 1

    def _end(self, first: int, stop: int | None, words: frozenset[str] = frozenset()) -> int:
        depth = 0
        for i in range(first, len(self._tokens)):
            start, _, token = self._tokens[i]
            if depth == 0 and (
                token == _COMMA
                or token in _CLOSE
                or token in words
                or (stop is not None and start >= stop)
            ):
                return i
            depth += (token in _OPEN) - (token in _CLOSE)
        return len(self._tokens)

    def _closing(self, opened: int) -> int:
        depth = 0
        for i in range(opened, len(self._tokens)):
            token = self._tokens[i][2]
            depth += (token in _OPEN) - (token in _CLOSE)
            if depth == 0:
                return i
        return len(self._tokens) - 1

    def _group(self, opened: int) -> str:
        return self._cut(opened + 1, self._closing(opened))

    def _split(self, opened: int) -> list[tuple[int, int]]:
        closed, first = self._closing(opened), opened + 1
        spans = []
        while first < closed:
            last = self._end(first, None)
            spans.append((first, last))
            first = last + 1
        return spans

    def _cut(self, first: int, last: int) -> str:
        if first >= last or first >= len(self._tokens):
            return ""
        return self.sql[self._tokens[first][0] : self._tokens[last - 1][1]]


def _named(text: str) -> str:
    return text[1:-1].replace('""', '"') if text.startswith('"') else text.lower()


def mentions(expression: str, column: str) -> bool:
    """Whether an expression's text has an identifier of that name (string constants apart)."""
    if column.lower() not in expression.lower() and '""' not in expression:
        return False
    return any(
        t.name != "SCONST" and _named(expression[t.start : t.end + 1]) == column
        for t in libpg.scan(expression)
    )


def rename_column(expression: str, old: str, new: str) -> str:
    """The expression's text with the column ``old`` called ``new``."""
    if not mentions(expression, old):
        return expression
    for token in reversed(libpg.scan(expression)):
        start, end = token.start, token.end + 1
        if token.name != "SCONST" and _named(expression[start:end]) == old:
            expression = expression[:start] + identifier(new) + expression[end:]
    return expression
