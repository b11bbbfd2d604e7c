"""Costed and measured index advice as findings: what every rule over it says the same way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.advise.ddl import index_sql
from sqladvisor.advise.existing import has_keys
from sqladvisor.catalog.model import Index, Relation
from sqladvisor.finding import Finding, Fix
from sqladvisor.sql.quote import identifier, qualified

if TYPE_CHECKING:
    from sqladvisor.advise.select import IndexAdvice, Use
    from sqladvisor.context import Context
    from sqladvisor.plan.node import Plan


MIN_ASSUMED_FACTOR = 10
"""How many times cheaper a statement must get where row counts are assumed and no column's values are
known: the planner's default selectivities are out by less than that, mostly."""


def covered(advice: IndexAdvice) -> Index | None:
    """An existing index that has the advised key columns, but not those carried along with them."""
    relation = _relation(advice)
    if relation is None or advice.index.method != "btree" or advice.index.predicate:
        return None
    return has_keys(relation, advice.index.keys)


def _relation(advice: IndexAdvice) -> Relation | None:
    table = advice.index.table
    relations = advice.best.context.catalog.relations.values()
    return next(
        (r for r in relations if table in (identifier(r.name), qualified(r.schema, r.name))), None
    )


def shown(advice: IndexAdvice) -> str:
    """The advised index as DDL has it: ``orders (user_id) INCLUDE (total)``."""
    index = advice.index
    method = f"USING {index.method} " if index.method != "btree" else ""
    text = f"{index.table} {method}({', '.join(index.keys)})"
    if index.include:
        text += f" INCLUDE ({', '.join(index.include)})"
    return text + (f" WHERE {index.predicate}" if index.predicate else "")


def reordered(advice: IndexAdvice) -> Index | None:
    """An existing index that has the advised key columns in another order."""
    index = advice.index
    keys = tuple(k.split(" ")[0] for k in index.keys)
    relation = _relation(advice)
    if relation is None or index.method != "btree" or index.predicate or len(keys) < 2:
        return None
    for have in relation.indexes:
        names = tuple(identifier(k) for k in have.keys if k)
        same = sorted(names) == sorted(keys) and len(names) == len(have.keys)
        if same and names != keys and have.method == "btree" and have.valid and not have.predicate:
            return have
    return None


def findings(advice: IndexAdvice, ctx: Context, what: str) -> Iterator[Finding]:
    """One finding for each statement that an index serves. ``what`` says what is missing."""
    spoken_of = {advice.best.context.fingerprint}
    yield _finding(advice, advice.best, what, ctx)
    for use in advice.uses:
        # A rewritten statement is spoken of where the rewrite is advised; repeats once.
        if not use.rewritten and use.context.fingerprint not in spoken_of:
            spoken_of.add(use.context.fingerprint)
            yield _finding(advice, use, what, ctx)


def _finding(advice: IndexAdvice, use: Use, what: str, ctx: Context) -> Finding:
    best = advice.best
    figures = {
        "index": shown(advice),
        "table": advice.index.table.rpartition(".")[2].strip('"'),
        "cost_before": round(use.cost_before, 2),
        "cost_after": round(use.cost_after, 2),
        "size_bytes": advice.built_bytes or advice.size_bytes,
        "size_is_measured": advice.built_bytes is not None,
        "queries": [_figures(u) for u in advice.uses],
        "not_helpful": list(use.useless),
        "removes_sort": _sorts(use.plan_before) and not _sorts(use.plan_after),
    }
    saved = None
    if use.time_before_ms is not None and use.time_after_ms is not None:
        saved = use.time_before_ms - use.time_after_ms
        figures |= {
            "time_before_ms": round(use.time_before_ms, 3),
            "time_after_ms": round(use.time_after_ms, 3),
            "buffers_before": use.buffers_before,
            "buffers_after": use.buffers_after,
        }
    only = " by an index-only scan" if _index_only(use) else ""
    own = use.context
    own.rule = ctx.rule
    return own.finding(
        None,
        f"{what}; {shown(advice)} would{only}",
        severity="info" if _weak(advice, use, saved, own) else None,
        fixes=(
            Fix(
                "build it without blocking writes",
                advice.sql or _ddl(advice),
                "ddl",
            ),
        ),
        level="measured" if saved is not None else "estimated",
        figures=figures,
        notes=[*advice.notes, *_notes(advice, use, best)],
    )


def _ddl(advice: IndexAdvice) -> str:
    relation = _relation(advice)
    if relation is None:
        return advice.index.ddl(concurrently=True)
    return index_sql(advice.index, relation, advice.best.context.catalog).removesuffix(";")


def _weak(advice: IndexAdvice, use: Use, saved_ms: float | None, ctx: Context) -> bool:
    """Whether a use is worth no more than a hint: little time, or a gain that rests on assumptions."""
    if saved_ms is not None:
        return saved_ms < ctx.threshold("min_warning_ms")
    if not advice.assumed:
        return False
    return covered(advice) is not None or use.cost_before < MIN_ASSUMED_FACTOR * use.cost_after


def _notes(advice: IndexAdvice, use: Use, best: Use) -> Iterator[str]:
    if use.rewritten:
        yield "for the statement rewritten as advised there, not as it is"
    others = [u for u in advice.uses if u is not use]
    if others and use is best:
        lines = ", ".join(
            f"line {u.context.statement.line}{', rewritten as advised' * u.rewritten} ({_gain(u)})"
            for u in others
        )
        yield f"the same index serves {lines}"
    elif others:
        yield f"it is the index advised for line {best.context.statement.line} too: one serves both"
    if use.companions:
        pair = "; ".join(f"{c.table} ({', '.join(c.keys)})" for c in use.companions)
        how = "measured" if use.time_after_ms is not None else "costed"
        yield f"{how} together with the index on {pair}, which this plan uses too"
    if use.useless:
        yield (
            "would not help this statement (planner cost unchanged, not used): an index on "
            + ", ".join(use.useless)
        )


def _sorts(plan: Plan | None) -> bool:
    return plan is not None and any(n.node_type == "Sort" for n in plan.nodes())


def _index_only(use: Use) -> bool:
    return use.plan_after is not None and any(
        n.node_type == "Index Only Scan" and (n.index or "").startswith("sqladvisor")
        for n in use.plan_after.nodes()
    )


def _gain(use: Use) -> str:
    if use.time_before_ms is not None and use.time_after_ms is not None:
        return f"{use.time_before_ms:.3g} → {use.time_after_ms:.3g} ms"
    return f"cost {use.cost_before:,.0f} → {use.cost_after:,.0f}"


def _figures(use: Use) -> dict[str, object]:
    statement = use.context.statement
    return {
        "path": statement.path,
        "line": statement.line,
        "fingerprint": use.context.fingerprint,
        "rewrite_of": use.original_fingerprint,
        "cost_before": round(use.cost_before, 2),
        "cost_after": round(use.cost_after, 2),
        "time_before_ms": use.time_before_ms,
        "time_after_ms": use.time_after_ms,
        "buffers_before": use.buffers_before,
        "buffers_after": use.buffers_after,
    }
