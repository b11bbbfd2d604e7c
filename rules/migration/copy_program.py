"""COPY … PROGRAM runs a command of the operating system on the database server.

Why: it runs as the user the server runs as, needs pg_execute_server_program or a superuser, and is what
    attackers use when they have got that far. Managed services refuse it; the command must exist on
    every server, a standby that is promoted included.
Fix: run the command where the migration runs and send its output: COPY … FROM STDIN, or psql's
    \\copy … FROM PROGRAM, which runs on the client.
Silent when: COPY from or to a file or STDIN/STDOUT.
Source: PostgreSQL manual, COPY, "PROGRAM"; 21.6 "pg_execute_server_program".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Finding
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Node

BAD = [
    "COPY users FROM PROGRAM 'curl https://example.org/users.csv' CSV;",
    "COPY (SELECT 1) TO PROGRAM 'gzip > /tmp/x.gz';",
]
GOOD = [
    "COPY users FROM '/srv/users.csv' CSV;",
    "COPY (SELECT 1) TO STDOUT;",
    "SELECT 'COPY users FROM PROGRAM ''x''';",
]


@rule("CopyStmt", severity="error")
def check(node: Node, ctx: MigrationContext) -> Iterator[Finding]:
    if node.get("is_program"):
        yield ctx.finding(
            None,
            f"COPY runs {str(node.get('filename', ''))!r} on the database server, as the user it runs as",
        )
