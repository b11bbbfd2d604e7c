"""What `audit --fix` makes of the shop's queries: the same rows, and how long they take before and after.

    python benchmarks/fixed.py [--scale 0.2]

Works on a copy of the queries with generated rows (1.0: a million orders), on the embedded server.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from sqladvisor.auditor import Options, audit
from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.model import Catalog
from sqladvisor.context import Context
from sqladvisor.prove.results import Given, difference, order_of, run
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.measure import contents, time_statement
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.sql.effects import writes
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement

SHOP = Path(__file__).resolve().parent.parent / "fixtures" / "shop"


def read(path: Path) -> list[Statement]:
    return statements(read_source(str(path), path.read_bytes()))[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.2, help="1.0 is a million orders")
    parser.add_argument("--indexes", action="store_true", help="also with the indexes then advised")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sqladvisor-fixed-") as name:
        folder = Path(name)
        data = folder / "data"
        subprocess.run(
            [sys.executable, str(SHOP / "generate.py"), "--out", str(data),
             "--scale", str(arguments.scale)],
            check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        before, after = folder / "before.sql", folder / "queries.sql"
        for path in (before, after):
            path.write_bytes((SHOP / "queries.sql").read_bytes())
        schema = (str(SHOP / "schema.sql"),)
        report = audit([str(after)], Options(schema=schema, data=(str(data),), fix="write"))
        for note in report.notes:
            print(note.replace(f"{folder}/", ""))
        indexes = advised(after, schema, data) if arguments.indexes else []
        return compare(read(before), read(after), schema, data, indexes)


def advised(queries: Path, schema: tuple[str, ...], data: Path) -> list[str]:
    """The indexes that an audit of the fixed file advises, as DDL."""
    report = audit([str(queries)], Options(schema=schema, data=(str(data),), analyze=True))
    found = [
        fix.sql.replace(" CONCURRENTLY", "")
        for finding in report.findings
        if finding.rule.startswith("index/") and "queries" in finding.evidence.figures
        for fix in finding.fixes
    ]
    return list(dict.fromkeys(found))


def compare(
    before: list[Statement],
    after: list[Statement],
    schema: tuple[str, ...],
    data: Path,
    indexes: list[str],
) -> int:
    """Run both files' reading statements; 1 where one returns other rows."""
    pairs = [
        (old, new)
        for old, new in zip(before, after, strict=True)
        if not (writes(old.kind, old.tree) or old.placeholders or "random()" in old.text)
    ]
    with Cluster(find_binaries(None)) as cluster:
        sandbox = Sandbox(cluster, "fixed")
        sandbox.load_schema(schema, lambda _: None)
        sandbox.load_data([str(data)], lambda _: None)
        sandbox.analyze()
        with sandbox.connect() as connection:
            catalog = read_catalog(connection)
            differ = [o for o, n in pairs if not same_rows(connection, o, n, catalog)]
            changed = [(o, n) for o, n in pairs if o.sql != n.sql]
            times = [
                [time_statement(connection, s.sql) for s in pair] for pair in changed
            ]  # the one right after the other
            for ddl in indexes:
                connection.execute(ddl.encode())
            sandbox.analyze()
            for row, (_, new) in zip(times, changed, strict=True):
                row += [time_statement(connection, new.sql)] if indexes else []
    for row, (old, new) in zip(times, changed, strict=True):
        shown = " -> ".join(f"{t.median_ms:8.2f} ms ({t.buffers:,} buffers)" for t in row)
        print(f"line {old.line:4}: {shown}  {' '.join(new.text.split())[:60]}")
    totals = " -> ".join(
        f"{sum(t.median_ms for t in column):.1f} ms" for column in zip(*times, strict=True)
    )
    print(
        f"{len(pairs)} reading statements, {len(differ)} with other rows; {len(changed)} rewritten: "
        f"{totals}" + (f" (with the {len(indexes)} indexes advised)" if indexes else "")
    )
    return int(bool(differ))


def same_rows(
    connection: psycopg.Connection, old: Statement, new: Statement, catalog: Catalog
) -> bool:
    """Whether both return the same rows; of equal ones, a LIMIT may take any."""
    if contents(connection, old.sql) == contents(connection, new.sql):
        return True
    one, other = (Given(run(connection, s.sql)) for s in (old, new))
    return not difference(order_of(Context(old, catalog)), one, other)


if __name__ == "__main__":
    sys.exit(main())
