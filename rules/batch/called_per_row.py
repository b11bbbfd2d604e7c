"""A server's counters show a lookup called once for each row that another query returns.

Why: fetching children one parent at a time (what an ORM's lazy loading does) costs a round trip, a
    parse and a plan for every row. PostgreSQL finds a thousand keys in one index scan.
Fix: one query with = ANY ($1) and all keys in an array, its key in the output; or a join with the query
    that returns them.
Silent when: the lookup was called less than 1,000 times or takes under a hundredth of the time; no
    query over a table that a foreign key ties to the lookup's returned as many rows (within a tenth) in
    at most a fifth of the calls; the lookup does more than compare keys.
Source: PostgreSQL manual, 9.25.3 "ANY/SOME (array)"; the N+1 problem of object-relational mappers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import COUNTED, rule
from sqladvisor.sql.tree import conjuncts, operator, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Relation
    from sqladvisor.database import DatabaseContext
    from sqladvisor.workload.weights import Weighed, Workload

NEAR = 0.1
"""Share by which the calls may differ from the rows: statements come and go while one counts."""
_MORE = ("groupClause", "havingClause", "sortClause", "limitCount", "distinctClause", "lockingClause",
         "withClause", "valuesLists", "larg")  # fmt: skip


@rule(
    COUNTED,
    severity="warning",
    thresholds={
        "min_calls": 1000,  # fewer may agree with some query's rows by chance
        "min_share": 0.01,  # of the time of all statements
        "min_ratio": 5,  # calls of the lookup for each call of the other query
    },
)
def check(workload: Workload, ctx: DatabaseContext) -> Iterator[Finding]:
    selects = [w for w in workload.statements if w.context.statement.kind == "SelectStmt"]
    for lookup in selects:
        calls = lookup.counted.calls
        if calls < ctx.threshold("min_calls") or lookup.share < ctx.threshold("min_share"):
            continue
        place = _key(lookup)
        if place is None:
            continue
        for parent in selects:
            if (
                parent is not lookup
                and parent.counted.calls * ctx.threshold("min_ratio") <= calls
                and abs(parent.counted.rows - calls) <= NEAR * calls
                and any(_tied(a, b) for a in lookup.relations for b in parent.relations)
            ):
                yield _finding(lookup, parent, place, ctx)
                break


def _key(lookup: Weighed) -> tuple[int, int] | None:
    """Where the one parameter of ``column = $1`` stands; None where the lookup is another thing."""
    context = lookup.context
    tree = context.statement.tree
    if any(tree.get(field) for field in _MORE) or len(tree.get("fromClause", ())) != 1:
        return None
    if len(context.tree.by_kind.get("ParamRef", ())) != 1:
        return None
    for condition in conjuncts(tree.get("whereClause", {})):
        kind, node = unwrap(condition)
        if kind != "A_Expr" or operator(node) != "=" or node.get("kind") != "AEXPR_OP":
            continue
        right = node.get("rexpr", {})
        if unwrap(node.get("lexpr", {}))[0] == "ColumnRef" and unwrap(right)[0] == "ParamRef":
            return context.span(right)
    return None


def _tied(one: Relation, other: Relation) -> bool:
    """Whether a foreign key leads from one table to the other."""
    return any(
        (key.target_schema, key.target) == (b.schema, b.name)
        for a, b in ((one, other), (other, one))
        for key in a.foreign_keys
    )


def _finding(
    lookup: Weighed, parent: Weighed, place: tuple[int, int], ctx: DatabaseContext
) -> Finding:
    start, end = place
    statement = lookup.context.statement
    array = f"ANY ({statement.sql[start:end]})"
    finding = ctx.finding(
        statement.text,
        f"this lookup was called {lookup.counted.calls:,} times, once for each of the "
        f"{parent.counted.rows:,} rows that statement {parent.rank} returned in "
        f"{parent.counted.calls:,} calls",
        fixes=(
            Fix(
                "ask for all keys at once, in an array, with the key among the columns; or join",
                lookup.context.edit(Edit(start, end, array)),
                "advice",
            ),
        ),
        figures={"calls": lookup.counted.calls, "parent_rank": parent.rank},
    )
    from sqladvisor.workload.weights import told  # takes a server's modules with it

    return told(finding, lookup)
