"""The report of a live server: the three changes that matter most, then everything by section."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from sqladvisor.figures import ms
from sqladvisor.finding import Finding
from sqladvisor.report.escape import printable
from sqladvisor.report.json import document
from sqladvisor.report.model import Report
from sqladvisor.report.text import Painter, number, plain_finding, problem_line, size_of
from sqladvisor.workload.weights import PLACE, Weighed, tops

if TYPE_CHECKING:
    from sqladvisor.live import Seen
    from sqladvisor.live_changes import Change
    from sqladvisor.server.activity import Activity

HEADLINES = 3
MAX_SHOWN = 30
"""Findings of one section that are shown in full: --verbose and JSON have all."""
STATEMENT_WIDTH = 76
_SECTIONS = (
    ("Settings", re.compile(r"database/(settings-|pending-restart)")),
    ("Connections and pool", re.compile(r"database/(pool-size|connection-use|idle-connections)")),
    ("Caching", re.compile(r"database/(cacheable-statement|cache-hit-ratio)")),
    ("Health", re.compile(r"database/")),
    ("Indexes", re.compile(r"index/")),
    ("Statements", re.compile(r"")),
)
_ORDER = ("Indexes", "Statements", "Health", "Caching", "Connections and pool", "Settings")


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """The whole report as text, ending in a newline."""
    paint = Painter(color)
    seen: Seen = report.details["seen"]
    changes: list[Change] = report.details["changes"]
    lines = [paint("bold", printable(report.server)), counted(seen), ""]
    for problem in report.problems:
        lines += [problem_line(problem, paint), ""]
    lines += _headlines(changes[:HEADLINES], paint)
    lines += _workload(seen, report.details["top"], paint)
    sections = by_section(report.findings)
    for name in sections:
        own = []
        if name == "Connections and pool":
            own = list(session_lines(seen, paint))
        elif name == "Indexes" and sections[name]:
            own = [f"  {line}" for line in index_lines(seen)]
        if not sections[name] and not own:
            continue
        lines += [paint("bold", f"{name}"), "", *own]
        shown = sections[name] if verbose else sections[name][:MAX_SHOWN]
        for finding in shown:
            lines += [*_finding(finding, seen, paint, verbose), ""]
        if len(shown) < len(sections[name]):
            lines += [
                f"  … {len(sections[name]) - len(shown)} more: --verbose, --format json have them",
                "",
            ]
    if report.notes:
        lines += [paint("bold", "Not seen, and to know"), ""]
        lines += [f"  {paint('dim', '·')} {printable(note)}" for note in report.notes]
        lines.append("")
    lines.append(_summary(report, seen, paint))
    return "\n".join(lines) + "\n"


def by_section(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings by the section that they belong to, in the order of the report."""
    sections: dict[str, list[Finding]] = {name: [] for name in _ORDER}
    for finding in findings:
        name = next(n for n, pattern in _SECTIONS if pattern.match(finding.rule))
        sections[name].append(finding)
    return sections


def counted(seen: Seen) -> str:
    """How much was looked at, in a line."""
    collected = seen.workload.collected
    checked = seen.health.checked if seen.health else 0
    text = f"{checked} checks of the database; "
    if collected.missing:
        return f"{text}no statements: {printable(collected.missing)}"
    text += f"{len(seen.workload.statements):,} statements"
    if collected.hours is not None:
        since = "counted for" if collected.since_reset else "counted for at least"
        text += f", {since} {hours(collected.hours)}"
    if collected.evicted:
        text += f", the rarest dropped {collected.evicted:,} times"
    return text


def _headlines(changes: Sequence[Change], paint: Painter) -> list[str]:
    if not changes:
        return [paint("good", "Nothing to change was found."), ""]
    count = ("", "The change", "The two changes", "The three changes")[len(changes)]
    lines = [paint("bold", f"{count} that matter{'s' * (len(changes) == 1)} most"), ""]
    for place, change in enumerate(changes, 1):
        first = change.findings[0]
        lines.append(
            f"{place}. {paint('bold', printable(change.title))}  {paint('dim', first.rule)}"
        )
        if change.outage:
            lines.append(f"   {paint('error', 'this can stop the server or lose data')}")
        if change.saved_share >= 0.005:
            saved = f"saves about {change.saved_share:.0%} of the time of all statements"
            if change.saved_ms_per_hour is not None:
                saved += f" ({ms(change.saved_ms_per_hour)} of each hour)"
            lines.append(f"   {paint('good', saved)}, {first.evidence.level}")
        lines += [f"   {paint('dim', '·')} {e}" for e in change.evidence[:4]]
        if change.fix is not None:
            lines.append(f"   {paint('good', 'fix')}: {printable(change.fix.description)}")
            lines += [f"     {line}" for line in _sql(change.fix.sql)]
        lines.append("")
    return lines


def _sql(sql: str) -> list[str]:
    lines = printable(sql).splitlines()
    if lines and not lines[-1].startswith("--") and not lines[-1].endswith(";"):
        lines[-1] += ";"
    return lines[:16] + (["…"] if len(lines) > 16 else [])


def _workload(seen: Seen, top: int, paint: Painter) -> list[str]:
    ranked = tops(seen.workload, top)
    if not ranked:
        return []
    from tabulate import tabulate

    main = ranked.pop("total time", [])
    rows = [
        (
            w.rank,
            f"{w.share:.1%}",
            "" if w.calls_per_hour is None else number(round(w.calls_per_hour)),
            ms(w.counted.mean_exec_ms),
            number(round(w.counted.rows / w.counted.calls, 1)) if w.counted.calls else "",
            one_line(w),
        )
        for w in main
    ]
    table = tabulate(
        rows,
        headers=["#", "time", "calls/h", "mean", "rows", "statement"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("right", "right", "right", "right", "right", "left"),
    )
    lines = [paint("bold", "Workload: where the time goes"), "", *table.splitlines(), ""]
    for name, found in ranked.items():
        figures = ", ".join(f"#{w.rank} ({_figure(name, w)})" for w in found[:5])
        lines.append(f"  {paint('dim', f'most {name}:')} {figures}")
    other = {w.rank: w for found in ranked.values() for w in found[:3] if w not in main}
    lines += [f"  #{n}: {one_line(w)}" for n, w in sorted(other.items())]
    return [*lines, ""]


def _figure(measure: str, weighed: Weighed) -> str:
    c = weighed.counted
    if measure == "mean time":
        return ms(c.mean_exec_ms)
    if measure == "calls":
        return number(c.calls)
    if measure == "blocks read":
        return size_of(c.read_blocks * 8192)
    if measure == "I/O time":
        return ms(c.io_ms)
    if measure == "temporary blocks":
        return size_of(c.temp_blocks * 8192)
    if measure == "WAL":
        return size_of(c.wal_bytes)
    if measure == "planning time":
        return f"{ms(c.total_plan_ms)}, {c.total_plan_ms / max(c.total_ms, 1e-9):.0%} of its time"
    return f"±{c.variation:.1f} times its mean"


def one_line(weighed: Weighed) -> str:
    """A statement's text cut to a line."""
    text = printable(re.sub(r"\s+", " ", weighed.context.statement.text))
    return text if len(text) <= STATEMENT_WIDTH else text[: STATEMENT_WIDTH - 1] + "…"


def _finding(finding: Finding, seen: Seen, paint: Painter, verbose: bool) -> Iterable[str]:
    weighed = seen.workload.of(finding)
    place = ""
    if finding.location.path == PLACE and weighed is not None:
        place = f"statement {weighed.rank}, {weighed.share:.1%} of the time"
    lines = plain_finding(finding, place, paint, verbose)
    if weighed is not None:
        lines.insert(2, f"  {paint('dim', '|')} {one_line(weighed)}")
    return [f"  {line}" for line in lines]


def index_lines(seen: Seen) -> Iterable[str]:
    """What the advised indexes do for the workload as a whole."""
    if seen.advised is None or not seen.advised.found.creates:
        return
    found = seen.advised.found
    size = sum(c.size_bytes for c in found.creates)
    count = len(found.creates)
    yield (
        f"{count} index{'es' * (count > 1)} for the whole workload, {size_of(size)}: "
        f"its planner cost {number(round(found.cost_before))} → {number(round(found.choice.cost))}, "
        f"by {seen.advised.planner}"
    )
    yield ""


def session_lines(seen: Seen, paint: Painter) -> Iterable[str]:
    """What sessions do, and the pool that they need; indented by two."""
    activity, pool = seen.activity, seen.pool
    if activity is None or pool is None:
        return
    if activity.unseen > 0.5 * activity.connections:
        yield (
            f"  {activity.connections:,.0f} connections of {activity.max_connections}; what they do is "
            "hidden from this role (GRANT pg_monitor shows it)"
        )
        yield ""
        return
    yield (
        f"  {activity.connections:,.0f} connections of {activity.max_connections}, over "
        f"{activity.window_s:,.1f} s: {activity.active:,.1f} active (at most {activity.active_max}), "
        f"{activity.idle:,.1f} idle, {activity.idle_in_transaction:,.1f} idle in transaction"
    )
    if activity.transactions_per_s is not None:
        churn = activity.new_sessions_per_s
        yield f"  {activity.transactions_per_s:,.1f} transactions a second" + (
            "" if churn is None else f", {churn:,.2f} new sessions a second"
        )
    waits = [f"{name} {mean:.2f}" for name, mean in list(activity.waits.items())[:5]]
    if waits:
        yield f"  waiting for: {printable(', '.join(waits))} sessions; on CPU: {activity.on_cpu:.2f}"
    cores = f"{seen.cores} cores" if seen.cores else "cores unknown (--cores tells)"
    yield f"  {paint('good', 'pool')}: {pool.advice()} ({cores})"
    yield ""


def _summary(report: Report, seen: Seen, paint: Painter) -> str:
    counts = [
        paint(s, f"{n} {s}{'s' if n != 1 and s != 'info' else ''}")
        for s in ("error", "warning", "info")
        if (n := report.count(s))
    ]
    text = ", ".join(counts) if counts else paint("good", "no findings")
    text += f"; {seen.planned} statements planned"
    if seen.unplanned:
        text += f", {seen.unplanned} could not be"
    if seen.workload.unparsed:
        text += f", {seen.workload.unparsed} not parsed"
    return text


def hours(value: float) -> str:
    """A time in hours for people: 12 minutes, 3.2 hours, 5.1 days."""
    if value < 1:
        return f"{value * 60:.0f} minutes"
    return f"{value:.1f} hours" if value < 48 else f"{value / 24:,.1f} days"


# -- JSON ---------------------------------------------------------------------------------------


def render_json(report: Report) -> str:
    """The common document, and under ``live`` what the sections show."""
    seen: Seen = report.details["seen"]
    whole = document(report)
    whole["live"] = {
        "changes": [
            _change(c, report.findings) for c in report.details["changes"] if c.saved_share or c.fix
        ],
        "workload": _json_workload(seen),
        "indexes": _json_indexes(seen),
        "activity": _activity(seen.activity),
        "pool": None
        if seen.pool is None
        else {
            "max_open": seen.pool.max_open,
            "max_idle": seen.pool.max_idle,
            "lifetime_s": seen.pool.lifetime_s,
            "idle_timeout_s": seen.pool.idle_timeout_s,
            "cores": seen.cores,
        },
        "role": None
        if seen.health is None
        else {
            "name": seen.health.role.name,
            "superuser": seen.health.role.superuser,
            "sees_others": seen.health.role.monitor,
            "reads_all_tables": seen.health.role.reader,
        },
        "checks": seen.health.checked if seen.health else 0,
    }
    return json.dumps(whole, indent=2, ensure_ascii=False, default=str) + "\n"


def _change(change: Change, findings: Sequence[Finding]) -> dict[str, Any]:
    places = {id(f): n for n, f in enumerate(findings)}
    return {
        "title": change.title,
        "outage": change.outage,
        "saved_share": round(change.saved_share, 4),
        "saved_per_hour_ms": None
        if change.saved_ms_per_hour is None
        else round(change.saved_ms_per_hour, 1),
        "evidence": list(change.evidence),
        "findings": [places[id(f)] for f in change.findings],
    }


def _json_workload(seen: Seen) -> dict[str, Any]:
    collected = seen.workload.collected
    return {
        "missing": collected.missing or None,
        "hours": collected.hours,
        "since_reset": collected.since_reset,
        "evictions": collected.evicted,
        "hidden": collected.hidden,
        "total_ms": round(collected.total_ms, 3),
        "other_databases_ms": round(collected.other_databases_ms, 3),
        "unparsed": seen.workload.unparsed,
        "system": seen.workload.system,
        "statements": [_statement(w) for w in seen.workload.statements],
    }


def _statement(weighed: Weighed) -> dict[str, Any]:
    c = weighed.counted
    return {
        "rank": weighed.rank,
        "queryid": str(c.queryid),
        "fingerprint": weighed.context.fingerprint,
        "text": c.text,
        "users": list(c.users),
        "share": round(weighed.share, 5),
        "calls": c.calls,
        "calls_per_hour": weighed.calls_per_hour,
        "rows": c.rows,
        "total_ms": round(c.total_ms, 3),
        "mean_ms": round(c.mean_exec_ms, 4),
        "stddev_ms": round(c.stddev_exec_ms, 4),
        "max_ms": round(c.max_exec_ms, 4),
        "plan_ms": round(c.total_plan_ms, 3),
        "hit_blocks": c.hit_blocks,
        "read_blocks": c.read_blocks,
        "temp_blocks": c.temp_blocks,
        "io_ms": round(c.io_ms, 3),
        "wal_bytes": c.wal_bytes,
        "jit_ms": round(c.jit_ms, 3),
    }


def _json_indexes(seen: Seen) -> dict[str, Any] | None:
    if seen.advised is None:
        return None
    found = seen.advised.found
    return {
        "planner": seen.advised.planner,
        "create": [
            {"sql": c.sql, "size_bytes": c.size_bytes, "saves": round(c.saves, 2)}
            for c in found.creates
        ],
        "drop": [{"sql": d.sql, "reason": d.reason} for d in found.drops],
        "cost_before": round(found.cost_before, 2),
        "cost_after": round(found.choice.cost, 2),
        "gap": round(found.choice.gap, 4),
    }


def _activity(activity: Activity | None) -> dict[str, Any] | None:
    if activity is None:
        return None
    return {
        "samples": activity.samples,
        "window_s": round(activity.window_s, 2),
        "connections": round(activity.connections, 2),
        "max_connections": activity.max_connections,
        "active": round(activity.active, 3),
        "active_max": activity.active_max,
        "on_cpu": round(activity.on_cpu, 3),
        "idle": round(activity.idle, 3),
        "idle_in_transaction": round(activity.idle_in_transaction, 3),
        "unseen": round(activity.unseen, 3),
        "waits": {k: round(v, 3) for k, v in activity.waits.items()},
        "transactions_per_s": activity.transactions_per_s,
        "new_sessions_per_s": activity.new_sessions_per_s,
    }
