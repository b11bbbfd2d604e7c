"""Migrations in their safe form: written in the runner's style, and kept only where they prove right.

The rewritten set is read, judged and run like any other. It must end in the same schema, run without
a failure that the original has not, lose the findings it was made for and raise no error of its own;
otherwise nothing of it is written, and the reason is said.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.engine import Engine
from sqladvisor.finding import Finding, InputProblem
from sqladvisor.fix import diff_of, encoding_of, replace_file, with_line_ends
from sqladvisor.migrate.check import check_set
from sqladvisor.migrate.context import Settings
from sqladvisor.migrate.describe import Description, describe, differences
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.reconcile import reconcile
from sqladvisor.migrate.retry import ATTEMPTS, block, groups
from sqladvisor.migrate.rewrite_forms import BEFORE, Form, forms, outside
from sqladvisor.migrate.rewrite_style import (
    IN_PLACE,
    MANY,
    Layout,
    StyleError,
    later_files,
    marked,
    sent,
)
from sqladvisor.migrate.runner import read_files
from sqladvisor.migrate.stage import Stage
from sqladvisor.migrate.start import Start
from sqladvisor.migrate.trace import trace
from sqladvisor.migrate.variables import as_written

MAX_ALONE = 30
"""Forms that are tried one by one where they do not hold together."""
MAX_SHOWN = 100
"""Characters of a statement in a note."""
# Comments that are directives stay where they are when the statement below them is moved.
_DIRECTIVE = re.compile(
    r"^--\s*(?:\+goose|migrate:|atlas:|no-transaction|-*\s*(?:up|down) migration)", re.I
)
_LINE_END = re.compile(r"\A[ \t]*\r?\n")
Say = Callable[[str], None]
Suppressed = Callable[[Finding], bool]


@dataclass(slots=True)
class Rewritten:
    """Files as they should be: changed ones and new ones, their diff, and a line for each finding."""

    texts: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    diff: str = ""
    applied: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Gate:
    """What judging a set takes, for judging the rewritten one."""

    files: Files
    migrations: MigrationSet
    findings: Sequence[Finding]
    engine: Engine
    settings: Settings
    start: Start
    stage: Stage
    suppressed: Suppressed
    lock_attempts: int = ATTEMPTS
    """How often a rewritten statement asks for its lock; 1: once, then the migration fails."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a set ended: its schema, what failed, and its findings counted by rule and severity."""

    schema: Description
    failures: frozenset[str]
    errors: Counter[tuple[str, str]]
    told: Counter[tuple[str, str]]


def rewrite(gate: Gate, say: Say = lambda _: None) -> Rewritten:
    """Find the safe forms that hold, together or each by itself. Writes nothing.

    Raises psycopg.Error and ServerError when the server is lost.
    """
    result = Rewritten()
    judged = [m for m in gate.migrations.migrations if m.judged]
    wanted = [f for f in gate.findings if not gate.suppressed(f)]
    found, result.left = forms(judged, wanted)
    if not found:
        return result
    say("trying the safe forms")
    before = _judge(gate, gate.migrations)
    chosen = found
    layout, why = _holds(gate, found, before)
    if layout is None and len(found) > 1:
        chosen = []
        for form in found[:MAX_ALONE]:
            made, reason = _holds(gate, [*chosen, form], before)
            if made is None:
                result.left.append(f"{form.describes} is not rewritten: {reason}")
            else:
                chosen, layout = [*chosen, form], made
    elif layout is None:
        result.left.append(f"{found[0].describes} is not rewritten: {why}")
    if layout is None:
        return result
    result.applied = [f"{form.describes}: {_what(form)}" for form in chosen]
    again, tried = _trying_again(gate, layout, chosen)
    if tried:
        if why := _wrong(gate, again, chosen, before):
            result.left.append(f"no lock is asked for again: {why}")
        else:
            layout = again
            result.applied += tried
    result.texts, result.extra = layout.texts, layout.extra
    for path, text in sorted({**layout.texts, **layout.extra}.items()):
        known = gate.files.texts.get(path)
        result.diff += diff_of(path, known or "", text, new=known is None)
    return result


def write(result: Rewritten, files: Files) -> None:
    """Write the files of a rewrite; what cannot be written becomes a problem of it."""
    for path, text in {**result.texts, **result.extra}.items():
        try:
            if path not in files.sql:
                os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
                with open(path, "x", encoding="utf-8", newline="") as file:
                    file.write(text)
                continue
            data = files.sql[path]
            encoding = encoding_of(data)
            if encoding is None:
                message = "not written back: its encoding is not known for certain"
                result.problems.append(InputProblem(path, message))
                continue
            replace_file(path, data, encoding.encode(text))
        except OSError as error:
            result.problems.append(InputProblem(path, f"not written: {error.strerror or error}"))


def _what(form: Form) -> str:
    steps = [" ".join(step.split()) for step in (*form.here, *form.later)]
    return "; ".join(s if len(s) <= MAX_SHOWN else s[: MAX_SHOWN - 1] + "…" for s in steps)


# -- does it hold? --------------------------------------------------------------------------------


def _holds(gate: Gate, chosen: Sequence[Form], before: _Outcome) -> tuple[Layout | None, str]:
    """The files with these forms in them, or None and the reason why they do not do."""
    try:
        layout = _lay_out(gate, chosen)
    except StyleError as error:
        return None, str(error)
    why = _wrong(gate, layout, chosen, before)
    return (None, why) if why else (layout, "")


def _wrong(gate: Gate, layout: Layout, chosen: Sequence[Form], before: _Outcome) -> str:
    """Why files do not do, "" where they do."""
    made = _read(gate, layout)
    if made.problems:
        return f"the result cannot be read: {made.problems[0].message}"
    after = _judge(gate, made)
    if new := after.failures - before.failures:
        return f"the result does not run: {min(new)}"
    if other := differences(before.schema, after.schema):
        return f"the result ends in another schema: {other[0]}"
    for key in {(f.rule, _relation(f)) for form in chosen for f in form.findings}:
        if after.told[key] >= before.told[key]:
            return f"the result has the same finding ({key[0]})"
    if worse := after.errors - before.errors:
        return f"the result has an error of its own ({min(worse)[0]})"
    return ""


def _relation(finding: Finding) -> str:
    return str(finding.evidence.figures.get("relation", ""))


def _read(gate: Gate, layout: Layout) -> MigrationSet:
    """The set as its runner would read it with these files, judged as the original."""
    sql: dict[str, bytes] = dict(gate.files.sql)
    for path, text in layout.texts.items():
        sql[path] = text.encode()
    extra: Mapping[str, bytes] = {p: t.encode() for p, t in layout.extra.items()}
    files = Files(
        dict(sorted(sql.items())),
        lambda path: extra.get(path) or gate.files.aux(path),
    )
    found = read_files(files, gate.migrations.runner)
    known = {m.path: m.judged for m in gate.migrations.migrations}
    return replace(
        found,
        migrations=tuple(
            replace(m, judged=known.get(m.path, m.path in layout.texts))
            for m in found.migrations
            if m.path in known or m.path in layout.texts
        ),
    )


def _judge(gate: Gate, migrations: MigrationSet) -> _Outcome:
    checked = check_set(migrations, Engine(gate.engine.rules), gate.settings, gate.start.state())
    judged = replace(migrations, migrations=tuple(m for m in migrations.migrations if m.judged))
    with gate.stage.copy() as sandbox:
        traced = trace(sandbox, judged, each=not gate.settings.together)
        with gate.stage.cluster.connect(sandbox.name) as admin:
            schema = describe(admin)
    findings, _ = reconcile(
        checked.findings, traced, pg_version=gate.settings.pg_version, complete=False
    )
    return _Outcome(
        schema,
        frozenset(s.failure for s in traced.steps if s.failure),
        Counter((f.rule, _relation(f)) for f in findings if f.severity == "error"),
        Counter((f.rule, _relation(f)) for f in findings if f.severity != "info"),
    )


# -- writing it down ------------------------------------------------------------------------------


def _lay_out(gate: Gate, chosen: Sequence[Form]) -> Layout:
    layout = Layout()
    taken = set(gate.files.sql)
    by_migration: dict[str, list[Form]] = {}
    for form in chosen:
        by_migration.setdefault(form.migration.path, []).append(form)
    for own in by_migration.values():
        made = _one(gate, own[0].migration, own, taken)
        layout.texts |= {p: as_written(t, gate.files.variables) for p, t in made.texts.items()}
        layout.extra |= made.extra
    return layout


def _one(gate: Gate, migration: Migration, own: Sequence[Form], taken: set[str]) -> Layout:
    runner, path = gate.migrations.runner, migration.path
    text = gate.files.texts[path]
    one_by_one = runner in IN_PLACE or (runner in MANY and migration.transaction == "statement")
    if one_by_one:
        return Layout({path: _edited(runner, text, own, in_place=True)})
    later = [step for form in own for step in _commented(text, form)]
    if not later:
        return Layout({path: _edited(runner, text, own)})
    stays = {s.start for s in migration.up} - {f.statement.start for f in own if not f.here}
    alone = len(later) == 1 or runner in MANY
    if not stays and alone and (runner in MANY or outside(later[0])):
        # All of it has to run outside: the file itself does, then.
        return marked(runner, path, _edited(runner, text, own, in_place=True))
    layout = later_files(gate.migrations, migration, later, taken)
    layout.texts[path] = _edited(runner, text, own)
    return layout


def _trying_again(gate: Gate, layout: Layout, chosen: Sequence[Form]) -> tuple[Layout, list[str]]:
    """The files with what waits for strong locks in blocks that ask again, and a line for each."""
    runner, attempts = gate.migrations.runner, gate.lock_attempts
    unbounded = {f.migration.path for f in chosen if f.finding.rule in BEFORE}
    if attempts < 2 or not unbounded:
        return layout, []
    made = _read(gate, layout)
    contexts = check_set(made, Engine(()), gate.settings, gate.start.state()).contexts
    texts, lines = dict(layout.texts), list[str]()
    for path, text in layout.texts.items():
        if path in gate.files.sql and path not in unbounded:
            continue
        own = [c for c in contexts if c.migration.path == path]
        edited, bounded = text, False
        edits = []
        for group in groups(own, text):
            first = next(c for c in own if c.statement is group[0])
            setting = ""
            if not (bounded or first.settings.get("lock_timeout")):
                bounded = True
                local = "LOCAL " if first.transaction.inside else ""
                setting = f"SET {local}lock_timeout = '2s';\n"
            end = _behind(text, group[-1].start + len(group[-1].text))
            edits.append(
                (group[0].start, end, setting + sent(runner, block(group, text, attempts)))
            )
        for begin, end, new in reversed(edits):
            edited = edited[:begin] + with_line_ends(new, text) + edited[end:]
        if edits:
            texts[path] = edited
            count = f"{len(edits)} block{'s' if len(edits) > 1 else ''}"
            lines.append(f"{path}: {count} asking for locks up to {attempts} times")
    return Layout(texts, layout.extra), lines


def _commented(text: str, form: Form) -> list[str]:
    """The statements that come later, with the comment above the one that they stand for."""
    steps = list(form.later)
    begin = form.statement.start
    if steps and not form.here and (comment := text[_above(text, begin) : begin].strip()):
        steps[-1] = f"{comment}\n{steps[-1]}"
    return steps


def _edited(runner: str, text: str, own: Sequence[Form], *, in_place: bool = False) -> str:
    """The file's text with the forms in the places of their statements.

    ``in_place``: what comes later follows at once, behind a COMMIT where the file itself has a
    transaction open. Otherwise it is left out here.
    """
    spans: dict[int, tuple[int, list[str]]] = {}
    for form in own:
        statement = form.statement
        begin, end = statement.start, _behind(text, statement.start + len(statement.text))
        steps = list(form.here)
        if in_place and form.later:
            if statement.in_transaction:
                steps += ["COMMIT", *form.later, "BEGIN"]
            else:
                steps += form.later
        _, known = spans.get(begin, (end, []))
        if known:  # a setting before it, and then its own form
            steps = [*known[:-1], *steps]
        spans[begin] = (end, steps)
    for begin in sorted(spans, reverse=True):
        end, steps = spans[begin]
        if steps:
            new = "\n".join(sent(runner, step) for step in steps)
            text = text[:begin] + with_line_ends(new, text) + text[end:]
        else:
            begin = _above(text, begin)
            text = text[:begin] + _LINE_END.sub("", text[end:], count=1)
    return text


def _behind(text: str, end: int) -> int:
    """The offset behind the semicolon that ends a statement."""
    match = re.compile(r"\s*;").match(text, end)
    return match.end() if match else end


def _above(text: str, begin: int) -> int:
    """Where the comment lines right above a statement begin, unless they are directives."""
    while True:
        line_start = text.rfind("\n", 0, begin) + 1
        if text[line_start:begin].strip():
            return begin
        previous = text.rfind("\n", 0, max(line_start - 1, 0)) + 1
        line = text[previous : max(line_start - 1, 0)].strip()
        if line_start == 0 or not line.startswith("--") or _DIRECTIVE.match(line):
            return line_start
        begin = previous
