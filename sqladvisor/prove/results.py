"""What a statement gives, and whether another one gives the same as far as the first determines it.

A query says what rows there are, and with ORDER BY their order up to ties. LIMIT over ties, or
without an order, leaves open which rows; then what is determined is compared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import psycopg

from sqladvisor.context import Context
from sqladvisor.finding import Edit
from sqladvisor.server.connect import one_line
from sqladvisor.sql.clauses import clauses
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

Row = tuple[str | None, ...]
SHOWN_ROWS = 3
"""Rows shown of a difference."""

# Types of pg_type whose text may differ where the value does not: sums of floating point numbers
# depend on the order of adding, numerics may have more zeros at the end.
_FLOATS, _NUMERIC = (700, 701), 1700
FLOAT_DIGITS = 9
_TOO_MANY_ROWS = "21000"
_CANCELED = "57014"


@dataclass(frozen=True, slots=True)
class Result:
    """What one statement gave: rows, or an error; and what it left in the tables it writes to."""

    columns: tuple[tuple[str, int], ...] = ()
    """Name and type (oid) of each column."""
    rows: tuple[Row, ...] = ()
    count: int = 0
    tables: tuple[tuple[str, ...], ...] = ()
    error: str = ""
    sqlstate: str = ""

    @property
    def canceled(self) -> bool:
        return self.sqlstate == _CANCELED


def run(
    connection: psycopg.Connection,
    sql: str,
    written: Sequence[str] = (),
    before: Sequence[str] = (),
) -> Result:
    """Run one statement in a savepoint that is rolled back; ``written``: tables to look at after.

    ``before``: commands that make ready for it. Raises psycopg.Error when the connection is lost.
    """
    try:
        with connection.transaction(force_rollback=True):
            for command in before:
                connection.execute(command.encode())
            with connection.cursor() as cursor:
                cursor.execute(sql.encode(), prepare=False)
                got = _read(cursor)
            tables = tuple(
                tuple(
                    str(r[0])
                    for r in connection.execute(f"SELECT t::text FROM {t} t".encode()).fetchall()
                )
                for t in written
            )
            return Result(got.columns, got.rows, got.count, tables)
    except psycopg.Error as error:
        if connection.closed:
            raise
        return Result(error=one_line(error), sqlstate=error.sqlstate or "")


def _read(cursor: psycopg.Cursor[tuple[object, ...]]) -> Result:
    result = cursor.pgresult
    if result is None or not result.nfields:
        return Result(count=cursor.rowcount)
    types = [result.ftype(i) for i in range(result.nfields)]
    columns = tuple(
        ((result.fname(i) or b"").decode(errors="replace"), types[i]) for i in range(result.nfields)
    )
    rows = tuple(
        tuple(_value(result.get_value(r, i), types[i]) for i in range(result.nfields))
        for r in range(result.ntuples)
    )
    return Result(columns, rows, cursor.rowcount)


def _value(raw: bytes | None, type_oid: int) -> str | None:
    if raw is None:
        return None
    text = raw.decode(errors="replace")
    if type_oid in _FLOATS:
        return f"{float(text):.{FLOAT_DIGITS}g}"
    if type_oid == _NUMERIC:
        try:
            return str(Decimal(text).normalize())
        except InvalidOperation:
            return text
    return text


# -- ORDER BY and LIMIT -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """What the outermost query says of order. ``keys``: positions, output names, or expressions

    (those as ``=text``); None where they cannot be told."""

    keys: tuple[int | str, ...] | None = ()
    limited: bool = False
    skips: bool = False

    @property
    def sorted(self) -> bool:
        return self.keys is None or bool(self.keys)


@dataclass(frozen=True, slots=True)
class Arranged:
    """A query's text with the expressions it is sorted by as further columns, ``added`` of them.

    ``unlimited`` is the same without the outermost LIMIT and OFFSET, "" where that is not known.
    """

    sql: str
    added: int = 0
    unlimited: str = ""


def order_of(ctx: Context) -> Order:
    """The order and limit of a statement's outermost query."""
    select = ctx.tree.root
    if ctx.tree.kind != "SelectStmt":
        return Order()
    limited = "limitCount" in select and not _no_limit(select["limitCount"])
    ties = select.get("limitOption") == "LIMIT_OPTION_WITH_TIES"
    skips = "limitOffset" in select
    found = [
        _key(wrapped.get("SortBy", {}).get("node", {}), select, ctx)
        for wrapped in select.get("sortClause", ())
    ]
    keys = tuple(k for k in found if k is not None)
    return Order(keys if len(keys) == len(found) else None, (limited and not ties) or skips, skips)


def _no_limit(wrapped: Node) -> bool:
    return unwrap(wrapped)[0] == "A_Const" and bool(unwrap(wrapped)[1].get("isnull"))


def _key(wrapped: Node, select: Node, ctx: Context) -> int | str | None:
    kind, node = unwrap(wrapped)
    if kind == "A_Const" and "ival" in node:
        return int(node["ival"].get("ival", 0)) - 1
    parts = names(node.get("fields")) if kind == "ColumnRef" else ()
    targets = [unwrap(t)[1] for t in select.get("targetList", ())]
    if len(parts) == 1 and any(_output(t) == parts[0] for t in targets):
        return parts[0]
    if "larg" in select:
        return parts[0] if len(parts) == 1 else None
    text = ctx.span(wrapped)
    if text is None:
        return None
    shown = ctx.statement.sql[text[0] : text[1]]
    if select.get("distinctClause") == [{}]:
        # What a DISTINCT query is sorted by is among its columns.
        for i, target in enumerate(targets):
            place = ctx.span(target.get("val", {}))
            if place and ctx.statement.sql[place[0] : place[1]].lower() == shown.lower():
                return i if not any(_is_star(t) for t in targets[:i]) else None
        return parts[-1] if parts and any(map(_is_star, targets)) else None
    return f"={shown}"


def _output(target: Node) -> str:
    if "name" in target:
        return str(target["name"])
    kind, node = unwrap(target.get("val", {}))
    parts = names(node.get("fields")) if kind == "ColumnRef" else ()
    return parts[-1] if parts else ""


def _is_star(target: Node) -> bool:
    kind, node = unwrap(target.get("val", {}))
    return kind == "ColumnRef" and names(node.get("fields"))[-1:] == ("*",)


def arrange(ctx: Context, order: Order) -> Arranged:
    """A statement's text with what ``order`` (its own, or another statement's) sorts by added."""
    sql = ctx.statement.sql
    select = ctx.tree.root
    if ctx.tree.kind != "SelectStmt" or not (order.sorted or order.limited):
        return Arranged(sql)
    places = clauses(select, ctx.spans)
    if not places:
        return Arranged(sql)
    keys = [str(k)[1:] for k in order.keys or () if str(k).startswith("=")]
    if keys and select.get("distinctClause") == [{}]:
        keys = []
    end = places["SELECT"][1]
    added = Edit(end, end, "".join(f", ({k})" for k in keys))
    cuts = [Edit(*places[c], "") for c in ("LIMIT", "OFFSET", "FETCH") if c in places]
    return Arranged(_edited(sql, [added]), len(keys), _edited(sql, [added, *cuts]) if cuts else "")


def _edited(sql: str, edits: Sequence[Edit]) -> str:
    for change in sorted(edits, key=lambda e: e.start, reverse=True):
        sql = sql[: change.start] + change.text + sql[change.end :]
    return sql


# -- comparing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Given:
    """All that a statement gave: its result, without its limit too, and the columns added."""

    result: Result
    added: int = 0
    unlimited: Result | None = None


def difference(order: Order, one: Given, other: Given) -> str:
    """How the other differs from the first where the first is determined; "" where it does not."""
    a, b = one.result, other.result
    if b.error and not b.canceled:
        return f"fails: {b.error}"
    if _columns(one) != _columns(other):
        return f"returns the columns {_named(other)} instead of {_named(one)}"
    if a.count != b.count and not (a.columns and b.columns):
        return f"changes {b.count} rows instead of {a.count}"
    for before, after in zip(a.tables, b.tables, strict=True):
        if Counter(before) != Counter(after):
            return "leaves " + _apart(before, after)
    if not order.limited:
        return _rows(one, other, order)
    if len(a.rows) != len(b.rows):
        return f"returns {_count(len(b.rows))} instead of {len(a.rows)}"
    if not order.sorted:
        everything = one.unlimited
        if everything is None or everything.error:
            return ""
        left = Counter(_bare(other))
        left.subtract(_cut(everything.rows, one.added))
        extra = [row for row, n in left.items() if n > 0]
        return f"returns {_shown(extra)}, which is not among the rows" if extra else ""
    keys, theirs = _keys(one, order), _keys(other, order)
    if keys is None or theirs is None:
        return "" if _bare(one) == _bare(other) else "returns its rows in another order"
    if keys != theirs:
        return _order_differs(keys, theirs)
    # Of the first and last group of ties the limit takes some: which, is not determined.
    open_ = {keys[-1], *(keys[:1] if order.skips else ())} if keys else set()
    mine = [r for r, k in zip(_bare(one), keys, strict=True) if k not in open_]
    rest = [r for r, k in zip(_bare(other), keys, strict=True) if k not in open_]
    if Counter(mine) != Counter(rest):
        return "returns " + _apart(mine, rest)
    if one.unlimited and other.unlimited and not one.unlimited.error:
        return _rows(Given(one.unlimited, one.added), Given(other.unlimited, other.added), order)
    return ""


def error_matters(one: Result, other: Result) -> bool:
    """Whether an original that fails where the rewrite does not had its failure meant.

    A subquery that yields several rows is an assertion; overflow or division by zero in a row that
    another plan would have thrown away before is none.
    """
    return one.sqlstate == _TOO_MANY_ROWS and not other.error


def _rows(one: Given, other: Given, order: Order) -> str:
    if other.result.error:
        return "" if other.result.canceled else f"fails: {other.result.error}"
    mine, theirs = _bare(one), _bare(other)
    if Counter(mine) != Counter(theirs):
        return "returns " + _apart(mine, theirs)
    if not order.sorted:
        return ""
    keys, others = _keys(one, order), _keys(other, order)
    if keys is None or others is None:
        return "" if _bare(one) == _bare(other) else "returns its rows in another order"
    return "" if keys == others else _order_differs(keys, others)


def _order_differs(keys: Sequence[Row], others: Sequence[Row]) -> str:
    for i, (a, b) in enumerate(zip(keys, others, strict=True), 1):
        if a != b:
            return f"has {_shown([b])} instead of {_shown([a])} at place {i} of its order"
    return "returns its rows in another order"


def _columns(given: Given) -> list[tuple[str, int]]:
    columns = given.result.columns
    bare = columns[: len(columns) - given.added] if given.added else columns
    # PostgreSQL's name for a column without one says nothing: nobody relies on it.
    return [("" if name in _UNNAMED else name, kind) for name, kind in bare]


_UNNAMED = frozenset(("?column?", "exists", "bool", "case"))


def _named(given: Given) -> str:
    return ", ".join(f"{name or '?'} (type {kind})" for name, kind in _columns(given)) or "none"


def _bare(given: Given) -> list[Row]:
    return _cut(given.result.rows, given.added)


def _cut(rows: Sequence[Row], added: int) -> list[Row]:
    return [row[: len(row) - added] for row in rows] if added else list(rows)


def _keys(given: Given, order: Order) -> list[Row] | None:
    if order.keys is None:
        return None
    columns = [name for name, _ in given.result.columns]
    bare = len(columns) - given.added
    places, extra = [], bare
    for key in order.keys:
        if isinstance(key, int):
            places.append(key)
        elif key.startswith("="):
            if extra >= len(columns):
                return None
            places.append(extra)
            extra += 1
        elif columns[:bare].count(key) == 1:
            places.append(columns.index(key))
        else:
            return None
    if any(p >= len(columns) for p in places):
        return None
    return [tuple(row[p] for p in places) for row in given.result.rows]


def _apart(mine: Sequence[Row | str], theirs: Sequence[Row | str]) -> str:
    missing = list((Counter(mine) - Counter(theirs)).elements())
    added = list((Counter(theirs) - Counter(mine)).elements())
    parts = []
    if added:
        parts.append(f"{_shown(added)} in addition")
    if missing:
        parts.append(f"no {_shown(missing)}")
    return f"{' and '.join(parts)} ({_count(len(theirs))} instead of {len(mine)})"


def _count(number: int) -> str:
    return f"{number} row{'s' * (number != 1)}"


def _shown(rows: Sequence[Row | str]) -> str:
    texts = [
        r if isinstance(r, str) else "(" + ", ".join("NULL" if v is None else v for v in r) + ")"
        for r in sorted(rows, key=repr)
    ]
    more = f" and {len(texts) - SHOWN_ROWS} more" if len(texts) > SHOWN_ROWS else ""
    return ", ".join(texts[:SHOWN_ROWS]) + more
