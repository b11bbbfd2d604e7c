"""The statements in the bodies of functions, procedures and DO blocks, at their places in the file.

The body of an SQL function is read as a script. That of a PL/pgSQL one is read by PostgreSQL's own
grammar (libpg_query): its statements, the queries of its loops and cursors, and the subqueries of its
expressions. Variables and arguments become parameters, which is what PL/pgSQL itself makes of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqladvisor.sql import libpg
from sqladvisor.sql.libpg import ParseProblem
from sqladvisor.sql.statement import Embedding, Node, Placeholder, Statement
from sqladvisor.sql.tree import names, walk

HOLDERS = frozenset(("CreateFunctionStmt", "DoStmt"))
"""The statements that have a body."""
PLPGSQL, SQL_FUNCTION = "PL/pgSQL", "SQL function"
IN_BODIES = frozenset((PLPGSQL, SQL_FUNCTION))
"""``Embedding.language`` of the statements in bodies."""
_TRIGGER = frozenset(
    ("new", "old", "tg_name", "tg_when", "tg_level", "tg_op", "tg_relid", "tg_relname",
     "tg_table_name", "tg_table_schema", "tg_nargs", "tg_argv", "tg_event", "tg_tag")
)  # fmt: skip
_ALWAYS = frozenset(("found", "sqlstate", "sqlerrm"))
_QUERY, _ASSIGNMENT = 0, 3
"""RawParseMode of parser.h: a statement; from 3 on an assignment (2 is an expression)."""
_DATA = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))
_SELECT = "SELECT "
_TARGET = re.compile(r"[^:=]*:?=\s*")


@dataclass(frozen=True, slots=True)
class _Body:
    """A body as PostgreSQL reads it. ``places`` as ``Embedding`` has them."""

    text: str
    places: tuple[tuple[int, int, int], ...]
    end: int

    def slice(self, start: int, size: int, shift: int = 0) -> tuple[tuple[int, int, int], ...]:
        """The places of ``size`` characters from ``start``, as a text that begins ``shift`` later."""
        result = []
        for i, (at, first, last) in enumerate(self.places):
            after = self.places[i + 1][0] if i + 1 < len(self.places) else len(self.text)
            if after <= start or at >= start + size:
                continue
            if after - at == last - first:
                first += max(start - at, 0)
                last -= max(after - start - size, 0)
            result.append((max(at - start, 0) + shift, first, last))
        return tuple(result)


@dataclass(frozen=True, slots=True)
class _Part:
    """A query in a body: its text, where it stands, and how its text differs from the body's."""

    text: str
    places: tuple[tuple[int, int, int], ...]
    wrapped: bool = False
    """An expression with SELECT put before it: only its subqueries are queries."""


def with_bodies(found: Sequence[Statement], text: str) -> list[Statement]:
    """A file's statements, each followed by those in its body. ``text`` is the file's."""
    if not any(s.kind in HOLDERS for s in found):
        return list(found)
    lines = [0, *(m.end() for m in re.finditer("\n", text))]
    return [part for s in found for part in (s, *bodies(s, lines))]


def bodies(statement: Statement, lines: Sequence[int]) -> list[Statement]:
    """The statements in the body of a function, procedure or DO block; [] for any other statement.

    ``lines`` are the offsets at which the file's lines start. What cannot be read is left out: the
    server, too, says so only when it is called.
    """
    if statement.kind not in HOLDERS or statement.embedding:
        return []
    body = _body(statement)
    language = _option(statement.tree, "language").lower() or (
        "plpgsql" if statement.kind == "DoStmt" else "sql"
    )
    if body is None or language not in ("sql", "plpgsql"):
        return []
    if language == "plpgsql":
        parts, variables = _plpgsql(statement, body)
    else:
        parts, variables = list(_script(body)), _arguments(statement.tree)
    result = []
    for part in parts:
        made = _statement(part, variables, statement, language, lines, body)
        if made is not None:
            result.append(made)
    return result


def inner(statement: Statement) -> Statement | None:
    """The query in PREPARE, CREATE VIEW and EXPLAIN, as a statement at its own place."""
    if statement.kind not in ("PrepareStmt", "ViewStmt", "ExplainStmt") or statement.embedding:
        return None
    tokens = libpg.scan(statement.sql)
    depth, start = 0, -1
    for i, token in enumerate(tokens):
        depth += {"ASCII_40": 1, "ASCII_41": -1}.get(token.name, 0)
        if depth == 0 and statement.kind == "ExplainStmt" and token.name in _BEGINS:
            start = token.start
            break
        if depth == 0 and statement.kind != "ExplainStmt" and token.name == "AS":
            start = tokens[i + 1].start if i + 1 < len(tokens) else -1
            break
    if start < 0:
        return None
    end = len(statement.sql)
    if statement.tree.get("withCheckOption", "NO_CHECK_OPTION") != "NO_CHECK_OPTION":
        end = max(t.start for t in tokens if t.name == "WITH")
    sql = statement.sql[start:end].rstrip()
    try:
        (parsed,) = libpg.parse(sql)
    except (ParseProblem, ValueError):
        return None
    first, last = statement.to_text(start), statement.to_text(start + len(sql))
    place = statement.locate(first)
    return replace(
        statement,
        text=statement.text[first:last],
        sql=sql,
        start=statement.start + first,
        line=place.line,
        column=place.column,
        kind=parsed.kind,
        tree=parsed.node,
        placeholders=tuple(
            replace(p, start=p.start - first, end=p.end - first)
            for p in statement.placeholders
            if first <= p.start and p.end <= last
        ),
        offsets=_moved(statement.offsets, start, first),
    )


_BEGINS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE_P", "WITH", "VALUES", "MERGE"))


def _moved(
    offsets: tuple[tuple[int, int], ...], sql: int, text: int
) -> tuple[tuple[int, int], ...]:
    kept = [(a - sql, b - text) for a, b in offsets if a > sql]
    return ((0, 0), *kept) if kept else ()


def _options(node: Node) -> list[Node]:
    """The options of CREATE FUNCTION, or the arguments of DO."""
    return list(node.get("options") or node.get("args") or ())


def _option(node: Node, name: str) -> str:
    for option in _options(node):
        element = option.get("DefElem", {})
        if element.get("defname") == name:
            return str(element.get("arg", {}).get("String", {}).get("sval", ""))
    return ""


def _written(node: Node) -> str | None:
    """The body's text, as the parser gives it."""
    for option in _options(node):
        element = option.get("DefElem", {})
        if element.get("defname") == "as":
            argument = element.get("arg", {})
            items = argument.get("List", {}).get("items", [argument])
            return str(items[0].get("String", {}).get("sval", "")) if len(items) == 1 else None
    return None


def _body(statement: Statement) -> _Body | None:
    """The body with the places of its characters in the file."""
    wanted = _written(statement.tree)
    if not wanted:
        return None
    sql = statement.sql
    for token in libpg.scan(sql):
        if token.name != "SCONST":
            continue
        text = sql[token.start : token.end + 1]
        if text.startswith("$"):
            quote = text.index("$", 1) + 1
            content, escaped = text[quote:-quote], False
        elif text.startswith("'"):
            quote, escaped = 1, "''" in text[1:-1]
            content = text[1:-1].replace("''", "'")
        else:
            continue  # E'' and the like: places would have to be told apart by escapes
        if content != wanted:
            continue
        first = statement.start + statement.to_text(token.start + quote)
        end = statement.start + statement.to_text(token.end + 1)
        if not escaped:
            return _Body(content, ((0, first, first + len(content)),), end)
        return _Body(content, _runs(text[1:-1], first), end)
    return None


def _runs(quoted: str, first: int) -> tuple[tuple[int, int, int], ...]:
    """The places of a text written with doubled quotes: each of these is a run of its own."""
    result = []
    position = at = 0
    for match in re.finditer("''", quoted):
        if match.start() > position:
            result.append((at, first + position, first + match.start()))
            at += match.start() - position
        result.append((at, first + match.start(), first + match.end()))
        at += 1
        position = match.end()
    if position < len(quoted):
        result.append((at, first + position, first + len(quoted)))
    return tuple(result)


def _script(body: _Body) -> Iterator[_Part]:
    try:
        parsed = libpg.parse(body.text)
    except ParseProblem:
        return
    for found in parsed:
        size = found.end - found.start
        yield _Part(body.text[found.start : found.end], body.slice(found.start, size))


def _arguments(node: Node) -> dict[str, bool]:
    """A function's own name and its arguments, as variables."""
    result = {}
    for parameter in node.get("parameters", ()):
        inner_ = parameter.get("FunctionParameter", {})
        if inner_.get("mode", "FUNC_PARAM_DEFAULT") != "FUNC_PARAM_TABLE" and inner_.get("name"):
            result[str(inner_["name"])] = False
    qualifier = names(node.get("funcname"))[-1:]
    return {**result, **{f"{q}.": True for q in qualifier}}


def _plpgsql(statement: Statement, body: _Body) -> tuple[list[_Part], dict[str, bool]]:
    """The queries of a PL/pgSQL body, and its variables (True: one with fields, or a qualifier)."""
    try:
        functions = libpg.parse_plpgsql(statement.sql)
    except ParseProblem:
        return [], {}
    variables: dict[str, bool] = dict.fromkeys(_ALWAYS, False)
    variables |= _arguments(statement.tree)
    variables |= {name: name in ("new", "old") for name in _TRIGGER}
    queries: list[tuple[int, bool, str, int]] = []
    for function in functions:
        _collect(function, 1, False, queries, variables)
    starts = [0, *(m.end() for m in re.finditer("\n", body.text))]
    taken: set[int] = set()
    parts = []
    for line, performed, query, mode in queries:
        part = _find(query, mode, performed, starts[min(line, len(starts)) - 1], body, taken)
        if part is not None:
            parts.append(part)
    parts.sort(key=lambda p: p.places[0][1])
    return parts, variables


def _collect(
    node: Any,
    line: int,
    performed: bool,
    queries: list[tuple[int, bool, str, int]],
    variables: dict[str, bool],
) -> None:
    """Gather (line, PERFORM, query, parse mode) of each expression below a node, and variables."""
    if isinstance(node, list):
        for item in node:
            _collect(item, line, performed, queries, variables)
        return
    if not isinstance(node, dict):
        return
    for kind, value in node.items():
        if kind == "PLpgSQL_expr":
            mode = int(value.get("parseMode", 0))
            text = str(value.get("query", ""))
            if mode == _QUERY or "select" in text.lower():
                queries.append((line, performed, text, mode))
            continue
        if isinstance(value, dict):
            if kind in ("PLpgSQL_var", "PLpgSQL_rec", "PLpgSQL_row") and "refname" in value:
                name = str(value["refname"])
                # A variable of a composite type has fields, too, and is not told apart.
                plain = kind == "PLpgSQL_var" and not variables.get(name)
                variables[name] = not plain
            if kind == "PLpgSQL_stmt_block" and value.get("label"):
                variables[f"{value['label']}."] = True
            own = int(value.get("lineno", line))
            below = kind == "PLpgSQL_stmt_perform" or (performed and kind == "expr")
            _collect(value, own, below, queries, variables)
        else:
            _collect(value, line, performed, queries, variables)


def _find(
    query: str, mode: int, performed: bool, start: int, body: _Body, taken: set[int]
) -> _Part | None:
    """Where a query stands in the body, from an offset on.

    PL/pgSQL blanks INTO and its targets, and puts SELECT for PERFORM: blanks match anything.
    """
    skipped = _TARGET.match(query) if mode >= _ASSIGNMENT else None
    text = query[skipped.end() :] if skipped else query
    head = len(_SELECT.rstrip()) if performed else 0
    sought = text[head:].lstrip() if performed else text
    if not sought:
        return None
    lead = len(text) - len(sought)
    first_word = sought.split(None, 1)[0]
    position = body.text.find(first_word, start)
    while position >= 0:
        if position not in taken and _agrees(sought, body.text, position):
            taken.add(position)
            places = body.slice(position, len(sought))
            if mode == _QUERY and not performed:
                return _Part(text, places)
            prefix = text[:lead] if performed else _SELECT
            at = places[0][1]
            moved = tuple((a + len(prefix), b, c) for a, b, c in places)
            return _Part(prefix + sought, ((0, at, at), *moved), not performed)
        position = body.text.find(first_word, position + 1)
    return None


def _agrees(query: str, text: str, position: int) -> bool:
    if len(text) - position < len(query):
        return False
    return all(q in (text[position + i], " ") for i, q in enumerate(query))


def _statement(
    part: _Part,
    variables: dict[str, bool],
    outer: Statement,
    language: str,
    lines: Sequence[int],
    body: _Body,
) -> Statement | None:
    """A part as a statement, its variables made parameters; None where it cannot be one."""
    try:
        (parsed,) = libpg.parse(part.text)
    except (ParseProblem, ValueError):
        return None
    if parsed.kind not in _DATA and language == "plpgsql":
        return None
    if part.wrapped and not any(k == "SubLink" for k, _ in walk(parsed.kind, parsed.node)):
        return None
    placeholders, offsets, sql = _parameters(part.text, parsed.kind, parsed.node, variables)
    if sql is None:
        return None
    if placeholders:
        try:
            (parsed,) = libpg.parse(sql)
        except (ParseProblem, ValueError):
            return None
    shown = PLPGSQL if language == "plpgsql" else SQL_FUNCTION
    embedding = Embedding(shown, part.places, tuple(lines), body.end)
    start = embedding.in_file(0, len(part.text))
    line, column = embedding.place(start)
    return Statement(
        path=outer.path,
        text=part.text,
        sql=sql,
        start=start,
        line=line,
        column=column,
        kind=parsed.kind,
        tree=parsed.node,
        placeholders=placeholders,
        offsets=offsets,
        embedding=embedding,
        run=outer.start + 1,
    )


def _parameters(
    text: str, kind: str, tree: Node, variables: dict[str, bool]
) -> tuple[tuple[Placeholder, ...], tuple[tuple[int, int], ...], str | None]:
    """The variables in a text as placeholders, the offsets they make, and the text with ``$n``.

    The text is None where a variable stands for several columns (``NEW.*``).
    """
    nodes = list(walk(kind, tree))
    aliases = {str(n.get("aliasname", "")) for k, n in nodes if k == "Alias"}
    aliases |= {str(n.get("relname", "")) for k, n in nodes if k == "RangeVar"}
    used = [int(n.get("number", 0)) for k, n in nodes if k == "ParamRef"]
    numbers: dict[str, int] = {}
    found: list[tuple[int, int, str]] = []
    scanned = [t for t in libpg.scan(text) if not t.name.endswith("COMMENT")]
    tokens = {t.start: i for i, t in enumerate(scanned)}
    for node_kind, node in nodes:
        if node_kind != "ColumnRef":
            continue
        parts = names(node.get("fields"))
        size = _variable(parts, variables, aliases)
        if not size:
            continue
        if "*" in parts[:size]:
            return (), (), None
        first = tokens.get(int(node.get("location", -1)))
        if first is None:
            return (), (), None
        end = scanned[first + 2 * (size - 1)].end + 1
        found.append((scanned[first].start, end, ".".join(parts[:size])))
    if not found:
        return (), (), text
    following = max(used, default=0) + 1
    placeholders, offsets, pieces = [], [(0, 0)], []
    position = length = 0
    for start, end, name in sorted(found):
        number = numbers.setdefault(name, following + len(numbers))
        placeholders.append(Placeholder(text[start:end], number, start, end))
        pieces += [text[position:start], f"${number}"]
        length += start - position
        offsets.append((length, start))
        length += len(f"${number}")
        offsets.append((length, end))
        position = end
    pieces.append(text[position:])
    return tuple(placeholders), tuple(offsets), "".join(pieces)


def _variable(parts: tuple[str, ...], variables: dict[str, bool], aliases: set[str]) -> int:
    """How many parts of a (qualified) name are a variable's; 0 where it is a column's."""
    if not parts:
        return 0
    if len(parts) == 1:
        return 1 if parts[0] in variables else 0
    if parts[0] in aliases:
        return 0
    if f"{parts[0]}." in variables and parts[1] in variables:
        return min(len(parts), 2)
    if variables.get(parts[0]):
        return 2
    return 0
