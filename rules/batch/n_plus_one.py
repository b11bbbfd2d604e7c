"""The same query runs once per key: one query for all keys does the same work in one round trip.

Why: fetching children one parent at a time (what an ORM's lazy loading does) costs a round trip,
    a parse and a plan for every key. PostgreSQL finds a thousand keys in one index scan.
Fix: one query with key IN (…) (= ANY ($1) from the application), the key in its output so that
    the caller can tell the rows apart; queries with ORDER BY, LIMIT or the like are run for each
    key by the server itself, with LATERAL; or a join with the query that produced the keys.
Silent when: there are only a few repetitions, more than the key varies, the queries do not follow
    one another, or the query is not one lookup by equality.
Source: PostgreSQL manual, 9.25.3 "ANY/SOME (array)"; the N+1 problem of object-relational mappers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Experiment, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import (
    children,
    column_name,
    conjuncts,
    function_name,
    is_literal,
    operator,
    unwrap,
)
from sqladvisor.workload.batches import MEASURED_STATEMENTS
from sqladvisor.workload.repeats import Group, literal_spans, literals, runs

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text, city text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    status text, code varchar(10), "Code" text, day date);
"""
BAD = [
    """SELECT id FROM users WHERE city = 'Oslo';
       SELECT * FROM orders WHERE user_id = 1; SELECT * FROM orders WHERE user_id = 2;
       SELECT * FROM orders WHERE user_id = 3; SELECT * FROM orders WHERE user_id = 4;
       SELECT * FROM orders WHERE user_id = 5;""",
    """SELECT o.total FROM orders o WHERE o.status = 'new' AND o.code = 'a';
       SELECT o.total FROM orders o WHERE o.status = 'new' AND o.code = 'b';
       SELECT o.total FROM orders o WHERE o.status = 'new' AND o.code = 'c';
       SELECT o.total FROM orders o WHERE o.status = 'new' AND o.code = 'd';
       SELECT o.total FROM orders o WHERE o.status = 'new' AND o.code = 'é';""",
    """SELECT count(*) FROM orders WHERE user_id = 1; SELECT count(*) FROM orders WHERE user_id = 2;
       SELECT count(*) FROM orders WHERE user_id = 3; SELECT count(*) FROM orders WHERE user_id = 4;
       SELECT count(*) FROM orders WHERE user_id = 7;""",
    """SELECT total FROM orders WHERE user_id = 1 ORDER BY id DESC LIMIT 2; SELECT total FROM orders WHERE user_id = 2 ORDER BY id DESC LIMIT 2;
       SELECT total FROM orders WHERE user_id = 3 ORDER BY id DESC LIMIT 2; SELECT total FROM orders WHERE user_id = 4 ORDER BY id DESC LIMIT 2;
       SELECT total FROM orders WHERE user_id = 5 ORDER BY id DESC LIMIT 2;""",
    """SELECT (SELECT count(*) FROM orders x WHERE x.user_id = o.user_id) FROM orders o WHERE o."Code" = 'é1';
       SELECT (SELECT count(*) FROM orders x WHERE x.user_id = o.user_id) FROM orders o WHERE o."Code" = 'é2';
       SELECT (SELECT count(*) FROM orders x WHERE x.user_id = o.user_id) FROM orders o WHERE o."Code" = 'é3';
       SELECT (SELECT count(*) FROM orders x WHERE x.user_id = o.user_id) FROM orders o WHERE o."Code" = 'é4';
       SELECT (SELECT count(*) FROM orders x WHERE x.user_id = o.user_id) FROM orders o WHERE o."Code" = 'é5';""",
    """SELECT u.*, o.day FROM orders o JOIN users u ON u.id = o.user_id WHERE o.day = '2024-01-01';
       SELECT u.*, o.day FROM orders o JOIN users u ON u.id = o.user_id WHERE o.day = '2024-01-02';
       SELECT u.*, o.day FROM orders o JOIN users u ON u.id = o.user_id WHERE o.day = '2024-01-03';
       SELECT u.*, o.day FROM orders o JOIN users u ON u.id = o.user_id WHERE o.day = '2024-01-04';
       SELECT u.*, o.day FROM orders o JOIN users u ON u.id = o.user_id WHERE o.day = '2024-01-05';""",
    """SELECT day, count(*) FROM orders WHERE day = '2024-01-01' GROUP BY day;
       SELECT day, count(*) FROM orders WHERE day = '2024-01-02' GROUP BY day;
       SELECT day, count(*) FROM orders WHERE day = '2024-01-03' GROUP BY day;
       SELECT day, count(*) FROM orders WHERE day = '2024-01-04' GROUP BY day;
       SELECT day, count(*) FROM orders WHERE day = '2024-01-05' GROUP BY day;""",
]
GOOD = [
    """SELECT * FROM orders WHERE user_id = 1; SELECT * FROM orders WHERE user_id = 2;
       SELECT * FROM orders WHERE user_id = 3;""",
    """SELECT * FROM orders WHERE user_id = 1 AND status = 'a';
       SELECT * FROM orders WHERE user_id = 2 AND status = 'b';
       SELECT * FROM orders WHERE user_id = 3 AND status = 'c';
       SELECT * FROM orders WHERE user_id = 4 AND status = 'd';
       SELECT * FROM orders WHERE user_id = 5 AND status = 'e';""",
    "SELECT * FROM orders WHERE user_id = ANY (ARRAY[1, 2, 3, 4, 5, 6])",
    """SELECT * FROM orders WHERE total > 1; SELECT * FROM orders WHERE total > 2;
       SELECT * FROM orders WHERE total > 3; SELECT * FROM orders WHERE total > 4;
       SELECT * FROM orders WHERE total > 5;""",
    """SELECT * FROM orders WHERE user_id = $1; SELECT * FROM orders WHERE user_id = $1;
       SELECT * FROM orders WHERE user_id = $1; SELECT * FROM orders WHERE user_id = $1;
       SELECT * FROM orders WHERE user_id = $1;""",
]


@rule(
    WORKLOAD,
    severity="warning",
    thresholds={"min_statements": 5},  # fewer are as likely written one by one on purpose
)
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    for group in runs(contexts, "SelectStmt", int(ctx.threshold("min_statements"))):
        if len(group.varying) != 1:
            continue
        first = group.contexts[0]
        comparison = _key_comparison(first, group.varying[0])
        if comparison is None:
            continue
        first.rule = ctx.rule
        key = first.text(comparison.get("lexpr", {}))
        count = len(group.contexts)
        found = _rewrite(group, comparison, key)
        yield first.finding(
            {"A_Expr": comparison},
            f"the same query runs {count:,} times in a row, once for each {key}: one query for a "
            "list of keys gets all of them in one round trip",
            fixes=()
            if found is None
            else (
                Fix(
                    f"one query for all keys; from an application {key} = ANY ($1) with an array",
                    found[0],
                    changes_result=found[1],
                ),
            ),
            figures={"statements": count, "key": key},
            experiment=None
            if found is None
            else Experiment(
                "batch",
                tuple(c.statement.sql for c in group.contexts[:MEASURED_STATEMENTS]),
                (found[0],),
                "key by key",
                "all keys at once",
            ),
        )


def _key_comparison(ctx: Context, ordinal: int) -> Node | None:
    """The top-level ``column = literal`` whose literal is the varying one."""
    start, end = literal_spans(ctx)[ordinal]
    for part in conjuncts(ctx.statement.tree.get("whereClause")):
        kind, node = unwrap(part)
        if kind != "A_Expr" or node.get("kind", "AEXPR_OP") != "AEXPR_OP" or operator(node) != "=":
            continue
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        if "ColumnRef" in left and is_literal(right):
            span = ctx.span(right)
            if span and span[0] <= start and end <= span[1]:
                return node
    return None


# Built-in aggregates (manual, 9.21); others show by DISTINCT, FILTER, ORDER BY or * in the call.
_AGGREGATES = frozenset(
    ("count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_or", "bool_and", "every",
     "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg", "xmlagg", "stddev",
     "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp", "bit_and", "bit_or", "bit_xor",
     "range_agg", "range_intersect_agg", "any_value", "corr", "covar_pop", "covar_samp", "mode",
     "percentile_cont", "percentile_disc", "json_agg_strict", "jsonb_agg_strict")
)  # fmt: skip
_AGGREGATE_MARKS = frozenset(("agg_star", "agg_distinct", "agg_filter", "agg_order",
                              "agg_within_group"))  # fmt: skip
# What makes a query more than the rows of one key: run once for each key of a list instead.
_PER_KEY = frozenset(
    ("limitCount", "limitOffset", "distinctClause", "groupClause", "havingClause", "sortClause",
     "windowClause", "withClause")
)  # fmt: skip


def _rewrite(group: Group, comparison: Node, key: str) -> tuple[str, str] | None:
    """One SELECT for all keys, and how its result differs; None where it cannot be written."""
    ctx = group.contexts[0]
    query = ctx.statement.tree
    if "lockingClause" in query or "intoClause" in query or ctx.statement.placeholders:
        return None
    targets = query.get("targetList", ())
    calls = [list(_calls({"ResTarget": t["ResTarget"]})) for t in targets]
    aggregated = [any(_is_aggregate(c) for c in found) for found in calls]
    windowed = any("over" in c for found in calls for c in found)
    keys = list(dict.fromkeys(literals(c)[group.varying[0]] for c in group.contexts))
    differs = f"one result with {key} in it instead of {len(group.contexts)} results"
    if windowed or _PER_KEY & query.keys() or any(aggregated) != all(aggregated):
        text = _lateral(ctx, comparison, keys)
        return (text, differs) if text else None
    span, first = ctx.span({"A_Expr": comparison}), ctx.span(targets[0]) if targets else None
    if span is None or first is None:
        return None
    edits = [Edit(*span, f"{key} IN ({', '.join(keys)})")]
    if not _shows(ctx, targets, comparison["lexpr"]):
        edits.append(Edit(first[0], first[0], f"{key}, "))
    text = ctx.edit(*edits)
    if all(aggregated):
        return f"{text}\nGROUP BY {key}", f"{differs}, without the keys that have no rows"
    return text, differs


def _calls(wrapped: Node) -> Iterator[Node]:
    """The function calls of an expression, those of its subqueries left out."""
    kind, node = unwrap(wrapped)
    stack = [(kind, node)]
    while stack:
        kind, node = stack.pop()
        if kind == "FuncCall":
            yield node
        if kind != "SelectStmt":
            stack.extend(children(node))


def _is_aggregate(call: Node) -> bool:
    if "over" in call:
        return False
    return function_name(call) in _AGGREGATES or bool(_AGGREGATE_MARKS & call.keys())


def _shows(ctx: Context, targets: Sequence[Node], key: Node) -> bool:
    """Whether the key is among the output columns under its own name."""
    wanted = ctx.binding(key)
    for target in targets:
        value = target["ResTarget"].get("val", {})
        kind, node = unwrap(value)
        if kind != "ColumnRef":
            continue
        qualifier, name = column_name(node)
        if name == "*":
            if qualifier is None or (wanted and wanted.item.alias == qualifier):
                return True
        elif (found := ctx.binding(value)) and wanted:
            same = found.item is wanted.item and found.column == wanted.column
            if same and target["ResTarget"].get("name", name) == name:
                return True
    return False


def _lateral(ctx: Context, comparison: Node, keys: list[str]) -> str | None:
    """The query as written, run by the server for each key of a list."""
    binding = ctx.binding(comparison["lexpr"])
    value = ctx.span(comparison["rexpr"])
    used = {i.get("aliasname") for i in ctx.tree.of("Alias")}
    used |= {t.get("relname") for t in ctx.tree.of("RangeVar")}
    if binding is None or value is None or {"k", "q"} & used:
        return None
    cast = ""
    if "sval" in comparison["rexpr"].get("A_Const", {}):
        if binding.definition is None or "[" in binding.definition.type:
            return None
        cast = "" if binding.definition.type == "text" else f"::{binding.definition.type}[]"
    elif unwrap(comparison["rexpr"])[0] != "A_Const":
        return None
    column = identifier(binding.column)
    inner = ctx.edit(Edit(*value, f"k.{column}"))
    return (
        f"SELECT k.{column} AS {identifier('key_' + binding.column)}, q.*\n"
        f"FROM unnest(ARRAY[{', '.join(keys)}]{cast}) AS k ({column})\n"
        f"CROSS JOIN LATERAL (\n{inner}\n) AS q"
    )
