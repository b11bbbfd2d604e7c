"""How true the shadow planner is: plans of a server beside plans of a shadow made from its snapshot.

TPC-H (tpcgen-cli), the shop, and fixtures/kinds; for full privileges, a role with SELECT only, masked
and no values; from PostgreSQL 18, and from a local PostgreSQL (15 on Debian) planned on 18. Then
hypothetical indexes beside real ones, and what 1,000 tables take. Exits with 1 where a bound is missed.

    python benchmarks/shadow.py [--scale 1] [--documents 50] [--no-system]
    python benchmarks/shadow.py --majors 13 14 15 16 17 18 --shop 0.1 --documents 10
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import tpch_data
from fidelity import (
    BTREES,
    HEAD,
    OTHER_KINDS,
    Compared,
    Priced,
    compare,
    kinds_queries,
    load_kinds,
    plan_all,
    price,
)
from many_tables import many_tables

from sqladvisor.catalog.live import read_catalog
from sqladvisor.catalog.snapshot import decode, encode
from sqladvisor.context import Context
from sqladvisor.errors import ServerError
from sqladvisor.modules import load_module
from sqladvisor.server.binaries import Binaries, find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.explain import explainable
from sqladvisor.server.expression_statistics import RowSampler
from sqladvisor.server.parameters import has_parameters, with_values
from sqladvisor.server.sandbox import Sandbox
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import take_snapshot
from sqladvisor.server.whatif import ShadowWhatIf
from sqladvisor.sql.source import read_source, statements

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
READER = "reader"
FULL_SHAPE = FULL_COST = 1.0
READER_SHAPE, READER_NEAR = 0.98, 0.85
MASKED_SHAPE = 0.95
BTREE_ERROR, OTHER_ERROR = 0.10, 0.25


@dataclass(frozen=True)
class Variant:
    name: str
    user: str
    values: str


VARIANTS = (
    Variant("full privileges", "postgres", "full"),
    Variant("SELECT only", READER, "full"),
    Variant("masked", "postgres", "masked"),
    Variant("none", "postgres", "none"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="TPC-H's scale factor")
    parser.add_argument("--shop", type=float, default=0.5, help="share of the full shop")
    parser.add_argument("--documents", type=int, default=50, help="thousands, of fixtures/kinds")
    parser.add_argument("--only-indexes", action="store_true", help="hypothetical indexes only")
    parser.add_argument("--no-system", action="store_true", help="leave the other PostgreSQL out")
    parser.add_argument(
        "--majors", nargs="*", type=int, metavar="N",
        help="only sources planned by their own major (`make test-servers`), without TPC-H",
    )  # fmt: skip
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    missed: list[str] = []
    if options.majors is not None:
        return own_major(options.majors or [13, 14, 15, 16, 17, 18], options)
    with Cluster(find_binaries(None)) as source, Cluster(find_binaries(None)) as own:
        load(source, options)
        if not options.only_indexes:
            variants(source, own, VARIANTS, missed)
        indexes(source, own, missed)
    if not options.only_indexes:
        print()
        missed += many_tables(1000)
    if not options.no_system and not options.only_indexes:
        try:
            binaries = find_binaries("system")
        except ServerError as error:
            print(f"\nno other PostgreSQL: {error}")
        else:
            with Cluster(binaries) as source, Cluster(find_binaries(None)) as own:
                load(source, options)
                print(f"\nfrom PostgreSQL {binaries.version}, planned on 18 (no bound):")
                variants(source, own, VARIANTS[:1], [])
    for text in missed:
        print(f"MISSED: {text}")
    return int(bool(missed))


def installation(number: int) -> Binaries:
    """The wheel's 18, one that tests/fetch_servers.py fetched, or Debian's."""
    from fetch_servers import PACKAGES, bin_dir

    if number == 18:
        return find_binaries(None)
    fetched = number in PACKAGES
    return find_binaries(str(bin_dir(number)) if fetched else f"/usr/lib/postgresql/{number}/bin")


def own_major(majors: Sequence[int], options: argparse.Namespace) -> int:
    """The shop and fixtures/kinds of each major, planned by the same and, beside it, by 18."""
    print(f"the shop and kinds, full privileges\n{HEAD}")
    missed = 0
    for number in majors:
        binaries = installation(number)
        with Cluster(binaries) as source, Cluster(find_binaries(None)) as newest:
            load_shop(source, options.shop)
            load_all_kinds(source, options.documents)
            for own in (source, newest):
                together = Compared(f"{binaries.version} on {own.binaries.version}")
                queries = {"shop": shop_queries(source), "kinds": kinds_queries()}
                for database, texts in queries.items():
                    with source.connect(database) as connection:
                        expected = plan_all(connection, texts)
                    real = {k: v for k, v in expected.items() if not isinstance(v, str)}
                    snapshot = take_snapshot(
                        source.dsn(database), find_binaries(None), values="full"
                    )
                    shadow = build_shadow(
                        own, f"{database} again", snapshot.schema, snapshot.statistics
                    )
                    with shadow.connect() as connection:
                        _add(together, compare(database, real, plan_all(connection, texts)))
                print(together.line())
                missed += own is source and together.costs < together.total
                if number == 18:
                    break
    return int(bool(missed))


def load(cluster: Cluster, options: argparse.Namespace) -> None:
    began = time.monotonic()
    tpch_data.load(cluster, "tpch", 0.01 if options.only_indexes else options.scale)
    tpch_data.run_file(cluster, "tpch", "keys")
    with cluster.connect("tpch") as connection:
        for index in ("orders (o_custkey)", "orders (o_orderdate)", "lineitem (l_partkey, l_suppkey)",
                      "lineitem (l_shipdate)", "partsupp (ps_suppkey)", "customer (c_nationkey)"):  # fmt: skip
            connection.execute(f"CREATE INDEX ON {index}".encode())
    load_shop(cluster, options.shop)
    load_all_kinds(cluster, options.documents)
    with cluster.connect("postgres") as admin:
        admin.execute(f"CREATE ROLE {READER} LOGIN")
    for name in ("tpch", "shop", "kinds"):
        with cluster.connect(name) as connection:
            connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {READER}")
            connection.execute("CHECKPOINT")
    print(f"loaded in {time.monotonic() - began:.0f} s")


def load_shop(cluster: Cluster, scale: float) -> None:
    shop = Sandbox(cluster, "shop")
    shop.load_schema([str(ROOT / "fixtures/shop/schema.sql")], lambda _: None)
    generator = load_module(str(ROOT / "fixtures/shop/generate.py"), "generate")
    shop.load_rows(generator.tables(scale), lambda _: None)
    shop.analyze()
    with cluster.connect("shop") as connection:
        connection.execute("CHECKPOINT")


def load_all_kinds(cluster: Cluster, documents: int) -> None:
    cluster.create_database("kinds")
    with cluster.connect("kinds") as connection:
        load_kinds(connection, documents)
        connection.execute("CHECKPOINT")


def shop_queries(cluster: Cluster) -> dict[str, str]:
    """The shop's statements that can be planned, parameters filled in from statistics."""
    path = ROOT / "fixtures/shop/queries.sql"
    with cluster.connect("shop") as connection:
        catalog = read_catalog(connection)
    found = {}
    for statement in statements(read_source("shop", path.read_bytes()))[0]:
        context = Context(statement, catalog)
        sql = with_values(context) if has_parameters(context) else statement.sql
        if explainable(statement.kind) and sql is not None:
            found[f"s{statement.line}"] = sql
    return found


def variants(source: Cluster, own: Cluster, wanted: Sequence[Variant], missed: list[str]) -> None:
    queries = {
        "tpch": tpch_data.queries(), "shop": shop_queries(source), "kinds": kinds_queries()
    }  # fmt: skip
    print(f"\n{HEAD}")
    for variant in wanted:
        together = Compared(f"{variant.name}: all")
        for database, texts in queries.items():
            with source.connect(database) as connection:
                expected = plan_all(connection, texts)
            real = {k: v for k, v in expected.items() if not isinstance(v, str)}
            began = time.monotonic()
            snapshot = take_snapshot(
                source.dsn(database, variant.user), find_binaries(None), values=variant.values
            )
            data = encode(snapshot).encode()
            taken = time.monotonic() - began
            name = f"{database} {variant.name}"
            snapshot = decode(data, name)
            began = time.monotonic()
            shadow = build_shadow(own, name, snapshot.schema, snapshot.statistics)
            built = time.monotonic() - began
            shadow.stand_ins = snapshot.stand_ins
            with shadow.connect() as connection:
                result = compare(f"{variant.name}: {database}", real, plan_all(connection, texts))
            own.drop_database(name)
            print(
                f"{result.line()}   taken {taken:.1f} s, built {built:.1f} s, {len(data) >> 10} kB"
            )
            for note in (*shadow.left_out, *snapshot.statistics.missing):
                print(f"    note: {note}")
            for text in result.differing:
                print(f"    {text}")
            _add(together, result)
        print(together.line())
        missed += _bounds(variant, together)


def _add(total: Compared, part: Compared) -> None:
    for name in ("total", "shapes", "access", "costs", "near"):
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.ratios += part.ratios


def _bounds(variant: Variant, found: Compared) -> list[str]:
    wanted = {
        ("postgres", "full"): (FULL_SHAPE, found.costs, FULL_COST),
        (READER, "full"): (READER_SHAPE, found.near, READER_NEAR),
        ("postgres", "masked"): (MASKED_SHAPE, found.near, 0.0),
    }.get((variant.user, variant.values))
    if wanted is None:
        return []
    shape, count, least = wanted
    missed = []
    if found.share(found.shapes) < shape:
        missed.append(f"{variant.name}: shape {found.share(found.shapes):.1%} < {shape:.0%}")
    if found.share(count) < least:
        missed.append(f"{variant.name}: cost {found.share(count):.1%} < {least:.0%}")
    return missed


def indexes(source: Cluster, own: Cluster, missed: list[str]) -> None:
    """Hypothetical indexes beside real ones, over fixtures/kinds."""
    snapshot = take_snapshot(source.dsn("kinds"), find_binaries(None), values="full")
    shadow = build_shadow(own, "what-if", snapshot.schema, snapshot.statistics)
    with source.connect("kinds") as connection:
        # Statistics of expressions from the rows, as where --data has been loaded.
        whatif = ShadowWhatIf(shadow, RowSampler(connection))
        btrees = price(connection, whatif, BTREES)
        others = price(connection, whatif, OTHER_KINDS)
    whatif.close()
    for title, found, bound in (("b-tree", btrees, BTREE_ERROR), ("other", others, OTHER_ERROR)):
        print(f"\n{title}: size estimated and real, pairs used alike (used)")
        for p in found:
            over = "  over the bound" if abs(p.error) > bound and p.real > 20 * 8192 else ""
            print(
                f"  {p.estimated >> 10:>7} kB {p.real >> 10:>7} kB {p.error:>+7.1%}  {p.agreed}/{p.pairs} "
                f"({p.used})  {p.index.ddl().removeprefix('CREATE INDEX ON ')}{over}"
            )
            for text in p.disagreeing:
                print(f"      {text}")
        missed += _priced(title, found, bound)


def _priced(title: str, found: Sequence[Priced], bound: float) -> list[str]:
    errors = sorted(abs(p.error) for p in found)
    pairs, agreed = sum(p.pairs for p in found), sum(p.agreed for p in found)
    print(
        f"  size error: median {median(errors):.1%}, 90 % {errors[int(len(errors) * 0.9)]:.1%}, "
        f"largest {errors[-1]:.1%}; {agreed} of {pairs} pairs agree"
    )
    # Of a few pages one more is a large share.
    missed = [
        f"size of {p.index.ddl()}: {p.error:+.0%}"
        for p in found
        if abs(p.error) > bound and abs(p.estimated - p.real) > 3 * 8192
    ]
    if agreed < pairs:
        missed.append(f"{title}: {pairs - agreed} of {pairs} pairs disagree on use")
    return missed


if __name__ == "__main__":
    sys.exit(main())
