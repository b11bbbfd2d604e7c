"""A database that plans like another one: its schema and planner statistics, none of its rows.

Statistics are restored (server.restore), heap and index files extended to their true sizes with
holes, b-tree heights written, and two rows per table hold the ends of indexed columns, which the
planner probes. Lives only on a cluster of our own.
What may call a function of the source runs as the sandbox's plain role, as planning does: the
source's author is not trusted with this machine. Catalogs are changed by functions of our own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg import sql

from sqladvisor.catalog.stand_ins import StandIns
from sqladvisor.catalog.statistics import (
    ColumnStatistics,
    GinPages,
    Statistics,
)
from sqladvisor.errors import ServerError
from sqladvisor.server.btree_size import KeyColumn, height
from sqladvisor.server.connect import one_line
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.extended_statistics import restore_extended
from sqladvisor.server.gin_keys import scaled, supposed_gin
from sqladvisor.server.index_samples import read_keys
from sqladvisor.server.many import batches
from sqladvisor.server.masked import attach
from sqladvisor.server.relation_files import (
    assumed_gin,
    pages_of,
    set_pages,
    write_brin,
    write_btree,
    write_gin,
)
from sqladvisor.server.restore import (
    bare_all,
    install_tools,
    restore_columns,
    restore_relations,
)
from sqladvisor.server.sandbox import ROLE, Loaded, Sandbox
from sqladvisor.server.shadow_rows import insert_ends
from sqladvisor.server.statistics import PLANNER_SETTINGS
from sqladvisor.sql.quote import qualified
from sqladvisor.sql.source import read_source

MAX_LEFT_OUT = 10
BATCH = 500
"""Relations or columns whose statistics are restored by one statement."""
UNKNOWN_STORAGE = "unrecognized parameter"
"""How PostgreSQL refuses a storage parameter of another version: that changes no plan."""
OWNER_TIMEOUT_MS = 120_000
"""For each step that may call what the source's author wrote."""


@dataclass(slots=True)
class Shadow:
    """A shadow database. ``left_out`` says what of the source it does not have."""

    cluster: Cluster
    name: str
    left_out: list[str] = field(default_factory=list)
    stand_ins: StandIns | None = None
    """Of a masked snapshot: what to replace the literals of statements by."""

    def connect(self) -> psycopg.Connection:
        """A session to plan in, as the plain role that owns everything."""
        connection = self.cluster.connect(self.name, user=ROLE)
        if self.stand_ins is not None:
            attach(connection, self.stand_ins)
        return connection


def build_shadow(cluster: Cluster, name: str, ddl: str, statistics: Statistics) -> Shadow:
    """Make the shadow database ``name`` from DDL text and statistics. Raises ServerError."""
    shadow = Shadow(cluster, name)
    try:
        sandbox = Sandbox(cluster, name, sorts_by_bytes=statistics.sorts_by_bytes)
        loaded = Loaded()
        source = read_source("schema", ddl.encode())
        sandbox.load_ddl([source], lambda _: None, loaded, rows=False, dumped=True)
        shadow.left_out = _left_out(loaded)
        with cluster.connect(name) as admin, sandbox.connect() as owner:
            admin.execute("SET search_path = pg_catalog")
            owner.execute("SET search_path = pg_catalog")
            owner.execute("SET client_min_messages = error")
            owner.execute(f"SET statement_timeout = {OWNER_TIMEOUT_MS}")
            install_tools(admin, cluster)
            _settings(admin, name, statistics)
            with sandbox.loader() as loader:
                loader.execute("SET search_path = pg_catalog")
                loader.execute("SET client_min_messages = error")
                loader.execute(f"SET statement_timeout = {OWNER_TIMEOUT_MS}")
                insert_ends(admin, loader, statistics)
            owner.execute("VACUUM (FREEZE, TRUNCATE OFF)")
            refused = _restore(owner, statistics)
            refused += restore_extended(
                admin,
                owner,
                statistics.extended,
                lambda schema, table, column, values: restore_columns(
                    owner, [ColumnStatistics(schema, table, column, "r", 0, False, values)]
                ),
            )
            shadow.left_out += _first(refused)
            gins = _supposed_gins(owner, statistics)
            _resize(admin, cluster, statistics, gins)
    except psycopg.Error as error:
        raise ServerError(f"the shadow planner cannot be built: {one_line(error)}") from error
    return shadow


def _left_out(loaded: Loaded) -> list[str]:
    """What could not be made, for the report; the first few."""
    said = [
        f"{statement.text.split(chr(10))[0][:80]} ({why})"
        for statement, why in loaded.failed
        if not why.startswith(UNKNOWN_STORAGE)
    ]
    return loaded.substitutes.said + _first(said)


def _first(said: list[str]) -> list[str]:
    more = len(said) - MAX_LEFT_OUT
    listed = [f"the shadow planner lacks: {what}" for what in said[:MAX_LEFT_OUT]]
    return listed + ([f"and {more} more that it lacks"] if more > 0 else [])


def _settings(connection: psycopg.Connection, name: str, statistics: Statistics) -> None:
    known = {
        row[0]
        for row in connection.execute(
            f"SELECT name FROM pg_settings WHERE {PLANNER_SETTINGS}".encode()
        ).fetchall()
    }
    for setting, value in statistics.settings.items():
        if setting not in known:
            continue  # what this version lacks cannot matter to its plans; the rest is not ours to set
        try:
            connection.execute(
                sql.SQL("ALTER DATABASE {} SET {} = {}").format(
                    sql.Identifier(name), sql.Identifier(setting), sql.Literal(value)
                )
            )
        except psycopg.Error:
            if connection.closed:
                raise  # a value that this version does not take
    if statistics.search_path:
        connection.execute(
            sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path = {}").format(
                sql.Identifier(ROLE),
                sql.Identifier(name),
                sql.SQL(", ").join(map(sql.Identifier, statistics.search_path)),
            )
        )


def _restore(connection: psycopg.Connection, statistics: Statistics) -> list[str]:
    """Restore sizes and columns. What the shadow had to leave out is passed over."""
    refused: list[str] = []
    for relations in batches(statistics.relations, BATCH):
        try:
            restore_relations(connection, relations, statistics.version)
        except psycopg.Error:
            if connection.closed:
                raise
            for one in relations:  # one after the other, to say which
                try:
                    restore_relations(connection, [one], statistics.version)
                except psycopg.Error as error:
                    _refuse(connection, error, one.schema, one.name, refused)
    for columns in batches(statistics.columns, BATCH):
        try:
            restore_columns(connection, columns)
        except psycopg.Error:
            if connection.closed:
                raise
            for column in columns:
                try:
                    restore_columns(connection, [column])
                except psycopg.Error as error:
                    name = f"{column.table}.{column.column}"
                    _refuse(connection, error, column.schema, name, refused)
    return refused


def _refuse(
    connection: psycopg.Connection, error: psycopg.Error, schema: str, name: str, refused: list[str]
) -> None:
    if connection.closed:
        raise error
    refused.append(f"statistics of {schema}.{name} ({one_line(error)})")


def _supposed_gins(
    owner: psycopg.Connection, statistics: Statistics
) -> dict[tuple[str, str], GinPages]:
    """What is to be supposed of GIN indexes whose metapage could not be read."""
    found: dict[tuple[str, str], GinPages] = {}
    tables = {(r.schema, r.name): r for r in statistics.relations}
    for relation in statistics.relations:
        table = tables.get((relation.schema, relation.table))
        pages = relation.pages or relation.relpages
        if relation.method != "gin" or relation.gin or pages < 3 or table is None:
            continue
        row = owner.execute(
            "SELECT to_regclass(%s)::oid::int8", [qualified(relation.schema, relation.name)]
        ).fetchone()
        if row is None or row[0] is None:
            continue
        heap_pages = table.pages or table.relpages
        keys = read_keys(owner, row[0])
        rows = max(table.reltuples, 0.0)
        supposed = supposed_gin(owner, (table.schema, table.name), keys, rows, heap_pages)
        if supposed is not None:
            found[relation.schema, relation.name] = scaled(supposed, pages)
    return found


def _resize(
    connection: psycopg.Connection,
    cluster: Cluster,
    statistics: Statistics,
    gins: dict[tuple[str, str], GinPages],
) -> None:
    # Index metapages may sit in shared buffers: out with them before the files change.
    bare_all(connection)
    files = relation_files(connection, cluster)
    wanted = [
        (r, *files[r.schema, r.name])
        for r in statistics.relations
        if (r.schema, r.name) in files and (r.pages or r.relpages)
    ]
    heaps = {(r.schema, r.name): r.pages or r.relpages for r in statistics.relations}
    for relation, path, method in wanted:
        pages = relation.pages or relation.relpages
        if method == "btree" and pages > 1:
            levels = relation.height
            if levels is None:
                levels = height(pages, [KeyColumn("", relation.width or 16, 8)])
            write_btree(path, levels)
            pages = max(pages, levels + 2)
        elif method == "gin" and pages > 2:
            write_gin(
                path,
                relation.gin or gins.get((relation.schema, relation.name)) or assumed_gin(pages),
            )
        elif method == "brin" and pages > 2:
            write_brin(path, heaps.get((relation.schema, relation.table), 0))
        if pages > pages_of(path) or method == "heap":
            set_pages(path, pages)


def relation_files(
    connection: psycopg.Connection, cluster: Cluster
) -> dict[tuple[str, str], tuple[str, str]]:
    """(schema, name) → path of the main fork and access method of each table, materialized view

    and index: what a snapshot says of a method is not to be believed.
    """
    rows: Sequence[tuple[str, str, str | None, str]] = connection.execute(
        "SELECT n.nspname, c.relname, pg_relation_filepath(c.oid), coalesce(am.amname, '') "
        "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "LEFT JOIN pg_am am ON am.oid = c.relam WHERE c.relkind IN ('r', 'i', 'm') "
        "AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
    ).fetchall()
    data = Path(cluster.data_directory)
    return {(r[0], r[1]): (str(data / r[2]), r[3]) for r in rows if r[2]}
