"""What the rules say of large bodies of SQL that are known to be good: nothing may crash, little be wrong.

    python benchmarks/noise.py                 findings by body and rule, and what failed
    python benchmarks/noise.py --sample 100    that many findings at warning and above, to be read

The bodies: the shop's queries; TPC-H (22) and TPC-DS (99, from DuckDB's extension where it is
installed); what psql's backslash commands send; the views of information_schema, pg_catalog and of
every extension that the embedded server has, and the SQL and PL/pgSQL functions of all of these.
"""

from __future__ import annotations

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from sqladvisor.auditor import Options, audit
from sqladvisor.finding import SEVERITY_RANK, Finding
from sqladvisor.report.model import Report
from sqladvisor.server.binaries import Binaries, find_binaries
from sqladvisor.server.embedded import Cluster

ROOT = Path(__file__).resolve().parent.parent
SHOP = ROOT / "fixtures" / "shop"
TPCH = Path(__file__).resolve().parent / "tpch"
SEED = 7
"""Of the sample, so that two runs show the same findings."""
COMMANDS = (
    "d", "d+ users", "d+ orders", "d+ users_pkey", "d events_id_seq", "da", "da+", "dA", "dA+", "dAc",
    "dAf", "dAo", "dAp", "db", "db+", "dc", "dC+", "dconfig", "dd", "dD+", "ddp", "dE", "det", "des+",
    "dew+", "deu+", "df", "df+", "dFp+", "dFd+", "dFt+", "dF+", "dg+", "di+", "dl+", "dL+", "dm+",
    "dn+", "do+", "dO+", "dp", "dP+", "dPt", "drds", "drg", "dRp+", "dRs+", "ds+", "dS", "dt+", "dT+",
    "du+", "dv+", "dv+ information_schema.*", "dx+", "dX", "dy+", "l+", "sf lower(text)", "z",
)  # fmt: skip
"""psql's commands that look into the catalogs."""
_ECHOED = re.compile(r"^/?\*+ QUERY \*+/?\n(.*?)^/?\*+/?$", re.MULTILINE | re.DOTALL)
_EXTENSIONS = """SELECT name FROM pg_available_extensions
WHERE name NOT IN ('plpgsql') ORDER BY name"""
_VIEWS = """SELECT format('CREATE VIEW %%I.%%I AS%%s', n.nspname, c.relname, pg_get_viewdef(c.oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('v', 'm')
AND ((n.nspname IN ('pg_catalog', 'information_schema')) = %s) ORDER BY 1"""
_FUNCTIONS = """SELECT pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'p') ORDER BY 1"""


@dataclass(frozen=True, slots=True)
class Body:
    """A body of SQL: what it is called, its files, and the schema it is planned under."""

    name: str
    files: tuple[str, ...]
    schema: tuple[str, ...] = ()


def catalog_bodies(folder: Path, binaries: Binaries) -> Iterator[Body]:
    """What can be read out of the embedded server itself."""
    with Cluster(binaries) as cluster:
        cluster.create_database("noise")
        with cluster.connect("noise") as connection:
            connection.execute((SHOP / "schema.sql").read_bytes())
            for (name,) in connection.execute(_EXTENSIONS).fetchall():
                try:
                    connection.execute(f'CREATE EXTENSION IF NOT EXISTS "{name}" CASCADE')
                except psycopg.Error as error:
                    print(f"  extension {name}: {error}", file=sys.stderr)
            system = [r[0] for r in connection.execute(_VIEWS, [True]).fetchall()]
            own = [r[0] for r in connection.execute(_VIEWS, [False]).fetchall()]
            functions = [f"{r[0]};" for r in connection.execute(_FUNCTIONS).fetchall()]
        yield written(folder, "views of the system catalogs", system)
        yield written(folder, "views of extensions", own)
        yield written(folder, "functions in SQL and PL/pgSQL", functions)
        # Each in a file of its own: they do not follow one another.
        own_files = [
            written(folder, f"psql {number}", [query]).files[0]
            for number, query in enumerate(sorted(set(psql(binaries, cluster))))
        ]
        yield Body("what psql sends", tuple(own_files))


def psql(binaries: Binaries, cluster: Cluster) -> Iterator[str]:
    """The queries that psql's own commands send to the server."""
    program = Path(binaries.bin_dir) / "psql"
    for command in COMMANDS:
        done = subprocess.run(
            [str(program), "-X", "-E", "-d", cluster.dsn("noise"), "-c", f"\\{command}"],
            capture_output=True,
            text=True,
            check=False,
        )
        for match in _ECHOED.finditer(done.stdout):
            yield match[1].strip().rstrip(";") + ";"


def tpcds(folder: Path) -> Iterator[Body]:
    """TPC-DS's queries and tables, by DuckDB's extension (pip install 'sqladvisor[bench]')."""
    try:
        import duckdb  # type: ignore[import-not-found,unused-ignore]
        import duckdb_extension_tpcds  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        print("TPC-DS is left out: duckdb and duckdb-extension-tpcds are not installed")
        return
    found = Path(duckdb_extension_tpcds.__file__).parent.rglob("tpcds.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"LOAD '{next(found)}'")
    queries = connection.execute("SELECT query FROM tpcds_queries() ORDER BY query_nr").fetchall()
    connection.execute("CALL dsdgen(sf = 0)")
    tables = connection.execute("SELECT sql, table_name FROM duckdb_tables()").fetchall()
    schema = folder / "tpcds_schema.sql"
    ddl = []
    for text, name in tables:
        ddl.append(text.rstrip(";") + ";")
        key = re.search(r"\((\w+_sk) ", text)
        if key and not name.endswith(("_sales", "_returns", "inventory")):
            ddl.append(f"ALTER TABLE {name} ADD PRIMARY KEY ({key[1]});")
    schema.write_text("\n".join(ddl))
    body = written(folder, "TPC-DS", [q.strip() for (q,) in queries])
    yield Body(body.name, body.files, (str(schema),))


def written(folder: Path, name: str, statements: list[str]) -> Body:
    path = folder / (re.sub(r"\W+", "_", name) + ".sql")
    path.write_text("\n\n".join(statements) + "\n")
    return Body(name, (str(path),))


def bodies(folder: Path) -> Iterator[Body]:
    shop = (str(SHOP / "schema.sql"),)
    yield Body("shop", (str(SHOP / "queries.sql"),), shop)
    yield Body(
        "TPC-H",
        (str(TPCH / "queries.sql"),),
        (str(TPCH / "schema.sql"), str(TPCH / "keys.sql")),
    )
    yield from tpcds(folder)
    yield from catalog_bodies(folder, find_binaries(None))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=0, help="findings to show")
    parser.add_argument("--server", action="store_true", help="also plan the bodies with a schema")
    arguments = parser.parse_args()
    loud: list[tuple[Body, Finding]] = []
    failed = 0
    with tempfile.TemporaryDirectory(prefix="sqladvisor-noise-") as name:
        for body in bodies(Path(name)):
            ways = [Options()]
            if arguments.server and body.schema:
                ways.append(Options(schema=body.schema))
            for options in ways:
                start = time.perf_counter()
                report = audit(body.files, options)
                failed += show(body, options, report, time.perf_counter() - start)
                loud += [(body, f) for f in report.findings if SEVERITY_RANK[f.severity] > 1]
    if arguments.sample:
        sample(loud, arguments.sample)
    return int(failed > 0)


def show(body: Body, options: Options, report: Report, seconds: float) -> int:
    """Print what one body gave; the number of rules that failed on it."""
    how = "planned" if options.needs_server else "static"
    counts = Counter((f.severity, f.rule) for f in report.findings)
    warned = sum(n for (severity, _), n in counts.items() if severity != "info")
    print(
        f"{body.name} ({how}): {report.statements} statements, {warned} at warning and above, "
        f"{sum(counts.values()) - warned} info, {len(report.problems)} problems, {seconds:.1f} s"
    )
    for (severity, rule), number in sorted(counts.items(), key=lambda c: -c[1]):
        print(f"    {number:5} {severity:8} {rule}")
    failures = [p for p in report.problems if "please report this" in p.message]
    for problem in report.problems:
        print(f"    problem, line {problem.line}: {problem.message}")
    return len(failures)


def sample(found: list[tuple[Body, Finding]], size: int) -> None:
    """Print findings to be judged, each with its statement."""
    chosen = random.Random(SEED).sample(found, min(size, len(found)))
    for number, (body, finding) in enumerate(chosen, 1):
        fixes = "; ".join(
            f"{f.description}: {' '.join(f.sql.split())[:200]}" for f in finding.fixes
        )
        print(
            f"\n[{number}] {body.name}:{finding.location.line} {finding.severity} {finding.rule}\n"
            f"  {finding.message}\n  {' '.join(finding.statement.split())[:600]}\n  fix: {fixes}"
        )


if __name__ == "__main__":
    sys.exit(main())
