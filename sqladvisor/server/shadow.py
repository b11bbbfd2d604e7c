"""A database that plans like another one: its schema and planner statistics, none of its rows.

Statistics are restored (pg_restore_relation_stats and _attribute_stats, PostgreSQL 18), heap and
index files extended to their true sizes with holes, b-tree heights written, and two rows per table
hold the ends of indexed columns, which the planner probes. Lives only on a cluster of our own.
What may call a function of the source runs as the sandbox's plain role, as planning does: the
source's author is not trusted with this machine. Catalogs are changed by functions of our own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from sqladvisor.catalog.live import locked_relations
from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries
from sqladvisor.server.btree_size import KeyColumn, height
from sqladvisor.server.connect import CONNECT_TIMEOUT_S, libpq_defaults, one_line, scrub
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.relation_files import pages_of, set_pages, write_btree
from sqladvisor.server.sandbox import ROLE, Loaded, Sandbox
from sqladvisor.server.statistics import RelationStatistics, Statistics
from sqladvisor.sql.source import read_source

LOCK_WAIT_MS = 2_000
"""What pg_dump waits for one table's lock."""
DUMP_TIMEOUT_S = 120
"""For all of it: pg_dump switches every other limit off, and views wait for their tables."""
_UNREADABLE = """
SELECT 'schema', '"' || replace(nspname, '"', '""') || '"'
FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
  AND NOT has_schema_privilege(oid, 'USAGE')
UNION ALL
SELECT 'table', '"' || replace(n.nspname, '"', '""') || '"."' || replace(c.relname, '"', '""') || '"'
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND has_schema_privilege(n.oid, 'USAGE')
  AND (c.relkind IN ('r', 'p') AND NOT has_table_privilege(c.oid, 'SELECT')
       OR c.oid = ANY (%s::int8[]::oid[]))
ORDER BY 1, 2"""
TOOLS = "sqladvisor_tools"
"""The schema of our own functions in a shadow."""
# With a superuser's rights, for the plain role: what a catalog says of an index or a size.
_TOOLS = f"""
GRANT USAGE ON SCHEMA {TOOLS} TO {ROLE};
CREATE FUNCTION {TOOLS}.show(indexes oid[], visible boolean) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS 'UPDATE pg_index SET indisvalid = visible WHERE indexrelid = ANY (indexes)';
CREATE FUNCTION {TOOLS}.resize(relation oid, pages integer, tuples float8) RETURNS void
    LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog
    AS 'UPDATE pg_class SET relpages = pages, reltuples = tuples WHERE oid = relation';
"""
MAX_LEFT_OUT = 10
RESTORING_VERSION = 180000
"""server_version_num of the first PostgreSQL that can restore statistics."""
_TYPES = {
    "null_frac": "real", "avg_width": "integer", "n_distinct": "real", "correlation": "real",
    "range_empty_frac": "real", "most_common_freqs": "real[]", "most_common_elem_freqs": "real[]",
    "elem_count_histogram": "real[]",
}  # fmt: skip


@dataclass(slots=True)
class Shadow:
    """A shadow database. ``left_out`` says what of the source it does not have."""

    cluster: Cluster
    name: str
    left_out: list[str] = field(default_factory=list)

    def connect(self) -> psycopg.Connection:
        """A session to plan in, as the plain role that owns everything."""
        return self.cluster.connect(self.name, user=ROLE)


def dump_schema(
    binaries: Binaries, dsn: str, environment: Mapping[str, str], left_out: Sequence[str] = ()
) -> str:
    """The DDL of a database, by pg_dump, less what ``left_out`` names (see ``unreadable``).

    Passwords go by environment and file, never by argument, where every user of the machine could
    read them. Raises ServerError in one line, without secrets.
    """
    if binaries.version_num < RESTORING_VERSION:
        raise ServerError(
            f"what-if planning needs PostgreSQL 18's programs; those chosen are {binaries.version}"
        )
    parts = conninfo.conninfo_to_dict(dsn)
    parts.setdefault("connect_timeout", CONNECT_TIMEOUT_S)
    given = {**environment, "LC_ALL": "C"}
    if password := parts.pop("password", None):
        given["PGPASSWORD"] = str(password)
    command = [
        os.path.join(binaries.bin_dir, "pg_dump"), "--schema-only", "--no-owner",
        "--no-privileges", "--no-comments", "--no-publications", "--no-subscriptions",
        "--encoding=UTF8", f"--lock-wait-timeout={LOCK_WAIT_MS}", "--filter=-",
    ]  # fmt: skip
    try:
        with _service_file(parts, given) as arguments:
            done = subprocess.run(
                [*command, "-d", conninfo.make_conninfo("", **arguments)],
                input="\n".join(left_out), capture_output=True, encoding="utf-8",
                errors="replace", env=given, check=False, timeout=DUMP_TIMEOUT_S,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ServerError(
            f"the schema cannot be read: pg_dump took more than {DUMP_TIMEOUT_S} s"
        ) from None
    except OSError as error:
        raise ServerError(f"the schema cannot be read: {error}") from error
    if done.returncode:
        words = (done.stderr.strip() or "pg_dump failed").splitlines()[0]
        raise ServerError(f"the schema cannot be read: {scrub(words, dsn)}")
    return done.stdout


@contextmanager
def _service_file(parts: dict[str, Any], environment: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The arguments for pg_dump; a key's passphrase, for which libpq has no variable, in a file."""
    if "sslpassword" not in parts:
        yield parts
        return
    known = libpq_defaults(str(parts["service"])) if parts.get("service") else {}
    with tempfile.NamedTemporaryFile("w", prefix="sqladvisor-service-") as file:
        lines = {**known, **parts}
        lines.pop("service", None)
        lines.pop("password", None)
        file.write("[sqladvisor]\n" + "".join(f"{k}={v}\n" for k, v in lines.items()))
        file.flush()
        if "password" in known:
            environment.setdefault("PGPASSWORD", known["password"])
        environment["PGSERVICEFILE"] = file.name
        yield {"service": "sqladvisor"}


def unreadable(connection: psycopg.Connection) -> list[str]:
    """What pg_dump has to leave out, as lines of its filter: it locks every table it shows.

    LOCK TABLE … IN ACCESS SHARE MODE takes the SELECT privilege and USAGE of the schema, and waits
    for whoever holds the table alone, or waits to.
    """
    locked = [oid for oid, _ in locked_relations(connection)]
    rows = connection.execute(_UNREADABLE, [locked]).fetchall()
    return [f"exclude {what} {name}" for what, name in rows]


def build_shadow(cluster: Cluster, name: str, ddl: str, statistics: Statistics) -> Shadow:
    """Make the shadow database ``name`` from DDL text and statistics. Raises ServerError."""
    if cluster.version_num < RESTORING_VERSION:
        raise ServerError(
            f"what-if planning needs PostgreSQL 18's binaries; these are {cluster.version_num // 10000}"
        )
    shadow = Shadow(cluster, name)
    try:
        sandbox = Sandbox(cluster, name)
        loaded = Loaded()
        source = read_source("schema", ddl.encode())
        sandbox.load_ddl([source], lambda _: None, loaded, rows=False)
        shadow.left_out = _left_out(loaded)
        with cluster.connect(name) as admin, sandbox.connect() as owner:
            admin.execute("SET search_path = pg_catalog")
            owner.execute("SET search_path = pg_catalog")
            _settings(admin, name, statistics)
            _insert_ends(admin, owner, statistics)
            owner.execute("SET client_min_messages = error")
            owner.execute("VACUUM (FREEZE, TRUNCATE OFF)")
            _restore(owner, statistics)
            _resize(admin, cluster, statistics)
    except psycopg.Error as error:
        raise ServerError(f"the shadow planner cannot be built: {one_line(error)}") from error
    return shadow


def _left_out(loaded: Loaded) -> list[str]:
    """What could not be made, for the report; the first few."""
    said = [
        f"the shadow planner lacks: {statement.text.split(chr(10))[0][:80]} ({why})"
        for statement, why in loaded.failed
    ]
    more = len(said) - MAX_LEFT_OUT
    return said[:MAX_LEFT_OUT] + ([f"and {more} more that it lacks"] if more > 0 else [])


def _settings(connection: psycopg.Connection, name: str, statistics: Statistics) -> None:
    for setting, value in statistics.settings.items():
        try:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                )
            )
        except psycopg.Error:
            if connection.closed:
                raise  # a setting this version does not know cannot matter to its plans
    if statistics.search_path:
        connection.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                sql.Identifier(ROLE),
                sql.Identifier(name),
                sql.SQL(", ").join(map(sql.Identifier, statistics.search_path)),
            )
        )


def _restore(connection: psycopg.Connection, statistics: Statistics) -> None:
    # Missing relations (what the shadow had to leave out) are warnings, not errors, here.
    with connection.pipeline():
        for relation in statistics.relations:
            _restore_relation(connection, relation)
        for column in statistics.columns:
            index = column.kind in "iI"
            parts = ["'schemaname', %s::text", "'relname', %s::text", "'inherited', %s::boolean"]
            values: list[object] = [column.schema, column.table, column.inherited]
            parts.append("'attnum', %s::smallint" if index else "'attname', %s::text")
            values.append(column.number if index else column.column)
            for key, value in column.values.items():
                if value is not None:
                    parts.append(f"'{key}', %s::{_TYPES.get(key, 'text')}")
                    values.append(value)
            connection.execute(
                "SELECT pg_restore_attribute_stats(" + ", ".join(parts) + ") "
                "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
                "WHERE n.nspname = %s AND c.relname = %s AND pg_get_userbyid(c.relowner) = user",
                [*values, column.schema, column.table],
            )


def _restore_relation(connection: psycopg.Connection, r: RelationStatistics) -> None:
    connection.execute(
        "SELECT pg_restore_relation_stats('schemaname', n.nspname::text, 'relname', c.relname::text,"
        " 'relpages', %s::integer, 'reltuples', %s::real, 'relallvisible', %s::integer)"
        " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s AND pg_get_userbyid(c.relowner) = user",
        [r.relpages, r.reltuples, r.relallvisible, r.schema, r.name],
    )


def _insert_ends(
    admin: psycopg.Connection, connection: psycopg.Connection, statistics: Statistics
) -> None:
    """Two rows a table, holding the smallest and the largest value of each column."""
    bounds: dict[tuple[str, str], dict[str, tuple[str | None, str | None]]] = {}
    for column in statistics.columns:
        if column.kind in "rm" and not column.inherited:
            ends = _histogram_ends(connection, column.values)
            bounds.setdefault((column.schema, column.table), {})[column.column] = ends
    for (schema, table, name), ends in statistics.ends.items():
        bounds.setdefault((schema, table), {})[name] = ends
    for (schema, table), columns in bounds.items():
        with _unconstrained(admin, schema, table) as writable:
            if not writable:
                continue
            for side in (0, 1):
                chosen = {c: columns[c][side] for c in writable if c in columns}
                names = sql.SQL(", ").join(map(sql.Identifier, chosen))
                typed = sql.SQL(", ").join(
                    sql.SQL("%s::text::{}").format(sql.SQL(writable[c])) for c in chosen
                )
                try:
                    connection.execute(
                        sql.SQL(
                            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) "
                            "ON CONFLICT DO NOTHING"
                        ).format(sql.Identifier(schema, table), names, typed),
                        list(chosen.values()),
                    )
                except psycopg.Error:
                    if connection.closed:
                        raise
                    break  # a CHECK between columns, a domain: the histogram's ends serve as well


@contextmanager
def _unconstrained(
    connection: psycopg.Connection, schema: str, table: str
) -> Iterator[dict[str, str]]:
    """The table's plain columns and types, its NOT NULLs off for the moment and its triggers for good."""
    qualified = sql.Identifier(schema, table)
    rows = connection.execute(
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, c.oid
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' AND a.attnum > 0
          AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum""",
        [schema, table],
    ).fetchall()
    required = [r[0] for r in rows if r[2]]
    change = "UPDATE pg_attribute SET attnotnull = %s WHERE attrelid = %s AND attname = ANY (%s)"
    if required:
        connection.execute(change, [False, rows[0][3], required])
    if rows:
        connection.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER ALL").format(qualified))
    try:
        yield {r[0]: r[1] for r in rows}
    finally:
        if required and not connection.closed:
            connection.execute(change, [True, rows[0][3], required])


def _histogram_ends(
    connection: psycopg.Connection, values: dict[str, object]
) -> tuple[str | None, str | None]:
    text = values.get("histogram_bounds") or values.get("most_common_vals")
    if not text:
        return None, None
    row = connection.execute("SELECT (%s::text::text[])", [text]).fetchone()
    found = row[0] if row else []
    return (found[0], found[-1]) if found else (None, None)


def _resize(connection: psycopg.Connection, cluster: Cluster, statistics: Statistics) -> None:
    files = relation_files(connection, cluster)
    wanted = [
        (r, files[r.schema, r.name])
        for r in statistics.relations
        if (r.schema, r.name) in files and (r.pages or r.relpages)
    ]
    # Index metapages may sit in shared buffers: out with them before the files change.
    connection.execute("CHECKPOINT")
    connection.execute(f"CREATE SCHEMA {TOOLS}")
    connection.execute(_TOOLS)
    connection.execute(f"CREATE EXTENSION pg_buffercache SCHEMA {TOOLS}")
    connection.execute(
        f"SELECT {TOOLS}.pg_buffercache_evict_relation(c.oid) FROM pg_class c JOIN pg_namespace n "
        "ON n.oid = c.relnamespace WHERE c.relkind IN ('i', 'r', 'm') AND n.nspname !~ '^pg_' "
        "AND n.nspname <> 'information_schema'"
    ).fetchall()
    for relation, path in wanted:
        pages = relation.pages or relation.relpages
        if relation.method == "btree" and pages > 1:
            levels = height(pages, [KeyColumn("", relation.width or 16, 8)])
            write_btree(path, levels)
            pages = max(pages, levels + 2)
        if pages > pages_of(path) or relation.kind != "i":
            set_pages(path, pages)


def relation_files(connection: psycopg.Connection, cluster: Cluster) -> dict[tuple[str, str], str]:
    """(schema, name) → path of the main fork of each table, materialized view and index."""
    rows: Sequence[tuple[str, str, str | None]] = connection.execute(
        "SELECT n.nspname, c.relname, pg_relation_filepath(c.oid) FROM pg_class c "
        "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'i', 'm') "
        "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    ).fetchall()
    data = Path(cluster.data_directory)
    return {(r[0], r[1]): str(data / r[2]) for r in rows if r[2]}
