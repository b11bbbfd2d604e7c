"""What an audit runs against: a sandbox of our own, or a live server that is only read.

One shape for both, so that nothing above needs to know which it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

import psycopg

from sqladvisor.catalog.live import locked_relations, read_catalog
from sqladvisor.catalog.model import Catalog
from sqladvisor.catalog.statistics import Statistics
from sqladvisor.errors import ServerError
from sqladvisor.finding import InputProblem
from sqladvisor.server.binaries import Binaries, find_binaries
from sqladvisor.server.connect import connect_target, one_line, redact_dsn, resolve_dsn
from sqladvisor.server.dump import dump_schema, unreadable
from sqladvisor.server.embedded import Cluster, plain_environment
from sqladvisor.server.expression_statistics import RowSampler
from sqladvisor.server.measure import Timing
from sqladvisor.server.sandbox import Loaded, Sandbox, TableRows
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.statistics import assume_rows, read_statistics
from sqladvisor.server.whatif import ShadowWhatIf, WhatIf
from sqladvisor.sql.inputs import expand
from sqladvisor.sql.inputs import load as load_file
from sqladvisor.sql.source import Source, read_source, statements

if TYPE_CHECKING:
    from sqladvisor.auditor import Options
    from sqladvisor.prove.ground import Ground
    from sqladvisor.server.agreement import Agreement, Asked

Say = Callable[[str], None]


@dataclass(slots=True)
class Target:
    """A server to plan on. ``can_build``: it is ours and has rows, so advice can be tried there."""

    name: str
    description: str
    connection: psycopg.Connection
    catalog: Catalog
    can_build: bool
    may_run: bool
    """Whether read-only statements may be executed to measure them."""
    make_whatif: Callable[[Say], WhatIf]
    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    """What every planner figure rests on, said beside it (assumed row counts)."""
    incomplete: bool = False
    """Whether the schema was not loaded completely: what is missing may be no mistake of a query."""
    admin: Callable[[], psycopg.Connection] | None = None
    """A superuser session of the sandbox, None on a live server."""
    schema: list[Source] = field(default_factory=list)
    """The schema files that a sandbox was made from: where what is said of the schema is shown."""
    make_ground: Callable[[Say], psycopg.Connection] | None = None
    """Opens a session on an empty database of our own with the target's schema."""
    compares: bool = False
    """Whether plans with other indexes are made elsewhere than those of ``connection``, on a shadow."""
    agreement: Agreement | None = None
    """How the shadow plans beside the server, once that has been looked at."""
    timings: dict[str, Timing] = field(default_factory=dict)
    """What statements took here as they are, by their text: each is timed once."""
    _whatif: WhatIf | None = None
    _ground: Ground | None = None
    _no_ground: str = ""

    def whatif(self, say: Say) -> WhatIf:
        """The what-if planner, built at its first use. Raises ServerError."""
        if self._whatif is None:
            self._whatif = self.make_whatif(say)
        return self._whatif

    def compare_plans(self, whatif: WhatIf, asked: Iterable[Asked]) -> None:
        """Look how the shadow plans statements beside the server, and note it. Raises ServerError."""
        from sqladvisor.server.agreement import compare

        if self.compares and self.agreement is None:
            self.agreement = compare(self.connection, whatif, asked)
            if self.agreement is not None:
                self.notes.append(self.agreement.line())

    def ground(self, say: Say) -> Ground:
        """Where rewrites are tried on generated rows, made at its first use. Raises ServerError."""
        from sqladvisor.prove.ground import Ground

        if self._ground is None:
            if self._no_ground or self.make_ground is None:
                raise ServerError(self._no_ground or "no database of our own to generate rows in")
            try:
                self._ground = Ground(self.make_ground(say))
            except (ServerError, psycopg.Error) as error:
                cause = one_line(error) if isinstance(error, psycopg.Error) else str(error)
                self._no_ground = f"no database to generate rows in: {cause}"
                raise ServerError(self._no_ground) from error
        return self._ground

    def ground_lost(self, cause: str) -> None:
        """Do without it from now on: its session has ended."""
        self._ground = None
        self._no_ground = f"the database to generate rows in was lost: {cause}"


@contextmanager
def open_sandbox(options: Options, say: Say, rows: Sequence[TableRows] = ()) -> Iterator[Target]:
    """An embedded server with the schema of ``options`` and its rows. Raises ServerError."""
    with ExitStack() as stack:
        say("starting PostgreSQL")
        binaries = find_binaries(options.postgres_bin)
        cluster = stack.enter_context(Cluster(binaries, progress=say))
        try:
            yield _sandbox_target(cluster, binaries, options, say, rows, stack)
        except psycopg.Error as error:
            raise ServerError(f"the embedded server failed: {one_line(error)}") from error


def _sandbox_target(
    cluster: Cluster,
    binaries: Binaries,
    options: Options,
    say: Say,
    rows: Sequence[TableRows],
    stack: ExitStack,
) -> Target:
    sandbox = Sandbox(cluster)
    loads = [sandbox.load_schema(options.schema, say)]
    if options.data:
        loads.append(sandbox.load_data(options.data, say))
    if rows:
        loads.append(sandbox.load_rows(rows, say))
    total = sum(loaded.rows for loaded in loads)
    say("analyzing")
    if total:
        sandbox.analyze()
    connection = stack.enter_context(sandbox.connect())
    connection.execute(f"SET statement_timeout = {int(options.timeout_ms)}")
    catalog = read_catalog(connection)
    version = _version(cluster.version_num)
    if total:
        description = f"embedded PostgreSQL {version}, {total:,} rows"
        assumptions = []
    else:
        description = f"embedded PostgreSQL {version}, no rows"
        given = ", ".join(f"{n:,} in {t}" for t, n in sorted(options.assume_table_rows.items()))
        assumptions = [
            f"assumes {options.assume_rows:,} rows in each {'other ' if given else ''}table"
            f"{f', {given}' if given else ''} (no --data)"
        ]

    def make_whatif(say: Say) -> WhatIf:
        say("building the shadow planner")
        schema = dump_schema(binaries, cluster.dsn(sandbox.name), plain_environment())
        statistics = read_statistics(connection, ours=True)
        if not total:
            statistics = assume_rows(statistics, options.assume_rows, options.assume_table_rows)
        shadow = build_shadow(cluster, "shadow", schema, statistics)
        target.notes.extend(shadow.left_out)
        sampler = RowSampler(connection) if total else None
        return stack.enter_context(closing(ShadowWhatIf(shadow, sampler)))

    def make_ground(say: Say) -> psycopg.Connection:
        say("making a database to try rewrites in")
        empty = Sandbox(cluster, "proving")
        empty.load_schema(options.schema, say, rows=False)
        return stack.enter_context(empty.connect())

    target = Target(
        name="embedded server",
        description=description,
        connection=connection,
        catalog=catalog,
        can_build=bool(total),
        may_run=bool(total),
        make_whatif=make_whatif,
        problems=[p for loaded in loads for p in loaded.problems],
        notes=[n for loaded in loads for n in loaded.notes],
        assumptions=assumptions,
        incomplete=any(loaded.failed or loaded.substitutes.missing for loaded in loads),
        admin=lambda: cluster.connect(sandbox.name),
        make_ground=make_ground,
        schema=[source for loaded in loads for source in loaded.sources],
    )
    return target


@contextmanager
def open_live(
    options: Options, say: Say, connection: psycopg.Connection | None = None
) -> Iterator[Target]:
    """A guarded, read-only session on the user's server: ``connection``, where there is one already

    (it stays the caller's), else a new one. Raises ServerError.
    """
    dsn = resolve_dsn(None if options.dsn in (None, "env") else options.dsn)
    with ExitStack() as stack:
        if connection is None:
            say(f"connecting to {redact_dsn(dsn)}")
            connection = stack.enter_context(
                connect_target(dsn, statement_timeout_ms=options.timeout_ms)
            )
        try:
            locked = locked_relations(connection)
            catalog = read_catalog(connection, locked=locked)
            info = connection.info

            @cache
            def own() -> tuple[Cluster, str]:
                """A cluster of our own, and the DDL of the user's database."""
                binaries = find_binaries(options.postgres_bin)
                cluster = stack.enter_context(Cluster(binaries, progress=say))
                return cluster, dump_schema(
                    binaries, dsn, os.environ, unreadable(target.connection)
                )

            def make_ground(say: Say) -> psycopg.Connection:
                say("making a database to try rewrites in")
                cluster, schema = own()
                empty = Sandbox(cluster, "proving")
                source = read_source("schema", schema.encode())
                empty.load_ddl([source], say, Loaded(), rows=False, dumped=True)
                session = stack.enter_context(empty.connect())
                for name in ("search_path", "TimeZone", "DateStyle", "IntervalStyle"):
                    session.execute(
                        "SELECT set_config(%s, %s, false)",
                        [name, _setting(target.connection, name)],
                    )
                return session

            def make_whatif(say: Say) -> WhatIf:
                say("building the shadow planner")
                cluster, schema = own()
                statistics = read_statistics(target.connection)
                shadow = build_shadow(cluster, "shadow", schema, statistics)
                target.notes.extend([*shadow.left_out, *statistics.missing])
                target.notes += _other_planner("index costs", cluster, info.server_version)
                return stack.enter_context(closing(ShadowWhatIf(shadow)))

            target = Target(
                name=redact_dsn(dsn),
                description=f"live PostgreSQL {_version(info.server_version)}, {redact_dsn(dsn)}, "
                "read-only",
                connection=connection,
                catalog=catalog,
                can_build=False,
                may_run=options.analyze,
                make_whatif=make_whatif,
                make_ground=make_ground,
                notes=[f"left out, as another session has locked it: {n}" for _, n in locked[:5]],
                compares=True,
            )
            yield target
        except psycopg.Error as error:
            raise ServerError(f"{redact_dsn(dsn)}: {one_line(error)}") from error


@contextmanager
def open_snapshot(options: Options, say: Say) -> Iterator[Target]:
    """A shadow of a snapshot file: plans and what-if, no rows. Raises InputError, ServerError."""
    from sqladvisor.catalog.snapshot import load
    from sqladvisor.catalog.snapshot_diff import stale_notes
    from sqladvisor.server.snapshot import with_counters

    path = str(options.snapshot)
    say(f"reading {path}")
    snapshot = load(path)
    statistics = snapshot.statistics
    with ExitStack() as stack:
        binaries = find_binaries(options.postgres_bin)
        cluster = stack.enter_context(Cluster(binaries, progress=say))
        try:
            say("building the shadow planner")
            shadow = build_shadow(cluster, "shadow", snapshot.schema, statistics)
            shadow.stand_ins = snapshot.stand_ins
            connection = stack.enter_context(shadow.connect())
            connection.execute(
                "SELECT set_config('statement_timeout', %s, false)", [str(options.timeout_ms)]
            )
            catalog = with_counters(read_catalog(connection), snapshot)

            def make_whatif(say: Say) -> WhatIf:
                return stack.enter_context(closing(ShadowWhatIf(shadow)))

            def make_ground(say: Say) -> psycopg.Connection:
                say("making a database to try rewrites in")
                empty = Sandbox(cluster, "proving")
                source = read_source("schema", snapshot.schema.encode())
                empty.load_ddl([source], say, Loaded(), rows=False, dumped=True)
                return stack.enter_context(empty.connect())

            notes = [*stale_notes(snapshot, _schema_files(options)), *shadow.left_out]
            notes += [*statistics.missing, *_other_planner("plans", cluster, statistics.version)]
            if snapshot.values == "none":
                notes.append("the snapshot holds no values: estimates for literals are averages")
            yield Target(
                name=path,
                description=f"snapshot of PostgreSQL {_version(statistics.version)}, {path}, no rows",
                connection=connection,
                catalog=catalog,
                can_build=False,
                may_run=False,
                make_whatif=make_whatif,
                make_ground=make_ground,
                notes=notes,
                incomplete=bool(shadow.left_out)
                or not _tables(statistics) <= catalog.relations.keys(),
            )
        except psycopg.Error as error:
            raise ServerError(f"the embedded server failed: {one_line(error)}") from error


def _tables(statistics: Statistics) -> set[tuple[str, str]]:
    return {(r.schema, r.name) for r in statistics.relations if r.kind in "rmpf"}


def _other_planner(what: str, cluster: Cluster, version: int) -> list[str]:
    """Said where the planner is of another major version than the statistics."""
    if cluster.version_num // 10000 == version // 10000:
        return []
    return [
        f"{what} are those of PostgreSQL {_version(cluster.version_num)}, made from the statistics of "
        f"{_version(version)}; with the programs of PostgreSQL {version // 10000} (--postgres-bin DIR) "
        "they are its own"
    ]


def _schema_files(options: Options) -> Catalog | None:
    """What ``--schema`` beside ``--snapshot`` says: not to plan on, but to hold the snapshot to."""
    if not options.schema:
        return None
    from sqladvisor.catalog.ddl import catalog_from_statements

    found = []
    for path in expand(options.schema)[0]:
        data = load_file(path)
        if not isinstance(data, InputProblem):
            found += statements(read_source(path, data))[0]
    return catalog_from_statements(found)


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    return str(row[0]) if row else ""


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"
