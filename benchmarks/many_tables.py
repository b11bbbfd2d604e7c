"""What a snapshot of many tables takes, and the shadow built from it: in seconds of CPU, and by the clock.

Tables of ten columns with a primary key, two further indexes, a foreign key, a CHECK and statistics
of 300 rows. CPU is counted for this program, pg_dump and the server together: it says more than the
clock of a machine that does other work as well.

    python benchmarks/many_tables.py [--tables 1000]
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqladvisor.catalog.snapshot import decode, encode
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import take_snapshot

SNAPSHOT_S, SHADOW_S = 5.0, 15.0
"""Bounds for 1,000 tables, seconds of CPU."""
ROWS = 300
_TABLE = """
CREATE TABLE t{n} (id bigint PRIMARY KEY, parent_id bigint {fk}, name text NOT NULL,
    status text DEFAULT 'new', amount numeric(12,2), created timestamptz DEFAULT now(), day date,
    flags int[], note varchar(80), qty int CHECK (qty >= 0));
CREATE INDEX ON t{n} (parent_id);
CREATE INDEX ON t{n} (status, created);
INSERT INTO t{n} SELECT i, i, 'name ' || i, (ARRAY['new', 'paid', 'sent'])[1 + i % 3], i,
    timestamptz '2026-01-01' - i * interval '1 min', date '2026-01-01' + i % 300,
    ARRAY[i % 7, i % 5], 'note ' || i % 50, i % 30 FROM generate_series(1, {rows}) i"""


class Spent:
    """Seconds of CPU and of the clock."""

    cpu = wall = 0.0

    def __str__(self) -> str:
        return f"{self.cpu:.1f} s of CPU ({self.wall:.1f} s by the clock)"


@contextmanager
def spending(cluster: Cluster) -> Iterator[Spent]:
    """What the block takes of this program, its children, and the cluster's server."""
    spent = Spent()
    cpu, wall = _cpu(cluster), time.monotonic()
    yield spent
    spent.wall = time.monotonic() - wall
    time.sleep(0.3)  # sessions that have just ended are the server's only when it has noticed
    spent.cpu = _cpu(cluster) - cpu


def _cpu(cluster: Cluster) -> float:
    total = sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
    pid = int((cluster.data_directory / "postmaster.pid").read_text().split()[0])
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # ended meanwhile
        if int(path.parent.name) == pid:
            ticks += sum(map(int, fields[11:15]))  # with its ended children's
        elif int(fields[1]) == pid:
            ticks += sum(map(int, fields[11:13]))
    return total + ticks / os.sysconf("SC_CLK_TCK")


def many_tables(tables: int) -> list[str]:
    """Print both lines; the bounds that were missed."""
    with Cluster(find_binaries(None)) as source, Cluster(find_binaries(None)) as own:
        source.create_database("many")
        with source.connect("many") as connection:
            for n in range(tables):
                fk = f"REFERENCES t{n - 1} (id)" if n else ""
                connection.execute(_TABLE.format(n=n, fk=fk, rows=ROWS).encode())
            connection.execute("VACUUM (ANALYZE)")
        with spending(source) as snapshot_taken:
            snapshot = take_snapshot(source.dsn("many"), find_binaries(None))
        data = encode(snapshot).encode()
        with spending(own) as shadow_built:
            snapshot = decode(data, "many")
            build_shadow(own, "many", snapshot.schema, snapshot.statistics)
    missed = []
    for what, spent, bound in (
        ("snapshot taken", snapshot_taken, SNAPSHOT_S),
        ("shadow built", shadow_built, SHADOW_S),
    ):
        print(f"{tables:,} tables: {what} in {spent}; bound {bound * tables / 1000:.1f} s of CPU")
        if spent.cpu > bound * tables / 1000:
            missed.append(f"{what} of {tables:,} tables: {spent}")
    print(f"{tables:,} tables: the file's text has {len(data) >> 20} MB")
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    missed = many_tables(parser.parse_args().tables)
    for text in missed:
        print(f"MISSED: {text}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
