"""Rules that are a query over the system catalogs: ``<pack>/database/<name>.sql``.

The leading comment is the documentation, in the form that other rules have, with these lines at its
end::

    -- severity: warning
    -- versions: 13-              the servers that the first query fits; 13-16, 17-
    -- needs: nothing             or select (on all tables), pg_monitor: what it takes to see everything
    -- unseen: other roles' ...   what a lesser role does not see
    -- threshold: min_days = 30 (why)

The query stands below. Where servers differ more queries follow, each behind a ``-- versions:`` line
of its own. A query returns severity, object, message, figures (jsonb), fix (SQL), fix_description and
notes (text[]); ``:min_days`` in it is a threshold, as psql's variables are written. A row of severity
``note`` says what could not be judged.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sqladvisor.database import DatabaseContext
from sqladvisor.errors import InputError
from sqladvisor.finding import SEVERITIES, Finding, Fix
from sqladvisor.rule import HEALTH, Rule, SqlVariant

COLUMNS = ("severity", "object", "message", "figures", "fix", "fix_description", "notes")
NEEDS = {
    "nothing": "",
    "select": "SELECT on the tables",
    "pg_monitor": "pg_monitor",
}
"""What a rule needs to see everything, in words."""
NOTE = "note"
_DIRECTIVE = re.compile(r"(severity|versions|needs|unseen|threshold): *(.*)")
_VERSIONS = re.compile(r"-- versions: *(\d+)-(\d*) *$")
_THRESHOLD = re.compile(r"(\w+) *= *([-\d.eE]+) *(?:\(.*\))?$")


def load_sql_rule(path: str, rule_id: str) -> Rule:
    """Read one rule file. Raises InputError naming the file and the cause."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: rule cannot be read: {error}") from error
    header: list[str] = []
    for line in lines:
        if not line.startswith("--"):
            break
        header.append(line[3:])
    said: dict[str, list[str]] = {}
    doc = []
    for line in header:
        if match := _DIRECTIVE.fullmatch(line):
            said.setdefault(match[1], []).append(match[2].strip())
        else:
            doc.append(line)
    severity = said.get("severity", [""])[0]
    needs = said.get("needs", ["nothing"])[0]
    if severity not in SEVERITIES:
        raise InputError(f"{path}: rule needs a line `-- severity: {'|'.join(SEVERITIES)}`")
    if needs not in NEEDS:
        raise InputError(f"{path}: `-- needs:` must be one of {', '.join(NEEDS)}")
    unseen = said.get("unseen", [""])[0]
    variants = _variants(path, lines, len(header), said.get("versions", [""])[0])
    thresholds = dict(_threshold(path, text) for text in said.get("threshold", ()))
    return Rule(
        id=rule_id,
        severity=severity,
        on=(HEALTH,),
        needs=frozenset(),
        check=_findings,
        path=path,
        doc=_document(doc, needs, unseen, variants),
        thresholds=thresholds,
        variants=variants,
        role=needs,
        unseen=unseen,
    )


def query(rule: Rule, server_version: int, thresholds: Mapping[str, float]) -> str | None:
    """The query of a rule for a server (server_version_num), None where it has none for it."""
    major = server_version // 10000
    for variant in rule.variants:
        if variant.lowest <= major <= (variant.highest or major):
            return _with_thresholds(variant.sql, {**rule.thresholds, **thresholds})
    return None


def _with_thresholds(sql: str, values: Mapping[str, float]) -> str:
    if not values:
        return sql
    names = "|".join(map(re.escape, values))
    return re.sub(rf"(?<![:\w]):({names})\b", lambda m: _number(values[m[1]]), sql)


def _number(value: float) -> str:
    # With a point it is numeric, whose products do not overflow as those of integers do.
    text = f"{value:.9f}".rstrip("0")
    return text + "0" if text.endswith(".") else text


def _variants(path: str, lines: list[str], start: int, versions: str) -> tuple[SqlVariant, ...]:
    found: list[tuple[int, int | None, list[str]]] = []
    for line in (f"-- versions: {versions}", *lines[start:]):
        if match := _VERSIONS.fullmatch(line):
            found.append((int(match[1]), int(match[2]) if match[2] else None, []))
        elif not found:
            raise InputError(f"{path}: rule needs a line `-- versions: 13-`")
        else:
            found[-1][2].append(line)
    variants = tuple(
        SqlVariant(lowest, highest, "\n".join(text).strip().removesuffix(";"))
        for lowest, highest, text in found
    )
    if not all(v.sql for v in variants):
        raise InputError(f"{path}: a query is missing")
    return variants


def _threshold(path: str, text: str) -> tuple[str, float]:
    if match := _THRESHOLD.fullmatch(text):
        try:
            return match[1], float(match[2])
        except ValueError:
            pass
    raise InputError(f"{path}: `-- threshold: {text}` is not `name = number (why)`")


def _document(doc: list[str], needs: str, unseen: str, variants: tuple[SqlVariant, ...]) -> str:
    text = "\n".join(doc).strip()
    lowest = min(v.lowest for v in variants)
    newest = [v.highest for v in variants]
    upto = "" if None in newest else f" to {max(h for h in newest if h)}"
    if needs != "nothing":
        text += f"\nNeeds: {NEEDS[needs]}; without it unseen: {unseen or 'all of it'}."
    if lowest > 13 or upto:
        text += f"\nVersions: PostgreSQL {lowest}{upto or ' and newer'}."
    return text


def _findings(row: Mapping[str, Any], ctx: DatabaseContext) -> Iterator[Finding]:
    """One row of the query as a finding; nothing for a note."""
    severity = row["severity"] or ctx.rule.severity
    if severity == NOTE:
        return
    fixes: tuple[Fix, ...] = ()
    if row["fix"] or row["fix_description"]:
        fixes = (
            Fix(
                row["fix_description"] or "run",
                row["fix"] or "",
                "ddl" if row["fix"] else "advice",
            ),
        )
    yield ctx.finding(
        row["object"] or "",
        row["message"],
        severity=severity,
        fixes=fixes,
        figures={k: v for k, v in (row["figures"] or {}).items() if v is not None},
        notes=row["notes"] or (),
    )
