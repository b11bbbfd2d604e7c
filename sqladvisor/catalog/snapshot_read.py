"""Typed reading of untrusted JSON: what has another type than expected is an error with its place."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from sqladvisor.errors import InputError

_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?([eE][-+]?\d{1,3})?\Z")
MAX_COUNT = (1 << 63) - 1


class Reader:
    """One object or list of a document, and where it is in it. Every method raises InputError."""

    def __init__(self, path: str, place: str, node: Any) -> None:
        self._path = path
        self._place = place
        self._node = node

    def wrong(self, key: str | int, expected: str) -> InputError:
        """The error to raise for a value that is not as ``expected``."""
        return InputError(f"{self._path}: not a snapshot: {self._at(key)} is not {expected}")

    def _at(self, key: str | int) -> str:
        if isinstance(key, int):
            return f"{self._place}[{key}]"
        return f"{self._place}.{key[:60]!s}" if self._place else key[:60]

    def value(self, key: str | int) -> Any:
        """What is there; None where nothing is."""
        if isinstance(key, int):
            return self._node[key] if key < len(self._node) else None
        return self._node.get(key)

    def length(self) -> int:
        return len(self._node)

    def text(self, key: str | int) -> str:
        """Text that PostgreSQL can hold: no NUL, no lone surrogate."""
        value = self.value(key)
        if not isinstance(value, str):
            raise self.wrong(key, "text")
        return self._checked(value, key)

    def _checked(self, value: str, key: str | int) -> str:
        if "\x00" in value:
            raise self.wrong(key, "text without NUL characters")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise self.wrong(key, "text in Unicode") from None
        return value

    def text_or_none(self, key: str | int) -> str | None:
        return None if self.value(key) is None else self.text(key)

    def flag(self, key: str | int) -> bool:
        value = self.value(key)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def whole(self, key: str | int, low: int, high: int) -> int:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"a whole number from {low} to {high}")
        return value

    def count(self, key: str | int) -> int:
        return self.whole(key, 0, MAX_COUNT)

    def number(self, key: str | int, low: float = -math.inf, high: float = 1e300) -> float:
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.wrong(key, "a number")
        if not abs(value) < 1e300 or not low <= value <= high:
            raise self.wrong(key, "a number in range")
        return float(value)

    def numeric(self, key: str) -> None:
        """Check that a text is a number."""
        if not _NUMBER.match(self.text(key)):
            raise self.wrong(key, "a number as text")

    def _typed(self, key: str | int, kind: type, expected: str) -> Any:
        value = self.value(key)
        if not isinstance(value, kind):
            raise self.wrong(key, expected)
        return value

    def object(self, key: str | int) -> Reader:
        return Reader(self._path, self._at(key), self._typed(key, dict, "an object"))

    def list_of(self, key: str | int, length: int | None = None) -> Reader:
        value = self._typed(key, list, "a list")
        if length is not None and len(value) != length:
            raise self.wrong(key, f"a list of {length}")
        return Reader(self._path, self._at(key), value)

    def objects(self, key: str) -> Iterator[Reader]:
        inner = self.list_of(key)
        for number in range(inner.length()):
            yield inner.object(number)

    def lists(self, key: str, length: int) -> Iterator[Reader]:
        inner = self.list_of(key)
        for number in range(inner.length()):
            yield inner.list_of(number, length)

    def texts(self, key: str) -> list[str]:
        inner = self.list_of(key)
        return [inner.text(k) for k in range(inner.length())]

    def texts_or_none(self) -> list[str | None]:
        return [self.text_or_none(k) for k in range(self.length())]

    def texts_by_name(self, key: str) -> dict[str, str]:
        inner = self.object(key)
        return {inner._checked(name, name): inner.text(name) for name in inner._node}
