"""The same query runs once per key: one query for all keys does the same work in one round trip.

Why: fetching children one parent at a time (what an ORM's lazy loading does) costs a round trip,
    a parse and a plan for every key. PostgreSQL finds a thousand keys in one index scan.
Fix: one query with key = ANY (ARRAY[…]) (= ANY($1) from the application), the key in its output so
    that the caller can tell the rows apart; or a join with the query that produced the keys.
Silent when: there are only a few repetitions, more than the key varies, the queries do not follow
    one another, or the query is not one lookup by equality.
Source: PostgreSQL manual, 9.25.3 "ANY/SOME (array)"; the N+1 problem of object-relational mappers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Experiment, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, function_name, is_literal, operator, unwrap, walk
from sqladvisor.workload.repeats import Group, literal_spans, literals, runs

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
        rewritten = _rewrite(group, comparison, key)
        yield first.finding(
            {"A_Expr": comparison},
            f"the same query runs {count} times, once for each {key}: one query with "
            f"{key} = ANY (…) gets all of them in one round trip",
            fixes=()
            if rewritten is None
            else (
                Fix(
                    "one query for all keys; from an application pass them as one array parameter",
                    rewritten,
                    changes_result=f"one result with {key} in it instead of {count} results",
                ),
            ),
            figures={"statements": count, "key": key},
            experiment=None
            if rewritten is None
            else Experiment(
                "batch",
                tuple(c.statement.sql for c in group.contexts),
                (rewritten,),
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


_AGGREGATES = frozenset(("count", "sum", "min", "max", "avg", "array_agg", "string_agg", "bool_or",
                         "bool_and"))  # fmt: skip


def _rewrite(group: Group, comparison: Node, key: str) -> str | None:
    """One SELECT for all keys; None for queries whose meaning would change beyond the key."""
    ctx = group.contexts[0]
    query = ctx.statement.tree
    if any(
        f in query
        for f in ("limitCount", "limitOffset", "distinctClause", "groupClause", "havingClause",
                  "larg", "lockingClause", "windowClause", "withClause", "sortClause")
    ):  # fmt: skip
        return None
    aggregated = [
        any(k == "FuncCall" and function_name(n) in _AGGREGATES for k, n in walk(*unwrap(t)))
        for t in query.get("targetList", ())
    ]
    span, value = ctx.span({"A_Expr": comparison}), ctx.span(comparison["rexpr"])
    first = ctx.span(query["targetList"][0]) if query.get("targetList") else None
    if span is None or value is None or first is None or any(aggregated) != all(aggregated):
        return None
    keys = list(dict.fromkeys(literals(c)[group.varying[0]] for c in group.contexts))
    edits = [Edit(span[0], value[1], f"{key} = ANY (ARRAY[{', '.join(keys)}])")]
    shown = [ctx.text(t) for t in query["targetList"]]
    if key not in shown and not any(s.split(".")[-1] == "*" for s in shown):
        edits.append(Edit(first[0], first[0], f"{key}, "))
    text = ctx.edit(*edits)
    return f"{text}\nGROUP BY {key}" if all(aggregated) else text
