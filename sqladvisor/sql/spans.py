"""Where a node of the parse tree begins and ends in the statement's text.

libpg_query tells where most nodes begin, never where they end. The end is found in the token
stream: a node reaches from its first token to the last token before something that cannot belong
to it (a comma, AND, a clause keyword, a closing parenthesis opened outside it).
"""

from __future__ import annotations

from bisect import bisect_right

from sqladvisor.sql import libpg
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import walk

_BOUNDARY = frozenset(
    [
        "AND",
        "OR",
        "FROM",
        "WHERE",
        "GROUP_P",
        "HAVING",
        "ORDER",
        "LIMIT",
        "OFFSET",
        "FETCH",
        "FOR",
        "UNION",
        "INTERSECT",
        "EXCEPT",
        "WINDOW",
        "RETURNING",
        "ON",
        "JOIN",
        "LEFT",
        "RIGHT",
        "INNER_P",
        "FULL",
        "CROSS",
        "NATURAL",
        "USING",
        "WHEN",
        "THEN",
        "ELSE",
        "END_P",
        "ASC",
        "DESC",
        "NULLS_P",
        "AS",
        "SET",
        "VALUES",
        "SELECT",
        "ASCII_44",
        "ASCII_59",
        "NULLS_LA",
        "TABLESAMPLE",
        "DEFAULT",
        "WITH",
    ]
)
# CASE … END encloses its parts as parentheses do.
_OPEN = frozenset(("ASCII_40", "ASCII_91", "CASE"))
_CLOSE = frozenset(("ASCII_41", "ASCII_93", "END_P"))


class Spans:
    """The tokens of one statement's ``sql``; answers spans as (start, end) character offsets."""

    __slots__ = ("_starts", "sql", "tokens")

    def __init__(self, sql: str) -> None:
        self.sql = sql
        self.tokens = [
            (t.start, t.end + 1, t.name) for t in libpg.scan(sql) if not t.name.endswith("COMMENT")
        ]
        self._starts = [t[0] for t in self.tokens]

    def token_at(self, offset: int) -> int:
        """Index of the token that covers or precedes a character offset."""
        return max(bisect_right(self._starts, offset) - 1, 0)

    def of(self, kind: str, node: Node) -> tuple[int, int] | None:
        """The span of an expression, target, table reference or join; None where nobody knows."""
        places = [
            n["location"] for _, n in walk(kind, node) if n.get("location", -1) >= 0
        ]  # 0 is omitted by libpg_query: a node with no location may stand at the very start
        if not places:
            return None
        first, last = self.token_at(min(places)), self.token_at(max(places))
        if kind in ("A_Const", "ParamRef") and self.tokens[first][2] not in ("ASCII_45", "Op"):
            return self.tokens[first][:2]
        if kind == "ColumnRef":
            return self.tokens[first][0], self.tokens[self._dotted(first)][1]
        opened = self._unclosed(first, last)
        while opened < 0 and first > 0:
            first -= 1
            name = self.tokens[first][2]
            opened += (name in _OPEN) - (name in _CLOSE)
        last = self._dotted(last)
        depth = self._unclosed(first, last)
        while last + 1 < len(self.tokens):
            name = self.tokens[last + 1][2]
            if depth == 0 and (name in _BOUNDARY or name in _CLOSE):
                break
            depth += (name in _OPEN) - (name in _CLOSE)
            last += 1
            if kind == "RangeVar" and depth == 0 and self.tokens[last][2] != "ASCII_46":
                break
        return self.tokens[first][0], self.tokens[last][1]

    def _dotted(self, index: int) -> int:
        while index + 2 < len(self.tokens) and self.tokens[index + 1][2] == "ASCII_46":
            index += 2
        return index

    def _unclosed(self, first: int, last: int) -> int:
        depth = lowest = 0
        for _, _, name in self.tokens[first : last + 1]:
            depth += (name in _OPEN) - (name in _CLOSE)
            lowest = min(lowest, depth)
        return lowest if lowest < 0 else depth

    def keyword(self, name: str, start: int = 0, end: int | None = None) -> int | None:
        """Index of the first token of that name (``WHERE``, ``FROM``) between two offsets, at the

        parenthesis depth of ``start``."""
        depth = 0
        for i in range(bisect_right(self._starts, start - 1), len(self.tokens)):
            token_start, _, token = self.tokens[i]
            if end is not None and token_start >= end:
                return None
            if token in _OPEN:
                depth += 1
            elif token in _CLOSE:
                depth -= 1
                if depth < 0:
                    return None
            elif depth == 0 and token == name:
                return i
        return None
