"""What the names of a program are known to hold, so that a constant in a string is no mystery."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqladvisor.source.embed import begins_like_sql
from sqladvisor.source.literal import Gap, Piece, Text, given_by


@dataclass(frozen=True, slots=True)
class Value:
    """What a name is given: an expression's text, and its pieces where it is a string."""

    expression: str
    pieces: tuple[Piece, ...] | None = None

    @property
    def text(self) -> str | None:
        """The string, where all of it is known."""
        if self.pieces is None or any(isinstance(p, Gap) for p in self.pieces):
            return None
        return "".join(p.value for p in self.pieces if isinstance(p, Text))


class Names:
    """Every value that each name of a file is given, its scopes taken together.

    ``evaluate`` reads an expression of the language; only names that stand in a string are asked.
    """

    def __init__(self, evaluate: Callable[[Any], Value]) -> None:
        self._evaluate = evaluate
        self._given: dict[str, list[Any]] = {}
        self._stored: dict[str, int] = {}
        self._values: dict[int, Value] = {}

    def add(self, name: str, expression: Any | None) -> None:
        """A name is given an expression; None: something that nobody knows."""
        self._given.setdefault(name, []).append(expression)

    def store(self, name: str) -> None:
        """A name is written to. More often than ``add`` says: then by what nobody knows."""
        self._stored[name] = self._stored.get(name, 0) + 1

    def put_in(self, expression: str, name: str, start: int, end: int) -> Piece:
        """The piece that an expression gives, whose last name is ``name`` ("" if it is none).

        A name with one known value is that value. A name that holds a whole statement stays a
        gap: the statement is audited where it is written.
        """
        known = self._known(name)
        texts = [v.text for v in known]
        if len(known) == 1 and texts[0] is not None and known[0].pieces:
            if not begins_like_sql(known[0].pieces):
                return Text(texts[0], start, end)
            return Gap(expression, start, end, "constant")
        if known and all(t is not None for t in texts):
            return Gap(expression, start, end, "constant")
        given = given_by(expression)
        if given == "value" and len(known) == 1:
            # How the one value was made: placeholders joined, a number parsed, a name quoted.
            given = given_by(known[0].expression)
            inner = {p.given for p in known[0].pieces or () if isinstance(p, Gap)}
            if given == "value" and len(inner) == 1:
                given = inner.pop()
        return Gap(expression, start, end, given)

    def _known(self, name: str) -> list[Value]:
        given = self._given.get(name, ()) if name else ()
        if None in given or self._stored.get(name, 0) > len(given):
            return []
        return [self._value(expression) for expression in given]

    def _value(self, expression: Any) -> Value:
        key = id(expression)
        if key not in self._values:
            self._values[key] = Value("")  # what a name that is made of itself sees
            self._values[key] = self._evaluate(expression)
        return self._values[key]
