"""A condition on the partition key calls a clock that keeps partitions from being left out.

Why: partitions are left out by values that are known before rows are read. clock_timestamp() is
    VOLATILE, called again for every row: no partition is left out, ever. now() and CURRENT_DATE are
    STABLE: they prune when the query starts, from PostgreSQL 11 on, though every partition is still
    planned; UPDATE and DELETE prune that way only from PostgreSQL 14 on.
Fix: statement_timestamp() or now() for clock_timestamp(); before PostgreSQL 14, for UPDATE and
    DELETE, the time as a literal or a parameter.
Silent when: the clock is STABLE and the server prunes by it; the call is in a subquery of its own
    ((SELECT clock_timestamp()) prunes when it is run); another condition on the key prunes; the
    table is known to be small or is not partitioned.
Source: PostgreSQL manual, 5.12.4 "Partition Pruning" and 36.7 "Function Volatility Categories";
    release notes of 11 and 14.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import conditions
from sqladvisor.sql.resolve import Binding, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, operator, unwrap, walk

SCHEMA = """
CREATE TABLE events (id bigint, kind text, at timestamptz NOT NULL) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE "Tage" ("Öffnung" timestamptz, n int) PARTITION BY RANGE ("Öffnung");
CREATE TABLE plain (id bigint, at timestamptz);
"""
BAD = [
    "SELECT count(*) FROM events WHERE at > clock_timestamp() - interval '1 day'",
    """SELECT t.n
       FROM "Tage" AS t
       WHERE t.n > 5 AND t."Öffnung" BETWEEN clock_timestamp() - $1::interval AND clock_timestamp()""",
    "DELETE FROM public.events e WHERE e.kind = 'é' AND clock_timestamp() - interval '30 days' > e.at",
    "WITH x AS (SELECT * FROM events WHERE at >= clock_timestamp()) SELECT count(*) FROM x",
    "UPDATE events SET kind = 'x' FROM plain p WHERE p.id = events.id AND events.at > clock_timestamp()",
]
GOOD = [
    "SELECT count(*) FROM events WHERE at > now() - interval '1 day'",
    "SELECT count(*) FROM events WHERE at > (SELECT clock_timestamp() - interval '1 day')",
    "SELECT count(*) FROM plain WHERE at > clock_timestamp() - interval '1 day'",
    "SELECT clock_timestamp(), count(*) FROM events WHERE at > CURRENT_DATE",
    "SELECT count(*) FROM events WHERE at > '2024-01-01' AND at < clock_timestamp()",
    "DELETE FROM events WHERE at < now() - interval '30 days'",
    "SELECT * FROM events WHERE clock_timestamp() > '2024-01-01' AND kind = 'x'",
    "SELECT * FROM events_2024 WHERE at > clock_timestamp()",
]

_VOLATILE = frozenset(("clock_timestamp", "timeofday"))
_VALUES = {
    "SVFOP_CURRENT_DATE": "CURRENT_DATE",
    "SVFOP_CURRENT_TIMESTAMP": "CURRENT_TIMESTAMP",
    "SVFOP_LOCALTIMESTAMP": "LOCALTIMESTAMP",
}
_STABLE = frozenset(("now", "transaction_timestamp", "statement_timestamp", *_VALUES.values()))
_OPERATORS = frozenset(("=", "<", "<=", ">", ">=", "BETWEEN"))
_PRUNES_WRITES = 140000
"""server_version_num from which UPDATE and DELETE leave partitions out when they start."""


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning", needs=("schema",))
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "whereClause" not in query and "fromClause" not in query:
        return
    writes = "relation" in query
    scope = ctx.scope(query, "UpdateStmt" if writes else "SelectStmt")
    if not any(i.relation and i.relation.kind == "partitioned" for i in scope.items):
        return
    version = ctx.catalog.server_version or _PRUNES_WRITES
    parts = list(conditions(query, scope))
    for part in parts:
        binding, value = _compared(part, ctx)
        if binding is None or any(p is not part and _names(p, binding, ctx) for p in parts):
            continue
        clock = _clock(value)
        if clock in _VOLATILE:
            why = f"{clock}() is called again for every row"
        elif clock and writes and binding.item is scope.items[0] and version < _PRUNES_WRITES:
            why = (
                f"{clock} is not known while planning, and PostgreSQL {version // 10000} leaves out "
                "partitions of a table it writes only then"
            )
        else:
            continue
        yield ctx.finding(
            part,
            f"no partition of {binding.item.name} is left out: {why}",
            fixes=_fixes(part, ctx) if clock == "clock_timestamp" else (),
        )


def _compared(part: Node, ctx: Context) -> tuple[Binding | None, Node]:
    """The partition key of a comparison, and what it is compared with."""
    kind, node = unwrap(part)
    if kind == "A_Expr" and operator(node) in _OPERATORS:
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        for column, value in ((left, right), (right, left)):
            binding = ctx.binding(column)
            relation = binding.item.relation if binding and not binding.depth else None
            if binding is None or relation is None or ctx.small(binding.item):
                continue
            if relation.kind == "partitioned" and binding.column in relation.partition_key:
                return binding, value
    return None, {}


def _clock(value: Node) -> str:
    """The clock that a value is computed from, a VOLATILE one first; "" where it is none."""
    found = ""
    for kind, node in walk("", {"value": value}):
        if kind in ("ColumnRef", "SubLink"):
            return ""
        name = function_name(node) if kind == "FuncCall" else ""
        if kind == "SQLValueFunction":
            name = _VALUES.get(str(node.get("op", "SVFOP_CURRENT_DATE")), "")
        if name in _VOLATILE:
            found = name
        elif name in _STABLE:
            found = found or name
    return found


def _names(part: Node, binding: Binding, ctx: Context) -> bool:
    """Whether another condition names the same key: it may prune."""
    for column in columns_in(*unwrap(part)):
        found = ctx.resolve(column)
        if found and found.item is binding.item and found.column == binding.column:
            return True
    return False


def _fixes(part: Node, ctx: Context) -> list[Fix]:
    edits = []
    for kind, node in walk(*unwrap(part)):
        if kind == "FuncCall" and function_name(node) == "clock_timestamp":
            span = ctx.span({"FuncCall": node})
            if span is None:
                return []
            edits.append(Edit(*span, "statement_timestamp()"))
    return [
        Fix(
            "compare with the time the statement began",
            ctx.edit(*edits),
            changes_result="the time stands still while the statement runs",
        )
    ]
