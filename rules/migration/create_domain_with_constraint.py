"""A domain is created with a constraint: changing it later means reading every table that uses it.

Why: the constraint of a domain belongs to all columns of all tables that use it. To change it, all are
    read under a lock; it cannot be NOT VALID for one table and valid for another. Adding a column of such
    a domain to a table writes the table anew.
Fix: a CHECK constraint per table, on the base type.
Silent when: the domain has no CHECK or NOT NULL.
Source: PostgreSQL manual, ALTER DOMAIN; ALTER TABLE, Notes; squawk ban-create-domain-with-constraint.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

BAD = [
    "CREATE DOMAIN email AS text CHECK (VALUE ~ '@');",
    "CREATE DOMAIN name AS text NOT NULL;",
]
GOOD = ["CREATE DOMAIN label AS text;", "CREATE DOMAIN price AS numeric(10,2) DEFAULT 0;"]


@rule("CreateDomainStmt", severity="info")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    for wrapped in node.get("constraints", ()):
        constraint = unwrap(wrapped)[1]
        if constraint.get("contype") in ("CONSTR_CHECK", "CONSTR_NOTNULL"):
            name = (names(node.get("domainname")) or ("",))[-1]
            yield ctx.finding(
                constraint,
                f"the constraint of domain {name} can later be changed only by reading every table that "
                "uses it under a lock",
            )
            return
