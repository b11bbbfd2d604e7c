"""Where the trace decides: static findings it contradicts go, those it saw become measured.

What only the trace sees (the locks of a DO block, a function, a trigger, an extension) is added, as
``migration/traced-lock``, and statements that do not run at all, as ``migration/fails``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqladvisor.finding import Evidence, Finding, Location, Severity
from sqladvisor.migrate.locks import BLOCKS, STRENGTH
from sqladvisor.migrate.retry import opened, retried
from sqladvisor.migrate.trace import Lock, Step, Trace, parts, place, same_relation
from sqladvisor.sql import libpg
from sqladvisor.sql.statement import Statement
from sqladvisor.sql.tree import walk

TRACED_LOCK = "migration/traced-lock"
FAILS = "migration/fails"
MAX_NAMED = 6
"""Objects that a note names; the figures have all of them."""

# Statements whose text does not say which tables they lock.
_OPAQUE = frozenset(
    ("DoStmt", "CallStmt", "SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt",
     "ExecuteStmt", "CreateExtensionStmt", "AlterExtensionStmt", "TransactionStmt")
)  # fmt: skip
UNDEFINED = frozenset(("42P01", "42703", "42704", "42883", "3F000"))
"""SQLSTATEs of names that do not exist."""
# What a statement lacks on a machine without the production's roles, programs and rows. Class 25
# has a rule of its own; 22 and 23 are about rows; 57014 is our time limit.
_ELSEWHERE = (
    "0A",
    "22",
    "23",
    "25",
    "28",
    "2D",
    "42501",
    "42704",
    "53",
    "54",
    "55",
    "57",
    "58",
    "P0",
)


def reconcile(
    findings: Sequence[Finding],
    trace: Trace,
    *,
    pg_version: int,
    complete: bool = False,
    given: bool = True,
) -> tuple[list[Finding], list[str]]:
    """The findings as the trace leaves them, and notes on what was not traced.

    ``pg_version``: the major version judged for; one that the trace did not run on cannot be
    contradicted. ``complete``: the starting schema is known in full, so that a statement
    that does not fit it is wrong; ``given``: it is known at all.
    """
    kept: list[Finding] = []
    told: dict[int, list[Finding]] = {}
    by_text: dict[tuple[str, str], list[Step]] = {}
    for step in trace.steps:
        for statement in (step.statement, *retried(step.statement)):
            by_text.setdefault((statement.path, statement.text), []).append(step)
    for finding in findings:
        of = _step_of(finding, by_text)
        if of is None:
            kept.append(finding)
            continue
        told.setdefault(id(of), []).append(finding)
        decided = _decide(finding, of, trace, same_version=trace.version == pg_version)
        if decided is not None:
            kept.append(decided)
    for step in trace.steps:
        if step.traced:
            kept += [f for _, f in hidden(step, told.get(id(step), ()), trace)]
    # What a rule says of a refused statement says why it was not traced.
    failures = [
        s for s in trace.steps if s.failure and not (s.sqlstate.startswith("25") and id(s) in told)
    ]
    for step in failures[:1]:
        # Whatever fails later may do so because of the first.
        if complete and step.sqlstate and not step.sqlstate.startswith(_ELSEWHERE):
            kept.append(_fails(step))
            failures.remove(step)
    notes = list(trace.notes)
    if not given:
        lacking = [s for s in failures if s.sqlstate in UNDEFINED]
        failures = [s for s in failures if s.sqlstate not in UNDEFINED]
        if lacking:
            count = len(lacking)
            notes.append(
                f"{count} statement{'s' if count > 1 else ''} not traced, whose tables are not made "
                "here: --schema, --dsn or --snapshot tells what is there before"
            )
    return kept, [*notes, *_untraced(failures)]


def _step_of(finding: Finding, steps: Mapping[tuple[str, str], Sequence[Step]]) -> Step | None:
    for step in steps.get((finding.location.path, finding.statement), ()):
        if step.statement.line <= finding.location.line <= step.statement.last_line:
            return step
    return None


def _decide(finding: Finding, step: Step, trace: Trace, *, same_version: bool) -> Finding | None:
    """The finding with what was seen, None where what was seen contradicts it."""
    evidence = finding.evidence
    claimed = evidence.figures.get("lock")
    if step.failure:
        if step.sqlstate.startswith("25"):
            measured = {"error": step.failure, "sqlstate": step.sqlstate}
            return _measured(finding, measured, [f"tried: {step.failure}"])
        return finding
    if claimed is None:
        return _cascade(finding, step)
    relation = str(evidence.figures.get("relation", ""))
    seen = step.lock_on(relation) if relation else _strongest(step)
    known = next((k for n, k in trace.existing.items() if same_relation(n, relation)), None)
    if same_version and known is not None and known != "partitioned table":
        # The work may be done on partitions or on the other table of a foreign key.
        done = {"rewrite": step.rewritten, "scan": (*step.scanned, *step.rewritten),
                "build": step.built}  # fmt: skip
        if seen is None or STRENGTH[seen.mode] < STRENGTH[str(claimed)]:
            return None
        if not done.get(str(evidence.figures.get("work")), True):
            return None
    if seen is None:
        return finding
    return _cascade(_measured(finding, seen_figures(step), _seen_notes(step)), step)


def _strongest(step: Step) -> Lock | None:
    return max(step.locks, key=lambda k: STRENGTH[k.mode], default=None)


def seen_figures(step: Step) -> dict[str, object]:
    """What was seen of a statement, for a finding's evidence."""
    return {
        "locks_seen": [{"relation": k.relation, "mode": k.mode} for k in step.locks if k.strong],
        "rewritten": list(step.rewritten),
        "scanned": list(step.scanned),
        "indexes_built": [b.index for b in step.built],
        "traced_ms": round(step.duration_ms, 3),
    }


def _seen_notes(step: Step) -> list[str]:
    saw = [f"{k.mode} on {k.relation}" for k in step.locks if k.strong][:MAX_NAMED]
    if step.rewritten and not step.emptied:
        saw.append(f"{_names(step.rewritten)} rewritten")
    if step.scanned and not step.built:
        saw.append(f"{_names(step.scanned)} read in full")
    if step.built:
        saw.append(f"{_names([b.index for b in step.built])} built")
    return [f"traced: {', '.join(saw)}"] if saw else []


def _cascade(finding: Finding, step: Step) -> Finding:
    fell = [c for c in step.changes if c.cascaded]
    if not fell:
        return finding
    names = [f"{c.type} {c.name}" for c in fell]
    return _measured(finding, {"cascaded": names}, [f"traced: {_names(names)} fell with it"])


def _measured(finding: Finding, figures: Mapping[str, object], notes: Sequence[str]) -> Finding:
    evidence = finding.evidence
    return replace(
        finding,
        evidence=Evidence("measured", {**evidence.figures, **figures}, (*evidence.notes, *notes)),
    )


# -- what only the trace sees ---------------------------------------------------------------------


def hidden(step: Step, told: Sequence[Finding], trace: Trace) -> Iterator[tuple[Lock, Finding]]:
    """Strong locks that the statement's text does not show, and that no static finding is about."""
    dropped = {c.name for c in step.changes if c.action == "dropped"}
    for lock in step.strong():
        if lock.kind not in ("table", "partitioned table", "materialized view"):
            continue
        if lock.relation in dropped or any(_about(f, lock.relation, trace) for f in told):
            continue
        work = _work(step, lock.relation)
        shown = opened([step.statement])
        opaque = any(s.kind in _OPAQUE for s in shown)
        if not opaque and not (work and _unnamed(shown, lock)):
            continue
        yield lock, _traced_lock(step, lock, work)


def _about(finding: Finding, relation: str, trace: Trace) -> bool:
    """Whether a finding tells of a table's lock, or of that of the table it is a partition of."""
    told = finding.evidence.figures.get("relation")
    if told is None:
        return "lock" in finding.evidence.figures
    above: str | None = relation
    while above is not None:
        if same_relation(str(told), above):
            return True
        above = trace.parents.get(above)
    return False


def _unnamed(shown: Sequence[Statement], lock: Lock) -> bool:
    """Whether the statements' text does not name the table: rules judge those that it names."""
    name = parts(lock.relation)[1]
    return not any(node.get("relname") == name for s in shown for _, node in walk(s.kind, s.tree))


def _work(step: Step, relation: str) -> str:
    if relation in step.rewritten:
        return "emptied" if step.emptied else "rewrite"
    if any(b.table == relation for b in step.built):
        return "build"
    return "scan" if relation in step.scanned else ""


_WHILE = {
    "rewrite": " while the table is rewritten",
    "build": " while an index is built",
    "scan": " while all rows are read",
    "emptied": " to empty it",
    "": "",
}
_WHO = {
    "DoStmt": "This DO block", "CallStmt": "This procedure", "SelectStmt": "A function of this query",
    "CreateExtensionStmt": "This extension", "AlterExtensionStmt": "This extension",
}  # fmt: skip


def _traced_lock(step: Step, lock: Lock, work: str) -> Finding:
    statement = step.statement
    who = _WHO.get(statement.kind, "This statement")
    severity: Severity = "error" if work else "warning"
    message = (
        f"{who} takes {lock.mode} on {lock.relation}, which blocks {BLOCKS[lock.mode]}"
        f"{_WHILE[work]}{'' if statement.kind == 'DoStmt' else '; its text does not show it'}"
    )
    figures: dict[str, object] = {
        "relation": ".".join(p for p in parts(lock.relation) if p),
        "lock": lock.mode,
        "blocks": BLOCKS[lock.mode],
        "work": work or "none",
        **seen_figures(step),
    }
    return _cascade(
        Finding(
            TRACED_LOCK,
            severity,
            message,
            first_line(statement),
            statement.text,
            fingerprint(statement),
            Evidence("measured", figures, tuple(_seen_notes(step))),
        ),
        step,
    )


def _fails(step: Step) -> Finding:
    statement = step.statement
    return Finding(
        FAILS,
        "error",
        f"This statement fails on the schema that it meets: {step.failure}",
        first_line(statement),
        statement.text,
        fingerprint(statement),
        Evidence("measured", {"error": step.failure, "sqlstate": step.sqlstate}),
    )


MAX_UNTRACED = 5
"""Notes on statements that were not traced."""


def _untraced(failures: Sequence[Step]) -> Iterator[str]:
    for step in failures[:MAX_UNTRACED]:
        yield f"{place(step.statement)}: not traced: {step.failure}"
    if len(failures) > MAX_UNTRACED:
        yield f"{len(failures) - MAX_UNTRACED} more statements were not traced (--trace-report)"


def first_line(statement: Statement) -> Location:
    """The place of a statement's first line, where findings on all of it are shown."""
    return statement.locate(0, len(statement.text.splitlines()[0]) if statement.text else 0)


def fingerprint(statement: Statement) -> str:
    """libpg_query's fingerprint, "" where the statement has none."""
    try:
        return libpg.fingerprint(statement.sql)
    except libpg.ParseProblem:
        return ""


def _names(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
