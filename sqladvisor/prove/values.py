"""Values for columns: those a statement compares with, their neighbours, and everyday ones.

Every candidate is an SQL expression; the server says which of them the column's type, modifier,
domain and CHECKs accept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from sqladvisor.prove.compared import Compared, Key, Operand
from sqladvisor.prove.tables import Column, ForeignKey, Table
from sqladvisor.sql.quote import literal

ACCEPTED = """
CREATE FUNCTION pg_temp.sqladvisor_accepted(candidates text[], type text, label text, checks text)
RETURNS text[] LANGUAGE plpgsql AS $$
DECLARE candidate text; value text; result text[] := '{}';
BEGIN
    FOREACH candidate IN ARRAY candidates LOOP
        value := NULL;
        BEGIN
            EXECUTE format('SELECT v.%I::text FROM (SELECT (%s)::%s AS %I) v WHERE (%s) IS NOT FALSE',
                           label, candidate, type, label, checks) INTO value;
        EXCEPTION WHEN OTHERS THEN
            value := NULL;
        END;
        result := array_append(result, value);
    END LOOP;
    RETURN result;
END $$"""

MAX_COMPARED = 30
"""Values of a column taken from what it is compared with."""
MAX_OTHERS = 8
"""And beside those, from constants elsewhere in the statement."""
FRESH = 24
"""Further distinct values for unique columns: as many as a table has rows, and some."""

_DAY_STARTS = re.compile(r"'(\d{4})(?:-(\d{2}))?'\Z")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\b\d+(?:\.\d+)?\b")
_DATE = re.compile(r"\b(\d{4})-\d{2}-\d{2}\b")
_INTEGER = re.compile(r"\d+\Z")
_NARROW = ("number", "fraction", "uuid", "date", "moment", "text")
"""Kinds of types, those first whose values the later ones can have too."""
_MOMENTS = ("timestamp without time zone", "timestamp with time zone")
_INTEGERS = {
    "smallint": (-32768, 32767),
    "integer": (-(2**31), 2**31 - 1),
    "bigint": (-(2**63), 2**63 - 1),
}

# Values of everyday rows by type, none of them special; the first ones of each are those that
# columns without a comparison mostly get, so that columns of one type meet.
_PLAIN: dict[str, tuple[str, ...]] = {
    "number": ("1", "2", "3", "0", "-1"),
    "fraction": ("1", "2", "3", "0", "-1", "1.5"),
    "text": ("'a'", "'b'", "'c'", "'A'", "''", "'é'"),
    "date": ("'2024-01-01'", "'2024-02-29'", "'2024-06-15'", "'2023-12-31'"),
    "moment": (
        "'2024-01-01'", "'2024-02-29 12:00'", "'2024-06-15 23:59:59.999999'",
        "'2024-03-10 02:30'", "'2024-11-03 01:30'", "'2024-03-31 02:30'", "'2024-10-27 02:30'",
    ),
    "boolean": ("true", "false"),
    "time without time zone": ("'08:00'", "'12:00'", "'00:00'", "'23:59:59.999999'"),
    "time with time zone": ("'08:00+00'", "'12:00+02'", "'00:00+00'"),
    "interval": ("'1 day'", "'1 hour'", "'0'", "'1 month'", "'-1 day'"),
    "uuid": (
        "'00000000-0000-0000-0000-000000000001'", "'00000000-0000-0000-0000-000000000002'",
        "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
    ),
    "jsonb": ("""'{"a": 1}'""", "'{}'", """'{"a": null}'""", "'[]'", "'null'", """'"a"'"""),
    "array": ("'{}'",),
    "range": ("'empty'",),
    "bytea": (r"'\x01'", r"'\x02'", r"'\x'"),
    "inet": ("'10.0.0.1'", "'10.0.0.2'", "'::1'"),
    "cidr": ("'10.0.0.0/8'", "'192.168.0.0/16'"),
    "macaddr": ("'08:00:2b:01:02:03'", "'08:00:2b:01:02:04'"),
    "tsvector": ("to_tsvector('simple', 'a b')", "''::tsvector"),
    "tsquery": ("'a'::tsquery", "'b'::tsquery"),
    "xml": ("'<a/>'", "'<b/>'"),
    "point": ("'(0,0)'", "'(1,1)'"),
    "bit": ("B'1'", "B'0'"),
}  # fmt: skip
_EDGES: dict[str, tuple[str, ...]] = {
    "fraction": ("'NaN'", "'Infinity'", "'-Infinity'", "1e15", "1e-15"),
    "date": ("'infinity'", "'-infinity'"),
    "moment": ("'infinity'", "'-infinity'"),
    "text": ("repeat('z', 60)", "U&'\\FFFD'", "' '", "'%'", "'a '"),
}


@dataclass(frozen=True, slots=True)
class Pool:
    """The values a column takes, as SQL text.

    ``hits`` satisfy what the column is compared with, or are its commonest values; ``near`` lie
    around them; ``plain`` are any others. ``edges`` are the ends of the type.
    """

    hits: tuple[str, ...]
    near: tuple[str, ...]
    plain: tuple[str, ...]
    edges: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.hits, *self.near, *self.plain)))


def kind_of(base: str, category: str) -> str:
    """The key of a type in the tables of values above; its own name where it has one."""
    if base in _INTEGERS or base == "oid":
        return "number"
    if category == "N":
        return "fraction"
    if category == "S":
        return "text"
    if base in _MOMENTS:
        return "moment"
    if category == "A":
        return "array"
    if category == "R":
        return "range"
    if category == "V":
        return "bit"
    return {"json": "jsonb", "macaddr8": "macaddr"}.get(base, base)


_PARAMETERS = {
    "number": ("1", "10", "5", "0"),
    "fraction": ("1", "10", "5.5", "0"),
    "date": ("'2024-01-01'", "'2024-06-15'", "'2024-02-29'"),
    "moment": ("'2024-01-01'", "'2024-06-15 12:00'", "'2024-02-29'"),
}
"""Values for parameters, far enough apart that something lies between two of them."""


def parameter_values(type_: str) -> tuple[str, ...]:
    """Values to bind to a parameter of a type named as format_type() does; () for none known."""
    fraction = type_ in ("numeric", "real", "double precision", "money")
    kind = "fraction" if fraction else kind_of(type_, "")
    return _PARAMETERS.get(kind) or plain_values(type_)


def plain_values(type_: str) -> tuple[str, ...]:
    """Everyday values of a type named as format_type() does; () where none are known."""
    if type_.endswith("[]"):
        inside = plain_values(type_[:-2])[:2]
        if not inside:
            return ("'{}'",)
        both = ", ".join(inside)
        return (f"ARRAY[{both}]", f"ARRAY[{inside[0]}]", "'{}'", f"ARRAY[{inside[-1]}, NULL]")
    if type_ in ("numeric", "real", "double precision", "money"):
        return _PLAIN["fraction"]
    if type_ in ("text", "character varying", "character", "citext", "name"):
        return _PLAIN["text"]
    return _PLAIN.get(kind_of(type_, ""), ())


def make_pools(
    connection: psycopg.Connection,
    tables: Sequence[Table],
    compared: Compared,
    foreign_keys: Sequence[ForeignKey],
) -> dict[Key, Pool]:
    """The values of every column of the tables. Columns that are joined share theirs."""
    groups = _groups(tables, compared, foreign_keys)
    pools: dict[Key, Pool] = {}
    known: dict[tuple[object, ...], Pool] = {}
    for table in tables:
        bounds = [m for b in table.bounds for m in _QUOTED.findall(b)]
        for column in table.columns:
            key = table.of(column.name)
            members = groups.get(key, (key,))
            operands = _operands(members, compared)
            operands += [Operand(b, "=") for b in bounds]
            operands += [Operand(b, "=") for b in _QUOTED.findall(column.checks)]
            unique = any(
                c.unique for t in tables for c in t.columns if t.of(c.name) in members
            )  # its partners need as many values
            kinds = tuple(
                sorted(
                    {kind_of(c.base, c.category) for t in tables for c in t.columns
                     if t.of(c.name) in members},
                    key=lambda k: (_NARROW.index(k) if k in _NARROW else len(_NARROW), k),
                )
            )  # fmt: skip
            same = (tuple(operands), unique, kinds, column.type, column.checks and key)
            if same not in known:
                others = tuple(compared.literals) if _relevant(column.name, compared) else ()
                known[same] = _pool(connection, column, operands, others, unique, kinds)
            pools[key] = known[same]
    return pools


def _relevant(name: str, compared: Compared) -> bool:
    return compared.whole_rows or name in compared.names


def _operands(members: Iterable[Key], compared: Compared) -> list[Operand]:
    found: dict[Operand, None] = {}
    for table, column in members:
        for key in ((table, column), ("", column)):
            found.update(compared.operands.get(key, {}))
    return list(found)


def _groups(
    tables: Sequence[Table], compared: Compared, foreign_keys: Sequence[ForeignKey]
) -> dict[Key, tuple[Key, ...]]:
    """Columns that are compared with each other or refer to each other, by each of them."""
    by_oid = {t.oid: t for t in tables}
    links = [
        pair
        for a, b in compared.links
        for pair in ((x, y) for x in _named(a, tables) for y in _named(b, tables))
    ]
    for fk in foreign_keys:
        one, other = by_oid[fk.table], by_oid[fk.target]
        for a, b in zip(fk.columns, fk.target_columns, strict=True):
            links.append((one.of(a), other.of(b)))
    group: dict[Key, tuple[Key, ...]] = {}
    for x, y in links:
        merged = tuple(dict.fromkeys((*group.get(x, (x,)), *group.get(y, (y,)))))
        for member in merged:
            group[member] = merged
    return group


def _named(key: Key, tables: Sequence[Table]) -> list[Key]:
    if key[0]:
        return [key]
    return [t.of(key[1]) for t in tables if any(c.name == key[1] for c in t.columns)]


def _pool(
    connection: psycopg.Connection,
    column: Column,
    operands: Sequence[Operand],
    others: Sequence[str],
    unique: bool,
    kinds: Sequence[str],
) -> Pool:
    """``kinds`` are those of the columns it is joined with, its own among them."""
    kind = kind_of(column.base, column.category)
    hits: list[str] = []
    near: list[str] = []
    for operand in operands:
        satisfying, around = _around(operand, kind, operands, column.base)
        hits += satisfying
        near += around
    plain = [literal(v) for v in column.labels] or list(_PLAIN.get(kind, ()))
    if column.element:
        plain += plain_values(f"{column.element}[]")
    if len(kinds) > 1:
        # Values that columns of several types can have, so that some of them are equal.
        plain = [*_PLAIN.get(kinds[0], ()), *plain]
    fresh = list(_fresh(kinds[0] if kinds else kind)) if unique else []
    extra = []
    for other in others:
        satisfying, around = _around(Operand(other, "="), kind, (), column.base)
        extra += [*satisfying, *around]
    edges = list(_EDGES.get(kind, ())) + [str(v) for v in _INTEGERS.get(column.base, ())]
    hits, near = hits[:MAX_COMPARED], near[: 2 * MAX_COMPARED]
    wanted = [*hits, *near, *plain, *fresh, *extra, *edges]
    accepted = _accepted(connection, column, wanted)
    moving = column.base == "timestamp with time zone"

    def take(part: Sequence[str], limit: int = 1 << 30) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for text in part:
            value = accepted.get(text)
            if value is not None:
                # A moment is written as the statement writes it: what instant that is depends on
                # the session's time zone, as it does in the statement.
                moves = moving or "now()" in text or "CURRENT" in text.upper()
                shown = f"({text})" if moves else literal(value)
                found.setdefault(value, f"{shown}::{column.type}")
        return tuple(found.values())[:limit]

    ordinary = [*plain, *fresh]
    return Pool(
        take(hits) or take(ordinary, 2),
        take(near, MAX_COMPARED),
        take([*ordinary, *extra], len(ordinary) + MAX_OTHERS),
        take(edges),
    )


def _accepted(
    connection: psycopg.Connection, column: Column, candidates: Sequence[str]
) -> dict[str, str | None]:
    distinct = list(dict.fromkeys(candidates))
    if not distinct:
        return {}
    row = connection.execute(
        "SELECT pg_temp.sqladvisor_accepted(%s::text[], %s, %s, %s)",
        [distinct, column.type, column.name, column.checks or "true"],
    ).fetchone()
    assert row is not None
    return dict(zip(distinct, row[0], strict=True))


def _fresh(kind: str) -> Iterator[str]:
    for i in range(4, 4 + FRESH):
        if kind in ("number", "fraction"):
            yield str(i)
        elif kind == "text":
            yield f"'k{i}'"
        elif kind == "uuid":
            yield f"md5('{i}')::uuid"
        elif kind in ("date", "moment"):
            yield f"'2024-04-{i:02d}'"


def _around(
    operand: Operand, kind: str, operands: Sequence[Operand], base: str
) -> tuple[list[str], list[str]]:
    """Candidates that satisfy ``column <operator> value``, and those around the value."""
    e = f"({operand.text})"
    how = operand.operator
    if kind in ("number", "fraction"):
        at, after, before = [e], [f"{e} + 1"], [f"{e} - 1"]
        if kind == "fraction":
            after.append(f"{e} + 0.01")
            before.append(f"{e} - 0.01")
        return _sorted(how, at, after, before, [f"-{e}"])
    if kind == "text":
        return _texts(operand)
    if kind == "date":
        typed = [f"{e}::date", *(f"{t}::date" for t in _dates(operand, operands))]
        after = [f"{t} + 1" for t in typed]
        before = [f"{t} - 1" for t in typed]
        distances = [f"(CURRENT_DATE {s} {e}::interval)::date" for s in "-+"]
        found = _sorted(how, typed, after, before, [*distances, f"{typed[0]} + 31"])
        return found if found[0] else (distances, found[1])
    if kind == "moment":
        return _moments(operand, operands, base)
    if kind in ("time without time zone", "time with time zone"):
        return _sorted(how, [e], [f"{e}::interval + '1 s'"], [f"{e}::interval - '1 s'"], [])
    if kind == "interval":
        span = f"{e}::interval"
        return _sorted(how, [span], [f"{span} + '1 s'"], [f"{span} - '1 s'"], [f"-{span}"])
    if kind == "jsonb":
        return _documents(operand, operands)
    if kind == "array":
        beside = [f"ARRAY[{e} + 1]", f"ARRAY[{e} - 1]", f"ARRAY[{e} || 'x']"]
        return [e, f"ARRAY[{e}]"], [f"ARRAY[{e}, {e}]", f"ARRAY[NULL, {e}]", *beside]
    return [e], []


def _sorted(
    how: str, at: list[str], after: list[str], before: list[str], far: list[str]
) -> tuple[list[str], list[str]]:
    if how == ">":
        return after, [*at, *before, *far]
    if how == "<":
        return before, [*at, *after, *far]
    if how in ("<>", "!="):
        return [*after, *before], [*at, *far]
    return at, [*after, *before, *far]


def _texts(operand: Operand) -> tuple[list[str], list[str]]:
    e, how = f"({operand.text})::text", operand.operator
    near = [
        f"upper({e})",
        f"lower({e})",
        f"{e} || ' '",
        f"{e} || 'x'",
        f"left({e}, -1)",
        f"' ' || {e}",
    ]
    if how in ("~~", "~~*", "!~~", "!~~*"):
        filled = f"replace(replace({e}, '%', 'x'), '_', 'y')"
        empty = f"replace(replace({e}, '%', ''), '_', 'y')"
        bare = rf"regexp_replace({e}, '\\(.)', '\1', 'g')"
        return [filled, empty, bare], [
            f"upper({filled})",
            f"{filled} || 'z'",
            f"'z' || {filled}",
            e,
        ]
    if how in ("~", "~*", "!~", "!~*"):
        bare = f"btrim({e}, '^$')"
        return [bare], [f"{bare} || 'x'", f"'x' || {bare}", f"upper({bare})"]
    if how in (">", "<>", "!="):
        return [f"{e} || 'x'"], [e, *near]
    if how == "<":
        return [f"left({e}, -1)"], [e, *near]
    return [e], near


def _dates(operand: Operand, operands: Sequence[Operand]) -> list[str]:
    """Days meant by what is no date: a year, a year with a month from another comparison."""
    text = operand.text
    if match := _DAY_STARTS.match(text):
        return [f"'{match[1]}-{match[2] or '01'}-01'"]
    if _INTEGER.match(text) and 1000 <= int(text) <= 9999:
        months = [
            o.text for o in operands if _INTEGER.match(o.text) and 1 <= int(o.text) <= 12
        ] or ["1"]
        return [f"'{text}-{int(m):02d}-01'" for m in months[:2]]
    if _INTEGER.match(text) and 1 <= int(text) <= 12:
        return [f"'{year}-{int(text):02d}-01'" for year in (2022, 2024)]
    return []


def _moments(
    operand: Operand, operands: Sequence[Operand], base: str
) -> tuple[list[str], list[str]]:
    e, how = f"({operand.text})", operand.operator
    days = _dates(operand, operands)
    starts = [f"{e}::{base}", *(f"{d}::{base}" for d in days)]
    if days:
        starts = starts[1:]
    hits, near = [], []
    for start in starts:
        tick = f"{start} + interval '1 microsecond'"
        back = f"{start} - interval '1 microsecond'"
        far = [
            f"{start} + interval '12 hours'",
            f"{start} + interval '1 day'",
            f"{start} + interval '1 day' - interval '1 microsecond'",
            f"{start} - interval '1 day'",
            f"{start} + interval '1 month'",
            f"{start} + interval '1 month' - interval '1 microsecond'",
        ]
        if days:
            far += [
                f"{start} + interval '1 year'",
                f"{start} + interval '1 year' - interval '1 microsecond'",
            ]
        one, two = _sorted(how, [start], [tick], [back], far)
        hits += one
        near += two
    # The nights on which clocks are changed in the years the statement speaks of.
    for year in dict.fromkeys(_DATE.findall(operand.text)):
        near += [f"'{year}-03-31 02:30'::{base}", f"'{year}-11-03 01:30'::{base}"]
    span = f"{e}::interval"
    for sign in "-+":
        away = f"now() {sign} {span}"
        near += [away, f"{away} + interval '1 microsecond'", f"{away} - interval '1 microsecond'"]
        near += [f"{away} + interval '1 day'", f"{away} - interval '1 day'"]
    return hits, near


def _documents(operand: Operand, operands: Sequence[Operand]) -> tuple[list[str], list[str]]:
    hits, near = [operand.text], [f"""({operand.text})::jsonb || '{{"z": 1}}'"""]
    keys = [k.text for k in operands[:6] if k.text.startswith("'")]
    paths = [k[2:-2].split(",") for k in keys if k.startswith("'{") and k.endswith("}'")]
    named = [[f"{k}::text"] for k in keys] + [[f"'{p}'" for p in path] for path in paths]
    named += [[f"{a}::text", f"{b}::text"] for a in keys[:3] for b in keys[:3] if a != b]
    value = operand.text
    for path in named:
        hits += [_nested(path, value), _nested(path, f"({value})::jsonb")]
        near += [_nested(path, "NULL"), _nested(path, f"jsonb_build_array({value})")]
        near += [_nested(path, f"({value}) {sign} 1") for sign in "+-"]
    return hits, near


def _nested(path: Sequence[str], value: str) -> str:
    for key in reversed(path):
        value = f"jsonb_build_object({key}, {value})"
    return value
