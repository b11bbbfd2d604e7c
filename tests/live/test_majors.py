"""Every command that reads a server, on the majors that no other test runs: 13, 14, 16 and 17.

One function for each does it all on one server, that of the ten known problems: starting it is what
costs. As superuser, as pg_monitor with SELECT on everything, and as a role without any rights. 15 and
18 have the whole of the other tests; every rule of the database kind runs on all six in
tests/rules/test_database_rules.py.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from known_problems import ROOT, problems
from needs import major

from sqladvisor.auditor import Options, audit
from sqladvisor.catalog.snapshot import decode, encode
from sqladvisor.indexer import Options as IndexOptions
from sqladvisor.indexer import advise
from sqladvisor.live import Watch, live
from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.monitor.queries import FAMILIES
from sqladvisor.monitor.sample import Sampler
from sqladvisor.report.model import Report
from sqladvisor.server.binaries import find_binaries
from sqladvisor.server.embedded import Cluster
from sqladvisor.server.expression_statistics import RowSampler
from sqladvisor.server.shadow import build_shadow
from sqladvisor.server.snapshot import take_snapshot
from sqladvisor.server.whatif import HypotheticalIndex, ShadowWhatIf

sys.path.insert(0, str(ROOT / "benchmarks"))
import fidelity

MIGRATIONS = str(ROOT / "fixtures" / "shop" / "migrations")
ROLES = """
CREATE ROLE watcher LOGIN IN ROLE pg_monitor;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO watcher;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO watcher;
CREATE ROLE passer_by LOGIN;
"""
HIDDEN = {
    "missing index", "expression on an indexed column", "bloated table",
    "integer key nearly used up", "idle in transaction", "cacheable statement",
}  # fmt: skip
"""Of the ten problems, those that a role without any rights cannot see."""
DOCUMENTS = 1  # thousands
QUERIES = """
SELECT id, total FROM orders WHERE user_id = 17;
SELECT count(*) FROM orders WHERE date(created_at) = '2024-11-29';
SELECT id, total FROM orders WHERE user_id = $1 + length(current_user);
SELECT u.name, sum(o.total) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.city = 'Gent' GROUP BY u.name;
"""


@dataclass(frozen=True)
class Server:
    """The server of the ten problems. ``programs``: of its own major."""

    cluster: Cluster

    @property
    def version(self) -> int:
        return self.cluster.version_num // 10000

    @property
    def programs(self) -> str:
        return self.cluster.binaries.bin_dir

    def dsn(self, user: str = "postgres") -> str:
        return self.cluster.dsn("shop", user)


@contextmanager
def a_server(number: int) -> Iterator[Server]:
    with problems.problem_server(major(number), scale=0.02) as cluster:
        with cluster.connect("shop") as admin:
            admin.execute(ROLES)
        yield Server(cluster)


@pytest.mark.parametrize("number", [13, 14, 16, 17])
def test_everything_runs_on(number: int, tmp_path: Path) -> None:
    with a_server(number) as server:
        for step in (
            live_names_the_ten_problems,
            the_monitor_samples_every_family,
            a_snapshot_is_planned_on_18_and_on_the_same_major,
            the_audit_and_index_advice_read_the_server,
            the_gate_starts_from_the_server,
        ):
            step(server, tmp_path)


def live_names_the_ten_problems(server: Server, _: Path) -> None:
    for user, hidden in (("postgres", set()), ("watcher", set()), ("passer_by", HIDDEN)):
        report = live(Options(dsn=server.dsn(user)), Watch(0.2))
        assert not report.problems, report.problems
        unnamed = {
            problem
            for problem, (rule, word) in problems.PROBLEMS.items()
            if not any(f.rule == rule and word in f.message for f in report.findings)
        }
        assert unnamed == hidden, user
        assert len(only_other_planner(report, server)) == (user != "passer_by")
        grants = [n for n in report.notes if "shows them" in n]
        if user != "passer_by":
            assert not grants, user
        elif server.version == 13:
            assert not any("GRANT pg_read_all_data" in n for n in grants)
            assert any("PostgreSQL 13 has no pg_read_all_data" in n for n in grants)
        else:
            assert any("GRANT pg_read_all_data TO passer_by" in n for n in grants)


def only_other_planner(report: Report, server: Server) -> list[str]:
    """What is said of plans by another version's planner."""
    said = [n for n in report.notes if "--postgres-bin" in n]
    assert all(f"with the programs of PostgreSQL {server.version} " in n for n in said)
    return said


def the_monitor_samples_every_family(server: Server, _: Path) -> None:
    absent = {"io"} if server.version < 16 else set()
    absent |= {"wal", "statement_info"} if server.version < 14 else set()
    for columns, user in enumerate(("postgres", "watcher", "passer_by"), 41):

        async def look(user: str = user, columns: int = columns) -> None:
            sampler = Sampler(server.dsn(user))
            first = await sampler.tick()
            with server.cluster.connect("shop", user=user) as session:
                for _ in range(7):
                    session.execute(f"SELECT {', '.join('1' * columns)}".encode(), prepare=False)
            second = await sampler.tick()
            await sampler.close()
            assert first.reachable and second.reachable, (first.error, second.error)
            assert set(first.families) | set(second.families) == set(FAMILIES) - absent
            texts = second.statements.items()
            known = {queryid for queryid, text in texts if text.count("$") == columns}
            rows = second.families["statement"].records()
            assert [r["calls"] for r in rows if r["queryid"] in known] == [7]
            assert bool(first.notes) == (user == "passer_by"), first.notes

        asyncio.run(look())


def a_snapshot_is_planned_on_18_and_on_the_same_major(server: Server, folder: Path) -> None:
    queries = folder / "q.sql"
    queries.write_text(QUERIES)
    for user, unread in (("postgres", ()), ("watcher", ()), ("passer_by", ("left out", "ends of"))):
        taken = take_snapshot(server.dsn(user), find_binaries(None))
        assert decode(encode(taken).encode(), "s.json") == taken
        missing = "\n".join(taken.statistics.missing)
        assert all(word in missing for word in unread) and bool(missing) == bool(unread), missing
        assert taken.workload
        path = folder / f"{user}.json"
        path.write_text(encode(taken))
        for programs in (None, server.programs) if user == "postgres" else (None,):
            report = audit([str(queries)], Options(snapshot=str(path), postgres_bin=programs))
            assert len(only_other_planner(report, server)) == (programs is None)
            found = {f.rule for f in report.findings}
            assert "query/would-fail" not in found
            if unread:
                assert all(
                    "the schema was not loaded completely" in p.message for p in report.problems
                )
            else:
                assert not report.problems, report.problems
                assert {"index/missing", "query/function-on-column"} <= found


def the_audit_and_index_advice_read_the_server(server: Server, folder: Path) -> None:
    queries = folder / "q.sql"
    queries.write_text(QUERIES)
    for user, programs in (("postgres", server.programs), ("watcher", None)):
        options = Options(dsn=server.dsn(user), postgres_bin=programs)
        report = advise(IndexOptions(workload=(str(queries),), server=options))
        made = [c.sql for c in report.details["indexes"].creates]
        assert any(m.startswith("CREATE INDEX CONCURRENTLY ON orders (user_id") for m in made), made
        assert not report.problems, report.problems
        assert len(only_other_planner(report, server)) == (programs is None)
        report = audit([str(queries)], options)
        assert any(f.rule == "index/missing" for f in report.findings)
        assert not report.problems, report.problems
    report = audit([str(queries)], Options(dsn=server.dsn("passer_by")))
    assert len(report.problems) == QUERIES.count(";")
    assert all("permission denied for" in p.message for p in report.problems)


def the_gate_starts_from_the_server(server: Server, _: Path) -> None:
    for user, programs in (("postgres", server.programs), ("watcher", None)):
        options = GateOptions(dsn=server.dsn(user), postgres_bin=programs, cache=False, trace=True)
        report = gate([MIGRATIONS], options)
        assert not report.problems, report.problems
        assert "migration/traced-lock" in {f.rule for f in report.findings}
        assert not [n for n in report.notes if "lacks" in n]


@pytest.mark.parametrize("number", [13, 14, 15, 16, 17])
def test_a_shadow_of_the_same_major_plans_to_the_digit(number: int) -> None:
    with Cluster(major(number)) as cluster:
        cluster.create_database("kinds")
        with cluster.connect("kinds") as connection:
            fidelity.load_kinds(connection, DOCUMENTS)
            connection.execute("CHECKPOINT")
            real = fidelity.plan_all(connection, fidelity.kinds_queries())
            assert not [p for p in real.values() if isinstance(p, str)]
            taken = take_snapshot(cluster.dsn("kinds"), find_binaries(None), values="full")
            shadow = build_shadow(cluster, "shadow", taken.schema, taken.statistics)
            assert shadow.left_out == []
            with shadow.connect() as own:
                found = fidelity.plan_all(own, fidelity.kinds_queries())
            result = fidelity.compare("same major", real, found)  # type: ignore[arg-type]
            assert result.total == 55
            assert result.costs == result.shapes == result.total, result.differing
            whatif = ShadowWhatIf(shadow, RowSampler(connection))
            hypothetical_indexes_are_as_large_as_real_ones(connection, whatif)


def hypothetical_indexes_are_as_large_as_real_ones(
    connection: object, whatif: ShadowWhatIf
) -> None:
    candidates = (*fidelity.BTREES[:14], *fidelity.OTHER_KINDS)
    priced = fidelity.price(connection, whatif, candidates)  # type: ignore[arg-type]
    assert len(priced) == len(candidates)
    for p in priced:
        bound = 0.10 if p.index.method == "btree" else 0.25
        assert abs(p.estimated - p.real) <= bound * p.real + 3 * 8192, (p.index.ddl(), p.error)
    wrong = [text for p in priced for text in p.disagreeing]
    assert len(wrong) <= sum(p.pairs for p in priced) * 0.05, wrong
    (handle,) = whatif.add([HypotheticalIndex("documents", ("title",))])
    plan = whatif.cost("SELECT id FROM documents WHERE title = $1", [handle], generic=True)
    assert plan.indexes_used() == {handle.name}
    whatif.close()
