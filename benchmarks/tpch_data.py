"""TPC-H on a cluster: tables, rows by tpcgen-cli, queries. Shared by the planner benchmarks."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from sqladvisor.server.embedded import Cluster
from sqladvisor.sql.source import read_source, statements

HERE = Path(__file__).parent / "tpch"
TABLES = ("region", "nation", "part", "supplier", "partsupp", "customer", "orders", "lineitem")
CHUNK = 1 << 20
DEFAULT_TARGET = 100
"""PostgreSQL's default_statistics_target."""
STATISTICS_TARGET = 2000
"""ANALYZE samples 300 times as many rows. With the default of 100 it takes the 1.5 million values of
l_orderkey for some 390,000, another number each time. Relative costs move by .001 to .02 between two
samples either way: like for like are figures from one run."""


def queries(without: tuple[int, ...] = ()) -> dict[str, str]:
    """The queries by name (``Q1``)."""
    path = HERE / "queries.sql"
    found, problems = statements(read_source(str(path), path.read_bytes()))
    assert not problems and len(found) == 22, problems
    return {f"Q{n}": s.sql for n, s in enumerate(found, 1) if n not in without}


def run_file(cluster: Cluster, database: str, name: str) -> None:
    """Execute ``tpch/NAME.sql``."""
    path = HERE / f"{name}.sql"
    found, problems = statements(read_source(str(path), path.read_bytes()))
    assert not problems, problems
    with cluster.connect(database) as connection:
        for statement in found:
            # Order keys are integers in dbgen's own dss.ddl, which the peers' figures rest on.
            connection.execute(statement.sql.replace(" bigint ", " integer ").encode())


def load(cluster: Cluster, database: str, scale: float = 1.0) -> None:
    """Make a database with TPC-H's rows, without keys, vacuumed and analyzed."""
    program = shutil.which("tpcgen-cli", path=str(Path(sys.executable).parent)) or "tpcgen-cli"
    cluster.create_database(database)
    run_file(cluster, database, "schema")
    with cluster.connect(database) as connection:
        for table in TABLES:
            _copy(connection, program, table, scale)
        connection.execute("VACUUM")
    analyze(cluster.dsn(database))


def _copy(connection: psycopg.Connection, program: str, table: str, scale: float) -> None:
    # By a file: on standard output the parts come in any order, and dbgen's rows lie in key order.
    with tempfile.TemporaryDirectory(prefix="sqladvisor-tpch-") as folder:
        command = [program, "tpch", "csv", "--quiet", "-o", folder, "-s", str(scale), "-T", table]
        subprocess.run(command, check=True)
        with open(Path(folder) / f"{table}.csv", "rb") as rows, connection.transaction():
            connection.execute(f"TRUNCATE {table}")
            with connection.cursor().copy(
                f"COPY {table} FROM STDIN (FORMAT csv, HEADER, FREEZE)"
            ) as copy:
                while data := rows.read(CHUNK):
                    copy.write(data)


def analyze(dsn: str, sample: int = STATISTICS_TARGET) -> None:
    """Take statistics from 300 times ``sample`` rows of each table."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"SET default_statistics_target = {int(sample)}")
        connection.execute("ANALYZE")
