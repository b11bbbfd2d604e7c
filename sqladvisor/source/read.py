"""A program's file as statements: which language it is, which grammar it needs, what it yields."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec

from sqladvisor.finding import InputProblem
from sqladvisor.source.literal import Literal, Reading, Unreadable, line_starts
from sqladvisor.sql.source import Source, comments, read_source
from sqladvisor.sql.statement import Statement
from sqladvisor.suppress import MARK

INSTALL = "pip install 'sqladvisor[source]'"


@dataclass(frozen=True, slots=True)
class Language:
    """How one kind of file is read. ``needs``: the module that has its grammar, "" for none.

    ``styles``: how its libraries write parameters, by what a file that uses them has in it; the
    last is the usual one.
    """

    name: str
    reader: str
    needs: str
    styles: tuple[tuple[str, str], ...]


_JAVASCRIPT = (
    (r"\bsequelize\b", ":name"),
    (r"['\"](?:mysql2?|knex|better-sqlite3|sqlite3)\b", "?"),
    ("", "$1"),
)
_JVM = (
    (r"NamedParameterJdbc|jakarta\.persistence|javax\.persistence|org\.jdbi", ":name"),
    ("", "?"),
)
_LANGUAGES = {
    "py": Language(
        "Python", "python", "",
        ((r"\basyncpg\b", "$1"), (r"\bsqlalchemy\b", ":name"), (r"\b(?:psycopg2?|django)\b", "%s"),
         (r"\b(?:sqlite3|duckdb|pyodbc)\b", "?"), ("", "%s")),
    ),
    "go": Language("Go", "go", "tree_sitter_go", ((r"go-sql-driver/mysql|go-sqlite3", "?"), ("", "$1"))),
    "js": Language("JavaScript", "javascript", "tree_sitter_javascript", _JAVASCRIPT),
    "ts": Language("TypeScript", "javascript", "tree_sitter_typescript", _JAVASCRIPT),
    "tsx": Language("TypeScript", "javascript", "tree_sitter_typescript", _JAVASCRIPT),
    "java": Language("Java", "jvm", "tree_sitter_java", _JVM),
    "kt": Language("Kotlin", "jvm", "tree_sitter_kotlin", _JVM),
    "rb": Language("Ruby", "ruby", "tree_sitter_ruby",
                   ((r"\bPG\b|exec_params|exec_query", "$1"), (r"ActiveRecord|ApplicationRecord|find_by_sql|Sequel", "?"), ("", "$1"))),
    "php": Language("PHP", "php", "tree_sitter_php", ((r"\bpg_\w+\(", "$1"), ("", "?"))),
    "rs": Language("Rust", "rust", "tree_sitter_rust", ((r"\brusqlite\b", "?"), ("", "$1"))),
    "cs": Language("C#", "csharp", "tree_sitter_c_sharp", (("", "@name"),)),
}  # fmt: skip
_ALIASES = {
    "pyi": "py",
    "jsx": "js",
    "mjs": "js",
    "cjs": "js",
    "mts": "ts",
    "cts": "ts",
    "kts": "kt",
}
_MENTIONS = (("select", "from"), ("select", "("), ("insert", "into"), ("update", "set"),
             ("delete", "from"), ("merge", "into"), ("with", "as"), ("create", "as"),
             ("create", "table"), ("create", "index"))  # fmt: skip
"""Words without which a file has no statement: then it is not parsed at all."""


@dataclass(slots=True)
class Program:
    """What was read of one file. ``missing`` names the grammar that it needs and that is not there.

    ``directives``: its comments, and those of the SQL in it, as (line, text).
    """

    statements: list[Statement] = field(default_factory=list)
    problems: list[InputProblem] = field(default_factory=list)
    directives: list[tuple[int, str]] = field(default_factory=list)
    missing: str = ""
    text: str = ""


def read_program(path: str, data: bytes) -> Program:
    """The SQL statements in a program's file, each at its place. Never raises."""
    program = Program()
    source = read_source(path, data)
    program.text = source.text
    lowered = source.text.lower()
    if not any(first in lowered and then in lowered for first, then in _MENTIONS):
        return program
    if source.problem:
        program.problems.append(source.problem)
    suffix = suffix_of(path)
    language = _LANGUAGES[suffix]
    if language.needs and not (find_spec("tree_sitter") and find_spec(language.needs)):
        program.missing = language.name
        return program
    directed = MARK in source.text
    try:
        reading = _reading(language, suffix, source.text, directed)
    except Unreadable as problem:
        program.problems.append(InputProblem(path, problem.message, problem.line))
        return program
    program.statements = _statements(source, reading.literals, language)
    if directed:
        program.directives = sorted([*reading.comments, *_in_sql(source, program.statements)])
    return program


def suffix_of(path: str) -> str:
    """The extension that a file is read by."""
    suffix = os.path.splitext(path)[1][1:].lower()
    return _ALIASES.get(suffix, suffix)


def _reading(language: Language, suffix: str, text: str, directed: bool) -> Reading:
    reader = import_module(f"sqladvisor.source.{language.reader}")
    if language.needs:
        return reader.read(text, suffix)  # type: ignore[no-any-return]
    return reader.read(text, with_comments=directed)  # type: ignore[no-any-return]


def _statements(source: Source, literals: list[Literal], language: Language) -> list[Statement]:
    from sqladvisor.source.embed import embedded

    style = next(style for mark, style in language.styles if re.search(mark, source.text))
    return embedded(source, literals, language.name, style, line_starts(source.text))


def _in_sql(source: Source, statements: list[Statement]) -> list[tuple[int, str]]:
    """The comments in the SQL itself."""
    found = []
    for statement in statements:
        if MARK not in statement.text:
            continue
        for line, text in comments(Source(source.path, statement.text)):
            offset = line_starts(statement.text)[line - 1]
            found.append((statement.locate(offset).line, text))
    return found
