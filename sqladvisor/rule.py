"""What a rule is, and how rule packs are loaded.

A rule is one file in ``<pack>/<kind>/<name>.py``; its id is the path (``query/select-star``). One that
is a query over the system catalogs is a ``.sql`` file (``sqladvisor.rule_sql``).
The file holds the documentation (module docstring), the examples the tests run (``SCHEMA``,
``BAD``, ``GOOD``) and one function marked with ``@rule``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from sqladvisor.errors import InputError
from sqladvisor.finding import Finding, Severity
from sqladvisor.modules import load_module

Need = Literal["schema", "rows", "plan", "analyze"]
Check = Callable[[Any, Any], Iterator[Finding]]
F = TypeVar("F", bound=Callable[..., Iterator[Finding]])

# What a check can subscribe to beside node types of the parse tree.
WORKLOAD, PLAN, ADVICE = "workload", "plan", "advice"
CATALOG, PARAMETERS = "catalog", "parameters"
MIGRATION, MIGRATION_SET = "migration", "migration-set"
HEALTH, ACTIVITY, COUNTED = "health", "activity", "counted"


@dataclass(frozen=True, slots=True)
class SqlVariant:
    """A query, and the major versions it fits: ``lowest`` to ``highest`` (None: the newest)."""

    lowest: int
    highest: int | None
    sql: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A loaded rule. ``on`` names node types, or one of the subjects above."""

    id: str
    severity: Severity
    on: tuple[str, ...]
    needs: frozenset[Need]
    check: Check
    path: str
    doc: str
    thresholds: dict[str, float]
    opt_in: str = ""
    """The set (``design``) that a rule of taste belongs to: it runs only where that is selected."""
    variants: tuple[SqlVariant, ...] = ()
    """The queries of a rule that is SQL."""
    role: str = "nothing"
    """What a rule that is SQL takes to see everything: ``nothing``, ``select``, ``pg_monitor``."""
    unseen: str = ""
    """What it does not see with less."""

    @property
    def kind(self) -> str:
        return self.id.partition("/")[0]

    @property
    def summary(self) -> str:
        """The first line of the documentation: what the rule finds."""
        return self.doc.strip().partition("\n")[0]

    @property
    def examples(self) -> dict[str, Any]:
        """``schema``, ``bad`` and ``good`` of the rule's file; ``setup`` (with rows) and

        ``settings`` (thresholds) for the rules whose examples run on a server; ``path`` names the
        kind of file that they are; ``rows`` of tables, by name, for migration rules.
        """
        module = sys.modules.get(_module_name(self.path))
        return {
            name: getattr(module, name.upper(), default)
            for name, default in (
                ("schema", ""),
                ("bad", ()),
                ("good", ()),
                ("setup", ""),
                ("settings", {}),
                ("path", "example.sql"),
                ("rows", {}),
            )
        }


def rule(
    *on: str,
    severity: Severity,
    needs: Sequence[Need] = (),
    thresholds: dict[str, float] | None = None,
    opt_in: str = "",
) -> Callable[[F], F]:
    """Mark a function as the rule of its file.

    ``on``: the node types to see (``SelectStmt``, ``A_Expr``…), or one of ``workload`` (all
    statements of a file together), ``plan`` (a query's plan), ``advice`` (costed index advice),
    ``catalog`` (the schema itself, with a ``SchemaContext``), ``parameters`` (a statement's plans for
    several values of its parameters), ``migration`` and ``migration-set`` (all statements of one
    migration, all migrations: see ``migrate.context``), ``activity`` (sessions, sampled),
    ``counted`` (the statements that a server has counted, weighed, with a ``DatabaseContext``).
    ``needs``: ``schema`` (a catalog), ``rows`` (statistics), ``plan`` (any EXPLAIN), ``analyze``
    (a plan that was run): without it the rule stays silent.
    ``thresholds``: names and defaults that users may override in their configuration.
    ``opt_in``: the name of a set; the rule runs only where ``--select`` names the set or the rule.
    """

    def mark(function: F) -> F:
        marks = (on, severity, frozenset(needs), dict(thresholds or {}), opt_in)
        function.rule_marks = marks  # type: ignore[attr-defined]
        return function

    return mark


_ENDINGS = (".py", ".sql")


def builtin_pack() -> str:
    """The directory of the rules that ship with sqladvisor (installed, or in a checkout)."""
    here = os.path.dirname(os.path.abspath(__file__))
    installed = os.path.join(here, "_rules")
    if os.path.isdir(installed):
        return installed
    return os.path.join(os.path.dirname(here), "rules")


def load_rules(
    kinds: Sequence[str], packs: Sequence[str] = (), known: Sequence[str] = ()
) -> list[Rule]:
    """The rules of these kinds from the built-in pack and the user's, sorted by id.

    A user's rule with the id of a built-in one replaces it. Raises InputError for a pack or a
    rule file that cannot be used.
    """
    rules: dict[str, Rule] = {}
    for pack in (builtin_pack(), *packs):
        if not os.path.isdir(pack):
            raise InputError(f"{pack}: no such rule pack directory")
        for kind in kinds:
            folder = os.path.join(pack, kind)
            try:
                files = sorted(e.name for e in os.scandir(folder) if e.name.endswith(_ENDINGS))
            except OSError:
                continue
            for name in files:
                if not name.startswith("_"):
                    loaded = _load(os.path.join(folder, name), kind, name.rpartition(".")[0])
                    rules[loaded.id] = loaded
    return [rules[key] for key in sorted(rules)]


def _module_name(path: str) -> str:
    return "sqladvisor_rule_" + "".join(c if c.isalnum() else "_" for c in path)


def _load(path: str, kind: str, name: str) -> Rule:
    rule_id = f"{kind}/{name.replace('_', '-')}"
    if path.endswith(".sql"):
        from sqladvisor.rule_sql import load_sql_rule

        return load_sql_rule(path, rule_id)
    module_name = _module_name(path)
    module = sys.modules.get(module_name)
    if module is None:
        try:
            module = load_module(path, module_name)
        except Exception as error:
            cause = str(error).partition("\n")[0]
            raise InputError(f"{path}: rule cannot be loaded: {cause}") from error
    found = [f for f in vars(module).values() if hasattr(f, "rule_marks")]
    if len(found) != 1:
        raise InputError(f"{path}: a rule file has exactly one function marked @rule")
    on, severity, needs, thresholds, opt_in = found[0].rule_marks
    return Rule(
        id=rule_id,
        severity=severity,
        on=on,
        needs=needs,
        check=found[0],
        path=path,
        doc=module.__doc__ or "",
        thresholds=thresholds,
        opt_in=opt_in,
    )
