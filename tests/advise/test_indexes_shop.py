"""The shop without its rows: a masked snapshot alone gives the advice that the live database gives."""

from __future__ import annotations

from pathlib import Path

from sqladvisor.advise.recommend import Recommendation
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.catalog.snapshot import save
from sqladvisor.indexer import Options, advise
from sqladvisor.modules import load_module
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.snapshot import take_snapshot

SHOP = Path(__file__).parents[2] / "fixtures" / "shop"
SCALE = 0.05
"""10,000 users, 50,000 orders."""


def load(cluster: Cluster, database: str) -> None:
    generator = load_module(str(SHOP / "generate.py"), "shop_rows")
    cluster.create_database(database)
    with cluster.connect(database) as connection:
        connection.execute((SHOP / "schema.sql").read_bytes())
        for table, columns, chunks in generator.tables(SCALE):
            with connection.cursor().copy(
                f"COPY {table} ({', '.join(columns)}) FROM STDIN"
            ) as copy:
                for chunk in chunks:
                    copy.write(chunk)
        connection.execute("VACUUM ANALYZE")


def advised(server: ServerOptions) -> Recommendation:
    workload = (str(SHOP / "queries.sql"),)
    found: Recommendation = advise(Options(workload, server=server)).details["indexes"]
    return found


def test_a_masked_snapshot_of_the_shop_gives_the_advice_of_the_live_database(
    cluster: Cluster, tmp_path: Path
) -> None:
    load(cluster, "masked_shop_advice")
    dsn = cluster.dsn("masked_shop_advice")
    path = str(tmp_path / "shop.snapshot.json")
    save(take_snapshot(dsn, find_binaries(None)), path)
    text = Path(path).read_text()
    assert "@example.org" not in text and "garden" not in text.partition('"workload"')[0]
    live, alone = advised(ServerOptions(dsn=dsn)), advised(ServerOptions(snapshot=path))
    assert len(live.creates) >= 10
    # As sets: they are ordered by what they save, which stand-ins move by a little.
    assert {c.sql for c in alone.creates} == {c.sql for c in live.creates}
    assert {d.sql for d in alone.drops} == {d.sql for d in live.drops}
