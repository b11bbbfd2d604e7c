"""The heights of b-trees, from what EXPLAIN says of them: no privilege on files, nothing read.

btcostestimate() adds to an index scan's start-up cost ceil(log2(tuples)) + (height + 1) * 50
operator costs (DEFAULT_PAGE_CPU_MULTIPLIER). With an operator cost of 1 the height shows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import psycopg

from sqladvisor.server.many import first_rows

PAGE_COST = 50
"""DEFAULT_PAGE_CPU_MULTIPLIER, src/include/utils/selfuncs.h."""
_SETTINGS = {
    "cpu_operator_cost": "1",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_indexonlyscan": "on",
    "enable_indexscan": "on",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
}
_INDEXES = """
SELECT n.nspname, x.relname, quote_ident(n.nspname) || '.' || quote_ident(t.relname),
       ARRAY(SELECT pg_get_indexdef(i.indexrelid, k, false)
                    || CASE i.indoption[k - 1] & 3 WHEN 0 THEN '' WHEN 1 THEN ' DESC NULLS LAST'
                       WHEN 2 THEN ' NULLS FIRST' ELSE ' DESC' END
             FROM generate_series(1, i.indnkeyatts::int) k ORDER BY k),
       pg_get_expr(i.indpred, i.indrelid)
FROM pg_index i
JOIN pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i'
JOIN pg_am m ON m.oid = x.relam AND m.amname = 'btree'
JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE i.indisvalid AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND t.oid NOT IN ({locked}) AND x.oid NOT IN ({locked})
  AND has_table_privilege(t.oid, 'SELECT') AND has_schema_privilege(n.oid, 'USAGE')"""


def read_heights(
    connection: psycopg.Connection, wanted: Collection[tuple[str, str]], locked: str
) -> dict[tuple[str, str], int]:
    """(schema, index) → levels above the leaves, of those ``wanted`` that the planner would use.

    ``locked`` is a query for the oids of what must not be touched.
    """
    found: dict[tuple[str, str], int] = {}
    if not wanted:
        return found
    rows = connection.execute(_INDEXES.format(locked=locked).encode()).fetchall()
    before: dict[str, str] = dict(
        connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)",
            [list(_SETTINGS)],
        ).fetchall()
    )
    try:
        _set(connection, _SETTINGS)
        asked = [row for row in rows if (row[0], row[1]) in wanted]
        # No row: locked since, or an expression that this role may not use.
        plans = first_rows(connection, [_query(*row[2:]) for row in asked])
        for (schema, index, *_), row in zip(asked, plans, strict=True):
            plan = row[0][0]["Plan"] if row else {}
            while plan.get("Plans") and "Index Name" not in plan:
                plan = plan["Plans"][0]
            if plan.get("Index Name") == index:
                found[schema, index] = max(int(plan["Startup Cost"] // PAGE_COST) - 1, 0)
    finally:
        if not connection.closed:
            _set(connection, before)
    return found


def _query(table: str, keys: Sequence[str], predicate: str | None) -> str:
    where = f" WHERE {predicate}" if predicate else ""
    return f"EXPLAIN (FORMAT JSON) SELECT 1 FROM ONLY {table}{where} ORDER BY {', '.join(keys)}"


def _set(connection: psycopg.Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        connection.execute("SELECT set_config(%s, %s, false)", [name, value])
