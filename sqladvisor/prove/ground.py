"""The empty database that generated rows are put into, one transaction at a time."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from sqladvisor.prove.databases import Database
from sqladvisor.prove.tables import ForeignKey, Table, Used, read_foreign_keys
from sqladvisor.prove.values import ACCEPTED
from sqladvisor.sql.quote import identifier

TIMEOUT_MS = 500
"""For one statement on a few rows: one that takes longer is not going to end."""

# Foreign keys are kept by the generator, among the tables a statement reads: what lies outside
# them the statement cannot see. Triggers write elsewhere, or send rows away.
_UNTIE = """
DO $$
DECLARE it record;
BEGIN
    FOR it IN SELECT conrelid::regclass AS name, conname FROM pg_constraint
              WHERE contype = 'f' AND conparentid = 0 LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', it.name, it.conname);
    END LOOP;
    FOR it IN SELECT DISTINCT tgrelid::regclass AS name FROM pg_trigger t JOIN pg_class c
              ON c.oid = t.tgrelid WHERE NOT t.tgisinternal AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', it.name);
    END LOOP;
END $$"""

_FILLED = """
SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname !~ '^pg_' AND pg_relation_size(c.oid) > 0 ORDER BY 1"""

# All rows at once; where one of them breaks a constraint, one by one, without those that do.
_FILL = """
CREATE FUNCTION pg_temp.sqladvisor_fill(head text, rows text[], tail text)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE one text;
BEGIN
    BEGIN
        EXECUTE head || array_to_string(rows, ', ') || tail;
        RETURN;
    EXCEPTION WHEN OTHERS THEN
        NULL;
    END;
    FOREACH one IN ARRAY rows LOOP
        BEGIN
            EXECUTE head || one || tail;
        EXCEPTION WHEN OTHERS THEN
            NULL;
        END;
    END LOOP;
END $$"""


def make_ready(connection: psycopg.Connection) -> None:
    """Make the session's functions that ``make_pools`` and ``put_rows`` call."""
    connection.execute(ACCEPTED.encode())
    connection.execute(_FILL.encode())


def put_rows(connection: psycopg.Connection, tables: Sequence[Table], database: Database) -> None:
    """Insert a database's rows, table by table, less those that a rule of the schema refuses."""
    for table in tables:
        rows = database.rows.get(table.oid, ())
        names = [c.name for c in table.columns if any(c.name in row for row in rows)]
        if not names:
            continue
        head = (
            f"INSERT INTO {table.sql} ({', '.join(map(identifier, names))}) "
            "OVERRIDING SYSTEM VALUE VALUES "
        )
        values = ["(" + ", ".join(row.get(n, "DEFAULT") for n in names) + ")" for row in rows]
        connection.execute(
            "SELECT pg_temp.sqladvisor_fill(%s, %s::text[], ' ON CONFLICT DO NOTHING')",
            [head, values],
        )


class Ground:
    """A session on an empty database with the user's schema, made ready to be filled.

    The role must own the tables and should be no superuser: the user's statements are run by it.
    """

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection
        connection.execute("SET client_min_messages = error")
        self.foreign_keys = read_foreign_keys(connection)
        connection.execute(_UNTIE.encode())
        filled = [name for (name,) in connection.execute(_FILLED).fetchall()]
        if filled:
            connection.execute(f"TRUNCATE {', '.join(filled)} CASCADE".encode())
        make_ready(connection)
        connection.execute(f"SET statement_timeout = {TIMEOUT_MS}".encode())
        connection.execute("SET jit = off")

    def fill(self, database: Database, used: Used) -> None:
        """Put the rows in, in the open transaction, less those that a constraint refuses."""
        connection = self.connection
        if database.zone:
            connection.execute("SELECT set_config('TimeZone', %s, true)", [database.zone])
        put_rows(connection, used.tables, database)
        self._keep_references(used)
        for view in used.matviews:
            connection.execute(f"REFRESH MATERIALIZED VIEW {view}".encode())

    def _keep_references(self, used: Used) -> None:
        """Delete rows that refer to nothing, until none is left (one may refer to another)."""
        by_oid = {t.oid: t for t in used.tables}
        commands = [_orphans(key, by_oid).encode() for key in used.keys]
        while sum(self.connection.execute(c).rowcount for c in commands):
            pass

    def contents(self, table: Table) -> Sequence[str]:
        """The rows of a table as text, in no order that means anything."""
        rows = self.connection.execute(f"SELECT t::text FROM {table.sql} t ORDER BY 1".encode())
        return [str(r[0]) for r in rows.fetchall()]


def _orphans(key: ForeignKey, tables: dict[int, Table]) -> str:
    table, target = tables[key.table], tables[key.target]
    pairs = list(zip(key.columns, key.target_columns, strict=True))
    given = " AND ".join(f"c.{identifier(a)} IS NOT NULL" for a, _ in pairs)
    same = " AND ".join(f"p.{identifier(b)} = c.{identifier(a)}" for a, b in pairs)
    return (
        f"DELETE FROM {table.sql} c WHERE {given} "
        f"AND NOT EXISTS (SELECT FROM {target.sql} p WHERE {same})"
    )
