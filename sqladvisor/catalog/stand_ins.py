"""Stand-ins for values: what a masked snapshot has instead of its texts, and how a query finds them.

A stand-in keeps what the planner looks at (order, length, which values are the same one) and not
the text. The snapshot has no text beside it, but a short keyed hash of each common value: so that
a query's literal finds its stand-in, and with it its frequency. Who has the file can try out
guesses with it, as the planner does; the hash is short, so that long lists of guesses match by
chance as well. docs/snapshot.md says what that protects and what not.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

KEPT = 3
"""Texts of up to so many characters are kept: codes of countries, currencies, sizes."""
DIGEST = 6
"""Hexadecimal digits of a hash: one guess in 16.7 million / common values matches by chance."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.I)
_ADDRESS = re.compile(
    r"(\d{1,3}\.){3}\d{1,3}(/\d{1,2})?\Z|[0-9a-f:.]*:[0-9a-f:.]*(/\d{1,3})?\Z", re.I
)
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_FILLERS = {1: "x", 2: "é", 3: "€", 4: "𝄞"}
"""For a character of so many bytes in UTF-8: stand-ins have the bytes and characters of the text."""


@dataclass(frozen=True, slots=True)
class StandIns:
    """Digest of a value → its stand-in, of the common values of all columns."""

    salt: bytes
    by_digest: Mapping[str, str] = field(default_factory=dict)

    def digest(self, value: str) -> str:
        return hmac.new(self.salt, value.encode(), hashlib.sha256).hexdigest()[:DIGEST]

    def find(self, value: str) -> str | None:
        """What stands for a value; None where it is not a common one."""
        return self.by_digest.get(self.digest(value))

    def json(self, text: str) -> str | None:
        """A JSON text with its strings and keys replaced, also such as are not common.

        None where it is no JSON.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            return None
        return json.dumps(self._replaced(document), ensure_ascii=False)

    def _replaced(self, node: Any) -> Any:
        if isinstance(node, str):
            return self.json_string(node)
        if isinstance(node, list):
            return [self._replaced(n) for n in node]
        if isinstance(node, dict):
            return {self.json_string(k): self._replaced(v) for k, v in node.items()}
        return node

    def json_string(self, text: str) -> str:
        """What stands for a string or key within JSON: it needs no order, so no list."""
        if len(text) <= KEPT:
            return text
        return ("j" + self.digest(text)).ljust(len(text), "x")


def make_stand_ins(
    values: Iterable[str], sort: Callable[[list[str]], list[str]], public: frozenset[str]
) -> dict[str, str]:
    """A stand-in for each value; they sort as the values do by ``sort`` (the database's order).

    ``public`` values, which the schema itself shows, and short ones stand for themselves.
    """
    hidden = {v for v in values if len(v) > KEPT and v not in public}
    identifiers = sorted(v for v in hidden if _UUID.match(v))
    addresses = sorted((v for v in hidden if _ADDRESS.match(v) and _address(v)), key=_address_key)
    made = {v: f"{n:08x}-0000-4000-8000-000000000000" for n, v in enumerate(identifiers, 1)}
    made |= {v: str(ipaddress.ip_address((10 << 24) + n)) for n, v in enumerate(addresses, 1)}
    rest = sort([v for v in hidden if v not in made])
    width = max(KEPT + 1, len(_base36(len(rest))))
    for number, value in enumerate(rest):
        made[value] = _token(_base36(number).rjust(width, "0"), value)
    return made


def _token(rank: str, value: str) -> str:
    sizes = sorted(len(c.encode()) for c in value)
    return rank + "".join(_FILLERS[n] for n in sizes[len(rank) :])


def _base36(number: int) -> str:
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits or "0"


def _address(value: str) -> bool:
    try:
        ipaddress.ip_interface(value)
    except ValueError:
        return False
    return True


def _address_key(value: str) -> tuple[int, int, int]:
    found = ipaddress.ip_interface(value)
    return found.version, int(found.ip), found.network.prefixlen


_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"]+)')
_ESCAPE = re.compile(r"\\(.)", re.S)


def array_items(text: str) -> list[str | None]:
    """The items of a one-dimensional array as PostgreSQL prints it."""
    inner = text[1:-1]
    if '"' not in inner and "\\" not in inner and "{" not in inner:
        return [None if i == "NULL" else i for i in inner.split(",")] if inner else []
    return [
        (None if bare == "NULL" else bare)
        if bare
        else (_ESCAPE.sub(r"\1", quoted) if "\\" in quoted else quoted)
        for quoted, bare in _ITEM.findall(inner)
    ]


def array_text(items: Iterable[str | None]) -> str:
    """The array's text; every item quoted, which array_in() takes for any."""
    return "{" + ",".join("NULL" if i is None else _quoted(i) for i in items) + "}"


def _quoted(item: str) -> str:
    if "\\" in item or '"' in item:
        item = item.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{item}"'
