"""Statistics that a role may not see, from what EXPLAIN says when it plans with them.

pg_stats shows those of indexed expressions, and pg_stats_ext its rows, to a table's owner only.
The planner uses them for everybody: the rows of GROUP BY are the number of distinct values, those
of IS NULL the share of NULLs, the width of a row is the mean width. Common values stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

import psycopg

from sqladvisor.catalog.statistics import ColumnStatistics, ExtendedStatistics, Member
from sqladvisor.sql.quote import identifier

MAX_MEMBERS = 4
"""Of a statistics object whose combinations are asked for: at most eleven."""
_INDEXED = """
SELECT n.nspname, x.relname, a.attname, x.relkind::text, a.attnum::int, a.atttypid::int8,
       quote_ident(n.nspname) || '.' || quote_ident(t.relname),
       pg_get_indexdef(i.indexrelid, a.attnum, false), t.relkind = 'p'
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = x.relnamespace
JOIN pg_attribute a ON a.attrelid = i.indexrelid AND a.attnum > 0
WHERE i.indexprs IS NOT NULL AND i.indkey[a.attnum - 1] = 0 AND i.indisvalid
  AND t.reltuples > 0 AND t.oid NOT IN ({locked}) AND x.oid NOT IN ({locked})
  AND NOT has_column_privilege(x.oid, a.attnum, 'SELECT')
  AND has_table_privilege(t.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY 1, 2, 5"""
_OBJECTS = """
SELECT n.nspname, e.stxname, quote_ident(tn.nspname) || '.' || quote_ident(t.relname),
       ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = e.stxrelid
             AND a.attnum = ANY (e.stxkeys) ORDER BY a.attnum),
       {exprs}, 'd' = ANY (e.stxkind), t.relkind = 'p'
FROM pg_statistic_ext e
JOIN pg_namespace n ON n.oid = e.stxnamespace
JOIN pg_class t ON t.oid = e.stxrelid
JOIN pg_namespace tn ON tn.oid = t.relnamespace
WHERE t.reltuples > 0 AND t.oid NOT IN ({locked}) AND NOT pg_has_role(t.relowner, 'USAGE')
  AND has_table_privilege(t.oid, 'SELECT') AND has_schema_privilege(tn.oid, 'USAGE')
ORDER BY 1, 2"""


def indexed_expressions(
    connection: psycopg.Connection,
    seen: Collection[tuple[str, str, int]],
    locked: str,
    base_of: Callable[[int], str],
) -> list[ColumnStatistics]:
    """Of indexed expressions other than those ``seen`` (schema, index, number)."""
    found = []
    for row in connection.execute(_INDEXED.format(locked=locked).encode()).fetchall():
        schema, index, column, kind, number, type_, table, expression, parent = row
        if (schema, index, number) in seen:
            continue
        if values := _values(connection, _from(table, parent), expression):
            found.append(
                ColumnStatistics(
                    schema, index, column, kind, number, parent, values, base_of(type_)
                )
            )
    return found


def hidden_objects(
    connection: psycopg.Connection, seen: Collection[tuple[str, str]], locked: str
) -> list[ExtendedStatistics]:
    """Of statistics objects other than those ``seen`` (schema, name): distinct values only."""
    exprs = "NULL::text[]"
    if connection.info.server_version >= 140000:
        exprs = "pg_get_statisticsobjdef_expressions(e.oid)"
    found = []
    query = _OBJECTS.format(exprs=exprs, locked=locked)
    for schema, name, table, columns, texts, distinct, parent in connection.execute(
        query.encode()
    ).fetchall():
        members: list[Member] = [*columns, *(-k for k in range(1, len(texts or ()) + 1))]
        if (schema, name) in seen or len(members) > MAX_MEMBERS:
            continue
        written = [*(identifier(c) for c in columns), *(texts or ())]
        source = _from(table, parent)
        expressions = tuple(_values(connection, source, e) for e in texts or ())
        groups = []
        if distinct:
            for size in range(2, len(members) + 1):
                for chosen in combinations(range(len(members)), size):
                    rows = _rows(connection, source, [written[k] for k in chosen])
                    if rows is None:
                        break
                    groups.append((tuple(members[k] for k in chosen), rows))
        found.append(
            ExtendedStatistics(
                schema,
                name,
                parent,
                tuple(members),
                ndistinct=tuple(groups),
                expressions=expressions,
            )
        )
    return found


def _from(table: str, parent: bool) -> str:
    return table if parent else f"ONLY {table}"


def _values(connection: psycopg.Connection, source: str, expression: str) -> dict[str, str | None]:
    plans = [
        _plan(connection, query)
        for query in (
            f"SELECT {expression} FROM {source}",
            f"SELECT 1 FROM {source} WHERE ({expression}) IS NULL",
        )
    ]
    distinct = _rows(connection, source, [expression])
    if distinct is None or not all(plans) or not plans[0].rows:
        return {}
    total = plans[0].rows
    share = plans[1].rows / total
    return {
        # One row is the least that a plan says.
        "null_frac": f"{share:.6g}" if plans[1].rows > 1 else "0",
        "avg_width": f"{max(int(plans[0].width), 1)}",
        "n_distinct": f"{-distinct / total:.6g}" if distinct > 0.1 * total else f"{distinct:.0f}",
    }


def _rows(connection: psycopg.Connection, source: str, expressions: Sequence[str]) -> float | None:
    numbers = ", ".join(str(n) for n in range(1, len(expressions) + 1))
    plan = _plan(connection, f"SELECT {', '.join(expressions)} FROM {source} GROUP BY {numbers}")
    return plan.rows or None


@dataclass(frozen=True, slots=True)
class _Figures:
    rows: float = 0.0
    width: float = 0.0

    def __bool__(self) -> bool:
        return self.rows > 0


def _plan(connection: psycopg.Connection, query: str) -> _Figures:
    """Rows and width of a plan; none where the role may not plan it."""
    try:
        row = connection.execute(f"EXPLAIN (FORMAT JSON) {query}".encode()).fetchone()
    except psycopg.Error:
        if connection.closed:
            raise
        return _Figures()
    plan = row[0][0]["Plan"] if row else {}
    return _Figures(float(plan.get("Plan Rows", 0)), float(plan.get("Plan Width", 0)))
