"""The session that runs migrations on a sandbox and looks at what each statement did.

Everything that migrations bring runs as the sandbox's plain role. What they did is read by
functions and event triggers of ours (a superuser's, with a search path of their own): the lock
table as this backend fills it, file numbers, scan counters, and the commands and drops that happened
inside DO blocks, functions and cascades. They read and change nothing of the user's.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from sqladvisor.migrate.locks import MODES, STRENGTH, WAITED_FOR
from sqladvisor.migrate.trace_tools import LOOK, NO_TOOLS, RELATIONS, SCHEMA, TABLE_OF, TOOLS
from sqladvisor.migrate.variables import STANDS_FOR_ONE
from sqladvisor.server.connect import one_line
from sqladvisor.server.sandbox import ROLE, Sandbox
from sqladvisor.server.substitutes import (
    MAX_TRIES,
    about_stand_in,
    let_use_wrappers,
    make_role,
    mended,
    stands_in_for,
)
from sqladvisor.sql.quote import identifier, qualified
from sqladvisor.sql.statement import Statement
from sqladvisor.sql.tree import names, unwrap, walk

ZONE = "Europe/Berlin"
"""The session's time zone: in UTC, as this server's own is, PostgreSQL spares itself the rewrite between
timestamp and timestamptz (since 12), which others pay."""
WATCH_S = 2.0
"""How long a statement outside of transactions is kept waiting to see what it locks."""
SCAN_FLUSH_VERSION = 150000
"""server_version_num of the first PostgreSQL with pg_stat_force_next_flush()."""
_KINDS = {
    "r": "table", "p": "partitioned table", "v": "view", "m": "materialized view", "i": "index", "I": "index",
    "S": "sequence", "f": "foreign table",
}  # fmt: skip
_RANK = {word.title().replace(" ", "") + "Lock": rank for word, rank in STRENGTH.items()}
"""pg_locks.mode, by strength."""
_CREATES = ("CREATE", "SELECT INTO")
# Class 25: "cannot run inside a transaction block"; a procedure that commits is 2D000.
_NOT_IN_TRANSACTION = ("25001", "2D000")
_INSUFFICIENT_PRIVILEGE = "42501"
_UNDEFINED_OBJECT = "42704"
_NO_SCHEMA = re.compile(r'schema "(.+)" does not exist')
_CREATES_ROLE = re.compile(r'\bCREATE\s+(?:ROLE|USER)\s+(?:"([^"]+)"|(\w+))', re.IGNORECASE)
_BUILT_IN = ('"_RETURN" on ', '"RI_ConstraintTrigger_')


@dataclass(frozen=True, slots=True)
class Known:
    """A relation that was there before the set, by its name when the next statement begins.

    ``table``: the oid of an index's table. ``parent``: that of the table it is a partition of.
    """

    name: str
    kind: str
    table: int | None
    parent: int | None


@dataclass(slots=True)
class LookedAt:
    """What one statement did; the fields are those of ``trace.Step``, as plain tuples."""

    transaction: int = 0
    locks: list[tuple[str, str, str]] = field(default_factory=list)
    held: list[tuple[str, str, str]] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    scanned: list[str] = field(default_factory=list)
    built: list[tuple[str, str]] = field(default_factory=list)
    changes: list[tuple[str, str, str, bool, bool]] = field(default_factory=list)
    duration_ms: float = 0.0
    failure: str = ""
    sqlstate: str = ""
    detail: str = ""
    column: tuple[tuple[str, str], str] = (("", ""), "")


class TraceSession:
    """A context manager around one migrating session. ``start`` fixes what counts as there before."""

    def __init__(self, sandbox: Sandbox, timeout_s: float) -> None:
        self._sandbox = sandbox
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        self._known: dict[int, Known] = {}
        self._files: dict[int, int] = {}
        self._modes: dict[int, int] = {}
        """Strongest lock held in the open transaction, by relation."""
        self._scans: dict[int, int] = {}
        self._transactions = 0
        self._watching = False

    def __enter__(self) -> TraceSession:
        self._admin = self._stack.enter_context(self._sandbox.cluster.connect(self._sandbox.name))
        tools = TOOLS
        if self._sandbox.cluster.version_num >= SCAN_FLUSH_VERSION:
            # So that the counters of the next transaction begin at zero.
            tools = tools.replace("/* flush */", "PERFORM pg_stat_force_next_flush();")
        self._admin.execute((NO_TOOLS + tools).encode())
        self._connection = self._sandbox.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        with suppress(psycopg.Error):
            self._admin.execute(NO_TOOLS)
        self._stack.close()

    def start(self) -> None:
        """From here on look: what exists now was there before the set."""
        self._known.clear()
        self._files.clear()
        for oid, schema, name, kind, filenode, table, parent in self._relations():
            self._known[oid] = Known(qualified(schema, name), _KINDS[kind], table, parent)
            self._files[oid] = filenode
        self._watching = True

    def existing(self) -> dict[str, str]:
        """Relations that were there before, with their kinds."""
        return {k.name: k.kind for k in self._known.values()}

    def parents(self) -> dict[str, str]:
        """The tables that partitions and children belong to."""
        return {
            k.name: self._known[k.parent].name
            for k in self._known.values()
            if k.parent in self._known
        }

    def in_transaction(self) -> bool:
        return not self._connection.closed and not self._idle()

    def reset(self) -> None:
        """Forget the settings of the migration before."""
        if self._connection.closed:
            self._connection = self._sandbox.connect()
        self._connection.execute("RESET ALL")
        self._connection.execute("RESET ROLE")
        self._connection.execute(f"SET TimeZone = '{ZONE}'")

    def begin(self) -> None:
        self._connection.execute("BEGIN")
        self._opened()

    def finish(self) -> str:
        """Commit what is open; why that failed, or ""."""
        if self._connection.closed or self._idle():
            return ""
        try:
            self._connection.execute("COMMIT")
        except psycopg.Error as error:
            self._rolled_back()
            return f"the transaction does not commit: {one_line(error)}"
        return ""

    def control(self, statement: Statement) -> LookedAt:
        """Run BEGIN, COMMIT, SAVEPOINT … as the file has them."""
        seen = LookedAt(self._number())
        if self._connection.closed:
            return LookedAt(failure="the session has ended")
        before = self._idle()
        try:
            self._connection.execute(statement.sql.encode())
        except psycopg.Error as error:
            self._failed(seen, error)
            if not self._connection.closed and not self._idle():
                self._connection.execute("ROLLBACK")
        if before and not self._connection.closed and not self._idle():
            self._opened()
            seen.transaction = self._transactions
        if str(statement.tree.get("kind", "")).startswith("TRANS_STMT_ROLLBACK"):
            self._rolled_back()
        return seen

    def run(self, statement: Statement) -> LookedAt:
        """Run one statement and look at what it did. What fails is undone, and the rest goes on."""
        if self._connection.closed:
            return LookedAt(failure="the session has ended")
        alone = self._idle()
        if alone:
            self.begin()
        seen = self._try(statement)
        if not alone or self._connection.closed:
            return seen
        if not seen.failure:
            if failure := self.finish():
                return LookedAt(transaction=seen.transaction, failure=failure)
            return seen
        with suppress(psycopg.Error):
            self._connection.execute("ROLLBACK")
        if seen.sqlstate in _NOT_IN_TRANSACTION:
            self._transactions -= 1
            return self._run_outside(statement)
        return seen

    def run_alike(self, found: Sequence[Statement]) -> bool:
        """Run statements that do what the last one did, all at once; whether none of them failed.

        Where one fails nothing has been done.
        """
        connection = self._connection
        if connection.closed:
            return False
        alone = self._idle()
        if alone:
            self.begin()
        text = ";\n".join(
            ["SAVEPOINT sqladvisor_statement", *(s.sql for s in found),
             "RELEASE SAVEPOINT sqladvisor_statement"]
        )  # fmt: skip
        try:
            with self._deadline():
                connection.execute(text.encode(), prepare=False)
            if self._watching and (row := connection.execute(LOOK).fetchone()):
                self._read(row[0], LookedAt())
        except (psycopg.Error, UnicodeError):
            with suppress(psycopg.Error):
                connection.execute("ROLLBACK TO SAVEPOINT sqladvisor_statement")
                if alone:
                    connection.execute("ROLLBACK")
                    self._transactions -= 1
                else:
                    connection.execute("RELEASE SAVEPOINT sqladvisor_statement")
            return False
        return not (alone and self.finish())

    # -- inside a transaction -------------------------------------------------------------------

    def _try(self, statement: Statement) -> LookedAt:
        seen = LookedAt(self._number())
        connection = self._connection
        seen.held = self._strong()
        text = statement.sql
        for _ in range(MAX_TRIES):
            started = time.perf_counter()
            try:
                with self._deadline():
                    connection.execute("SAVEPOINT sqladvisor_statement")
                    started = time.perf_counter()
                    connection.execute(text.encode(), prepare=False)
                    seen.duration_ms = (time.perf_counter() - started) * 1000
                    row = connection.execute(LOOK).fetchone() if self._watching else None
                    connection.execute("RELEASE SAVEPOINT sqladvisor_statement")
            except (psycopg.Error, UnicodeError) as error:
                seen.duration_ms = (time.perf_counter() - started) * 1000
                if connection.closed:
                    self._failed(seen, error)
                    return seen
                with suppress(psycopg.Error):
                    connection.execute("ROLLBACK TO SAVEPOINT sqladvisor_statement")
                    connection.execute("RELEASE SAVEPOINT sqladvisor_statement")
                if (changed := self._mended(error, text, statement)) is not None:
                    text = changed
                    continue
                if self._made_roles(statement, error) or self._made_schema(error):
                    continue
                if self._made_by_superuser(statement, error):
                    return seen
                self._failed(seen, error)
                return seen
            if row is not None:
                self._read(row[0], seen)
            return seen
        seen.failure = "what it lacks was made, and it lacks it still"
        return seen

    def _mended(self, error: Exception, text: str, statement: Statement) -> str | None:
        """The statement to run instead, where what it lacks can be stood in for."""
        if not isinstance(error, psycopg.Error):
            return None
        extension = str(statement.tree.get("extname", ""))
        known = stands_in_for(extension)
        if self._watching and statement.kind == "CreateExtensionStmt" and not known:
            return text if make_role(error, self._admin) else None  # that it fails is the finding
        with suppress(psycopg.Error), self._sandbox.connect() as owner:
            return mended(error, text, statement, self._admin, owner, self._sandbox.substitutes)
        return None

    def _made_by_superuser(self, statement: Statement, error: Exception) -> bool:
        """Whether it is an extension that only a superuser may add, or about one that is stood in for."""
        state = getattr(error, "sqlstate", "")
        if state == _UNDEFINED_OBJECT and about_stand_in(statement.kind, statement.tree):
            return True
        if statement.kind != "CreateExtensionStmt":
            return False
        with suppress(psycopg.Error):
            if state == _INSUFFICIENT_PRIVILEGE:
                self._admin.execute(statement.sql.encode())
                let_use_wrappers(self._admin, ROLE)
                return True
        return False

    def _made_schema(self, error: Exception) -> bool:
        """Whether it lacked a schema that a variable names, as its runner makes it, and has it now."""
        found = _NO_SCHEMA.fullmatch(one_line(error))
        if found is None or not STANDS_FOR_ONE.match(found[1]):
            return False
        # By the migrating session: what others make, it may not see before its transaction ends.
        self._connection.execute(f"CREATE SCHEMA {identifier(found[1])}".encode())
        return True

    def _made_roles(self, statement: Statement, error: Exception) -> bool:
        """Whether roles were made that a block makes where they are missing, as it may not itself."""
        if (
            statement.kind != "DoStmt"
            or getattr(error, "sqlstate", "") != _INSUFFICIENT_PRIVILEGE
            or "create role" not in str(error)
        ):
            return False
        made = False
        for quoted, bare in _CREATES_ROLE.findall(statement.sql):
            name = quoted or bare.lower()
            with suppress(psycopg.Error):
                self._admin.execute(f"CREATE ROLE {identifier(name)}".encode())
                made = True
        return made

    def _read(self, found: Any, seen: LookedAt) -> None:
        locks, events = found
        strongest: dict[int, tuple[int, list[Any]]] = {}
        for lock in locks:
            oid, rank = lock[0], _RANK.get(lock[1], -1)
            if oid not in strongest or rank > strongest[oid][0]:
                strongest[oid] = (rank, lock)
        for oid, (rank, lock) in strongest.items():
            _, _, schema, name, kind, filenode, scans, table = lock
            known = self._known.get(oid)
            if known is not None:
                shown = known.name
                if name is not None:
                    self._known[oid] = replace(known, name=qualified(schema, name))
                if rank > self._modes.get(oid, -1):
                    seen.locks.append((shown, MODES[rank], known.kind))
                scanned = (scans or 0) > self._scans.get(oid, 0)
                if filenode and filenode != self._files.get(oid) and known.kind != "index":
                    if known.kind != "sequence":
                        seen.rewritten.append(shown)
                elif scanned and known.kind in ("table", "materialized view"):
                    seen.scanned.append(shown)
            if kind == "i" and table in self._known and filenode != self._files.get(oid):
                seen.built.append((qualified(schema, name), self._known[table].name))
            self._modes[oid] = max(rank, self._modes.get(oid, -1))
            self._scans[oid] = scans or 0
            if filenode is not None and (known is not None or kind == "i"):
                self._files[oid] = filenode
        seen.locks.sort(key=lambda k: (-STRENGTH[k[1]], k[2] == "index", k[0]))
        seen.rewritten.sort()
        seen.scanned.sort()
        seen.built.sort()
        seen.changes = list(_changes(events))

    def _strong(self) -> list[tuple[str, str, str]]:
        """The locks held by now that keep others from writing, on relations there before."""
        return [
            (known.name, MODES[rank], known.kind)
            for oid, rank in self._modes.items()
            if rank >= WAITED_FOR and (known := self._known.get(oid)) and known.kind != "index"
        ]

    # -- outside of transactions ----------------------------------------------------------------

    def _run_outside(self, statement: Statement) -> LookedAt:
        """Run what refuses transactions, watched from another session while it is kept waiting."""
        seen = LookedAt()
        pid = self._connection.info.backend_pid
        errors: list[Exception] = []

        def work() -> None:
            try:
                self._connection.execute(statement.sql.encode(), prepare=False)
            except (psycopg.Error, UnicodeError) as error:
                errors.append(error)

        modes: dict[int, list[Any]] = {}
        with self._in_the_way(statement) as release, self._deadline():
            worker = threading.Thread(target=work, daemon=True)
            started = time.perf_counter()
            worker.start()
            while worker.is_alive():
                worker.join(0.002)
                row = self._admin.execute(f"SELECT {SCHEMA}.locks(%s)".encode(), [pid]).fetchone()
                for lock in row[0] if row else ():
                    if lock[0] not in modes or _RANK[lock[1]] > _RANK[modes[lock[0]][1]]:
                        modes[lock[0]] = lock
                waited = time.perf_counter() - started
                if waited > WATCH_S or any(
                    _RANK[k[1]] >= STRENGTH["SHARE UPDATE EXCLUSIVE"] for k in modes.values()
                ):
                    release()
            seen.duration_ms = (time.perf_counter() - started) * 1000
        if errors:
            self._failed(seen, errors[0])
            return seen
        if self._watching:
            self._opened()
            self._transactions -= 1
            row = self._connection.execute(LOOK).fetchone()
            changed = {
                # A rewrite takes ACCESS EXCLUSIVE, also where it was too quick to be seen waiting.
                oid: [
                    oid,
                    "AccessExclusiveLock" if kind in "rm" else "AccessShareLock",
                    schema,
                    name,
                    kind,
                    filenode,
                    0,
                    table,
                ]
                for oid, schema, name, kind, filenode, table, _ in self._relations()
                if (oid in self._known or table in self._known) and filenode != self._files.get(oid)
            }
            for oid, lock in modes.items():
                changed[oid] = [*lock[:5], changed.get(oid, lock)[5], *lock[6:]]
            self._read((list(changed.values()), row[0][1] if row else []), seen)
            seen.locks = [k for k in seen.locks if k[1] != "ACCESS SHARE"]
        return seen

    @contextmanager
    def _in_the_way(self, statement: Statement) -> Iterator[Callable[[], None]]:
        """Hold a weak lock on the tables that a statement works on, until the given call.

        CONCURRENTLY waits for it after it has its own locks, VACUUM while it asks for them: pg_locks
        shows them either way.
        """
        with self._sandbox.connect() as holder:
            holder.autocommit = False
            mode = "SHARE UPDATE EXCLUSIVE" if statement.kind == "VacuumStmt" else "ROW EXCLUSIVE"
            for name in _named(statement):
                with suppress(psycopg.Error):
                    row = holder.execute(TABLE_OF, [name]).fetchone()
                    if row is not None and row[2] != "m":
                        table = qualified(row[0], row[1])
                        holder.execute(f"LOCK TABLE ONLY {table} IN {mode} MODE".encode())
            yield holder.commit

    # -- state ----------------------------------------------------------------------------------

    def _relations(self) -> list[tuple[Any, ...]]:
        return self._admin.execute(RELATIONS.encode()).fetchall()

    def _idle(self) -> bool:
        return self._connection.info.transaction_status == TransactionStatus.IDLE

    def _number(self) -> int:
        return 0 if self._connection.closed or self._idle() else self._transactions

    def _opened(self) -> None:
        self._transactions += 1
        self._modes.clear()
        self._scans.clear()

    def _rolled_back(self) -> None:
        """File numbers are again what they were before."""
        if self._watching and not self._connection.closed and self._idle():
            for oid, schema, name, _, filenode, *_ in self._relations():
                if oid in self._known:
                    self._files[oid] = filenode
                    self._known[oid] = replace(self._known[oid], name=qualified(schema, name))

    def _failed(self, seen: LookedAt, error: Exception) -> None:
        seen.failure = one_line(error)
        seen.sqlstate = getattr(error, "sqlstate", "") or ""
        if isinstance(error, psycopg.Error):
            diag = error.diag
            seen.detail = diag.message_detail or ""
            table = (diag.schema_name or "", diag.table_name or "")
            seen.column = (table, diag.column_name or "")
        if seen.sqlstate == "57014":
            seen.failure = f"stopped after {self._timeout_s:g} s"

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Cancel what runs too long: the migration's own SET statement_timeout does not undo it."""
        timer = threading.Timer(self._timeout_s, self._connection.cancel_safe)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _named(statement: Statement) -> list[str]:
    """The relations that a statement names, as SQL text."""
    found = [
        qualified(node.get("schemaname"), str(node.get("relname", "")))
        for kind, node in walk(statement.kind, statement.tree)
        if kind == "RangeVar"
    ]
    for item in statement.tree.get("objects", ()):
        parts = names(unwrap(item)[1].get("items"))
        if parts:
            found.append(qualified(parts[-2] if len(parts) > 1 else None, parts[-1]))
    return found


def _changes(events: list[list[Any]]) -> Iterator[tuple[str, str, str, bool, bool]]:
    targets = {e[2] for e in events if e[0] == "drop" and e[3]}
    for event in events:
        if event[0] == "ddl":
            _, tag, kind, name = event
            action = "created" if tag.startswith(_CREATES) else "changed"
            yield action, str(kind), str(name or ""), False, False
            continue
        _, kind, name, original, normal = event
        of = name.rpartition(" on ")[2] if " on " in name else ""
        own = of in targets or name.startswith(_BUILT_IN)
        inner = not original and (not normal or own)
        yield "dropped", kind, name, not original and not inner, inner
