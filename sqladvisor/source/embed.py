"""Decides which literals of a program are SQL, and makes statements of them.

Precision before recall: a literal is SQL when PostgreSQL's parser takes all of it, it begins with a
statement's keyword, and it has what sentences lack. ``select one`` and ``delete from cart`` parse,
too; those need more than that: capitals, operators, or a call or variable that is named for SQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqladvisor.finding import InputProblem
from sqladvisor.source.literal import Gap, Literal, Piece, Text, line_starts
from sqladvisor.source.roles import Roles
from sqladvisor.sql import libpg
from sqladvisor.sql.source import Source, statements
from sqladvisor.sql.split import Token, tokens
from sqladvisor.sql.statement import Embedding, Hole, Node, Statement

MAX_LITERAL = 1024 * 1024
"""Characters. A longer literal is data, not a query."""
_SHOWN = 60
"""Characters of a hole's expression kept in the statement's text."""

_BEGINS = re.compile(
    r"(?:\s|--[^\n]*\n|/\*.*?\*/|\()*"
    r"(?P<word>select|with|insert|update|delete|merge|create|alter|explain|prepare|declare|begin|truncate)\b",
    re.IGNORECASE | re.DOTALL,
)
_KINDS = frozenset(
    ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "CreateTableAsStmt", "ViewStmt",
     "CreateStmt", "IndexStmt", "AlterTableStmt", "CreateFunctionStmt", "ExplainStmt", "PrepareStmt",
     "DeclareCursorStmt", "TruncateStmt")
)  # fmt: skip
_DATA = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))
_STRUCTURE = re.compile(
    r"[=<>*]|::|\|\||\$\d|:[a-z_]\w*|@[a-z_]\w*|%s|%\(\w+\)s|\w\.\w|\w\(|'[^']*'", re.IGNORECASE
)
_CLAUSE = re.compile(r"\b(?:select|from|into|set|where|delete|insert|update|join)\b", re.IGNORECASE)
_MARK = re.compile(r"\{\{ .*? \}\}", re.DOTALL)
_FRAGMENT = re.compile(
    r".*(?:where|join|filter|cond|clause|order|suffix|extra|having|predicate|limit|sort|paging)\w*"
    r"(?:\(.*\))?",
    re.IGNORECASE | re.DOTALL,
)
_ANY = re.compile(r"")
_CLAUSES = (_FRAGMENT, None, _ANY)
"""How to read a literal, in order: with gaps named for a clause as nothing, with all as something,

with lists of placeholders as nothing (``strings.Repeat("?,", n - 1) + "?"``)."""
_NAME = re.compile(r"[A-Za-z_]\w*")
_UNSHOWN = re.compile(r"[\"'`\\$@%#]|\s+|\{\}")


def embedded(
    source: Source,
    literals: Sequence[Literal],
    language: str,
    placeholder: str,
    lines: tuple[int, ...],
) -> list[Statement]:
    """The statements among a program's literals, in order."""
    found: list[Statement] = []
    for run, literal in enumerate(literals, 1):
        if literal.use == "message" or not begins_like_sql(literal.pieces):
            continue
        read = None
        for clauses in _CLAUSES:
            read = read or _read(source.path, literal, clauses)
        if read is None:
            continue
        template, own = read
        if _is_sql(own, template.text, literal):
            found += (
                template.placed(s, language, placeholder, lines, literal.end, run) for s in own
            )
    return found


def begins_like_sql(pieces: Sequence[Piece]) -> bool:
    """Whether the text before the first gap begins with a statement's keyword."""
    head = ""
    for piece in pieces:
        if isinstance(piece, Gap) or len(head) > 2000:
            break
        head += piece.value
    return _BEGINS.match(head) is not None


class Template:
    """A literal's text as ``Statement.text`` has it: gaps are ``{{ expression }}``.

    ``clauses``: gaps whose expression it matches (``{where}``) are ``{% where %}``, which stands
    for nothing.
    """

    def __init__(self, pieces: Sequence[Piece], clauses: re.Pattern[str] | None = None) -> None:
        self.text = ""
        self.names: dict[str, str] = {}
        self.gaps: list[tuple[int, int, Gap, bool]] = []
        self.places: list[tuple[int, int, int]] = []
        parts: list[str] = []
        size = 0
        shown = [_shown(p, clauses) if isinstance(p, Gap) else p.value for p in pieces]
        trimmed = _without_quotes(pieces, shown)
        for i, (piece, value, (before, after)) in enumerate(
            zip(pieces, shown, trimmed, strict=True)
        ):
            start, end = piece.start, piece.end
            if isinstance(piece, Text):
                written = len(value) == end - start
                value = value[before : len(value) - after]
                if written:
                    start, end = start + before, end - after
                if not value:
                    continue
            else:
                # The quotes of "… '" + name + "'" are not beside the gap in the file.
                start -= before * (pieces[i - 1].end == start if i else False)
                end += after * (i + 1 < len(pieces) and pieces[i + 1].start == end)
                self.gaps.append((size, size + len(value), piece, bool(before or after)))
                self._name(value)
            self.places.append((size, start, end))
            parts.append(value)
            size += len(value)
        self.text = "".join(parts)

    def _name(self, shown: str) -> None:
        """The identifier to take for a gap that can only be a name."""
        names = _NAME.findall(shown)
        if names:
            last = names[-1]
            reserved = libpg.scan(last)[0].kind not in ("NO_KEYWORD", "UNRESERVED_KEYWORD")
            self.names[names[0]] = f"{last}_" if reserved else last

    def placed(
        self,
        statement: Statement,
        language: str,
        placeholder: str,
        lines: tuple[int, ...],
        literal_end: int,
        run: int,
    ) -> Statement:
        """A statement that was read from ``text``, at its place in the file."""
        first, last = statement.start, statement.start + len(statement.text)
        numbers = {p.start: p.number for p in statement.placeholders}
        roles = Roles(statement) if self.gaps else None
        holes = tuple(
            Hole(
                gap.expression,
                gap.given,
                start - first,
                end - first,
                numbers.get(start - first, 0),
                roles.of(start - first) if roles and gap.given != "marks" else "value",
                start - first not in numbers,
                quoted,
            )
            for start, end, gap, quoted in self.gaps
            if first <= start and end <= last
        )
        embedding = Embedding(
            language, self._places(first, last), lines, literal_end, holes, placeholder
        )
        start = embedding.in_file(0, len(statement.text))
        line, column = embedding.place(start)
        return replace(
            statement, start=start, line=line, column=column, embedding=embedding, run=run
        )

    def _places(self, first: int, last: int) -> tuple[tuple[int, int, int], ...]:
        """The runs of ``text[first:last]``, counted from ``first``."""
        result = []
        for i, (at, start, end) in enumerate(self.places):
            after = self.places[i + 1][0] if i + 1 < len(self.places) else len(self.text)
            if after <= first or at >= last:
                continue
            if after - at == end - start:
                start += max(first - at, 0)
                end -= max(after - last, 0)
            result.append((max(at - first, 0), start, end))
        return tuple(result)


def _read(
    path: str, literal: Literal, clauses: re.Pattern[str] | None
) -> tuple[Template, list[Statement]] | None:
    """The statements of a literal; None when PostgreSQL cannot read all of it."""
    template = Template(literal.pieces, clauses)
    if not template.text or len(template.text) > MAX_LITERAL or "\x00" in template.text:
        return None
    found, problems = statements(Source(path, template.text, variables=template.names))
    return (template, found) if found and not problems and _covers(found, template.text) else None


def _covers(found: Sequence[Statement], text: str) -> bool:
    """Whether the statements are all there is in the text (no psql commands, no COPY data)."""
    position = 0
    for statement in (*found, None):
        between = text[position : statement.start if statement else len(text)]
        for token in tokens(between):
            if token.kind not in ("space", "comment", "semicolon", "template"):
                return False
        if statement:
            position = statement.start + len(statement.text)
    return True


def _is_sql(found: Sequence[Statement], text: str, literal: Literal) -> bool:
    if not all(_has_substance(s.kind, s.tree) for s in found if s.kind in _DATA):
        return False
    kinds = {s.kind for s in found}
    if not kinds & _KINDS:
        return False
    bare = _MARK.sub(" ", text)
    if _STRUCTURE.search(bare):
        # Holes and all, "Select a.txt from {folder}" is a sentence.
        return literal.use == "query" or not _capitalised(bare) or bool(re.search(r"[=*]", bare))
    if literal.use == "query":
        return True
    words = _CLAUSE.findall(bare)
    return len(words) > 1 and all(w.isupper() for w in words) and not bare.isupper()


def _capitalised(text: str) -> bool:
    word = _BEGINS.match(text)
    return word is not None and word["word"].istitle()


def _has_substance(kind: str, node: Node) -> bool:
    """Whether a statement says more than ``select one``."""
    if kind != "SelectStmt":
        return True
    if "larg" in node:
        return _has_substance(kind, node["larg"]) and _has_substance(kind, node["rarg"])
    if "fromClause" in node or "withClause" in node:
        return "targetList" in node
    return any(
        "FuncCall" in t.get("ResTarget", {}).get("val", {}) for t in node.get("targetList", ())
    )


def _shown(gap: Gap, clauses: re.Pattern[str] | None) -> str:
    """A gap as a placeholder that the SQL reader knows, with an expression that cannot end it."""
    expression = gap.expression.replace("{", "(").replace("}", ")")
    expression = _UNSHOWN.sub(lambda m: " " if m[0].isspace() else "", expression).strip(" -;")
    expression = expression.replace("--", "").replace("/*", "").replace("*/", "")
    if len(expression) > _SHOWN:
        expression = expression[: _SHOWN - 1].rstrip() + "…"
    if clauses and (clauses.fullmatch(expression) or (gap.given == "marks" and clauses is _ANY)):
        return f"{{% {expression} %}}"
    return f"{{{{ {expression or '…'} }}}}"


def _without_quotes(pieces: Sequence[Piece], shown: Sequence[str]) -> list[tuple[int, int]]:
    """How many characters to take from each text's begin and end: the quotes of ``'{name}'``,

    which are part of the gap in them. For a gap, the same of its neighbours.
    """
    result = [(0, 0)] * len(pieces)
    if not any(isinstance(p, Gap) for p in pieces):
        return result
    text = "".join(shown)
    starts = [0]
    for value in shown:
        starts.append(starts[-1] + len(value))
    quotes = {t.start: t for t in _strings(text)}
    for i, piece in enumerate(pieces):
        if not isinstance(piece, Gap) or not 0 < i < len(pieces) - 1:
            continue
        token = quotes.get(starts[i] - 1)
        before, after = pieces[i - 1], pieces[i + 1]
        if (
            token is not None
            and token.end == starts[i + 1] + 1
            and isinstance(before, Text)
            and isinstance(after, Text)
        ):
            result[i - 1] = (result[i - 1][0], 1)
            result[i] = (1, 1)
            result[i + 1] = (1, 0)
    return result


def _strings(text: str) -> Iterator[Token]:
    return (t for t in tokens(text) if t.kind in ("string", "quoted"))


def located(problem: InputProblem, template: Template, lines: tuple[int, ...]) -> InputProblem:
    """A problem of a template's text, at its place in the file."""
    if problem.line is None or problem.column is None:
        return problem
    offset = line_starts(template.text)[problem.line - 1] + problem.column - 1
    whole = Embedding("", tuple(template.places), lines, 0)
    line, column = whole.place(whole.in_file(offset, len(template.text)))
    return replace(problem, line=line, column=column)
