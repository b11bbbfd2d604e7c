"""Runs rules over statements, files and plans, and decides which findings are shown.

A rule that fails is a problem of its own (one line, exit code 2); it never hides the findings of
the others.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.context import Context
from sqladvisor.errors import InputError
from sqladvisor.finding import Finding, InputProblem
from sqladvisor.rule import ADVICE, CATALOG, PARAMETERS, PLAN, WORKLOAD, Rule

if TYPE_CHECKING:
    from sqladvisor.database import DatabaseContext
    from sqladvisor.schema import SchemaContext


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rules run: ``select`` (empty: all) less ``ignore``, by id, kind, glob or opt-in set."""

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def wants(self, rule_id: str) -> bool:
        return (not self.select or matches(rule_id, self.select)) and not matches(
            rule_id, self.ignore
        )

    def runs(self, rule: Rule) -> bool:
        """Whether a rule runs. An opt-in rule must be named, or its set: its kind is not enough."""
        if not rule.opt_in:
            return self.wants(rule.id)
        whole = rule.kind, rule.kind + "/", rule.kind + "/*", "*"
        named = [p for p in self.select if p not in whole]
        chosen = rule.opt_in in named or matches(rule.id, named)
        return chosen and rule.opt_in not in self.ignore and not matches(rule.id, self.ignore)

    def ignored_in(self, path: str, rule_id: str) -> bool:
        return any(
            fnmatch.fnmatch(path, pattern) and matches(rule_id, rules)
            for pattern, rules in self.per_file_ignores.items()
        )


def matches(rule_id: str, patterns: Iterable[str]) -> bool:
    """Whether an id is meant by one of ``query/select-star``, ``query``, ``query/*``, ``all``."""
    kind = rule_id.partition("/")[0]
    return any(
        p in (rule_id, kind, kind + "/", "all") or fnmatch.fnmatchcase(rule_id, p) for p in patterns
    )


def check_selection(selection: Selection, rules: Iterable[Rule]) -> None:
    """Raise InputError for a ``--select``/``--ignore`` pattern that names no rule.

    A pattern of a kind that this run does not load (``plan/sort-spill`` in a static audit) is fine.
    """
    loaded = [r.id for r in rules]
    kinds = {i.partition("/")[0] for i in loaded}
    ids = [*loaded, *(f"{kind}/" for kind in KINDS), *META_RULES]
    sets = {r.opt_in for r in rules if r.opt_in} | {DESIGN}
    for pattern in (*selection.select, *selection.ignore):
        kind = pattern.partition("/")[0]
        if (kind in KINDS and kind not in kinds) or pattern in sets:
            continue
        if not any(matches(i, (pattern,)) for i in ids):
            raise InputError(f"no rule matches {pattern!r} (see `sqladvisor rules`)")


def check_thresholds(thresholds: Mapping[str, Mapping[str, float]], rules: Iterable[Rule]) -> None:
    """Raise InputError for a configured threshold that no loaded rule has."""
    known = {r.id: r for r in rules}
    kinds = {r.kind for r in known.values()}
    for rule_id, settings in thresholds.items():
        kind = rule_id.partition("/")[0]
        if rule_id not in known:
            if kind in kinds or "/" not in rule_id:
                raise InputError(f"no rule {rule_id!r} to configure (see `sqladvisor rules`)")
            continue  # of a kind that this run does not load
        for name, value in settings.items():
            if name not in known[rule_id].thresholds:
                have = ", ".join(known[rule_id].thresholds) or "none"
                raise InputError(f"{rule_id} has no threshold {name!r} (it has: {have})")
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"{rule_id}: {name} must be a number, not {value!r}")


KINDS = ("query", "index", "batch", "prepare", "plan", "database", "migration")
DESIGN = "design"
"""The opt-in set of migration/ rules about types and names."""
META_RULES = {
    "migration/edited-migration": "A migration that the base already has was edited.",
    "migration/deleted-migration": "A migration that the base already has was deleted or renamed.",
    "migration/traced-lock": "A lock, rewrite or scan that the statement's text does not show: seen when it ran.",
    "migration/fails": "A statement that fails on the schema that it meets.",
    "migration/fails-on-data": "A statement that fails on rows that the schema allows, tried on generated ones.",
    "migration/plan-regression": "A query of the workload gets a worse plan, by the statement's doing.",
    "migration/breaks-query": "A query of the workload no longer fits the schema.",
    "migration/down-does-not-undo": "A down migration leaves a schema other than the one before its up.",
    "migration/leftover-blocks-retry": "What a failed run outside of a transaction leaves makes the next one fail.",
    "query/would-fail": "A statement that the server refuses to plan.",
    "suppression/unused": "A suppression comment that suppresses nothing.",
    "suppression/without-reason": "A suppression comment without a reason is not honoured.",
}


class Engine:
    """The loaded rules, ready to run. Collects the problems of rules that fail."""

    def __init__(self, rules: Sequence[Rule], *, strict: bool = False) -> None:
        self.rules = rules
        self.problems: list[InputProblem] = []
        self._strict = strict
        """Re-raise what a rule raises: for the tests."""
        self._on: dict[str, list[Rule]] = {}
        for rule in rules:
            for kind in rule.on:
                self._on.setdefault(kind, []).append(rule)

    def check_statement(self, context: Context) -> list[Finding]:
        """The findings of all statement rules on one statement."""
        findings: list[Finding] = []
        tree = context.tree
        for kind in tree.by_kind.keys() & self._on.keys():
            for rule in self._on[kind]:
                if "schema" in rule.needs and not context.catalog:
                    continue
                for node in tree.by_kind[kind]:
                    self._run(rule, node, context, findings)
        return _distinct(findings)

    def check_workload(self, contexts: Sequence[Context]) -> list[Finding]:
        """The findings of the rules that look at all statements of one file together."""
        findings: list[Finding] = []
        if contexts:
            for rule in self._on.get(WORKLOAD, ()):
                self._run(rule, contexts, contexts[0], findings)
        return _distinct(findings)

    def check_plan(self, context: Context) -> list[Finding]:
        """The findings of all plan rules on the context's plan."""
        findings: list[Finding] = []
        plan = context.plan
        if plan is not None:
            for rule in self._on.get(PLAN, ()):
                if "analyze" not in rule.needs or plan.analyzed:
                    self._run(rule, plan, context, findings)
        return _distinct(findings)

    def check_advice(self, advice: object, context: Context) -> list[Finding]:
        """The findings of the rules over costed index advice for one statement."""
        findings: list[Finding] = []
        for rule in self._on.get(ADVICE, ()):
            self._run(rule, advice, context, findings)
        return findings

    def check_parameters(self, values: object, context: Context) -> list[Finding]:
        """The findings of the rules over a statement's plans for several parameter values."""
        findings: list[Finding] = []
        for rule in self._on.get(PARAMETERS, ()):
            self._run(rule, values, context, findings)
        return findings

    def check_schema(self, context: SchemaContext) -> list[Finding]:
        """The findings of the rules over the schema itself."""
        findings: list[Finding] = []
        for rule in self._on.get(CATALOG, ()):
            self._run(rule, context.catalog, context, findings)
        return _distinct(findings)

    def check_migration(self, subject: str, node: object, context: Context) -> list[Finding]:
        """The findings of the migration rules on a statement, subcommand, migration or set."""
        findings: list[Finding] = []
        for rule in self._on.get(subject, ()):
            self._run(rule, node, context, findings)
        return findings

    def check_database(
        self, subject: str, value: object, context: DatabaseContext
    ) -> list[Finding]:
        """The findings of the rules over what a server shows: ``activity`` or ``counted``."""
        findings: list[Finding] = []
        for rule in self._on.get(subject, ()):
            self._run(rule, value, context, findings)
        return _distinct(findings)

    def wants(self, subject: str) -> bool:
        """Whether any rule looks at a subject: what it takes to have one may cost time."""
        return subject in self._on

    def _run(
        self,
        rule: Rule,
        subject: object,
        context: Context | SchemaContext | DatabaseContext,
        into: list[Finding],
    ) -> None:
        context.rule = rule
        try:
            into.extend(rule.check(subject, context))
        except Exception as error:
            if self._strict:
                raise
            statement = context.statement
            self.problems.append(
                InputProblem(
                    statement.path,
                    f"rule {rule.id} failed: {type(error).__name__}: {error} (please report this)",
                    statement.line,
                    statement.column,
                )
            )


def _distinct(findings: list[Finding]) -> list[Finding]:
    seen: dict[tuple[object, ...], Finding] = {}
    for finding in findings:
        seen.setdefault((finding.rule, finding.location, finding.message), finding)
    return list(seen.values())
