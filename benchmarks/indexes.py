"""`make bench-indexes`: the index advisor against its peers, on PostgreSQL 15 with HypoPG.

TPC-H at scale factor 1, the 19 queries that are compared on (2, 17 and 20 left out), costs by the
same planner, sizes by HypoPG as the peers' budgets count them. Beside ours: the published kind of
figures in peers_tpch.json (`--peers FILE` for others), and Extend run here on the same statistics.
Needs Debian's postgresql-15 and postgresql-15-hypopg, and tpcgen-cli (pip install '.[bench]').
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import tpch_data
from extend import Extend, Index
from tabulate import tabulate

from sqladvisor.advise.candidates import Limits
from sqladvisor.advise.optimise import Stop
from sqladvisor.advise.recommend import Recommendation, Settings, recommend
from sqladvisor.advise.wants import wanted
from sqladvisor.advise.workload import Workload, collect, gather
from sqladvisor.auditor import Options as ServerOptions
from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.model import Catalog
from sqladvisor.context import Context
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.connect import connect_target
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.hypopg import HypoPGWhatIf
from sqladvisor.server.target import open_sandbox
from sqladvisor.server.whatif import Handle, HypotheticalIndex
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.spans import Spans

MB = 1_000_000
BUDGETS = (100, 250, 500, 1000, 2000)
WITHOUT = (2, 17, 20)
MOST_CALLS = 4_000
AS_PEERS = Limits(
    2, include=False, partial=False, expressions=False, methods=False, count=400, pairs=True
)
FURTHER = Limits(3, methods=False, count=400, pairs=True)
SETTINGS = {
    "PostgreSQL's default settings": ((), tpch_data.STATISTICS_TARGET),
    "as the peers' figures were had: no parallel workers, ANALYZE's default sample": (
        ("max_parallel_workers_per_gather=0",),
        100,
    ),
}


def main() -> int:
    """Run all parts. 1 where a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", default=str(Path(__file__).parent / "peers_tpch.json"))
    parser.add_argument("--dsn", help="a server with TPC-H loaded and HypoPG, instead of our own")
    parser.add_argument("--no-extend", action="store_true", help="do not run Extend")
    arguments = parser.parse_args()
    peers = json.loads(Path(arguments.peers).read_text())
    met = True
    with ready(arguments.dsn) as (dsn, cluster):
        for number, (name, (settings, sample)) in enumerate(SETTINGS.items()):
            print(f"\nTPC-H SF 1, no keys, width 2, {name}", flush=True)
            if cluster:
                tpch_data.analyze(dsn, sample)
            held = as_peers(dsn, settings, peers, not arguments.no_extend)
            met = met and (held or number > 0)
        if cluster:
            tpch_data.run_file(cluster, "tpch", "keys")
            tpch_data.analyze(dsn)
            print(
                "\nTPC-H SF 1 with primary and foreign keys, width 3, INCLUDE and partial indexes"
            )
            further(dsn)
    print("\nThe shop: templates with random literals", flush=True)
    shop()
    return 0 if met else 1


@contextmanager
def ready(dsn: str | None) -> Iterator[tuple[str, Cluster | None]]:
    """The DSN of TPC-H without keys, and the cluster it is on where that is our own."""
    if dsn:
        yield dsn, None
        return
    with Cluster(find_binaries("/usr/lib/postgresql/15/bin")) as cluster:
        started = time.monotonic()
        print("loading TPC-H", file=sys.stderr)
        tpch_data.load(cluster, "tpch")
        with cluster.connect("tpch") as connection:
            connection.execute("CREATE EXTENSION hypopg")
        print(f"loaded in {time.monotonic() - started:.0f} s", file=sys.stderr)
        yield cluster.dsn("tpch"), cluster


def workload(catalog: Catalog) -> Workload:
    """TPC-H's queries, each with the weight 1."""
    result = Workload(weighed=True)
    weighted = []
    for name, sql in tpch_data.queries(WITHOUT).items():
        found, _ = statements(read_source(name, sql.encode()))
        weighted.append((Context(found[0], catalog), 1.0))
    gather(result, weighted)
    return result


def advise(
    connection: psycopg.Connection, limits: Limits
) -> tuple[Recommendation, HypoPGWhatIf, Workload]:
    catalog = read_catalog(connection)
    queries = workload(catalog)
    whatif = HypoPGWhatIf(connection)
    settings = Settings(BUDGETS[-1] * MB, limits, thrifty=False, curve=[b * MB for b in BUDGETS])
    return recommend(queries, catalog, whatif, settings, Stop(), _say), whatif, queries


def as_peers(
    dsn: str, settings: tuple[str, ...], peers: dict[str, dict[str, dict[str, float]]], extend: bool
) -> bool:
    """The peers' rules. Whether every budget is at or below the best peer, with few calls."""
    connection = connect_target(dsn)
    for setting in settings:
        connection.execute(f"SET {setting.replace('=', ' = ')}".encode())
    started = time.monotonic()
    found, whatif, queries = advise(connection, AS_PEERS)
    seconds = time.monotonic() - started
    calls = whatif.calls
    theirs = _extend(queries, whatif) if extend else {}
    rows, met = [], calls <= MOST_CALLS
    for choice in found.curve:
        budget = str(round((choice.budget_bytes or 0) / MB))
        ours = choice.cost / found.cost_before
        cells = {n: c[budget] for n, c in peers["relative_cost"].items() if budget in c}
        name = min(cells, key=lambda n: cells[n])
        met = met and round(ours, 4) <= cells[name]
        own, own_calls = theirs.get(budget, (0.0, 0))
        rows.append(
            [
                budget, f"{ours:.4f}", f"{choice.bound / found.cost_before:.4f}", f"{choice.gap:.2%}",
                choice.created, f"{choice.size_bytes / MB:.0f}", f"{cells[name]:.4f} {name}",
                f"{own / found.cost_before:.4f} ({own_calls})" if own else "",
            ]
        )  # fmt: skip
    headers = [
        "MB",
        "ours",
        "lower bound",
        "gap",
        "indexes",
        "used MB",
        "best peer's figure",
        "Extend here (calls)",
    ]
    print(tabulate(rows, headers=headers, disable_numparse=True))
    print(
        f"{calls:,} planner calls for all {len(BUDGETS)} budgets, {seconds:.0f} s, {found.candidates} "
        f"candidates; every candidate at once: {found.least / found.cost_before:.4f}"
    )
    connection.close()
    return met


def _extend(queries: Workload, whatif: HypoPGWhatIf) -> dict[str, tuple[float, int]]:
    handles: dict[Index, Handle] = {}

    def handle(index: Index) -> Handle:
        if index not in handles:
            handles[index] = whatif.add([HypotheticalIndex(index[0], index[1:])])[0]
        return handles[index]

    texts, columns = {}, {}
    for query in queries.queries:
        texts[query.name] = query.variants[0].sql
        pairs = {
            (w.item.relation.name, c)
            for w in wanted(query.context)
            if w.item.relation is not None
            for c in w.needed or ()
        }
        columns[query.name] = sorted(pairs)
    result = {}
    for budget in BUDGETS:
        peer = Extend(
            columns,
            lambda q, ixs: whatif.cost(texts[q], [handle(i) for i in sorted(ixs)]).total_cost,
            lambda i: handle(i).size_bytes,
        )
        cost, _ = peer.run(budget * MB)
        result[str(budget)] = (cost, peer.calls)
    return result


def further(dsn: str, limits: Limits) -> None:
    """What keys, INCLUDE, partial indexes and a third column bring."""
    connection = connect_target(dsn)
    started = time.monotonic()
    found, whatif, _ = advise(connection, limits)
    rows = [
        [
            f"{(c.budget_bytes or 0) / MB:.0f}", f"{c.cost / found.cost_before:.4f}",
            f"{c.bound / found.cost_before:.4f}", f"{c.gap:.2%}", c.created,
            f"{c.size_bytes / MB:.0f}",
        ]
        for c in found.curve
    ]  # fmt: skip
    print(
        tabulate(
            rows,
            headers=["MB", "ours", "lower bound", "gap", "indexes", "used MB"],
            disable_numparse=True,
        )
    )
    print(
        f"{whatif.calls:,} planner calls, {time.monotonic() - started:.0f} s, {found.candidates} "
        f"candidates; cost without new indexes {found.cost_before:,.0f}; every candidate at once: "
        f"{found.least / found.cost_before:.4f}"
    )
    connection.close()


def shop() -> None:
    """Calls grow with distinct queries, not with queries."""
    folder = Path(__file__).parent.parent / "fixtures" / "shop"
    sys.path.insert(0, str(folder))
    import generate

    options = ServerOptions(schema=(str(folder / "schema.sql"),))
    rows = []
    with open_sandbox(options, _say, generate.tables(0.2)) as target:
        for count in (50, 200, 1000):
            with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
                file.write(literals(folder / "queries.sql", count))
                file.flush()
                path = Path(file.name)
                found, _ = statements(read_source("shop.sql", path.read_bytes()))
                queries = collect([Context(s, target.catalog) for s in found], {})
            settings = Settings(256 * 1024 * 1024, curve=())
            queries.weighed = True
            started = time.monotonic()
            advice = recommend(queries, target.catalog, target.whatif(_say), settings, Stop(), _say)
            rows.append(
                [
                    count, len(advice.queries), f"{advice.calls:,}",
                    f"{advice.choice.cost / advice.cost_before:.4f}", f"{advice.choice.gap:.2%}",
                    len(advice.creates), f"{time.monotonic() - started:.1f}",
                ]
            )  # fmt: skip
    print(
        tabulate(
            rows,
            headers=[
                "queries",
                "distinct",
                "planner calls",
                "relative cost",
                "gap",
                "indexes",
                "s",
            ],
            disable_numparse=True,
        )
    )


def literals(path: Path, count: int, seed: int = 7) -> str:
    """``count`` statements made from a file's: each with integers of its own."""
    chooser = random.Random(seed)
    found, _ = statements(read_source(str(path), path.read_bytes()))
    texts = [s.sql for s in found if s.kind == "SelectStmt" and "$" not in s.sql]
    result = []
    for number in range(count):
        sql = texts[number % len(texts)]
        for start, end, kind in reversed(Spans(sql).tokens):
            if kind == "ICONST" and int(sql[start:end]) > 1000:
                sql = sql[:start] + str(chooser.randint(1, 40_000)) + sql[end:]
        result.append(sql + ";\n")
    return "".join(result)


def _say(text: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
