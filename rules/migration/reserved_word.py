"""A table or column is named by a reserved word: it has to be quoted each time.

Why: SELECT user FROM t returns the current role, not the column; SELECT order fails. Tools and people that
    forget the quotes get the wrong thing or an error.
Fix: another name.
Silent when: the word is not reserved; temporary tables; it is not selected (--select design).
Source: PostgreSQL manual, appendix C "SQL Key Words"; pg_get_keywords().
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.migrate.defined import columns_defined
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node

BAD = [
    'CREATE TABLE "user" (id bigint PRIMARY KEY);',
    'CREATE TABLE lines (id bigint PRIMARY KEY, "order" int, "Desc" int);',
    'ALTER TABLE lines ADD COLUMN "end" timestamptz;',
    'ALTER TABLE lines RENAME TO "table";',
]
GOOD = [
    "CREATE TABLE users (id bigint PRIMARY KEY, name text, value int, key text);",
    'CREATE TABLE "Users" (id bigint PRIMARY KEY);',
    'CREATE TEMP TABLE "order" (a int);',
    "ALTER TABLE lines RENAME TO rows_of_it;",
]
_WORD = re.compile(r"[a-z_]+\Z")


@rule("CreateStmt", "AT_AddColumn", "RenameStmt", severity="info", opt_in="design")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    given = [("column", name) for name, _ in columns_defined(node, ctx)]
    if ctx.statement.kind == "CreateStmt" and node["relation"].get("relpersistence") != "t":
        given.insert(0, ("table", str(node["relation"]["relname"])))
    elif ctx.statement.kind == "RenameStmt":
        kind = str(node.get("renameType", "")).removeprefix("OBJECT_").lower()
        given = [(kind, str(node.get("newname", "")))] if kind in ("table", "column") else []
    for kind, name in given:
        if _WORD.match(name) and identifier(name) != name:
            yield ctx.finding(
                None,
                f"{kind} {identifier(name)} is a reserved word: without quotes it is something else",
            )
