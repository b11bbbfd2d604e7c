"""The workload that indexes are advised for: distinct queries, how often each is called, and the

values it is called with. Statements that differ in literals only are one query; of its texts a few
are kept that stand for all, chosen by how frequent their values are: a common value and a rare one
often want different plans. Memory and planner calls grow with distinct queries, not with texts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.finding import InputProblem
from sqladvisor.server.explain import explainable
from sqladvisor.server.parameters import bind, has_parameters, parameter_values, with_types
from sqladvisor.sql.tree import constant, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import ColumnStats
    from sqladvisor.sql.statement import Node

WEIGHT = re.compile(r"^[ \t]*--[ \t]*weight:[ \t]*(\S*)[ \t]*\r?$", re.MULTILINE)
"""``-- weight: 250`` above a statement: how often it is called, in whatever unit the file uses."""
REPEATED = 2
"""Statements for each distinct query from which a file is taken for a record of what was called."""
DIFFERENT = 10.0
"""Two texts of a query stand for themselves when their estimated shares of rows differ by this."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One text of a query to plan, and the share of the query's calls it stands for."""

    sql: str
    generic: bool
    share: float
    label: str = ""
    """``common`` or ``rare`` where values were told apart."""


@dataclass(slots=True)
class Query:
    """A distinct query of the workload."""

    name: str
    """Where it stands: ``queries.sql:12``, or pg_stat_statements' queryid."""
    context: Context
    calls: float
    variants: tuple[Variant, ...]
    texts: int = 1
    """How many statements of the input it stands for."""
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> str:
        return self.context.fingerprint


@dataclass(slots=True)
class Workload:
    """Distinct queries in the order of their first appearance."""

    queries: list[Query] = field(default_factory=list)
    statements: int = 0
    """All statements read, the repeated ones too."""
    weighed: bool = False
    """Whether anything says how often queries are called."""
    complete: bool = False
    """Whether it is everything the database is asked (pg_stat_statements), not a choice of it."""
    hours: float | None = None
    """How long it was recorded, where that is known."""
    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def alike(self) -> bool:
        """Whether nothing says how often queries are called: each then counts for the same time.

        Else the report that runs once a month would decide all. Many repeats are a record of calls.
        """
        return not self.weighed and self.statements < REPEATED * len(self.queries)


@dataclass(slots=True)
class _Text:
    context: Context
    calls: float
    frequency: float


def read_weights(path: str, text: str) -> tuple[list[tuple[int, float]], list[InputProblem]]:
    """The ``-- weight: N`` comments of a file as (offset, weight). Bad ones are problems."""
    found, problems = [], []
    for match in WEIGHT.finditer(text):
        try:
            weight = float(match[1])
        except ValueError:
            weight = math.nan
        if math.isfinite(weight) and weight >= 0:
            found.append((match.start(), weight))
        else:
            line = text.count("\n", 0, match.start()) + 1
            problems.append(
                InputProblem(path, f"weight must be a number of 0 or more, not {match[1]!r}", line)
            )
    return found, problems


def collect(
    contexts: Iterable[Context], texts: Mapping[str, str], *, complete: bool = False
) -> Workload:
    """The workload of statements read from files; ``texts`` holds what the files say."""
    workload = Workload(complete=complete)
    weights: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(texts):
        weights[path], problems = read_weights(path, texts[path])
        workload.problems += problems
    ends: dict[str, int] = {}
    weighted = []
    for context in contexts:
        statement = context.statement
        after = ends.get(statement.path, 0)
        own = [w for at, w in weights.get(statement.path, ()) if after <= at < statement.start]
        workload.weighed = workload.weighed or bool(own)
        weighted.append((context, own[-1] if own else 1.0))
        ends[statement.path] = statement.start + len(statement.text)
    gather(workload, weighted)
    return workload


def gather(workload: Workload, weighted: Iterable[tuple[Context, float]]) -> None:
    """Add statements with their calls: those of one fingerprint become one query."""
    groups: dict[str, list[_Text]] = {}
    totals: dict[str, tuple[int, float]] = {}
    left = {q.fingerprint: q for q in workload.queries}
    for context, calls in weighted:
        statement = context.statement
        if not explainable(statement.kind) or calls == 0:
            continue
        if statement.embedding and statement.embedding.partial:
            continue  # its tables, or what it compares, are known to the program only
        workload.statements += 1
        fingerprint = context.fingerprint
        if fingerprint in left:
            left[fingerprint].calls += calls
            left[fingerprint].texts += 1
            continue
        count, sum_ = totals.get(fingerprint, (0, 0.0))
        totals[fingerprint] = (count + 1, sum_ + calls)
        _keep(groups.setdefault(fingerprint, []), context, calls)
    for fingerprint, kept in groups.items():
        count, sum_ = totals[fingerprint]
        first = kept[0].context
        statement = first.statement
        name = f"{statement.path}:{statement.line}" if statement.line else statement.path
        variants = _variants(kept, sum_)
        workload.queries.append(Query(name, first, sum_, variants, count))


def _keep(kept: list[_Text], context: Context, calls: float) -> None:
    """Let a text join the one it is like, or stand for itself: at most the extremes are kept."""
    if kept and context.statement.sql == kept[0].context.statement.sql:
        kept[0].calls += calls
        return
    frequency = _frequency(context) if not has_parameters(context) else 1.0
    like = min(kept, key=lambda t: _apart(t.frequency, frequency), default=None)
    if like is not None and _apart(like.frequency, frequency) < DIFFERENT:
        like.calls += calls
        return
    kept.append(_Text(context, calls, frequency))
    if len(kept) > 3:  # the ends and the one that is called most stay
        kept.sort(key=lambda t: t.frequency)
        middle = kept[1:-1]
        stays = max(middle, key=lambda t: t.calls)
        for text in middle:
            if text is not stays:
                near = min(
                    (kept[0], stays, kept[-1]), key=lambda t: _apart(t.frequency, text.frequency)
                )
                near.calls += text.calls
        kept[:] = [kept[0], stays, kept[-1]]


def _apart(one: float, other: float) -> float:
    return max(one / other, other / one)


def _variants(kept: Sequence[_Text], calls: float) -> tuple[Variant, ...]:
    if len(kept) == 1 and has_parameters(kept[0].context):
        return _with_values(kept[0].context)
    ordered = sorted(kept, key=lambda t: -t.frequency)
    labels = ["common", *[""] * (len(ordered) - 2), "rare"] if len(ordered) > 1 else [""]
    return tuple(
        Variant(t.context.statement.sql, has_parameters(t.context), t.calls / calls, label)
        for t, label in zip(ordered, labels, strict=True)
    )


def _with_values(context: Context) -> tuple[Variant, ...]:
    """A statement with parameters, planned with a common and with a rare value of each.

    How often it is called with which is not recorded: each counts for half of the calls.
    """
    common = parameter_values(context)
    if common is None:
        return (Variant(with_types(context), True, 1.0),)
    rare = dict(common)
    for number, value in rare_values(context).items():
        if number in rare:
            rare[number] = value
    if rare == common:
        return (Variant(bind(context, common), False, 1.0),)
    return (
        Variant(bind(context, common), False, 0.5, "common"),
        Variant(bind(context, rare), False, 0.5, "rare"),
    )


def rare_values(context: Context) -> dict[int, str]:
    """For parameters compared for equality with a column of uneven values: one of the rare ones."""
    from sqladvisor.sql.quote import literal

    found: dict[int, str] = {}
    for column, other, stats, type_name in _equalities(context):
        kind, node = unwrap(other)
        if kind != "ParamRef" or column is None:
            continue
        common = stats.most_common_freqs[0] if stats.most_common_freqs else 0.0
        rare = _rarest(stats)
        if rare is not None and common > DIFFERENT * rare[1]:
            found[int(node.get("number", 0))] = f"{literal(rare[0])}::{type_name}"
    return found


def _rarest(stats: ColumnStats) -> tuple[str, float] | None:
    """A value that few rows have, with its share: from the histogram, else the last common one."""
    bounds = stats.histogram_bounds
    if bounds:
        return bounds[len(bounds) // 2], _rest(stats)
    if stats.most_common_vals:
        return stats.most_common_vals[-1], stats.most_common_freqs[-1]
    return None


def _rest(stats: ColumnStats) -> float:
    """The share of one value that is not among the most common ones (var_eq_const(), selfuncs.c)."""
    left = max(1.0 - stats.null_frac - sum(stats.most_common_freqs), 0.0)
    distinct = stats.n_distinct - len(stats.most_common_vals) if stats.n_distinct > 0 else 1e6
    return max(left / max(distinct, 1.0), 1e-9)


def _frequency(context: Context) -> float:
    """The share of rows that a statement's equality literals keep, together."""
    result = 1.0
    for _, other, stats, _ in _equalities(context):
        value = constant(other)
        if value is None or value is ...:
            continue
        text = ("t" if value else "f") if isinstance(value, bool) else stats.recorded(str(value))
        if text in stats.most_common_vals:
            result *= stats.most_common_freqs[stats.most_common_vals.index(text)]
        else:
            result *= _rest(stats)
    return max(result, 1e-12)


def _equalities(context: Context) -> Iterable[tuple[Node, Node, ColumnStats, str]]:
    """(column, what it is compared with, its statistics, its type) of each ``column = value``."""
    for node in context.tree.of("A_Expr"):
        if node.get("kind", "AEXPR_OP") != "AEXPR_OP":
            continue
        names = [unwrap(n)[1].get("sval") for n in node.get("name", ())]
        if names[-1:] != ["="]:
            continue
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        for column, other in ((left, right), (right, left)):
            binding = context.binding(column)
            definition = binding.definition if binding else None
            if definition is not None and definition.stats is not None:
                yield column, other, definition.stats, definition.type
