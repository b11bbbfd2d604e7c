"""The report of ``indexes``: what to create and drop, whom it serves, and the whole budget curve.

Costs are planner cost units; the JSON names units in its keys (``cost_before``, ``size_bytes``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from sqladvisor import __version__
from sqladvisor.advise.optimise import Choice
from sqladvisor.advise.recommend import Create, Measured, QueryChange, Recommendation
from sqladvisor.figures import ms
from sqladvisor.report.escape import printable
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, size_of

MAX_QUERIES = 15
"""Queries shown without --verbose: those that change most."""
MAX_SERVED = 6
"""Queries named for one index without --verbose."""
MAX_SQL = 78
"""Characters of a query shown in a table."""
SAME = 0.0005
"""Relative change below which a cost is shown as unchanged."""


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """The whole report as text, ending in a newline."""
    paint = Painter(color)
    found: Recommendation = report.details["indexes"]
    lines: list[str] = []
    for problem in report.problems:
        place = printable(problem.path) + (f":{problem.line}" if problem.line else "")
        message = printable(problem.message)
        lines += [f"{paint('bold', place)}: {paint('error', 'left out')}: {message}", ""]
    lines += _ddl(found, paint)
    for create in found.creates:
        lines += [*_create(create, found, paint, verbose), ""]
    for drop in found.drops:
        size = size_of(drop.size_bytes)
        lines += [
            f"{paint('bold', 'drop ' + printable(drop.name))}  {size}",
            f"  {printable(drop.reason)}",
            "",
        ]
    lines += [*_queries(found.queries, paint, verbose), ""]
    if found.measured:
        lines += [*_measured(found, paint), ""]
    lines += [*_curve(found, paint), ""]
    lines += [paint("dim", f"note: {printable(n)}") for n in report.notes]
    lines += _summary(report, found, paint)
    return "\n".join(lines) + "\n"


def _ddl(found: Recommendation, paint: Painter) -> list[str]:
    if not found.creates and not found.drops:
        return [paint("good", "No change of indexes pays for this workload."), ""]
    statements = [*(c.sql for c in found.creates), *(d.sql for d in found.drops)]
    return [*(printable(s) for s in statements), ""]


def _create(create: Create, found: Recommendation, paint: Painter, verbose: bool) -> list[str]:
    total = found.cost_before or 1.0
    head = f"{paint('bold', printable(create.name))}  {size_of(create.size_bytes)}"
    if create.saves > 0:
        head += f"  without it: {create.saves / total:+.1%} of today's cost"
    if create.upkeep and not found.alike:
        head += f"  upkeep {cost_of(create.upkeep)}"
    lines = [head]
    shown = sorted(create.served, key=lambda s: (s.cost_after - s.cost_before, s.query))
    names = {q.number: q for q in found.queries}
    for served in shown if verbose else shown[:MAX_SERVED]:
        query = names.get(served.query)
        name = printable(query.name) if query else f"query {served.query + 1}"
        lines.append(
            f"  {cost_of(served.cost_before):>12} → {cost_of(served.cost_after):<12} {name}"
        )
    if len(shown) > MAX_SERVED and not verbose:
        lines.append(f"  and {len(shown) - MAX_SERVED} more queries")
    return lines


def _queries(queries: Sequence[QueryChange], paint: Painter, verbose: bool) -> list[str]:
    from tabulate import tabulate

    ranked = sorted(queries, key=lambda q: (q.calls * (q.cost_after - q.cost_before), q.number))
    changed = [q for q in ranked if abs(q.cost_after - q.cost_before) > SAME * q.cost_before]
    shown = queries if verbose else changed[:MAX_QUERIES]
    rows = [
        [
            printable(q.name), f"{q.calls:g}", cost_of(q.cost_before), cost_of(q.cost_after),
            change_of(q.cost_before, q.cost_after), _short(q.sql),
        ]
        for q in shown
    ]  # fmt: skip
    lines = []
    if rows:
        headers = ["query", "calls", "cost before", "after", "", ""]
        table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
        lines += [line.rstrip() for line in table.splitlines()]
    for query in shown:
        lines += [f"  {printable(query.name)}: {printable(n)}" for n in query.notes]
    hidden = len(queries) - len(shown)
    if hidden:
        kept = len(queries) - len(changed)
        rest = f"{hidden} more quer{'ies' if hidden > 1 else 'y'}"
        lines.append(paint("dim", f"{rest}, {kept} of them unchanged (--verbose shows all)"))
    return lines


def _measured(found: Recommendation, paint: Painter) -> list[str]:
    from tabulate import tabulate

    measured = found.measured
    ranked = sorted(measured, key=lambda m: -m.calls * (m.time_before_ms - m.time_after_ms))
    rows = [
        [
            printable(m.name) + (f" ({m.label})" if m.label else ""),
            change_of(m.cost_before, m.cost_after),
            change_of(m.time_before_ms, m.time_after_ms),
            f"{ms(m.time_before_ms)} → {ms(m.time_after_ms)}",
        ]
        for m in ranked[:MAX_QUERIES]
    ]
    promised, delivered = _total(measured)
    rows.append(["the workload", promised, delivered, ""])
    headers = ["built and timed", "cost promised", "time delivered", ""]
    table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
    return [line.rstrip() for line in table.splitlines()]


def _total(measured: Sequence[Measured]) -> tuple[str, str]:
    def both(pairs: Iterable[tuple[float, float, float]]) -> str:
        known = list(pairs)
        before, after = (sum(p[0] * p[side] for p in known) for side in (1, 2))
        return change_of(before, after)

    return (
        both((m.calls, m.cost_before, m.cost_after) for m in measured),
        both((m.calls, m.time_before_ms, m.time_after_ms) for m in measured),
    )


def _curve(found: Recommendation, paint: Painter) -> list[str]:
    from tabulate import tabulate

    rows = []
    for choice in found.curve:
        budget = "none" if choice.budget_bytes is None else size_of(choice.budget_bytes)
        mark = "◀" if choice.budget_bytes == found.choice.budget_bytes else ""
        rows.append(
            [
                budget, size_of(choice.size_bytes), str(choice.created),
                f"{choice.cost / found.cost_before:.4f}" if found.cost_before else "",
                _bound(choice, found), mark,
            ]
        )  # fmt: skip
    headers = ["budget", "used", "indexes", "relative cost", "lower bound", ""]
    table = tabulate(rows, headers=headers, tablefmt="simple", disable_numparse=True)
    return [line.rstrip() for line in table.splitlines()]


def _bound(choice: Choice, found: Recommendation) -> str:
    if not found.cost_before or choice.bound <= 0:
        return "unknown"
    least = max(choice.cost * (1 - choice.gap), found.least)
    return f"{least / found.cost_before:.4f} (gap {choice.gap:.2%})"


def _summary(report: Report, found: Recommendation, paint: Painter) -> list[str]:
    before, after = found.cost_before, found.choice.cost
    size = size_of(found.choice.size_bytes)
    proof = (
        f"no set of these candidates within the budget is more than {found.choice.gap:.2%} cheaper"
        if found.choice.complete
        else "the search was not finished"
    )
    whole = (
        f"the queries cost {paint('good', change_of(before, after))} on average"
        if found.alike
        else f"the workload's planner cost goes from {cost_of(before)} to "
        f"{paint('good', cost_of(after))} ({change_of(before, after)})"
    )
    return [
        f"{paint('bold', _plural(len(found.creates), 'index', 'indexes') + ' to create')} ({size}), "
        f"{len(found.drops)} to drop: {whole}; {proof}",
        f"{_plural(len(found.queries), 'distinct query', 'distinct queries')} of "
        f"{_plural(found.statements, 'statement', 'statements')}, "
        f"{found.candidates:,} candidates, {found.calls:,} planner calls; {printable(report.server)}",
    ]


def _plural(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def cost_of(value: float) -> str:
    """A planner cost for people."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def change_of(before: float, after: float) -> str:
    """How a cost changes, for people: 4.0× less, +12%, = where it does not."""
    if not before or abs(after - before) <= SAME * before:
        return "="
    if after < before / 2:
        return f"{before / max(after, 1e-9):,.1f}× less"
    return f"{(after - before) / before:+.1%}"


def _short(sql: str) -> str:
    text = printable(" ".join(sql.split()))
    return text if len(text) <= MAX_SQL else text[: MAX_SQL - 1] + "…"


def render_json(report: Report) -> str:
    """The report as one JSON document; its JSON Schema is report/indexes.schema.json."""
    return json.dumps(document(report), indent=2, ensure_ascii=False) + "\n"


def document(report: Report) -> dict[str, Any]:
    """The report as plain dictionaries, as the JSON Schema describes them."""
    found: Recommendation = report.details["indexes"]
    return {
        "schema_version": 1,
        "tool": {"name": "sqladvisor", "version": __version__},
        "command": "indexes",
        **({"shadow": report.details["shadow"]} if "shadow" in report.details else {}),
        "server": report.server,
        "notes": list(report.notes),
        "summary": {
            "statements": report.statements,
            "distinct_queries": len(found.queries),
            "candidates": found.candidates,
            "planner_calls": found.calls,
            "cost_before": found.cost_before,
            "cost_after": found.choice.cost,
            "cost_with_every_candidate": found.least,
            "upkeep_before": found.upkeep_before,
            "upkeep_after": found.upkeep_after,
            "size_bytes": found.choice.size_bytes,
            "value": found.choice.value,
            "lower_bound": found.choice.bound,
            "gap": round(found.choice.gap, 6),
            "complete": found.choice.complete,
            "each_query_alike": found.alike,
        },
        "create": [
            {
                "sql": c.sql,
                "index": c.name,
                "size_bytes": c.size_bytes,
                "upkeep": c.upkeep,
                "saves": c.saves,
                "queries": [
                    {
                        "query": s.query,
                        "cost_before": s.cost_before,
                        "cost_after": s.cost_after,
                        "cost_without": s.cost_without,
                    }
                    for s in c.served
                ],
            }
            for c in found.creates
        ],
        "drop": [
            {"sql": d.sql, "index": d.name, "size_bytes": d.size_bytes, "reason": d.reason}
            for d in found.drops
        ],
        "queries": [
            {
                "query": q.number,
                "name": q.name,
                "sql": q.sql,
                "calls": q.calls,
                "texts": q.texts,
                "cost_before": q.cost_before,
                "cost_after": q.cost_after,
                "indexes": list(q.indexes),
                "variants": [
                    {
                        "label": v.label or None,
                        "sql": v.sql,
                        "cost_before": v.cost_before,
                        "cost_after": v.cost_after,
                        "indexes": list(v.indexes),
                    }
                    for v in q.variants
                ],
                "notes": list(q.notes),
            }
            for q in found.queries
        ],
        "curve": [
            {
                "budget_bytes": c.budget_bytes,
                "size_bytes": c.size_bytes,
                "indexes": c.created,
                "cost": c.cost,
                "value": c.value,
                "lower_bound": c.bound,
                "gap": round(c.gap, 6),
                "complete": c.complete,
                "planner_calls": c.calls,
            }
            for c in found.curve
        ],
        "measured": [
            {
                "name": m.name,
                "label": m.label or None,
                "calls": m.calls,
                "cost_before": m.cost_before,
                "cost_after": m.cost_after,
                "time_before_ms": round(m.time_before_ms, 3),
                "time_after_ms": round(m.time_after_ms, 3),
            }
            for m in found.measured
        ],
        "errors": [
            {"path": p.path, "line": p.line, "column": p.column, "message": p.message}
            for p in report.problems
        ],
    }


def schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the report."""
    import os

    path = os.path.join(os.path.dirname(__file__), "indexes.schema.json")
    with open(path, encoding="utf-8") as file:
        loaded: dict[str, Any] = json.load(file)
    return loaded
