"""Triggers of a table are switched off: what they keep right is not kept, foreign keys among it.

Why: ALTER TABLE … DISABLE TRIGGER takes SHARE ROW EXCLUSIVE, which blocks writes until the transaction ends.
    While they are off, no session's writes run them. ALL takes in the triggers of foreign keys: rows
    without a partner get in, and nothing looks at them again when the triggers are back.
Fix: leave the triggers on; let them skip what the migration writes (a setting they look at), or in the same
    transaction switch off by name the one that must not run, and on again.
Silent when: the same set created the table.
Source: PostgreSQL manual, ALTER TABLE, "DISABLE/ENABLE [ REPLICA | ALWAYS ] TRIGGER".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext, blocks
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node, Statement

SCHEMA = "CREATE TABLE users (id bigint PRIMARY KEY);"
BAD = [
    "ALTER TABLE users DISABLE TRIGGER ALL;",
    "ALTER TABLE users DISABLE TRIGGER USER; UPDATE users SET id = 1 WHERE id = 2;\n"
    "ALTER TABLE users ENABLE TRIGGER USER;",
    "ALTER TABLE unknown DISABLE TRIGGER audit;",
]
GOOD = [
    "ALTER TABLE users ENABLE TRIGGER ALL;",
    "CREATE TABLE t (a int); ALTER TABLE t DISABLE TRIGGER ALL;",
    "CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'ALTER TABLE users DISABLE TRIGGER ALL';",
]


@rule("AT_DisableTrigAll", "AT_DisableTrigUser", "AT_DisableTrig", severity="warning")
def check(command: Node, ctx: MigrationContext) -> Iterator[Finding]:
    table, what = ctx.table(), str(command["subtype"])
    if not table.settled:
        return
    everything = what == "AT_DisableTrigAll"
    which = command.get("name") or ("all triggers" if everything else "all user triggers")
    back = any(_enables(s) for s in ctx.after)
    if everything:
        effect = (
            "foreign keys are not checked, and rows written meanwhile are never looked at again"
        )
    else:
        effect = "rows written meanwhile go without them"
    if not back:
        effect += "; nothing in this migration switches them on again"
    yield ctx.finding(
        None,
        f"switches off {which} of {table.shown} ({blocks('SHARE ROW EXCLUSIVE')}): {effect}",
        table=table,
        lock="SHARE ROW EXCLUSIVE",
        severity="error" if everything or not back else None,
    )


def _enables(statement: Statement) -> bool:
    return any(
        str(c.get("AlterTableCmd", {}).get("subtype", "")).startswith("AT_Enable")
        for c in statement.tree.get("cmds", ())
    )
