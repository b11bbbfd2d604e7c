"""A database of our own to try things in: the user's schema, and rows if there are any.

Everything that may call the schema's own functions (defaults, checks, triggers, casts) runs in
sessions of a role that owns the database and is no superuser: a schema file cannot read the
machine's files or start programs. A superuser only adds extensions and roles.
Constraint triggers are off while rows are loaded.
"""

from __future__ import annotations

import csv
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import IO, TYPE_CHECKING

import psycopg
from psycopg import sql

from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.server.connect import one_line
from sqladvisor.server.substitutes import (
    Substitutes,
    execute,
    keep_local,
    let_use_wrappers,
    make_role,
)
from sqladvisor.sql.inputs import expand, load
from sqladvisor.sql.source import CopyData, Source, Unread, read_source, script, statements
from sqladvisor.sql.statement import Node, Statement
from sqladvisor.sql.tree import names, unwrap

if TYPE_CHECKING:
    from sqladvisor.server.embedded import Cluster

ROLE = "sqladvisor"
CHUNK = 1 << 20
MAX_NOTES = 10
"""Statements left out that are named."""
_OF_EXTENSION = frozenset(("42704", "42883", "42P01", "3F000"))
"""SQLSTATEs of what is missing: objects, functions, tables, schemas."""

# Says who may do what, which changes no plan; the roles they name do not exist here.
_SKIPPED = frozenset(
    ("GrantStmt", "GrantRoleStmt", "AlterOwnerStmt", "CreateRoleStmt", "AlterRoleStmt",
     "AlterRoleSetStmt", "DropRoleStmt", "AlterDefaultPrivilegesStmt", "TransactionStmt",
     "CreatedbStmt", "DropdbStmt", "AlterDatabaseStmt", "AlterDatabaseSetStmt",
     "CreatePublicationStmt", "CreateSubscriptionStmt", "CreateEventTrigStmt", "CheckPointStmt",
     "CreateTableSpaceStmt", "AlterSystemStmt", "CommentStmt", "SecLabelStmt")
)  # fmt: skip

# With counts of rows, or in a superuser's session: not in a message with others.
_WITH_ROWS = ("InsertStmt", "CopyStmt")
_ALONE = (*_WITH_ROWS, "CreateExtensionStmt")

_LEFT_OUT_SETTINGS = frozenset(("role", "session_authorization", "default_tablespace"))
"""Settings of a dump that name roles and disks of the machine it comes from."""
DUMPED_TIMEOUT_MS = 60_000
BATCH = 50
"""Statements of a dump in one message: each takes a few locks until the last of them is done."""
_CONTEXT_LINE = re.compile(r", line (\d+)")
_OWN_PATH = '"$user", public'

TableRows = tuple[str, Sequence[str], Iterable[bytes]]
"""Table (as written in SQL, may be qualified), its columns (empty: all), COPY text chunks."""


@dataclass(slots=True)
class Loaded:
    """What loading left behind: problems with the files, notes, and the rows that went in."""

    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rows: int = 0
    skipped: int = 0
    sources: list[Source] = field(default_factory=list)
    """The schema files as read."""
    failed: list[tuple[Statement | Unread, str]] = field(default_factory=list)
    """DDL that could not be run, and why: what it makes is missing here."""
    substitutes: Substitutes = field(default_factory=Substitutes)
    """What was made as something like it, as this server cannot have it."""


class Sandbox:
    """A database of the embedded cluster, owned by a plain role. Dropped with the cluster."""

    def __init__(
        self,
        cluster: Cluster,
        name: str = "sandbox",
        *,
        template: Sandbox | None = None,
        sorts_by_bytes: bool = False,
    ) -> None:
        """Make the database, empty or as a copy of ``template``, to which no session may be open.

        ``sorts_by_bytes``: with the collation C.
        """
        self.cluster = cluster
        self.name = name
        self.substitutes: Substitutes = template.substitutes if template else Substitutes()
        """What of its schema was stood in for."""
        with cluster.connect("postgres") as admin:
            exists = admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE]).fetchone()
            if not exists:
                admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(ROLE)))
        cluster.create_database(
            name, template.name if template else None, owner=ROLE, sorts_by_bytes=sorts_by_bytes
        )
        if template:
            self._copy_settings(template)

    def connect(self) -> psycopg.Connection:
        """A session as the owner, in autocommit."""
        return self.cluster.connect(self.name, user=ROLE)

    def loader(self) -> psycopg.Connection:
        """A session as the owner with triggers and foreign keys off.

        Only a superuser may switch them off, or have a role's sessions begin so.
        """
        role, setting = sql.Identifier(ROLE), sql.Identifier("session_replication_role")
        with self.cluster.connect("postgres") as admin:
            admin.execute(sql.SQL("ALTER ROLE {} SET {} = replica").format(role, setting))
            try:
                return self.connect()
            finally:
                admin.execute(sql.SQL("ALTER ROLE {} RESET {}").format(role, setting))

    def load_schema(
        self, paths: Sequence[str], say: Callable[[str], None], *, rows: bool = True
    ) -> Loaded:
        """Run DDL files, statement by statement; report each failure.

        ``rows`` False leaves the rows inside them out.
        """
        loaded = Loaded()
        files, loaded.problems = expand(paths)
        sources = loaded.sources
        for path in files:
            data = load(path)
            if isinstance(data, InputProblem):
                loaded.problems.append(data)
            else:
                sources.append(read_source(path, data))
        self.load_ddl(sources, say, loaded, rows=rows)
        more = len(loaded.notes) - MAX_NOTES
        loaded.notes = [*loaded.substitutes.said, *loaded.notes[:MAX_NOTES]]
        if more > 0:
            loaded.notes.append(f"and {more} more statements for want of an extension")
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
        dumped: bool = False,
    ) -> None:
        """Run DDL, statement by statement; without ``rows`` not the INSERT and COPY among it.

        ``dumped``: it is pg_dump's, of a database that is to be planned for. Then what is too new
        for the parser is run as well; each statement is stopped after a while.
        """
        with self.connect() as owner, self.cluster.connect(self.name) as admin:
            for source in sources:
                say(f"loading schema {source.path}")
                owner.execute("RESET ALL")  # a dump empties the search path: for itself alone
                owner.execute("SET client_min_messages = error")
                owner.execute("SET check_function_bodies = off")
                if dumped:
                    owner.execute(f"SET statement_timeout = {DUMPED_TIMEOUT_MS}")
                    self._replay(source, owner, admin, loaded, rows)
                else:
                    loaded.problems += statements(source)[1]
                    for item in script(source):
                        if rows or _kind(item) not in _WITH_ROWS:
                            self._run(item, source, owner, admin, loaded)
                self._keep_search_path(owner)
            keep_local(admin)
        self.substitutes = loaded.substitutes

    def _replay(
        self,
        source: Source,
        owner: psycopg.Connection,
        admin: psycopg.Connection,
        loaded: Loaded,
        rows: bool,
    ) -> None:
        """Run a dump: many statements in one message, a transaction each; singly what fails."""
        batch: list[Statement] = []

        def flush() -> None:
            try:
                # A newline first: a statement's text may end in a comment.
                owner.execute("\n;\n".join(s.sql for s in batch).encode())
            except psycopg.Error:
                if owner.closed:
                    raise
                for statement in batch:
                    self._run(statement, source, owner, admin, loaded)
            batch.clear()

        for item in script(source, loaded.problems, unread=True):
            if _kind(item) in _WITH_ROWS and not rows:
                continue
            if isinstance(item, Statement) and item.kind not in _ALONE:
                if _left_out(item.kind, item.tree):
                    loaded.skipped += 1
                else:
                    batch.append(item)
                if len(batch) < BATCH:
                    continue
            if batch:
                flush()
            if isinstance(item, Unread):
                self._run_unread(item, owner, loaded)
            elif not isinstance(item, Statement) or item.kind in _ALONE:
                self._run(item, source, owner, admin, loaded)
        if batch:
            flush()

    def _keep_search_path(self, owner: psycopg.Connection) -> None:
        """What a schema file has set its search path to holds for the queries about it, too."""
        row = owner.execute("SELECT current_setting('search_path')").fetchone()
        if row is not None and row[0].strip('" ') and row[0] != _OWN_PATH:
            owner.execute(
                sql.SQL("ALTER ROLE {} IN DATABASE {} SET search_path FROM CURRENT").format(
                    sql.Identifier(ROLE), sql.Identifier(self.name)
                )
            )

    def _copy_settings(self, template: Sandbox) -> None:
        """What a role's sessions begin with in a database is not copied with its files."""
        with self.connect() as owner:
            rows = owner.execute(
                "SELECT split_part(s, '=', 1), substr(s, strpos(s, '=') + 1) "
                "FROM pg_db_role_setting, unnest(setconfig) AS s WHERE setrole = %s::regrole "
                "AND setdatabase = (SELECT oid FROM pg_database WHERE datname = %s)",
                [ROLE, template.name],
            ).fetchall()
            for name, value in rows:
                owner.execute("SELECT set_config(%s, %s, false)", [name, value])
                owner.execute(
                    sql.SQL("ALTER ROLE {} IN DATABASE {} SET {} FROM CURRENT").format(
                        sql.Identifier(ROLE), sql.Identifier(self.name), sql.Identifier(name)
                    )
                )

    def load_rows(self, tables: Iterable[TableRows], say: Callable[[str], None]) -> Loaded:
        """COPY rows into tables, constraint triggers off, and bring their sequences forward."""
        loaded = Loaded()
        with self.loader() as loader:
            for table, columns, chunks in tables:
                say(f"loading rows of {table}")
                target = sql.SQL(".").join(map(sql.Identifier, table.split(".")))
                listed = sql.SQL("({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
                command = sql.SQL("COPY {} {} FROM STDIN").format(
                    target, listed if columns else sql.SQL("")
                )
                loaded.rows += self._copy(loader, command, chunks, table, loaded)
            self._advance_sequences(loader)
        return loaded

    def load_data(self, paths: Sequence[str], say: Callable[[str], None]) -> Loaded:
        """Load rows from directories of TABLE.csv / TABLE.tsv (also .gz), such files, or .sql files.

        CSV needs a header line with the column names, in any order; TSV is COPY's text format, all
        columns in table order. TABLE may be qualified, and need not be where it is the only one of
        its name.
        """
        loaded = Loaded()
        files, loaded.problems = _data_files(paths)
        with (
            self.cluster.connect(self.name) as admin,
            self.connect() as owner,
            self.loader() as loader,
        ):
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
                        table = _table(loader, stem)
                        if form == "csv":
                            self._load_csv(loader, table, file, path, loaded)
                        else:
                            command = sql.SQL("COPY {} FROM STDIN").format(table)
                            loaded.rows += self._copy(
                                loader, command, _chunks(file), path, loaded, header_lines=0
                            )
                except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
                    loaded.problems.append(InputProblem(path, f"cannot be read: {error}"))
                except InputError as error:
                    loaded.problems.append(InputProblem(path, f"rows not loaded: {error}"))
            self._advance_sequences(loader)
        return loaded

    def _load_csv(
        self,
        loader: psycopg.Connection,
        table: sql.Identifier,
        file: IO[bytes],
        path: str,
        loaded: Loaded,
    ) -> None:
        header = file.readline().decode("utf-8-sig")
        if not header.strip():
            raise InputError("an empty file: a header line with the column names is missing")
        names = next(csv.reader([header], skipinitialspace=True))
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        generated = _generated(loader, table)
        if not generated & set(names):
            command = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(table, columns)
            loaded.rows += self._copy(loader, command, _chunks(file), path, loaded, header_lines=1)
            return
        # COPY cannot pass over a column: generated ones, which compute themselves, go elsewhere.
        stage = sql.Identifier("sqladvisor_stage")
        kept = sql.SQL(", ").join(sql.Identifier(n) for n in names if n not in generated)
        try:
            with loader.transaction():
                loader.execute(
                    sql.SQL(
                        "CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} LIMIT 0"
                    ).format(stage, columns, table)
                )
                command = sql.SQL("COPY {} FROM STDIN (FORMAT csv)").format(stage)
                if self._copy(loader, command, _chunks(file), path, loaded, header_lines=1):
                    moved = loader.execute(
                        sql.SQL(
                            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}"
                        ).format(table, kept, kept, stage)
                    )
                    loaded.rows += moved.rowcount
        except psycopg.Error as error:
            if loader.closed:
                raise
            raise InputError(one_line(error)) from error

    def analyze(self) -> None:
        """VACUUM (ANALYZE): statistics and visibility map as a maintained database has them."""
        with self.connect() as owner:
            owner.execute("SET client_min_messages = error")  # the catalogs are not ours
            owner.execute("VACUUM (ANALYZE)")

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
                owner,
                f"COPY {target} FROM STDIN {item.options}".encode(),
                _encoded(item.data),
                f"{source.path}: COPY {item.table}",
                loaded,
            )
            return
        if not isinstance(item, Statement):
            return
        if _left_out(item.kind, item.tree):
            loaded.skipped += 1
            return
        connection = admin if item.kind in ("CreateExtensionStmt", "CopyStmt") else owner
        if item.kind == "CopyStmt":
            return  # its data follows as a CopyData item; COPY from files and programs is not run
        try:
            result = execute(connection, item, admin, owner, loaded.substitutes)
            if item.kind == "InsertStmt":
                loaded.rows += max(result.rowcount, 0)
            elif item.kind == "CreateExtensionStmt":
                let_use_wrappers(admin, ROLE)
        except psycopg.Error as error:
            if connection.closed:
                raise
            if not connection.autocommit:
                connection.rollback()
            if item.kind == "VariableSetStmt" and isinstance(error, psycopg.errors.UndefinedObject):
                return  # a newer pg_dump's: what this version does not know cannot be switched off
            position = getattr(error.diag, "statement_position", None)
            at = item.locate(item.to_text(int(position) - 1 if position else 0))
            loaded.failed.append((item, one_line(error)))
            if loaded.substitutes.missing and error.sqlstate in _OF_EXTENSION:
                # The extension's absence is said; that is no mistake of the file's.
                place = f"{item.path}:{at.line}"
                loaded.notes.append(
                    f"left out, for want of an extension: {place}: {one_line(error)}"
                )
            else:
                loaded.problems.append(
                    InputProblem(item.path, f"schema: {one_line(error)}", at.line, at.column)
                )

    @staticmethod
    def _run_unread(item: Unread, owner: psycopg.Connection, loaded: Loaded) -> None:
        """Run a statement that our parser cannot read, as the plain role: a newer PostgreSQL's."""
        try:
            owner.execute(item.text.encode(), binary=True)
        except psycopg.Error as error:
            if owner.closed:
                raise
            loaded.failed.append((item, one_line(error)))

    @staticmethod
    def _copy(
        connection: psycopg.Connection,
        command: sql.Composed | bytes,
        chunks: Iterable[bytes],
        place: str,
        loaded: Loaded,
        *,
        header_lines: int | None = None,
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
            found = _CONTEXT_LINE.search(error.diag.context or "")
            at = f" (line {found[1]} of the data)" if found and header_lines is None else ""
            line = int(found[1]) + header_lines if found and header_lines is not None else None
            message = f"rows not loaded: {one_line(error)}{at}"
            loaded.problems.append(InputProblem(place, message, line))
            return 0

    @staticmethod
    def _advance_sequences(owner: psycopg.Connection) -> None:
        owned = owner.execute(
            """SELECT s.oid::regclass::text, d.refobjid::regclass::text, quote_ident(a.attname)
            FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
            JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"""
        ).fetchall()
        for sequence, table, column in owned:
            with suppress(psycopg.DataError, psycopg.ProgrammingError):  # owned by no number
                owner.execute(
                    f"SELECT setval(%s::regclass, m) FROM (SELECT max({column}) AS m FROM {table}) t "
                    "WHERE m > 0".encode(),
                    [sequence],
                )


def _table(connection: psycopg.Connection, name: str) -> sql.Identifier:
    """The table that a file is named for. Raises InputError.

    As named; else the only one of that name in any schema; else the same whatever the case.
    """
    schema, _, table = name.rpartition(".")
    rows = connection.execute(_TABLES.encode(), {"schema": schema, "table": table}).fetchall()
    for rank in (1, 2, 3):
        found = [(str(s), str(t)) for s, t, r in rows if r == rank]
        if len(found) == 1:
            return sql.Identifier(*found[0])
        if found:
            places = " and ".join(".".join(pair) for pair in found)
            raise InputError(f"{name} may be {places}: name the file SCHEMA.TABLE")
    raise InputError(f'relation "{name}" does not exist')


_TABLES = """
SELECT n.nspname, c.relname,
       CASE WHEN c.relname <> %(table)s::text OR %(schema)s::text NOT IN ('', n.nspname) THEN 3
            WHEN %(schema)s::text <> '' OR pg_table_is_visible(c.oid) THEN 1 ELSE 2 END
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND lower(c.relname) = lower(%(table)s::text) AND lower(%(schema)s::text) IN ('', lower(n.nspname))
ORDER BY 1, 2"""


def _generated(connection: psycopg.Connection, table: sql.Identifier) -> set[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attgenerated <> ''",
        [table.as_string(connection)],
    ).fetchall()
    return {str(name) for (name,) in rows}


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    return iter(partial(file.read, CHUNK), b"")


def _kind(item: object) -> str:
    """A statement's kind; data and commands of psql belong to COPY."""
    return (
        item.kind if isinstance(item, Statement) else "" if isinstance(item, Unread) else "CopyStmt"
    )


def _left_out(kind: str, tree: Node) -> bool:
    """Whether a statement says only who may do what, or where files lie."""
    if kind == "VariableSetStmt":
        return tree.get("name") in _LEFT_OUT_SETTINGS
    return kind in _SKIPPED or only_owner(kind, tree)


def only_owner(kind: str, tree: Node) -> bool:
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


__all__ = ["Loaded", "Sandbox", "TableRows", "make_role", "names", "only_owner"]
