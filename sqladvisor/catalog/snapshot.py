"""A snapshot: a database's schema, planner statistics and workload in one file, without its rows.

JSON, also zstd-compressed, for people and diffs: lists are sorted, values are text as PostgreSQL
prints them. What is read back is untrusted: everything is checked here, and nothing of it is ever
SQL but the schema, which only ``server.sandbox`` runs, as a plain role.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqladvisor.catalog.snapshot_read import Reader
from sqladvisor.catalog.stand_ins import StandIns
from sqladvisor.catalog.statistics import (
    FIELDS,
    ColumnStatistics,
    CommonRow,
    ExtendedStatistics,
    GinPages,
    Member,
    RelationStatistics,
    Statistics,
)
from sqladvisor.errors import InputError

FORMAT = "sqladvisor snapshot"
VERSION = 1
"""Goes up when an older sqladvisor would misread the file. New keys alone do not matter to it."""
VALUES = ("masked", "none", "full")
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
ZSTD_LEVEL = 10
MAX_BYTES = 128 * 1024 * 1024
"""Of the JSON text: some 1,800 tables of 20 columns and three indexes each."""
MAX_NODES = 4_000_000
"""Lists and objects of a file: what its text would unfold to in memory."""
MAX_WINDOW = 1 << 27
"""Bytes of memory that a zstd frame may ask for (128 MB, zstd's own limit of --long)."""
MAX_TOTAL_PAGES = 1 << 33
"""Pages of all files together: 64 TiB. A shadow makes one file for every GiB."""
MAX_PAGES = (1 << 32) - 2
"""Pages of one relation (MaxBlockNumber)."""

MAX_ROWS = 1e15
"""Of one relation, partitions together: 800 times what a table of all blocks can hold."""


@dataclass(frozen=True, slots=True)
class WorkloadQuery:
    """A statement of pg_stat_statements: constants replaced by ``$n``; times in milliseconds."""

    text: str
    calls: int
    total_ms: float
    rows: int


@dataclass(frozen=True, slots=True)
class TableUse:
    """Rows written to a table since the counters began, as ``catalog.model.Writes``."""

    schema: str
    name: str
    inserted: int
    updated: int
    hot_updated: int
    deleted: int


@dataclass(frozen=True, slots=True)
class IndexUse:
    """How often an index was scanned since the counters began."""

    schema: str
    name: str
    scans: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All of it. ``values``: whether common values are ``masked``, left out (``none``) or ``full``."""

    values: str
    schema: str
    statistics: Statistics
    workload: tuple[WorkloadQuery, ...] = ()
    tables: tuple[TableUse, ...] = ()
    indexes: tuple[IndexUse, ...] = ()
    counted_days: float | None = None
    standby: bool = False
    workload_missing: tuple[str, ...] = ()
    """What is not in the workload, and why."""
    stand_ins: StandIns | None = None
    """What the values of a query are replaced by, where they are masked."""
    taken: str | None = None
    """When: date and time with a zone, in ISO 8601."""


def encode(snapshot: Snapshot) -> str:
    """The file's text: JSON, the same for the same snapshot."""
    s = snapshot.statistics
    document: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        **({"taken": snapshot.taken} if snapshot.taken else {}),
        "values": snapshot.values,
        "server_version": s.version,
        "sorts_by_bytes": s.sorts_by_bytes,
        "search_path": list(s.search_path),
        "settings": dict(sorted(s.settings.items())),
        "missing": list(s.missing),
        "counted_days": snapshot.counted_days,
        "standby": snapshot.standby,
        "schema": snapshot.schema.split("\n"),
        "relations": [_relation(r) for r in s.relations],
        "columns": [_column(c) for c in s.columns],
        "extended_statistics": [_extended(e) for e in s.extended],
        "ends": [[*key, *ends] for key, ends in sorted(s.ends.items())],
        "tables": [[t.schema, t.name, t.inserted, t.updated, t.hot_updated, t.deleted]
                   for t in snapshot.tables],
        "indexes": [[i.schema, i.name, i.scans] for i in snapshot.indexes],
        "workload": [{"query": q.text, "calls": q.calls, "total_ms": q.total_ms, "rows": q.rows}
                     for q in snapshot.workload],
    }  # fmt: skip
    document["workload_missing"] = list(snapshot.workload_missing)
    if snapshot.stand_ins is not None:
        document["stand_ins"] = {
            "salt": snapshot.stand_ins.salt.hex(),
            "values": dict(sorted(snapshot.stand_ins.by_digest.items())),
        }
    return _json(document)


def _json(document: dict[str, Any]) -> str:
    """One line for each line of the schema, each relation, and each field of a column."""
    parts = []
    for key, value in document.items():
        if key in ("columns", "extended_statistics") and value:
            text = json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")
        elif isinstance(value, (list, dict)) and value and key != "search_path":
            one = [json.dumps(v, ensure_ascii=False) for v in value]
            if isinstance(value, dict):
                one = [f"{json.dumps(k, ensure_ascii=False)}: {json.dumps(v, ensure_ascii=False)}"
                       for k, v in value.items()]  # fmt: skip
            opening, closing = "[]" if isinstance(value, list) else "{}"
            text = opening + "\n  " + ",\n  ".join(one) + "\n " + closing
        else:
            text = json.dumps(value, ensure_ascii=False)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _relation(r: RelationStatistics) -> dict[str, Any]:
    found: dict[str, Any] = {
        "schema": r.schema, "name": r.name, "kind": r.kind, "method": r.method,
        "relpages": r.relpages, "reltuples": r.reltuples, "relallvisible": r.relallvisible,
        "pages": r.pages, "width": r.width,
    }  # fmt: skip
    if r.table:
        found["table"] = r.table
    if r.height is not None:
        found["height"] = r.height
    if r.gin is not None:
        found["gin"] = [r.gin.pending, r.gin.total, r.gin.entry, r.gin.data, r.gin.entries]
    return found


def _column(c: ColumnStatistics) -> dict[str, Any]:
    return {
        "schema": c.schema, "table": c.table, "column": c.column, "kind": c.kind,
        "number": c.number, "inherited": c.inherited, "base": c.base, **c.values,
    }  # fmt: skip


def _extended(e: ExtendedStatistics) -> dict[str, Any]:
    return {
        "schema": e.schema, "name": e.name, "inherited": e.inherited,
        "members": list(e.members), "bases": list(e.bases),
        "ndistinct": [[list(m), n] for m, n in e.ndistinct],
        "dependencies": [[list(m), n] for m, n in e.dependencies],
        "common": [[list(c.values), c.frequency, c.base_frequency] for c in e.common],
        "expressions": list(e.expressions),
    }  # fmt: skip


def decode(data: bytes, path: str) -> Snapshot:
    """The snapshot in a file's bytes. Raises InputError, in one line that names the place."""
    if data[:4] == ZSTD_MAGIC:
        data = _decompressed(data, path)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MB: not a snapshot of ours")
    # PostgreSQL's arrays, which are text here, begin with a brace, too.
    if data.count(b"[") + data.count(b"{") - data.count(b'"{') > MAX_NODES:
        raise InputError(f"{path}: not a snapshot: too many lists")
    try:
        document = json.loads(
            data.decode("utf-8"), parse_constant=_refuse, object_pairs_hook=_once_each
        )
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a snapshot: neither JSON in UTF-8 nor zstd") from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}:{error.lineno}:{error.colno}: not a snapshot, or a damaged one: {error.msg}"
        ) from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a snapshot: {error}") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise InputError(f"{path}: not a snapshot of sqladvisor (make one: sqladvisor snapshot)")
    read = Reader(path, "", document)
    version = read.whole("version", 1, 1 << 30)
    if version > VERSION:
        raise InputError(
            f"{path}: a snapshot of format {version}; this sqladvisor reads up to {VERSION}: update it"
        )
    return _snapshot(read)


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are there once: of two, people read the first and programs the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(k for n, (k, _) in enumerate(pairs) if k in dict(pairs[:n]))
        raise ValueError(f"the key {twice[:60]!a} is there twice")
    return found


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _decompressed(data: bytes, path: str) -> bytes:
    import zstandard

    try:
        with zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).stream_reader(data) as stream:
            text = stream.read(MAX_BYTES + 1)
            return text if len(text) > MAX_BYTES else text + stream.read(1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise InputError(f"{path}: cannot be decompressed: {error}") from None


def _snapshot(read: Reader) -> Snapshot:
    values = read.text("values")
    if values not in VALUES:
        raise read.wrong("values", f"one of {', '.join(VALUES)}")
    relations = tuple(_read_relation(r) for r in read.objects("relations"))
    if sum(max(r.pages or 0, r.relpages) for r in relations) > MAX_TOTAL_PAGES:
        raise read.wrong("relations", f"of at most {MAX_TOTAL_PAGES >> 27} TiB together")
    statistics = Statistics(
        read.whole("server_version", 90000, 10_000_000),
        relations,
        tuple(_read_column(c) for c in read.objects("columns")),
        {
            (e.text(0), e.text(1), e.text(2)): (e.text_or_none(3), e.text_or_none(4))
            for e in read.lists("ends", 5)
        },
        {name: str(value) for name, value in read.texts_by_name("settings").items()},
        tuple(read.texts("missing")),
        tuple(read.texts("search_path")),
        tuple(_read_extended(e) for e in read.objects("extended_statistics")),
        read.flag("sorts_by_bytes"),
    )
    return Snapshot(
        values,
        "\n".join(read.texts("schema")),
        statistics,
        tuple(
            WorkloadQuery(
                q.text("query"), q.count("calls"), q.number("total_ms", 0), q.count("rows")
            )
            for q in read.objects("workload")
        ),
        tuple(
            TableUse(t.text(0), t.text(1), t.count(2), t.count(3), t.count(4), t.count(5))
            for t in read.lists("tables", 6)
        ),
        tuple(IndexUse(i.text(0), i.text(1), i.count(2)) for i in read.lists("indexes", 3)),
        None if read.value("counted_days") is None else read.number("counted_days", 0),
        read.flag("standby"),
        tuple(read.texts("workload_missing")),
        _read_stand_ins(read),
        _read_taken(read),
    )


def _read_relation(r: Reader) -> RelationStatistics:
    kind, height = r.text("kind"), r.value("height")
    if kind not in ("r", "i", "m", "p", "I", "f"):
        raise r.wrong("kind", "a kind of relation (pg_class.relkind)")
    gin = None
    if r.value("gin") is not None:
        g = r.list_of("gin", 5)
        pending, total, entry, inner = (g.whole(k, 0, MAX_PAGES) for k in range(4))
        gin = GinPages(pending, total, entry, inner, g.count(4))
    return RelationStatistics(
        r.text("schema"),
        r.text("name"),
        kind,
        r.text("method"),
        r.whole("relpages", -1, (1 << 31) - 1),
        r.number("reltuples", -1, MAX_ROWS),
        r.whole("relallvisible", 0, (1 << 31) - 1),
        None if r.value("pages") is None else r.whole("pages", 0, MAX_PAGES),
        r.whole("width", 0, 1 << 20),
        r.text("table") if r.value("table") is not None else "",
        None if height is None else r.whole("height", 0, 20),
        gin,
    )


_NUMBERS = frozenset(("null_frac", "avg_width", "n_distinct", "correlation", "range_empty_frac"))


def _fields(r: Reader) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for name in FIELDS:
        if r.value(name) is not None:
            found[name] = r.text(name)
            if name in _NUMBERS:
                r.numeric(name)
    return found


def _read_column(c: Reader) -> ColumnStatistics:
    return ColumnStatistics(
        c.text("schema"),
        c.text("table"),
        c.text("column"),
        c.text("kind"),
        c.whole("number", -100, 32767),
        c.flag("inherited"),
        _fields(c),
        c.text("base"),
    )


def _read_extended(e: Reader) -> ExtendedStatistics:
    members = tuple(_members(e, "members"))
    return ExtendedStatistics(
        e.text("schema"),
        e.text("name"),
        e.flag("inherited"),
        members,
        tuple(e.texts("bases")),
        tuple((tuple(_members(i, 0)), i.number(1)) for i in e.lists("ndistinct", 2)),
        tuple((tuple(_members(i, 0)), i.number(1)) for i in e.lists("dependencies", 2)),
        tuple(
            CommonRow(
                tuple(row.list_of(0, len(members)).texts_or_none()),
                row.number(1, 0),
                row.number(2, 0),
            )
            for row in e.lists("common", 3)
        ),
        tuple(_fields(x) for x in e.objects("expressions")),
    )


def _members(read: Reader, key: str | int) -> list[Member]:
    inner = read.list_of(key)
    return [
        inner.whole(k, -8, -1) if isinstance(inner.value(k), int) else inner.text(k)
        for k in range(inner.length())
    ]


def _read_stand_ins(read: Reader) -> StandIns | None:
    if read.value("stand_ins") is None:
        return None
    inner = read.object("stand_ins")
    try:
        salt = bytes.fromhex(inner.text("salt"))
    except ValueError:
        raise inner.wrong("salt", "hexadecimal digits") from None
    return StandIns(salt, inner.texts_by_name("values"))


def _read_taken(read: Reader) -> str | None:
    if (text := read.text_or_none("taken")) is None:
        return None
    try:
        if datetime.fromisoformat(text).tzinfo is not None:
            return text
    except ValueError:
        pass
    raise read.wrong("taken", "a date and time with a time zone")


def load(path: str) -> Snapshot:
    """Read a snapshot file. Raises InputError in one line."""
    try:
        if not os.path.isfile(path):
            why = "is a directory" if os.path.isdir(path) else "no such file"
            if not os.path.exists(path) or os.path.isdir(path):
                raise InputError(f"{path}: {why}")
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    return decode(data, path)


def save(snapshot: Snapshot, path: str) -> int:
    """Write a snapshot, compressed where the name ends in ``.zst``; its bytes. Raises InputError.

    Nobody but the user may read it: statistics show values even where they are masked.
    """
    data = encode(snapshot).encode()
    if path.endswith(".zst"):
        import zstandard

        data = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(data)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            file.write(data)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from error
    return len(data)
