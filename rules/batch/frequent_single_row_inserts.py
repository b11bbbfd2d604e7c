"""A server's counters show one row inserted by each of very many INSERTs.

Why: each is a round trip, a parse and a plan, and outside of a transaction a flush of WAL: the row
    itself is the smallest part. Hundreds of rows go as fast as a few.
Fix: collect rows and send them together: several VALUES lists, unnest() of arrays, or COPY.
Silent when: there were less than 10,000 in an hour, or they take under a hundredth of the time.
Source: PostgreSQL manual, 14.4 "Populating a Database".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.finding import Finding, Fix
from sqladvisor.rule import COUNTED, rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.tree import unwrap

if TYPE_CHECKING:
    from sqladvisor.database import DatabaseContext
    from sqladvisor.workload.weights import Weighed, Workload


@rule(
    COUNTED,
    severity="info",
    thresholds={
        "min_calls_per_hour": 10_000,  # about three a second
        "min_share": 0.01,  # of the time of all statements
    },
)
def check(workload: Workload, ctx: DatabaseContext) -> Iterator[Finding]:
    from sqladvisor.workload.weights import told  # takes a server's modules with it

    for weighed in workload.statements:
        rate = weighed.calls_per_hour
        if (
            rate is None
            or rate < ctx.threshold("min_calls_per_hour")
            or weighed.share < ctx.threshold("min_share")
            or not _one_row(weighed)
        ):
            continue
        finding = ctx.finding(
            weighed.context.statement.text,
            f"{rate:,.0f} INSERTs an hour put one row each into {_table(weighed)}",
            fixes=(
                Fix(
                    "send many rows at once, a column's values in an array each",
                    _unnest(weighed),
                    "advice",
                ),
            ),
            figures={"calls_per_hour": round(rate, 1)},
        )
        yield told(finding, weighed)


def _one_row(weighed: Weighed) -> bool:
    statement = weighed.context.statement
    if statement.kind != "InsertStmt" or weighed.counted.rows > weighed.counted.calls:
        return False
    source = unwrap(statement.tree.get("selectStmt", {}))[1]
    return len(source.get("valuesLists", ())) == 1


def _table(weighed: Weighed) -> str:
    return identifier(str(weighed.context.statement.tree.get("relation", {}).get("relname", "")))


def _unnest(weighed: Weighed) -> str:
    """The INSERT with arrays, where the columns' types are known; else nothing."""
    tree = weighed.context.statement.tree
    relation = next(iter(weighed.relations), None)
    names = [str(unwrap(c)[1].get("name", "")) for c in tree.get("cols", ())]
    if relation is None or not names:
        return ""
    columns = [relation.column(n) for n in names]
    if not all(columns):
        return ""
    arrays = ", ".join(f"${n}::{c.type}[]" for n, c in enumerate(columns, 1) if c)
    listed = ", ".join(map(identifier, names))
    return f"INSERT INTO {_table(weighed)} ({listed}) SELECT * FROM unnest({arrays});"
