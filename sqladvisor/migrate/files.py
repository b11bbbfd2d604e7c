"""The files of a migration folder, and their statements: what all runners' readers stand on."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqladvisor.finding import InputProblem
from sqladvisor.migrate.ahead import Ahead
from sqladvisor.migrate.variables import fill
from sqladvisor.sql.source import read_source, statements
from sqladvisor.sql.statement import Statement


@dataclass(slots=True)
class Files:
    """SQL files by path, in the order of the paths, and ``aux`` to read what else lies there.

    ``aux`` gives the bytes of any other file (``sqitch.plan``, ``meta/_journal.json``) or None.
    """

    sql: Mapping[str, bytes]
    aux: Callable[[str], bytes | None] = lambda _: None
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[InputProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    variables: dict[str, str] = field(default_factory=dict)
    """What stands for the runner's variables → the variables as written."""
    ahead: Ahead | None = None
    """A process that parses some of them meanwhile."""

    def text(self, path: str) -> str:
        """The decoded text of a file."""
        if path not in self.texts:
            source = read_source(path, self.sql[path])
            self.texts[path] = source.text
            if source.problem:
                self.problems.append(source.problem)
        return self.texts[path]

    def statements(self, path: str, sections: str = "") -> list[Statement]:
        """The statements of a file; what cannot be parsed goes to ``problems``.

        ``sections``: the pattern of the comments before each of which a text ends that the runner
        sends whole, so that its last statement needs no semicolon.
        """
        source = read_source(path, self.sql[path])
        self.texts[source.path] = source.text
        if "${" in source.text:
            filled = fill(source.text, self.variables)
            found, problems = statements(replace(source, text=filled))
            found = [_as_written(s, source.text) for s in found]
        else:
            found, problems = statements(source, self.ahead.take(path) if self.ahead else None)
        if problems and sections:
            # Of the same length, so that places stay what they are.
            ended = re.sub(sections, lambda m: m[0].replace("--", ";--", 1)[:-1], source.text)
            found, problems = statements(replace(source, text=ended))
        self.problems += [p for p in problems if not self._only_rows(p, source.text)]
        return found

    def _only_rows(self, problem: InputProblem, text: str) -> bool:
        """Whether what is too large to be read only puts rows into tables: a seed is no hazard."""
        if "(limit " not in problem.message or problem.line is None:
            return False
        rest = text.split("\n", problem.line - 1)[-1]
        one = _ROWS.match(rest) if "a statement of" in problem.message else not _OTHER.search(rest)
        if one:
            what = "this INSERT" if "a statement of" in problem.message else "the rows from here on"
            self.notes.append(
                f"{problem.path}:{problem.line}: {what}: too large to be judged or run"
            )
        return bool(one)

    def beside(self, path: str, name: str) -> bytes | None:
        """A file in the same directory as ``path``."""
        return self.aux(os.path.join(os.path.dirname(path), name))


_ROWS = re.compile(r"\s*(?:INSERT|COPY)\b", re.IGNORECASE)
_OTHER = re.compile(
    r"^\s*(?:ALTER|ANALYZE|BEGIN|CALL|CLUSTER|COMMENT|COMMIT|CREATE|DELETE|DO|DROP|EXECUTE|GRANT|IMPORT|LOCK|"
    r"MERGE|REFRESH|REINDEX|RENAME|REVOKE|SECURITY|START|TRUNCATE|UPDATE|VACUUM|WITH)\b|"
    r";[ \t]*(?!INSERT\b|--)[A-Z]",
    re.IGNORECASE | re.MULTILINE,
)
"""What else may begin a line, or follow on one. A text in a row may look like it: then it is a problem."""


def _as_written(statement: Statement, text: str) -> Statement:
    written = text[statement.start : statement.start + len(statement.text)]
    return statement if written == statement.text else replace(statement, text=written)


def folders(paths: Sequence[str]) -> list[str]:
    """The directories of the paths, each once, in order."""
    return list(dict.fromkeys(os.path.dirname(p) for p in paths))
