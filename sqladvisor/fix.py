"""Writes proven rewrites back into their files, touching only what they change.

Written back is what was proven and keeps the result, one rewrite of a statement at a time, until
nothing is left to write. A finding that also offers a change of the result is a question for a
human and is left alone. A file keeps its encoding, line ends, comments, placeholders and mode.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqladvisor.advise.rewrites import Say, try_rewrite
from sqladvisor.context import Context
from sqladvisor.engine import Engine
from sqladvisor.evidence import Planned, as_planned
from sqladvisor.finding import SEVERITY_RANK, Finding, Fix, InputProblem
from sqladvisor.server.explain import explainable
from sqladvisor.sql.inputs import PROGRAMS, expand, load
from sqladvisor.sql.source import Source, comments, read_source, statements
from sqladvisor.sql.statement import Statement
from sqladvisor.suppress import MARK, Suppression, apply, read_suppressions

if TYPE_CHECKING:
    from sqladvisor.auditor import Options
    from sqladvisor.server.target import Target

MAX_ROUNDS = 10
"""Rewrites of one statement, one after the other: rules that undo each other must not go on."""
MAX_COST = 1.1
"""Factor on the planner cost, where there are rows, beyond which a rewrite is not written back:

it is right, but slower here. Less is within what the planner's estimates are worth."""


@dataclass(slots=True)
class Fixed:
    """What was written, or would be: a unified diff, and one line for each rewrite."""

    diff: str = ""
    files: int = 0
    applied: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    """Rewrites not written back, each with the reason."""
    problems: list[InputProblem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Encoding:
    """How a file's text is written down: the mark at its beginning, the codec."""

    mark: bytes
    codec: str

    def decode(self, data: bytes) -> str:
        return data[len(self.mark) :].decode(self.codec)

    def encode(self, text: str) -> bytes:
        return self.mark + text.encode(self.codec)


_ENCODINGS = (
    _Encoding(codecs.BOM_UTF8, "utf-8"),
    _Encoding(codecs.BOM_UTF16_LE, "utf-16-le"),
    _Encoding(codecs.BOM_UTF16_BE, "utf-16-be"),
    _Encoding(b"", "utf-8"),
)


def fix_files(
    paths: Sequence[str], target: Target, engine: Engine, options: Options, say: Say
) -> Fixed:
    """Rewrite the statements of files where that is proven; ``options.fix`` "diff" writes nothing."""
    fixed = Fixed()
    files, _ = expand(paths)  # what cannot be read is reported by the audit that follows
    fixer = _Fixer(target, Engine(engine.rules), options, say, fixed)
    for path in files:
        if path.lower().endswith(PROGRAMS):
            fixed.left.append(f"{path}: not written back: only files of SQL are")
            continue
        data = load(path)
        if isinstance(data, InputProblem):
            continue
        encoding = encoding_of(data)
        if encoding is None:
            fixed.left.append(f"{path}: not written back: its encoding is not known for certain")
            continue
        before = encoding.decode(data)
        after = fixer.fix(path, before, encoding)
        if after == before:
            continue
        fixed.files += 1
        fixed.diff += diff_of(path, before, after)
        if options.fix == "write":
            try:
                replace_file(path, data, encoding.encode(after))
            except OSError as error:
                message = f"not written back: {error.strerror or error}"
                fixed.problems.append(InputProblem(path, message))
    return fixed


def encoding_of(data: bytes) -> _Encoding | None:
    """How a file is encoded, None where that is not known for certain."""
    encoding = next(e for e in _ENCODINGS if data.startswith(e.mark))
    try:
        same = encoding.encode(encoding.decode(data)) == data
    except UnicodeDecodeError:
        return None
    return encoding if same else None


class _Fixer:
    def __init__(
        self, target: Target, engine: Engine, options: Options, say: Say, fixed: Fixed
    ) -> None:
        self.target = target
        self.engine = engine
        self.options = options
        self.say = say
        self.fixed = fixed
        self.settled: set[tuple[str, str, int]] = set()
        """Statements that nothing more is to be done about."""

    def fix(self, path: str, text: str, encoding: _Encoding) -> str:
        """The text of a file with its statements rewritten."""
        for _ in range(MAX_ROUNDS):
            source = read_source(path, encoding.encode(text))
            found, _problems = statements(source)
            suppressions = _suppressions(source, found)
            edits = []
            for number, statement in enumerate(found, 1):
                self.say(f"rewriting {path}: statement {number} of {len(found)}")
                # The line counts where a comment of its own may speak of the statement.
                key = (path, statement.text, statement.line if suppressions else 0)
                if key in self.settled:
                    continue
                new = self._rewritten(statement, suppressions)
                if new is None:
                    self.settled.add(key)
                else:
                    end = statement.start + len(statement.text)
                    edits.append((statement.start, end, with_line_ends(new, text)))
            if not edits:
                break
            for start, end, new in reversed(edits):
                text = text[:start] + new + text[end:]
        return text

    def _rewritten(self, statement: Statement, suppressions: Sequence[Suppression]) -> str | None:
        """The statement with the first rewrite made that is proven; None if there is none."""
        if not explainable(statement.kind):
            return None
        context = Context(statement, self.target.catalog, thresholds=self.options.thresholds)
        findings = self.engine.check_statement(context)
        item: Planned | None = None
        for finding, fix in _rewrites(findings):
            if not self._wanted(finding, suppressions):
                continue
            item = item or as_planned(context)
            place = f"{statement.path}:{finding.location.line}: {finding.rule}"
            reason, databases = self._objection(fix, item)
            if reason:
                line = f"{place} is not fixed: {reason}"
                if line not in self.fixed.left:
                    self.fixed.left.append(line)
                continue
            verb = "fixed" if self.options.fix == "write" else "can be fixed"
            self.fixed.applied.append(
                f"{place} {verb}: {fix.description} (proven on {databases} generated databases)"
            )
            return fix.sql
        return None

    def _wanted(self, finding: Finding, suppressions: Sequence[Suppression]) -> bool:
        selection = self.options.selection
        ignored = selection.ignored_in(finding.location.path, finding.rule)
        return not ignored and finding in apply([finding], suppressions)

    def _objection(self, fix: Fix, item: Planned) -> tuple[str, int]:
        """Why a rewrite is not written back, "" if it is; and the databases it is proven on."""
        statement = item.context.statement
        if Counter(_comments(statement.text)) - Counter(_comments(fix.sql)):
            return "a comment would be lost", 0
        tried = try_rewrite(self.target, fix, item, self.say, timed=False)
        if tried.fix is None or not tried.proven:
            return f"it is not proven: {tried.reason}", 0
        proof = tried.fix.proof
        before, after = proof.get("cost_before"), proof.get("cost_after")
        if before is not None and after is not None and after > before * MAX_COST:
            return f"it would cost more here (planner cost {before:,.0f} → {after:,.0f})", 0
        return "", int(proof["databases"])


def _rewrites(findings: Sequence[Finding]) -> Iterator[tuple[Finding, Fix]]:
    """The rewrites that leave no choice, those of the gravest findings first."""
    for finding in sorted(
        findings, key=lambda f: (-SEVERITY_RANK[f.severity], f.location.line, f.location.column)
    ):
        if finding.experiment is None and not any(f.changes_result for f in finding.fixes):
            for fix in finding.fixes:
                if fix.kind == "rewrite":
                    yield finding, fix
                    break


def _suppressions(source: Source, found: Sequence[Statement]) -> list[Suppression]:
    if MARK not in source.text:
        return []
    return read_suppressions(source.path, comments(source), found)


def _comments(text: str) -> list[str]:
    if "--" not in text and "/*" not in text:
        return []
    return [comment for _, comment in comments(Source("", text))]


def with_line_ends(new: str, text: str) -> str:
    """New lines ended as the file ends its own."""
    if "\r" not in text:
        return new
    if "\n" not in text:
        return new.replace("\n", "\r")
    if "\r\n" in text and not re.search(r"(?<!\r)\n", text):
        return re.sub(r"(?<!\r)\n", "\r\n", new)
    return new


def diff_of(path: str, before: str, after: str, *, new: bool = False) -> str:
    """A unified diff of one file, as ``git apply`` and ``patch -p0`` take it."""
    from difflib import unified_diff

    old = "/dev/null" if new else path
    lines = unified_diff(_lines(before), _lines(after), old, path)
    return "".join(
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )


def _lines(text: str) -> list[str]:
    """The lines with their ends: only a newline ends one, unlike for str.splitlines()."""
    return [line + "\n" for line in text.split("\n")[:-1]] + [
        rest for rest in text.rpartition("\n")[2:] if rest
    ]


def replace_file(path: str, before: bytes, after: bytes) -> None:
    """Replace a file's contents at once, keeping its mode and, where we may, its owner.

    A symbolic link stays one. Raises OSError, also when the file has changed since it was read.
    """
    place = os.path.realpath(path)
    status = os.stat(place)
    handle, temporary = tempfile.mkstemp(prefix=".sqladvisor-", dir=os.path.dirname(place))
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after)
            file.flush()
            if (os.getuid(), os.getgid()) != (status.st_uid, status.st_gid):
                # Another's file in a directory of ours becomes ours.
                with contextlib.suppress(PermissionError):
                    os.fchown(file.fileno(), status.st_uid, status.st_gid)
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            os.fsync(file.fileno())
        with open(place, "rb") as now:
            if now.read() != before:
                raise OSError(f"{path} has changed meanwhile")
        os.replace(temporary, place)
    except BaseException:
        os.unlink(temporary)
        raise
