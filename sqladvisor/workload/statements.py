"""The statements of a server as pg_stat_statements has counted them, on PostgreSQL 13 to 18.

Reads the extension's view whatever its version: columns are looked up, and what a version does not
have is None. Where it is missing or hidden, ``Collected.missing`` says how to get it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sqladvisor.server.session import MARK
from sqladvisor.sql.quote import identifier

if TYPE_CHECKING:
    import psycopg

MAX_STATEMENTS = 5_000
"""Entries read, by total time: pg_stat_statements.max's default."""
HIDDEN = "<insufficient privilege>"
MIN_HOURS = 1 / 60
"""Hours. Over a shorter time what happens each hour is anybody's guess: it is taken for this long."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One statement's counters since ``Collected.since``. Times in ms, blocks of 8192 bytes."""

    queryid: int
    text: str
    calls: int
    rows: int
    total_exec_ms: float
    mean_exec_ms: float
    min_exec_ms: float
    max_exec_ms: float
    stddev_exec_ms: float
    total_plan_ms: float
    plans: int
    hit_blocks: int
    read_blocks: int
    dirtied_blocks: int
    written_blocks: int
    temp_blocks: int
    """Temporary blocks read and written."""
    io_ms: float
    """Reading and writing blocks; 0 where track_io_timing is off."""
    wal_bytes: int
    users: tuple[str, ...] = ()
    jit_ms: float = 0.0
    hours: float | None = None
    """How long it has been counted, where the server says so for each statement (17+)."""

    @property
    def total_ms(self) -> float:
        return self.total_exec_ms + self.total_plan_ms

    @property
    def variation(self) -> float:
        """Standard deviation of the execution time over its mean."""
        return self.stddev_exec_ms / self.mean_exec_ms if self.mean_exec_ms else 0.0


@dataclass(frozen=True, slots=True)
class Collected:
    """What pg_stat_statements holds of this database, most time first."""

    statements: tuple[Counted, ...] = ()
    missing: str = ""
    """Why there is nothing, in words; empty where there is."""
    enable: tuple[str, ...] = ()
    """The SQL that brings it about, step by step."""
    hours: float | None = None
    """Since the last reset (14+) or, as far as is known, since the server's start."""
    since_reset: bool = False
    """Whether ``hours`` is what the extension says, and not only when the server started."""
    evicted: int = 0
    """Times that the least executed entries were dropped since the reset, for want of room (14+)."""
    max_entries: int | None = None
    hidden: int = 0
    """Statements of other roles whose text this role may not see."""
    other_databases_ms: float = 0.0
    tracks_planning: bool = False
    total_ms: float = 0.0
    notes: tuple[str, ...] = field(default=())

    def per_hour(self, statement: Counted, value: float) -> float | None:
        """A counter as a rate per hour, None where nobody knows how long it has been counting."""
        hours = statement.hours if statement.hours is not None else self.hours
        return None if hours is None else value / max(hours, MIN_HOURS)


# A plain role may not see shared_preload_libraries, but sees the settings that it brings.
_INSTALLED = """
SELECT n.nspname::text,
       coalesce(l.setting ~ '\\mpg_stat_statements\\M', false)
       OR EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max'),
       l.setting,
       EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements')
FROM (SELECT) one
LEFT JOIN pg_settings l ON l.name = 'shared_preload_libraries'
LEFT JOIN pg_extension e ON e.extname = 'pg_stat_statements'
LEFT JOIN pg_namespace n ON n.oid = e.extnamespace"""
# Column of ours → those of the extension's versions that it is the sum of (missing ones are 0).
_COLUMNS = {
    "total_exec_ms": ("total_exec_time",),
    "total_plan_ms": ("total_plan_time",),
    "plans": ("plans",),
    "hit_blocks": ("shared_blks_hit", "local_blks_hit"),
    "read_blocks": ("shared_blks_read", "local_blks_read"),
    "dirtied_blocks": ("shared_blks_dirtied",),
    "written_blocks": ("shared_blks_written",),
    "temp_blocks": ("temp_blks_read", "temp_blks_written"),
    "io_ms": ("blk_read_time", "blk_write_time", "shared_blk_read_time", "shared_blk_write_time",
              "local_blk_read_time", "local_blk_write_time", "temp_blk_read_time", "temp_blk_write_time"),
    "wal_bytes": ("wal_bytes",),
    "jit_ms": ("jit_generation_time", "jit_inlining_time", "jit_optimization_time",
               "jit_emission_time", "jit_deform_time"),
}  # fmt: skip


def read_statements(connection: psycopg.Connection) -> Collected:
    """What the server counted for the current database.

    Raises psycopg.Error only when the connection fails: what is missing is said in the result.
    """
    import psycopg

    row = connection.execute(_INSTALLED).fetchone()
    assert row is not None
    schema, preloaded, libraries, available = row
    if not available and schema is None:
        return Collected(
            missing="pg_stat_statements is not on this server: install PostgreSQL's contrib package"
        )
    if schema is None or not preloaded:
        return _not_there(schema is not None, bool(preloaded), str(libraries or ""))
    view = f"{identifier(schema)}.pg_stat_statements"
    try:
        return _read(connection, view)
    except psycopg.errors.InsufficientPrivilege:
        return Collected(
            missing=f"this role may not read {view}",
            enable=(f"GRANT pg_monitor TO {_role(connection)};",),
        )
    except psycopg.errors.ObjectNotInPrerequisiteState:
        return _not_there(True, False, str(libraries or ""))


def _role(connection: psycopg.Connection) -> str:
    row = connection.execute("SELECT quote_ident(current_user)").fetchone()
    return str(row[0]) if row else "this_role"


def _not_there(created: bool, preloaded: bool, libraries: str) -> Collected:
    steps = []
    if not preloaded:
        every = ", ".join(filter(None, (libraries, "pg_stat_statements")))
        steps += [
            f"ALTER SYSTEM SET shared_preload_libraries = '{every}';",
            "-- restart the server, then:",
        ]
    if not created:
        steps.append("CREATE EXTENSION pg_stat_statements;")
    why = "not loaded (it needs a restart)" if not preloaded else "not created in this database"
    return Collected(
        missing=f"pg_stat_statements is {why}: nobody counts what statements cost",
        enable=tuple(steps),
    )


def _read(connection: psycopg.Connection, view: str) -> Collected:
    from psycopg.rows import dict_row

    have = {
        str(name)
        for (name,) in connection.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0",
            [view],
        )
    }
    sums = []
    for own, theirs in _COLUMNS.items():
        present = [f"coalesce(s.{c}, 0)" for c in theirs if c in have]
        sums.append(f"({' + '.join(present) or '0'})::float8 AS {own}")
    age = (
        "extract(epoch FROM now() - s.stats_since)::float8 / 3600"
        if "stats_since" in have
        else "NULL::float8"
    )
    top = "s.toplevel" if "toplevel" in have else "true"
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"""SELECT s.queryid, s.query AS text, s.calls, s.rows, s.mean_exec_time, s.min_exec_time,
                s.max_exec_time, s.stddev_exec_time, {", ".join(sums)}, {age} AS hours,
                pg_get_userbyid(s.userid)::text AS rolname
            FROM {view} s
            WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND {top}
            ORDER BY s.total_exec_time DESC LIMIT {MAX_STATEMENTS} {MARK}""".encode()
        ).fetchall()
    others = connection.execute(
        f"""SELECT coalesce(sum(s.total_exec_time), 0)::float8 FROM {view.rpartition(".")[0]}.pg_stat_statements(false) s
        WHERE s.dbid <> (SELECT oid FROM pg_database WHERE datname = current_database())""".encode()
    ).fetchone()
    visible = [r for r in rows if r["queryid"] is not None and r["text"] not in (None, HIDDEN)]
    merged = _merged([_counted(r) for r in visible if not ours(r["text"])])
    hours, reset, evicted = _age(connection, view)
    settings: dict[str, str] = dict(
        connection.execute(
            "SELECT name, setting FROM pg_settings WHERE name LIKE 'pg_stat_statements.%'"
        ).fetchall()
    )
    return Collected(
        statements=merged,
        hours=hours,
        since_reset=reset,
        evicted=evicted,
        max_entries=int(settings["pg_stat_statements.max"])
        if "pg_stat_statements.max" in settings
        else None,
        hidden=len(rows) - len(visible),
        other_databases_ms=others[0] if others else 0.0,
        tracks_planning=settings.get("pg_stat_statements.track_planning") == "on",
        total_ms=sum(s.total_ms for s in merged),
    )


def ours(text: str) -> bool:
    """Whether a statement is one that this program sends."""
    return text.endswith(MARK)


def _counted(row: dict[str, Any]) -> Counted:
    return Counted(
        queryid=row["queryid"],
        text=row["text"],
        calls=row["calls"],
        rows=row["rows"],
        total_exec_ms=row["total_exec_ms"],
        mean_exec_ms=row["mean_exec_time"],
        min_exec_ms=row["min_exec_time"],
        max_exec_ms=row["max_exec_time"],
        stddev_exec_ms=row["stddev_exec_time"],
        total_plan_ms=row["total_plan_ms"],
        plans=int(row["plans"]),
        hit_blocks=int(row["hit_blocks"]),
        read_blocks=int(row["read_blocks"]),
        dirtied_blocks=int(row["dirtied_blocks"]),
        written_blocks=int(row["written_blocks"]),
        temp_blocks=int(row["temp_blocks"]),
        io_ms=row["io_ms"],
        wal_bytes=int(row["wal_bytes"]),
        users=(row["rolname"],),
        jit_ms=row["jit_ms"],
        hours=row["hours"],
    )


def _merged(statements: list[Counted]) -> tuple[Counted, ...]:
    """One entry per query: the server has one for each role that sent it."""
    found: dict[int, Counted] = {}
    for one in statements:
        other = found.get(one.queryid)
        found[one.queryid] = one if other is None else _sum(other, one)
    return tuple(sorted(found.values(), key=lambda s: (-s.total_ms, s.queryid)))


_SUMMED = (
    "calls", "rows", "total_exec_ms", "total_plan_ms", "plans", "hit_blocks", "read_blocks",
    "dirtied_blocks", "written_blocks", "temp_blocks", "io_ms", "wal_bytes", "jit_ms",
)  # fmt: skip


def _sum(a: Counted, b: Counted) -> Counted:
    calls = a.calls + b.calls
    mean = (a.total_exec_ms + b.total_exec_ms) / calls if calls else 0.0
    # The variance of two groups together: their mean variance, and that of their means.
    variance = sum(
        s.calls * (s.stddev_exec_ms**2 + (s.mean_exec_ms - mean) ** 2) for s in (a, b)
    ) / max(calls, 1)
    return replace(
        a,
        **{name: getattr(a, name) + getattr(b, name) for name in _SUMMED},
        mean_exec_ms=mean,
        stddev_exec_ms=variance**0.5,
        min_exec_ms=min(a.min_exec_ms, b.min_exec_ms),
        max_exec_ms=max(a.max_exec_ms, b.max_exec_ms),
        users=tuple(sorted({*a.users, *b.users})),
        hours=None if a.hours is None or b.hours is None else max(a.hours, b.hours),
    )


def _age(connection: psycopg.Connection, view: str) -> tuple[float | None, bool, int]:
    """Hours since the reset, whether that is known, and evictions since then."""
    found = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [f"{view}_info"]).fetchone()
    if found and found[0]:
        row = connection.execute(
            f"SELECT extract(epoch FROM now() - stats_reset)::float8 / 3600, dealloc FROM {view}_info".encode()
        ).fetchone()
        if row is not None and row[0] is not None:
            return float(row[0]), True, int(row[1])
    row = connection.execute(
        "SELECT extract(epoch FROM now() - pg_postmaster_start_time())::float8 / 3600"
    ).fetchone()
    return (float(row[0]) if row else None), False, 0
