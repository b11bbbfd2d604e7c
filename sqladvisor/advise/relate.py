"""Findings that speak of one thing, made one: the cure is shown, the symptom becomes its evidence.

A sequential scan that throws its rows away, the predicate that hides the index, and the index that
is missing are three sights of one problem. Shown three times they are noise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqladvisor.finding import Finding
from sqladvisor.sql.libpg import ParseProblem, fingerprint

SYMPTOMS = frozenset(
    ("plan/seq-scan-filtering", "plan/index-scan-filtering", "plan/nested-loop-blowup",
     "plan/subplan-per-row", "plan/sort-spill", "plan/cte-scan-full")
)  # fmt: skip
"""What the plan shows when an index is missing or cannot be used."""
SORTS = frozenset(("plan/sort-spill",))
"""Those that an index cures by giving the order."""
INDEXES = frozenset(
    ("index/missing", "index/missing-gin", "index/missing-gist", "index/missing-brin",
     "index/better-column-order")
)  # fmt: skip
"""The rules over costed index advice."""
REPEATED, PREPARE = "prepare/repeated-literal-statement", "prepare/planning-dominates"
PLANNING = "plan/planning-dominates"


def relate(findings: Sequence[Finding]) -> list[Finding]:
    """The findings without those that another one explains and cures. Keeps the order."""
    shown = _without_planning(_without_twins(list(findings)))
    notes: dict[int, list[str]] = {}
    result = []
    for finding in shown:
        cure = next(_cures(finding, shown), None) if finding.rule in SYMPTOMS else None
        if cure is None:
            result.append(finding)
        else:
            notes.setdefault(id(cure), []).append(_today(finding))
    return [
        _with(f, [*notes.get(id(f), ()), *_once_rewritten(f, shown)], cures=id(f) in notes)
        for f in result
    ]


def _without_twins(findings: list[Finding]) -> list[Finding]:
    """Without index advice for one statement whose index a query rule's fix makes already.

    What the advice knows of the index goes to that fix where it was not measured itself.
    """
    gone: set[int] = set()
    known: dict[int, Finding] = {}
    for advice in findings:
        if advice.rule not in INDEXES or len(advice.evidence.figures.get("queries", ())) != 1:
            continue
        twins = [
            (other, fix)
            for other in findings
            if other.rule not in INDEXES and _same_statement(other, advice)
            for fix in other.fixes
            if fix.kind == "ddl" and _definition(fix.sql) == _definition(advice.fixes[0].sql)
        ]
        if any("time_after_ms" in fix.proof for _, fix in twins):
            gone.add(id(advice))
        elif (
            twins and "time_after_ms" not in advice.evidence.figures and not _is_of_rewrite(advice)
        ):
            gone.add(id(advice))
            known |= {id(fix): advice for _, fix in twins}
    return [_with_proofs(f, known) for f in findings if id(f) not in gone]


def _is_of_rewrite(advice: Finding) -> bool:
    return advice.evidence.figures["queries"][0]["rewrite_of"] is not None


def _with_proofs(finding: Finding, known: Mapping[int, Finding]) -> Finding:
    """The finding with what its twins, by the ``id`` of the fix, know of the index it makes."""
    twins = [known[id(f)] for f in finding.fixes if id(f) in known]
    if not twins:
        return finding
    fixes = tuple(
        replace(f, proof={**f.proof, **_costs(known[id(f)])}) if id(f) in known else f
        for f in finding.fixes
    )
    notes = [n for n in twins[0].evidence.notes if n not in finding.evidence.notes]
    level = "estimated" if finding.evidence.level == "static" else finding.evidence.level
    evidence = replace(finding.evidence, level=level, notes=(*finding.evidence.notes, *notes))
    return replace(finding, fixes=fixes, evidence=evidence)


def _costs(advice: Finding) -> dict[str, Any]:
    return {k: advice.evidence.figures[k] for k in ("cost_before", "cost_after", "size_bytes")}


def _without_planning(findings: list[Finding]) -> list[Finding]:
    """Without word of planning time where preparing the statement is advised and shown already."""
    repeated = {f.fingerprint for f in findings if f.rule == REPEATED}
    named = {(f.statement, f.location.path) for f in findings if f.rule == PREPARE}
    return [
        f
        for f in findings
        if not (f.rule == PREPARE and f.fingerprint in repeated)
        and not (f.rule == PLANNING and (f.statement, f.location.path) in named)
    ]


def _definition(ddl: str) -> str:
    """CREATE INDEX without what does not tell two indexes apart."""
    return re.sub(r"\s|[();]|concurrently|using btree", "", ddl.lower())


def _cures(symptom: Finding, findings: Sequence[Finding]) -> Iterator[Finding]:
    """The findings of the symptom's statement whose fix does away with it."""
    table = symptom.evidence.figures.get("relation")
    for finding in findings:
        if not _same_statement(finding, symptom):
            continue
        figures = finding.evidence.figures
        if symptom.rule == "plan/cte-scan-full":
            cured = finding.rule == "query/cte-fence"
        elif finding.rule in INDEXES:
            if symptom.rule in SORTS:
                cured = figures.get("removes_sort", False)
            else:
                cured = figures.get("table") == table
        else:
            cured = finding.rule.startswith("query/") and (
                _proven_index(finding, table)
                or any(a.evidence.figures["table"] == table for a, _ in _served(finding, findings))
            )
        if cured:
            yield finding


def _proven_index(finding: Finding, table: object) -> bool:
    return any(
        f.kind == "ddl" and "cost_after" in f.proof and f" ON {table} " in f.sql.replace('"', "")
        for f in finding.fixes
    )


def _same_statement(one: Finding, other: Finding) -> bool:
    return one.statement == other.statement and one.location.path == other.location.path


def _today(symptom: Finding) -> str:
    cost = next(iter(symptom.evidence.notes), "")
    return f"today: {symptom.message}" + (f" ({cost})" if cost else "")


def _served(
    finding: Finding, findings: Sequence[Finding]
) -> Iterator[tuple[Finding, dict[str, Any]]]:
    """The index advice that serves the rewrite this finding offers, with that use of it."""
    rewrites = [f for f in finding.fixes if f.kind == "rewrite" and not f.changes_result]
    if not rewrites:
        return
    # Other findings of the statement may offer other rewrites: the index is for one of them.
    made = {_fingerprint(f.sql) for f in rewrites}
    seen = set()
    for advice in findings:
        if advice.rule in INDEXES and advice.evidence.figures["index"] not in seen:
            for use in advice.evidence.figures["queries"]:
                ours = use["rewrite_of"] == finding.fingerprint
                meant = None in made or use["fingerprint"] in made
                if ours and meant and use["path"] == finding.location.path:
                    seen.add(advice.evidence.figures["index"])
                    yield advice, use
                    break


def _fingerprint(sql: str) -> str | None:
    """None for a text with placeholders that PostgreSQL does not read."""
    try:
        return fingerprint(sql)
    except ParseProblem:
        return None


def _once_rewritten(finding: Finding, findings: Sequence[Finding]) -> list[str]:
    """What an index advised for this finding's rewrite adds to it."""
    return [
        f"so rewritten, the index advised on {a.evidence.figures['index']} serves it: {_gain(use)}"
        for a, use in _served(finding, findings)
    ]


def _gain(use: dict[str, Any]) -> str:
    if use.get("time_after_ms") is not None:
        return f"{use['time_before_ms']:.3g} → {use['time_after_ms']:.3g} ms"
    return f"planner cost {use['cost_before']:,.0f} → {use['cost_after']:,.0f}"


def _with(finding: Finding, notes: Sequence[str], *, cures: bool) -> Finding:
    """The finding with more notes; one that cures what was measured is at least a warning."""
    if not notes:
        return finding
    evidence = replace(finding.evidence, notes=(*finding.evidence.notes, *notes))
    raised = cures and finding.severity == "info" and finding.rule not in INDEXES
    return replace(finding, evidence=evidence, severity="warning" if raised else finding.severity)
