"""A database of our own to try things in: the user's schema, and rows if there are any.

Everything runs as a role that owns the database and is no superuser: a schema file cannot read
the machine's files or start programs. Constraint triggers are off while rows are loaded.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING

import psycopg
from psycopg import sql

from sqladvisor.finding import InputProblem
from sqladvisor.server.connect import one_line
from sqladvisor.sql.inputs import expand, load
from sqladvisor.sql.source import CopyData, Source, read_source, script, statements
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap

if TYPE_CHECKING:
    from sqladvisor.server.embedded import Cluster

ROLE = "sqladvisor"
CHUNK = 1 << 20

# Says who may do what, which changes no plan; the roles they name do not exist here.
_SKIPPED = frozenset(
    ("GrantStmt", "GrantRoleStmt", "AlterOwnerStmt", "CreateRoleStmt", "AlterRoleStmt",
     "AlterRoleSetStmt", "DropRoleStmt", "AlterDefaultPrivilegesStmt", "TransactionStmt",
     "CreatedbStmt", "DropdbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt",
     "CreatePublicationStmt", "CreateSubscriptionStmt", "CreateEventTrigStmt", "CheckPointStmt",
     "CreateTableSpaceStmt", "AlterSystemStmt", "CommentStmt", "SecLabelStmt")
)  # fmt: skip

TableRows = tuple[str, Sequence[str], Iterable[bytes]]
"""Table (as written in SQL, may be qualified), its columns (empty: all), COPY text chunks."""


@dataclass(slots=True)
class Loaded:
    """What loading left behind: problems with the files, notes, and the rows that went in."""

    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0


class Sandbox:
    """A database of the embedded cluster, owned by a plain role. Dropped with the cluster."""

    def __init__(self, cluster: Cluster, name: str = "sandbox") -> None:
        self.cluster = cluster
        self.name = name
        with cluster.connect("postgres") as admin:
            exists = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
            if not exists:
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        cluster.create_database(name, owner=ROLE)

    def connect(self) -> psycopg.Connection:
        """A session as the owner, in autocommit."""
        return self.cluster.connect(self.name, user=ROLE)

    def load_schema(
        self, paths: Sequence[str], say: Callable[[str], None], *, rows: bool = True
    ) -> Loaded:
        """Run DDL files, statement by statement; report each failure.

        ``rows`` False leaves the rows inside them out.
        """
        loaded = Loaded()
        files, loaded.problems = expand(paths)
        sources = []
        for path in files:
            data = load(path)
            if isinstance(data, InputProblem):
                loaded.problems.append(data)
            else:
                sources.append(read_source(path, data))
        self.load_ddl(sources, say, loaded, rows=rows)
        if loaded.skipped:
            loaded.notes.append(
                f"{loaded.skipped} schema statements about ownership, roles, privileges and "
                "comments were left out"
            )
        return loaded

    def load_ddl(
        self,
        sources: Iterable[Source],
        say: Callable[[str], None],
        loaded: Loaded,
        *,
        rows: bool = True,
    ) -> None:
        """Run DDL, statement by statement; without ``rows`` not the INSERT and COPY among it."""
        with self.connect() as owner, self.cluster.connect(self.name) as admin:
            owner.execute("SET client_min_messages = error")
            owner.execute("SET check_function_bodies = off")
            for source in sources:
                say(f"loading schema {source.path}")
                loaded.problems += statements(source)[1]
                for item in script(source):
                    kind = item.kind if isinstance(item, Statement) else "CopyStmt"
                    if rows or kind not in ("InsertStmt", "CopyStmt"):
                        self._run(item, source, owner, admin, loaded)

    def load_rows(self, tables: Iterable[TableRows], say: Callable[[str], None]) -> Loaded:
        """COPY rows into tables, constraint triggers off, and bring their sequences forward."""
        loaded = Loaded()
        with self.cluster.connect(self.name) as admin:
            admin.execute("SET session_replication_role = replica")
            admin.execute("SET search_path = public")
            for table, columns, chunks in tables:
                say(f"loading rows of {table}")
                target = sql.SQL(".").join(map(sql.Identifier, table.split(".")))
                listed = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
                command = sql.SQL("COPY {} {} FROM STDIN").format(
                    target, listed if columns else sql.SQL("")
                )
                loaded.rows += self._copy(admin, command, chunks, table, loaded)
            self._advance_sequences(admin)
        return loaded

    def load_data(self, paths: Sequence[str], say: Callable[[str], None]) -> Loaded:
        """Load rows from directories of TABLE.csv / TABLE.tsv (also .gz), such files, or .sql files.

        CSV needs a header line with the column names; TSV is COPY's text format, all columns in
        table order.
        """
        loaded = Loaded()
        files, loaded.problems = _data_files(paths)
        with self.cluster.connect(self.name) as admin, self.connect() as owner:
            admin.execute("SET session_replication_role = replica")
            for path in files:
                say(f"loading rows of {path}")
                stem, form = _form(path)
                if form == "sql":
                    data = load(path)
                    if isinstance(data, InputProblem):
                        loaded.problems.append(data)
                        continue
                    source = read_source(path, data)
                    loaded.problems += statements(source)[1]
                    for item in script(source):
                        self._run(item, source, owner, admin, loaded)
                    continue
                try:
                    with _open(path) as file:
                        header = file.readline() if form == "csv" else b""
                        columns: sql.Composable = sql.SQL("")
                        if form == "csv":
                            text = header.decode("utf-8-sig").strip()
                            listed = [c.strip().strip('"') for c in text.split(",")]
                            columns = sql.SQL("({})").format(
                                sql.SQL(", ").join(map(sql.Identifier, listed))
                            )
                        command = sql.SQL("COPY {} {} FROM STDIN {}").format(
                            sql.SQL(".").join(map(sql.Identifier, stem.split("."))),
                            columns,
                            sql.SQL("(FORMAT csv)" if form == "csv" else ""),
                        )
                        chunks = iter(partial(file.read, CHUNK), b"")
                        loaded.rows += self._copy(admin, command, chunks, path, loaded)
                except (OSError, EOFError, UnicodeDecodeError) as error:
                    loaded.problems.append(InputProblem(path, f"cannot be read: {error}"))
            self._advance_sequences(admin)
        return loaded

    def analyze(self) -> None:
        """VACUUM (ANALYZE): statistics and visibility map as a maintained database has them."""
        with self.cluster.connect(self.name) as admin:
            admin.execute("VACUUM (ANALYZE)")

    def _run(
        self,
        item: object,
        source: Source,
        owner: psycopg.Connection,
        admin: psycopg.Connection,
        loaded: Loaded,
    ) -> None:
        if isinstance(item, CopyData):
            target = f"{item.table}{item.columns}"
            loaded.rows += self._copy(
                admin if item.table else owner,
                f"COPY {target} FROM STDIN {item.options}".encode(),
                _encoded(item.data),
                f"{source.path}: COPY {item.table}",
                loaded,
            )
            return
        if not isinstance(item, Statement):
            return
        if item.kind in _SKIPPED or _only_owner(item.kind, item.tree):
            loaded.skipped += 1
            return
        connection = admin if item.kind in ("CreateExtensionStmt", "CopyStmt") else owner
        if item.kind == "CopyStmt":
            return  # its data follows as a CopyData item; COPY from files and programs is not run
        try:
            owner_result = connection.execute(item.sql.encode())
            if item.kind == "InsertStmt":
                loaded.rows += max(owner_result.rowcount, 0)
        except psycopg.Error as error:
            if connection.closed:
                raise
            if not connection.autocommit:
                connection.rollback()
            position = getattr(error.diag, "statement_position", None)
            at = item.locate(item.to_text(int(position) - 1 if position else 0))
            loaded.problems.append(
                InputProblem(item.path, f"schema: {one_line(error)}", at.line, at.column)
            )

    @staticmethod
    def _copy(
        connection: psycopg.Connection,
        command: sql.Composed | bytes,
        chunks: Iterable[bytes],
        place: str,
        loaded: Loaded,
    ) -> int:
        try:
            with connection.cursor() as cursor:
                with cursor.copy(command) as copy:
                    for chunk in chunks:
                        copy.write(chunk)
                return max(cursor.rowcount, 0)
        except psycopg.Error as error:
            if connection.closed:
                raise
            loaded.problems.append(InputProblem(place, f"rows not loaded: {one_line(error)}"))
            return 0

    @staticmethod
    def _advance_sequences(admin: psycopg.Connection) -> None:
        owned = admin.execute(
            """SELECT s.oid::regclass::text, d.refobjid::regclass::text, quote_ident(a.attname)
            FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"""
        ).fetchall()
        for sequence, table, column in owned:
            admin.execute(
                f"SELECT setval('{sequence}', m) FROM (SELECT max({column}) AS m FROM {table}) t "
                "WHERE m IS NOT NULL".encode()
            )


def _only_owner(kind: str, tree: Node) -> bool:
    """``ALTER TABLE … OWNER TO``: pg_dump writes one for each table."""
    if kind != "AlterTableStmt":
        return False
    commands = [unwrap(c)[1] for c in tree.get("cmds", ())]
    return bool(commands) and all(c.get("subtype") == "AT_ChangeOwner" for c in commands)


def _encoded(data: str | bytes) -> Iterator[bytes]:
    raw = data.encode() if isinstance(data, str) else data
    for start in range(0, len(raw), CHUNK):
        yield raw[start : start + CHUNK]


def _data_files(paths: Sequence[str]) -> tuple[list[str], list[InputProblem]]:
    files, problems = [], []
    for path in paths:
        if os.path.isdir(path):
            inside = sorted(os.path.join(path, n) for n in os.listdir(path) if _form(n)[1])
            if not inside:
                problems.append(InputProblem(path, "no .csv, .tsv or .sql files in this directory"))
            files += inside
        elif not os.path.exists(path):
            problems.append(InputProblem(path, "no such file or directory"))
        elif not _form(path)[1]:
            problems.append(InputProblem(path, "not a .csv, .tsv or .sql file"))
        else:
            files.append(path)
    return files, problems


def _form(path: str) -> tuple[str, str]:
    """``dir/shop.orders.csv.gz`` as ("shop.orders", "csv"); ("", "") for other files."""
    name = os.path.basename(path)
    stem = name.removesuffix(".gz")
    for form in ("csv", "tsv", "sql"):
        if stem.endswith(f".{form}") and (form != "sql" or stem == name):
            return stem[: -len(form) - 1], form
    return "", ""


def _open(path: str) -> IO[bytes]:
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


__all__ = ["Loaded", "Sandbox", "TableRows", "names"]
