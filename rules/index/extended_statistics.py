"""Conditions on columns that go together: the planner multiplies their shares and expects far too few rows.

Why: PostgreSQL keeps statistics per column and takes columns for independent: of a city in a country
    it expects the share of the city times that of the country. Statistics over the columns together
    tell it better, and the rest of the plan is chosen by that number.
Fix: CREATE STATISTICS on the columns, and ANALYZE. Where there are rows it was tried: the estimate
    before and after is shown, and nothing is said where it does not come nearer.
Silent when: the estimate is within a factor of 10, or the difference under 1,000 rows; the conditions
    are on one column; there are no rows to count; statistics over the columns do not help.
Source: PostgreSQL manual, 14.2.2 "Extended Statistics".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule
from sqladvisor.sql.quote import identifier, qualified

SETUP = """
CREATE TABLE users (id int PRIMARY KEY, city text, country text, "Straße" int, age int, note text);
INSERT INTO users SELECT i, 'city ' || i % 100, 'country ' || i % 100 % 10, i % 100, i % 90, 'x'
    FROM generate_series(1, 200000) i;
CREATE TABLE told (id int PRIMARY KEY, a int, b int, c int);
INSERT INTO told SELECT i, i % 1000, i % 1000, i % 1000 FROM generate_series(1, 2000000, 7) i;
CREATE STATISTICS told_stats ON a, b, c FROM told;
CREATE SCHEMA s; CREATE TABLE s."Ö" (id int, a int, "b b" int);
INSERT INTO s."Ö" SELECT i, i % 100, i % 100 FROM generate_series(1, 200000) i;
"""
BAD = [
    "SELECT * FROM users WHERE city = 'city 77' AND country = 'country 7' AND \"Straße\" = 77",
    """SELECT o.id FROM s."Ö" AS o
  WHERE o.a = 5 AND o."b b" = 5""",
    "SELECT count(*) FROM users u JOIN told t ON t.id = u.id WHERE u.city = 'city 7' AND u.\"Straße\" = 7",
]
GOOD = [
    "SELECT * FROM told WHERE a = 5 AND b = 5 AND c = 5",
    "SELECT * FROM users WHERE city = 'city 77' AND age = 5",
    "SELECT * FROM users WHERE city = 'city 77' AND note = 'x'",
    "SELECT * FROM users WHERE age > 10 AND age < 80",
    "SELECT * FROM users WHERE city = 'city 77' AND country = 'country 28'",
    'SELECT * FROM s."Ö" WHERE a = 5 AND id % 7 = 5',
]

MAX_COLUMNS = 8
"""STATS_MAX_DIMENSIONS in statistics.h."""


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={
        "min_factor": 10,  # the field's first step: beyond it join methods change
        "min_row_difference": 1000,
    },
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    from sqladvisor.advise.wants import wanted

    if ctx.statement.placeholders or ctx.tree.by_kind.get("ParamRef"):
        return
    off = {
        (n.relation, n.alias): n
        for n in plan.nodes()
        if n.relation and (n.estimate_ratio or 0) >= ctx.threshold("min_factor") and n.actual_rows
        if abs(n.actual_rows - n.plan_rows) * (n.actual_loops or 1)
        >= ctx.threshold("min_row_difference")
    }
    for want in wanted(ctx) if off else ():
        relation = want.item.relation
        node = off.get((want.item.name, want.item.alias))
        if relation is None or node is None or relation.kind not in ("table", "matview"):
            continue
        on_it = [
            p
            for p in want.of("equality", "range", "null", "not-null", "boolean")
            if p.literal and not p.is_expression
        ]
        columns = list(dict.fromkeys(c for p in on_it for c in p.columns))
        equal = {c for p in on_it if p.use != "range" for c in p.columns}
        if not equal or not 2 <= len(columns) <= MAX_COLUMNS:
            continue
        table = qualified(relation.schema, relation.name)
        shown = qualified(None if relation.schema == "public" else relation.schema, relation.name)
        on = ", ".join(map(identifier, columns))
        name = identifier(f"{relation.name}_{'_'.join(columns)}"[:57] + "_stats")
        if relation.schema != "public":
            name = f"{identifier(relation.schema)}.{name}"
        conditions = " AND ".join(f"({p.text})" for p in on_it)
        rows = (node.actual_rows or 0) * (node.actual_loops or 1)
        yield ctx.finding(
            node,
            f"the planner expected {node.plan_rows:,.0f} rows of {relation.name} and got "
            f"{rows:,.0f}: it takes {_listed(columns)} for independent",
            fixes=(
                Fix(
                    "tell the planner how they go together",
                    f"CREATE STATISTICS {name} ON {on} FROM {shown};\nANALYZE {shown};",
                    "ddl",
                ),
            ),
            level="measured",
            figures={
                "relation": relation.name,
                "columns": columns,
                "estimated_rows": node.plan_rows,
                "actual_rows": rows,
                "probe": f"SELECT 1 FROM {table} AS {identifier(want.item.alias)} WHERE {conditions}",
            },
        )


def _listed(columns: list[str]) -> str:
    return f"{', '.join(columns[:-1])} and {columns[-1]}"
