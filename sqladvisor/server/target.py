"""What an audit runs against: a sandbox of our own, or a live server that is only read.

One shape for both, so that nothing above needs to know which it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.model import Catalog
from sqladvisor.errors import ServerError
from sqladvisor.finding import InputProblem
from sqladvisor.server.binaries import Binaries, find_binaries
from sqladvisor.server.connect import connect_target, one_line, redact_dsn, resolve_dsn
from sqladvisor.server.embedded import Cluster, plain_environment
from sqladvisor.server.sandbox import Sandbox, TableRows
from sqladvisor.server.shadow import build_shadow, dump_schema, unreadable
from sqladvisor.server.statistics import assume_rows, read_statistics
from sqladvisor.server.whatif import ShadowWhatIf, WhatIf

if TYPE_CHECKING:
    from sqladvisor.auditor import Options

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
    admin: Callable[[], psycopg.Connection] | None = None
    """A superuser session of the sandbox, None on a live server."""
    _whatif: WhatIf | None = None

    def whatif(self, say: Say) -> WhatIf:
        """The what-if planner, built at its first use. Raises ServerError."""
        if self._whatif is None:
            self._whatif = self.make_whatif(say)
        return self._whatif


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
        assumptions = [f"assumes {options.assume_rows:,} rows in each table (no --data)"]

    def make_whatif(say: Say) -> WhatIf:
        say("building the shadow planner")
        schema = dump_schema(binaries, cluster.dsn(sandbox.name), plain_environment())
        with cluster.connect(sandbox.name) as admin:
            statistics = read_statistics(admin)
        if not total:
            statistics = assume_rows(statistics, options.assume_rows)
        shadow = build_shadow(cluster, "shadow", schema, statistics)
        target.notes.extend(shadow.left_out)
        return stack.enter_context(closing(ShadowWhatIf(shadow)))

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
        admin=lambda: cluster.connect(sandbox.name),
    )
    return target


@contextmanager
def open_live(options: Options, say: Say) -> Iterator[Target]:
    """A guarded, read-only session on the user's server. Raises ServerError."""
    dsn = resolve_dsn(None if options.dsn in (None, "env") else options.dsn)
    say(f"connecting to {redact_dsn(dsn)}")
    with ExitStack() as stack:
        connection = stack.enter_context(
            connect_target(dsn, statement_timeout_ms=options.timeout_ms)
        )
        try:
            catalog = read_catalog(connection)
            info = connection.info

            def make_whatif(say: Say) -> WhatIf:
                say("building the shadow planner")
                binaries = find_binaries(options.postgres_bin)
                cluster = stack.enter_context(Cluster(binaries, progress=say))
                schema = dump_schema(binaries, dsn, os.environ, unreadable(connection))
                statistics = read_statistics(connection)
                shadow = build_shadow(cluster, "shadow", schema, statistics)
                target.notes.extend([*shadow.left_out, *statistics.missing])
                if cluster.version_num // 10000 != info.server_version // 10000:
                    target.notes.append(
                        f"index costs are those of PostgreSQL {_version(cluster.version_num)}, "
                        f"planned from the statistics of {_version(info.server_version)}"
                    )
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
            )
            yield target
        except psycopg.Error as error:
            raise ServerError(f"{redact_dsn(dsn)}: {one_line(error)}") from error


def _version(number: int) -> str:
    return f"{number // 10000}.{number % 10000}"
