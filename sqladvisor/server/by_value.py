"""Plans a statement for several values of its parameters, and for all values at once.

Statements are prepared at the SQL level and dropped again; each is executed only where the target
allows it, in read-only transactions.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import psycopg

from sqladvisor.catalog.model import ColumnStats
from sqladvisor.context import Context
from sqladvisor.errors import InputError, ServerError
from sqladvisor.plan.by_value import ParameterPlans, ValuePlan
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.read import read_json
from sqladvisor.server.explain import refusal
from sqladvisor.server.parameters import parameter_values, typed_value
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.tree import operator, unwrap

MIN_SKEW = 10.0
"""How much more frequent the commonest value is than the rarest known: below it one plan suits all."""
MAX_PARAMETERS = 3
"""Skewed parameters of a statement that are looked at: each takes a handful of plans."""
RUNS = 3
"""Timed runs with either plan."""
NAME = "sqladvisor_by_value"


def plans_by_value(
    connection: psycopg.Connection[Any], ctx: Context, *, run: bool
) -> ParameterPlans | None:
    """The statement's plans for common and rare values of its skewed parameters.

    None where no parameter is compared by ``=`` with a column of skewed statistics, or another one
    has no known value. ``run``: time the values whose custom plan is another than the generic one.
    Raises ServerError as explain() does.
    """
    skewed = list(_skewed(ctx))[:MAX_PARAMETERS]
    base = parameter_values(ctx) if skewed else None
    if base is None:
        return None
    numbers = sorted(base)
    if numbers != list(range(1, len(numbers) + 1)):
        return None
    try:
        # One transaction: after a ROLLBACK psycopg drops every prepared statement of its session.
        with connection.transaction(force_rollback=True):
            connection.execute("SET TRANSACTION READ ONLY")
            connection.execute(f"PREPARE {NAME} AS {ctx.statement.sql}".encode(), prepare=False)
            return _plans(connection, skewed, base, run)
    except psycopg.Error as error:
        raise refusal(connection, error) from error
    finally:
        if not connection.closed:
            _deallocate(connection)


def _plans(
    connection: psycopg.Connection[Any],
    skewed: Sequence[tuple[int, Binding, ColumnStats]],
    base: Mapping[int, str],
    run: bool,
) -> ParameterPlans:
    generic = _explain(connection, base, "force_generic_plan")
    values = []
    for number, binding, stats in skewed:
        for value, share in _chosen(stats, binding.item.rows):
            assert binding.definition is not None
            text = typed_value(value, binding.definition.type)
            bound = {**base, number: text}
            custom = _explain(connection, bound, "force_custom_plan")
            column = f"{binding.item.name}.{binding.column}"
            item = ValuePlan(number, column, value, text, share, custom)
            if run and not _alike(generic, custom):
                item = replace(
                    item,
                    custom_ms=_time(connection, bound, "force_custom_plan"),
                    generic_ms=_time(connection, bound, "force_generic_plan"),
                )
            values.append(item)
    relations = len({(n.schema, n.relation, n.alias) for n in generic.nodes() if n.relation})
    return ParameterPlans(generic, tuple(values), relations)


def _deallocate(connection: psycopg.Connection[Any]) -> None:
    left = connection.execute(
        "SELECT 1 FROM pg_prepared_statements WHERE name = %s", [NAME], prepare=False
    ).fetchone()
    if left:
        connection.execute(f"DEALLOCATE {NAME}".encode(), prepare=False)


def _skewed(ctx: Context) -> Iterator[tuple[int, Binding, ColumnStats]]:
    """Parameters compared by ``=`` with a column whose values are very unequally frequent."""
    seen = set()
    for node in ctx.tree.of("A_Expr"):
        if node.get("kind", "AEXPR_OP") != "AEXPR_OP" or operator(node) != "=":
            continue
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        for column, other in ((left, right), (right, left)):
            binding = ctx.binding(column)
            kind, parameter = unwrap(other)
            if kind == "TypeCast":
                kind, parameter = unwrap(parameter.get("arg", {}))
            definition = binding.definition if binding else None
            if kind != "ParamRef" or binding is None or definition is None:
                continue
            number, stats = int(parameter.get("number", 0)), definition.stats
            if stats is None or number in seen or not stats.most_common_freqs:
                continue
            shares = [share for _, share in _chosen(stats, binding.item.rows)]
            if max(shares) >= MIN_SKEW * min(shares):
                seen.add(number)
                yield number, binding, stats


def _chosen(stats: ColumnStats, rows: float | None) -> list[tuple[str, float]]:
    """The two commonest values, the rarest of the common ones, and one outside; with their shares."""
    common = list(zip(stats.most_common_vals, stats.most_common_freqs, strict=False))
    chosen = dict([*common[:2], *common[-1:]])
    bounds = stats.histogram_bounds
    if bounds:
        distinct = stats.n_distinct if stats.n_distinct > 0 else -stats.n_distinct * (rows or 1)
        rest = max(0.0, 1 - stats.null_frac - sum(stats.most_common_freqs))
        share = rest / max(distinct - len(common), 1.0)
        chosen.setdefault(bounds[len(bounds) // 2], share)
    return list(chosen.items())


def _alike(generic: Plan, custom: Plan) -> bool:
    """Whether two plans do the same but for the values in their conditions."""
    one, other = ([_step(n) for n in plan.nodes()] for plan in (generic, custom))
    return one == other


def _step(node: PlanNode) -> tuple[object, ...]:
    return node.node_type, node.relation, node.index, node.raw.get("Join Type"), node.path


def _command(values: Mapping[int, str], options: str) -> bytes:
    arguments = ", ".join(values[n] for n in sorted(values))
    return f"EXPLAIN ({options}) EXECUTE {NAME} ({arguments})".encode()


def _explain(connection: psycopg.Connection[Any], values: Mapping[int, str], mode: str) -> Plan:
    command = _command(values, "SETTINGS, SUMMARY, FORMAT JSON")
    row = _execute(connection, command, mode)
    try:
        return read_json(row[0])
    except InputError as error:
        raise ServerError(f"no plan can be read: {error}") from error


def _time(connection: psycopg.Connection[Any], values: Mapping[int, str], mode: str) -> float:
    command = _command(values, "ANALYZE, TIMING OFF, SUMMARY, FORMAT JSON")
    times = []
    for _ in range(RUNS + 1):
        times.append(float(_execute(connection, command, mode)[0][0]["Execution Time"]))
    return statistics.median(times[1:])


def _execute(connection: psycopg.Connection[Any], command: bytes, mode: str) -> Any:
    connection.execute(f"SET LOCAL plan_cache_mode = {mode}".encode(), prepare=False)
    row = connection.execute(command, prepare=False).fetchone()
    assert row is not None
    return row
