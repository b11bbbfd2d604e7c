"""A constraint is added to a domain: every table with a column of it is read while writes to it wait.

Why: ALTER DOMAIN … ADD CONSTRAINT (and SET NOT NULL) tests the values of every column of the domain, with
    SHARE on each of these tables meanwhile, and an error in one of them undoes all.
Fix: ADD CONSTRAINT … NOT VALID, then ALTER DOMAIN … VALIDATE CONSTRAINT in a transaction of its own. Or
    CHECK constraints of the tables, which can be changed one by one.
Silent when: NOT VALID; the same set created the domain.
Source: PostgreSQL manual, ALTER DOMAIN; validateDomainCheckConstraint() in typecmds.c (takes ShareLock).
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.catalog.ddl_text import DdlText
from sqladvisor.finding import Finding, Fix
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.steps import named
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = "CREATE DOMAIN label AS text; CREATE TABLE t (a label);"
BAD = [
    "ALTER DOMAIN label ADD CONSTRAINT short CHECK (length(VALUE) < 40);",
    "ALTER DOMAIN label SET NOT NULL;",
    "ALTER DOMAIN public.label ADD CHECK (VALUE <> '');",
]
GOOD = [
    "ALTER DOMAIN label ADD CONSTRAINT short CHECK (length(VALUE) < 40) NOT VALID;",
    "ALTER DOMAIN label DROP NOT NULL;",
    "CREATE DOMAIN code AS text; ALTER DOMAIN code ADD CHECK (VALUE <> '');",
]


@rule("AlterDomainStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    parts = names(node.get("typeName"))
    constraint = unwrap(node.get("def", {}))[1]
    kind = _subtype(node)
    if not parts or ctx.new_object("domain", parts[-1]) or kind not in ("C", "O"):
        return
    if kind == "C" and constraint.get("skip_validation"):
        return
    name = qualified(parts[-2] if len(parts) > 1 else None, parts[-1])
    used = [
        f"{r.name}.{c.name}"
        for r in ctx.state.builder.state.relations.values()
        for c in r.columns
        if c.type in (name, identifier(parts[-1]))
    ]
    on = f" ({', '.join(used[:5])}{', …' if len(used) > 5 else ''})" if used else ""
    fixes: list[Fix] = []
    if kind == "C":
        written = constraint.get("conname")
        quoted = identifier(written) if written else named(parts[-1], "check")
        text = DdlText(ctx.statement.sql).check(constraint.get("location", 0))
        fixes = [
            ctx.sequence(
                "add it unchecked, then validate in a transaction of its own",
                f"ALTER DOMAIN {name} ADD CONSTRAINT {quoted} CHECK ({text}) NOT VALID",
                f"ALTER DOMAIN {name} VALIDATE CONSTRAINT {quoted}",
            )
        ]
    yield ctx.finding(
        None,
        f"ALTER DOMAIN {parts[-1]} reads every table with a column of it{on} under SHARE, which blocks writes",
        lock="SHARE",
        work="scan",
        fixes=fixes,
    )


def _subtype(node: Node) -> str:
    """``C`` adds a constraint, ``O`` sets NOT NULL (parsenodes.h; a letter before 19, a name after)."""
    value = str(node.get("subtype", ""))
    return {"AD_AddConstraint": "C", "AD_SetNotNull": "O"}.get(value, value)
