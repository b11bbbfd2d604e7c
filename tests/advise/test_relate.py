"""Findings that speak of one thing are shown once, with the symptom as evidence of the cure."""

from __future__ import annotations

from typing import Any

from sqladvisor.advise.relate import relate
from sqladvisor.finding import Evidence, Finding, Fix, Location, Severity
from sqladvisor.sql.libpg import fingerprint as libpg_fingerprint

FP = libpg_fingerprint("SELECT 3")
AT = Location("q.sql", 3, 1, 3, 7)


def finding(
    rule: str,
    statement: str = "SELECT 1",
    severity: Severity = "warning",
    fixes: tuple[Fix, ...] = (),
    notes: tuple[str, ...] = (),
    fingerprint: str = "f",
    **figures: Any,
) -> Finding:
    evidence = Evidence("measured", figures, notes)
    return Finding(rule, severity, "reads it all", AT, statement, fingerprint, evidence, fixes)


def index(**figures: Any) -> Finding:
    known = {"index": "t (a)", "table": "t", "queries": [], "removes_sort": False, **figures}
    return finding("index/missing", fixes=(Fix("build", "CREATE INDEX ON t (a)", "ddl"),), **known)


def test_a_sequential_scan_becomes_evidence_of_the_missing_index() -> None:
    symptom = finding("plan/seq-scan-filtering", relation="t", notes=("50 ms of 60 ms",))
    (left,) = relate([symptom, index()])
    assert left.rule == "index/missing"
    assert left.evidence.notes == ("today: reads it all (50 ms of 60 ms)",)


def test_the_scan_of_another_table_or_statement_stays() -> None:
    other_table = finding("plan/seq-scan-filtering", relation="u")
    other_statement = finding("plan/seq-scan-filtering", "SELECT 2", relation="t")
    assert len(relate([other_table, other_statement, index()])) == 3


def test_a_sort_goes_only_with_an_index_that_gives_the_order() -> None:
    spill = finding("plan/sort-spill")
    assert len(relate([spill, index()])) == 2
    assert len(relate([spill, index(removes_sort=True)])) == 1


def test_index_advice_gives_way_to_a_query_rule_that_built_the_same_index() -> None:
    fix = Fix("x", "CREATE INDEX CONCURRENTLY ON t (a);", "ddl", proof={"time_after_ms": 1.0})
    advice = index(queries=[{"path": "q.sql", "rewrite_of": None, "fingerprint": "f"}])
    (left,) = relate([finding("query/function-on-column", fixes=(fix,)), advice])
    assert left.rule == "query/function-on-column"


def test_a_rewrite_says_which_index_serves_it_and_explains_the_scan() -> None:
    use = {
        "path": "q.sql",
        "rewrite_of": "f",
        "fingerprint": FP,
        "time_before_ms": 50.0,
        "time_after_ms": 0.5,
    }
    hidden = finding("query/function-on-column", severity="info", fixes=(Fix("x", "SELECT 3"),))
    scan = finding("plan/seq-scan-filtering", relation="t")
    advice = finding(
        "index/missing", "SELECT 9", fingerprint="g", index="t (a)", table="t", queries=[use],
        fixes=(Fix("build", "CREATE INDEX ON t (a)", "ddl"),),
    )  # fmt: skip
    left = relate([scan, hidden, advice])
    assert [f.rule for f in left] == ["query/function-on-column", "index/missing"]
    assert left[0].severity == "warning"
    assert left[0].evidence.notes == (
        "today: reads it all",
        "so rewritten, the index advised on t (a) serves it: 50 → 0.5 ms",
    )


def test_a_rewrite_does_not_claim_the_index_of_another_rewrite() -> None:
    use = {
        "path": "q.sql", "rewrite_of": "f", "fingerprint": FP, "time_before_ms": 50.0,
        "time_after_ms": 0.5,
    }  # fmt: skip
    other = finding("query/select-star", severity="info", fixes=(Fix("x", "SELECT a FROM t"),))
    left = relate([other, index(queries=[use])])
    assert not any("so rewritten" in note for f in left for note in f.evidence.notes)


def test_costed_advice_gives_way_to_a_query_rule_that_makes_the_same_index() -> None:
    fix = Fix("x", "CREATE INDEX CONCURRENTLY ON t (a);", "ddl")
    costs = {"cost_before": 900.0, "cost_after": 9.0, "size_bytes": 8192}
    advice = index(queries=[{"path": "q.sql", "rewrite_of": None, "fingerprint": "f"}], **costs)
    (left,) = relate([finding("query/function-on-column", fixes=(fix,)), advice])
    assert left.rule == "query/function-on-column"
    assert left.fixes[0].proof == costs


def test_measured_advice_does_not_give_way_to_a_fix_nobody_measured() -> None:
    fix = Fix("x", "CREATE INDEX CONCURRENTLY ON t (a);", "ddl")
    costs = {"cost_before": 900.0, "cost_after": 9.0, "size_bytes": 8192, "time_after_ms": 1.0}
    advice = index(queries=[{"path": "q.sql", "rewrite_of": None, "fingerprint": "f"}], **costs)
    assert len(relate([finding("query/function-on-column", fixes=(fix,)), advice])) == 2
