"""The wraparound rules on a database that is really that old: its counters moved by pg_resetwal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from needs import postgres

from sqladvisor.auditor import Options
from sqladvisor.live import Watch, live
from sqladvisor.report.model import Report
from sqladvisor.server.embedded import Cluster

XID, MULTIXACT = 1_700_000_000, 1_650_000_000
SEGMENT = 262_144
"""Bytes of a file of pg_xact and pg_multixact: 32 pages (slru.h)."""
XIDS, OFFSETS = 32 * 8192 * 4, 32 * 8192 // 4
"""What such a file holds: four transactions a byte (clog.c), an offset in four bytes (multixact.c)."""


def age(cluster: Cluster) -> None:
    """Let 1.7 billion transactions and 1.65 billion multixacts pass, on a cluster that is stopped."""
    data = Path(cluster.data_directory)
    for folder, number in (
        ("pg_xact", XID // XIDS),
        ("pg_multixact/offsets", MULTIXACT // OFFSETS),
    ):
        file = data / folder / f"{number:04X}"
        file.write_bytes(bytes(SEGMENT))
        os.chown(file, data.stat().st_uid, data.stat().st_gid)
    program = Path(cluster.bin_dir) / "pg_resetwal"
    if not program.exists():
        program = Path(postgres("system").bin_dir) / "pg_resetwal"
    subprocess.run(
        [str(program), "-f", "-x", str(XID), "-m", f"{MULTIXACT},1", "-D", str(data)],
        check=True, capture_output=True, user=data.stat().st_uid, cwd="/",
    )  # fmt: skip


@pytest.fixture(scope="module")
def aged() -> Iterator[Report]:
    # Autovacuum would freeze this small database in a second; at the setting's end it stays away.
    settings = {
        "autovacuum": "off",
        "autovacuum_freeze_max_age": "2000000000",
        "autovacuum_multixact_freeze_max_age": "2000000000",
    }
    with Cluster(postgres(None), settings=settings) as cluster:
        cluster.create_database("old")
        with cluster.connect("old") as connection:
            connection.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 200000) i")
            connection.execute("ANALYZE t")  # which counts its pages
        cluster.stop()
        age(cluster)
        cluster.start()
        with cluster.connect("old") as connection:
            row = connection.execute(
                "SELECT age(relfrozenxid), mxid_age(relminmxid) FROM pg_class WHERE relname = 't'"
            ).fetchone()
            assert row is not None and row[0] > 1_500_000_000 and row[1] > 1_500_000_000
        yield live(Options(dsn=cluster.dsn("old")), Watch(window_s=0.2))


def test_transactions(aged: Report) -> None:
    (finding,) = [
        f
        for f in aged.findings
        if f.rule == "database/xid-wraparound" and f.evidence.figures["database"] == "old"
    ]
    assert finding.severity == "error"
    assert finding.evidence.figures["age_transactions"] > 1_500_000_000
    assert "VACUUM (FREEZE, VERBOSE) public.t;" in finding.fixes[0].sql


def test_multixacts(aged: Report) -> None:
    (finding,) = [
        f
        for f in aged.findings
        if f.rule == "database/multixact-wraparound" and f.evidence.figures["database"] == "old"
    ]
    assert finding.severity == "error"
    assert finding.evidence.figures["age_multixacts"] > 1_500_000_000


def test_it_comes_first(aged: Report) -> None:
    first = aged.details["changes"][0]
    assert first.outage
    assert first.findings[0].rule.endswith("-wraparound")
