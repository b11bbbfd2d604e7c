"""PostgreSQL's own parser (libpg_query, through pglast): the only module that imports it.

``import pglast`` builds 1,500 enum members and node classes that nothing here uses and that take
longer than auditing a small file. Its C extension needs neither for what is used here, so it is
loaded with empty stand-ins for both, which are taken away again afterwards.
"""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_left
from collections.abc import Callable
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any, NamedTuple

from sqladvisor.sql.statement import Node


class ParseProblem(Exception):
    """A text PostgreSQL cannot parse: its reason, and the offending token's character offset."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset


class Token(NamedTuple):
    """A token of PostgreSQL's scanner. ``start`` and ``end`` are characters, ``end`` inclusive."""

    start: int
    end: int
    name: str
    kind: str


class Parsed(NamedTuple):
    """One statement of a parsed text: its span in characters, node type and node.

    Locations in the node are characters from ``start``.
    """

    start: int
    end: int
    kind: str
    node: Node


def _parser() -> Any:
    if "pglast" in sys.modules:
        import pglast.parser

        return pglast.parser
    stubs: list[str] = []
    try:
        spec = PathFinder.find_spec("pglast")
        if spec is None or spec.submodule_search_locations is None:
            raise ImportError("pglast")
        package = ModuleType("pglast")
        package.__path__ = list(spec.submodule_search_locations)
        sys.modules["pglast"] = package
        stubs.append("pglast")
        from pglast.error import Error

        package.Error = Error  # type: ignore[attr-defined]
        for name in ("enums", "ast"):
            stub = ModuleType(f"pglast.{name}")
            sys.modules[stub.__name__] = stub
            stubs.append(stub.__name__)
            setattr(package, name, stub)
        import pglast.parser as parser

        # Another release may import more of the package while loading: then start over, in full.
        parser.parse_sql_json("SELECT 1")
        return parser
    except (ImportError, AttributeError):
        for name in [n for n in sys.modules if n.partition(".")[0] == "pglast"]:
            del sys.modules[name]
        stubs.clear()
        import pglast.parser

        return pglast.parser
    finally:
        for name in stubs:
            sys.modules.pop(name, None)


_libpg = _parser()
PARSER = str(_libpg.__file__)
"""The compiled parser's file."""

_TOO_DEEP = "nested too deeply to be read"
_MAX_DEPTH = 1000
"""Levels of the JSON tree: some 250 calls, or 120 queries, in one another. PostgreSQL's own limit,
of its stack (max_stack_depth), is a few times that."""
_SHALLOW = 500
"""Characters: a statement of fewer has no room for so many levels."""
# What walks a tree recursively takes up to four Python frames a level, beside its caller's.
sys.setrecursionlimit(max(sys.getrecursionlimit(), 5 * _MAX_DEPTH))
_LOCATIONS = frozenset(
    ("location", "name_location", "arg_location", "rexpr_list_start", "rexpr_list_end", "list_start",
     "list_end")
)  # fmt: skip
_LEAVES = frozenset(("String", "ival", "fval", "sval", "boolval", "bsval", "Integer", "Boolean"))
"""Nodes and fields that hold a value and nothing below it: no locations."""
_WIDE = re.compile("[^\x00-\x7f]")


def parse(sql: str) -> list[Parsed]:
    """The statements of a text. Raises ParseProblem for the first one that PostgreSQL refuses."""
    if "\x00" in sql:
        raise ParseProblem("a NUL byte, which PostgreSQL cannot store in text", sql.index("\x00"))
    to_char = _byte_to_char(sql)
    try:
        document = json.loads(_libpg.parse_sql_json(sql))
    except _libpg.ParseError as error:
        raise _problem(error, sql) from None
    except RecursionError:
        raise ParseProblem(_TOO_DEEP, 0) from None
    size = len(sql) if to_char is None else len(sql.encode())
    result = []
    for entry in document.get("stmts", ()):
        if "stmt" not in entry:
            continue
        first = entry.get("stmt_location", 0)
        last = first + entry.get("stmt_len", size - first)
        start, end = (first, last) if to_char is None else (to_char(first), to_char(last))
        start, end = _trimmed(sql, start, end)
        ((kind, node),) = entry["stmt"].items()
        if end - start > _SHALLOW and _too_deep(node):
            raise ParseProblem(_TOO_DEEP, start)
        if start or to_char is not None:
            _rebase(node, start, to_char)
        result.append(Parsed(start, end, kind, node))
    return result


def parse_plpgsql(sql: str) -> list[Node]:
    """The PL/pgSQL functions and DO blocks of a text, as libpg_query's JSON has them.

    Raises ParseProblem where PL/pgSQL's grammar refuses one.
    """
    try:
        functions = json.loads(_libpg.parse_plpgsql_json(sql))
    except _libpg.ParseError as error:
        raise _problem(error, sql) from None
    except (ValueError, RecursionError):
        raise ParseProblem("cannot be read as PL/pgSQL", 0) from None
    return functions if isinstance(functions, list) else [functions]


def scan(sql: str) -> list[Token]:
    """The tokens of a text, comments included. Raises ParseProblem for an unterminated quote."""
    try:
        return _libpg.scan(sql)  # type: ignore[no-any-return]
    except _libpg.ParseError as error:
        raise _problem(error, sql) from None


def fingerprint(sql: str) -> str:
    """libpg_query's fingerprint: equal for statements that differ only in literals."""
    try:
        return str(_libpg.fingerprint(sql))
    except _libpg.ParseError as error:
        raise _problem(error, sql) from None


def normalize(sql: str) -> str:
    """The text with literals replaced by ``$n``, as pg_stat_statements shows it."""
    try:
        return str(_libpg.normalize(sql))
    except _libpg.ParseError as error:
        raise _problem(error, sql) from None


_MAX_MESSAGE = 160
"""Characters: an error message quotes a token, which may be a literal of many lines."""


def _problem(error: Exception, sql: str) -> ParseProblem:
    message = " ".join(str(error.args[0]).split()) if error.args else "cannot be parsed"
    # pglast has already turned the parser's cursor position into characters.
    offset = error.args[1] if len(error.args) > 1 else None
    if "memory exhausted" in message or "stack depth limit" in message:
        message, offset = _TOO_DEEP, 0
    if offset is None and message.endswith("at end of input"):
        offset = len(sql)
    if len(message) > _MAX_MESSAGE:
        message = message[:_MAX_MESSAGE] + "…"
    return ParseProblem(message, max(offset or 0, 0))


def _too_deep(node: Node) -> bool:
    level: list[Any] = [node]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            inside = item.values() if type(item) is dict else item
            below += [i for i in inside if type(i) is dict or type(i) is list]
        if not below:
            return False
        level = below
    return True


def _byte_to_char(sql: str) -> Callable[[int], int] | None:
    """A function from UTF-8 byte offsets to character offsets; None where they are the same."""
    if sql.isascii():
        return None
    at: list[int] = []
    saved: list[int] = [0]
    extra = 0
    for match in _WIDE.finditer(sql):
        at.append(match.start() + extra)
        extra += len(match[0].encode()) - 1
        saved.append(extra)

    def convert(offset: int) -> int:
        return offset - saved[bisect_left(at, offset)]

    return convert


def _rebase(node: Node, start: int, to_char: Callable[[int], int] | None) -> None:
    """Make every location of a tree a character offset from the statement's start, in place."""
    stack: list[Any] = [node]
    while stack:
        item = stack.pop()
        if type(item) is not dict:
            if type(item) is list:
                stack += item
            continue
        for key, value in item.items():
            kind = type(value)
            if kind is dict:
                if key not in _LEAVES:
                    stack.append(value)
            elif kind is list:
                stack += value
            elif kind is int and key in _LOCATIONS and value >= 0:
                item[key] = (value if to_char is None else to_char(value)) - start


_COMMENT_ENDS = re.compile(r"/\*|\*/")
_BLANK = re.compile(r"[ \t\r\n\f\v;]+|--[^\n]*\n?")


def _trimmed(sql: str, start: int, end: int) -> tuple[int, int]:
    """The span without leading comments and surrounding blanks."""
    while start < end:
        blank = _BLANK.match(sql, start, end)
        if blank:
            start = blank.end()
        elif sql.startswith("/*", start):
            depth = 0
            for match in _COMMENT_ENDS.finditer(sql, start, end):
                depth += 1 if match[0] == "/*" else -1
                if not depth:
                    start = match.end()
                    break
            else:
                break
        else:
            break
    if sql.find("--", start, end) >= 0 or sql.find("/*", start, end) >= 0:
        code = [t for t in scan(sql[start:end]) if not t.name.endswith("COMMENT")]
        if code:
            end = start + code[-1].end + 1
    while end > start and sql[end - 1] in " \t\r\n\f\v;":
        end -= 1
    return start, end
