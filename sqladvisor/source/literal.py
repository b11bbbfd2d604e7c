"""What the readers produce: string expressions as runs of text and gaps, with exact places.

Also what all languages share: escapes, printf and brace formats, and what a gap's expression says
about the value that will stand there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sqladvisor.sql.statement import Given


@dataclass(frozen=True, slots=True)
class Text:
    """Known text. ``start``/``end`` is where it is written in the file, as it is or escaped."""

    value: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Text that only the running program knows: an expression in the string."""

    expression: str
    start: int
    end: int
    given: Given


Piece = Text | Gap


@dataclass(frozen=True, slots=True)
class Literal:
    """One whole string expression: concatenations and formats taken together.

    ``use`` is what its surroundings say of it: "query" (given to a call or a variable that is
    named for SQL), "message" (logged, printed, thrown), or "".
    """

    pieces: tuple[Piece, ...]
    start: int
    end: int
    use: str = ""


@dataclass(slots=True)
class Reading:
    """A program's string literals in order, and its comments as (line, text)."""

    literals: list[Literal] = field(default_factory=list)
    comments: list[tuple[int, str]] = field(default_factory=list)


class Unreadable(Exception):
    """A file that its language's parser refuses: the reason, and its line if known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


# -- escapes ----------------------------------------------------------------------------------------

_ESCAPE = re.compile(
    r"\\(?:[xu]\{(?P<braced>[0-9A-Fa-f_]{1,8})\}|x(?P<x>[0-9A-Fa-f]{1,2})|u+(?P<u>[0-9A-Fa-f]{4})"
    r"|U(?P<U>[0-9A-Fa-f]{8})|N\{[^}\n]*\}|(?P<octal>[0-7]{1,3})|\r?\n|(?P<other>.))",
    re.DOTALL,
)
_BLANK_AFTER = re.compile(r"\s*")
_SIMPLE = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a", "e": "\x1b",
           "s": " ", "\\": "\\", "'": "'", '"': '"', "`": "`", "$": "$"}  # fmt: skip
_NOT_TEXT = "\ufffd"


def verbatim(text: str, start: int, end: int) -> list[Piece]:
    """``text[start:end]`` as it is written."""
    return [Text(text[start:end], start, end)] if end > start else []


def unescaped(
    text: str, start: int, end: int, *, keep_unknown: bool = False, joins_lines: bool = False
) -> list[Piece]:
    """``text[start:end]`` with backslash escapes resolved.

    ``keep_unknown``: an escape that means nothing stays as written (Python, PHP), else its
    backslash is dropped. ``joins_lines``: an escaped line end takes the next line's indentation
    with it (Rust).
    """
    pieces: list[Piece] = []
    position = start
    for match in _ESCAPE.finditer(text, start, end):
        if match.start() < position:
            continue
        pieces += verbatim(text, position, match.start())
        position = match.end()
        if match[0][-1] == "\n" and joins_lines:
            blank = _BLANK_AFTER.match(text, position, end)
            position = blank.end() if blank else position
        pieces.append(Text(_value(match, keep_unknown), match.start(), position))
    return pieces + verbatim(text, position, end)


def _value(match: re.Match[str], keep_unknown: bool) -> str:
    code = match["braced"] or match["x"] or match["u"] or match["U"]
    if code or match["octal"]:
        number = int(match["octal"], 8) if match["octal"] else int(code.replace("_", "") or "0", 16)
        # A NUL, half of a surrogate pair, or no character at all: nothing SQL can hold.
        usable = 0 < number < 0x110000 and not 0xD800 <= number < 0xE000
        return chr(number) if usable else _NOT_TEXT
    other = match["other"]
    if other is None:
        return _NOT_TEXT if match[0].startswith("\\N") else ""
    if other in _SIMPLE:
        return _SIMPLE[other]
    return match[0] if keep_unknown else str(other)


def doubled(text: str, start: int, end: int, mark: str) -> list[Piece]:
    """``text[start:end]`` where a doubled ``mark`` stands for one (``""`` of C#, ``{{``)."""
    pieces: list[Piece] = []
    position = start
    found = text.find(mark * 2, start, end)
    while found >= 0:
        pieces += verbatim(text, position, found)
        pieces.append(Text(mark, found, found + 2 * len(mark)))
        position = found + 2 * len(mark)
        found = text.find(mark * 2, position, end)
    return pieces + verbatim(text, position, end)


def single_quoted(text: str, start: int, end: int) -> list[Piece]:
    """A single-quoted string: only its quote and the backslash itself are escaped."""
    pieces: list[Piece] = []
    position = start
    while (at := text.find("\\", position, end)) >= 0 and at + 1 < end:
        pieces += verbatim(text, position, at)
        known = text[at + 1] in "\\'"
        pieces.append(Text(text[at + 1] if known else text[at : at + 2], at, at + 2))
        position = at + 2
    return pieces + verbatim(text, position, end)


# -- formats ----------------------------------------------------------------------------------------

_VERB = re.compile(
    r"%(?:\((?P<name>\w+)\)|<(?P<angle>\w+)>|\[(?P<index>\d+)\]|(?P<position>\d+)\$)?"
    r"[-+ #0]*(?:\d+)?(?:\.\d+)?[hlL]?(?P<verb>[a-zA-Z%])"
)
_BRACE = re.compile(r"\{\{|\}\}|\{(?P<inner>[^{}\n]*)\}")
_NUMBER_VERBS = frozenset("diufFeEgGxXobB")

Filling = tuple[str, Given] | str | None
"""What fills a place of a format: an expression and what it is, known text, or nobody knows."""
Argument = Callable[[str | int], Filling]
"""What a format's name or position (from 0) stands for."""


def printf(pieces: Sequence[Piece], argument: Argument) -> list[Piece]:
    """A printf-like format with its verbs as gaps; a verb without an argument stays text."""
    count = 0

    def replace(match: re.Match[str]) -> Filling:
        nonlocal count
        if match["verb"] == "%":
            return "%"
        key: str | int
        if match["name"] or match["angle"]:
            key = match["name"] or match["angle"]
        elif match["index"] or match["position"]:
            key = int(match["index"] or match["position"]) - 1
        else:
            key, count = count, count + 1
        found = argument(key)
        numeric = match["verb"] in _NUMBER_VERBS
        if isinstance(found, tuple) and numeric and found[1] == "value":
            return found[0], "number"
        return found

    return _replaced(pieces, _VERB, replace)


def braces(pieces: Sequence[Piece], argument: Argument) -> list[Piece]:
    """A brace format (str.format, string.Format, format!) with its fields as gaps."""
    count = 0

    def replace(match: re.Match[str]) -> Filling:
        nonlocal count
        if match["inner"] is None:
            return match[0][0]
        name = re.split(r"[:!,]", match["inner"], maxsplit=1)[0].strip()
        if not name:
            count += 1
            return argument(count - 1)
        return argument(int(name) if name.isdigit() else name)

    return _replaced(pieces, _BRACE, replace)


def _replaced(
    pieces: Sequence[Piece],
    pattern: re.Pattern[str],
    replace: Callable[[re.Match[str]], Filling],
) -> list[Piece]:
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Gap) or len(piece.value) != piece.end - piece.start:
            result.append(piece)
            continue
        position = 0
        for match in pattern.finditer(piece.value):
            found = replace(match)
            if found is None:
                continue
            start, end = piece.start + match.start(), piece.start + match.end()
            if match.start() > position:
                before = piece.value[position : match.start()]
                result.append(Text(before, piece.start + position, start))
            if isinstance(found, str):
                result.append(Text(found, start, end))
            else:
                result.append(Gap(found[0], start, end, found[1]))
            position = match.end()
        if position < len(piece.value):
            result.append(Text(piece.value[position:], piece.start + position, piece.end))
    return result


# -- what is put in ---------------------------------------------------------------------------------

_WORD = r"[A-Za-z_][\w]*"
_CONSTANT = re.compile(
    rf"[$@]{{0,2}}(?:{_WORD}(?:\.|::|->|\?\.)\$?)*[A-Z][A-Z0-9_]+(?:\[[^\]]*\]|\.(?:get|fetch)\([^()]*\))?"
)
_NUMBER = re.compile(
    r"-?\d[\d_.]*|(?:int|len|float|round|Number|parseInt|parseFloat|intval|floatval|count|sizeof|strlen"
    r"|strconv\.(?:Itoa|FormatInt)|(?:Integer|Long)\.(?:parseInt|parseLong|valueOf)|Number\.parseInt"
    r"|Convert\.ToInt(?:32|64)|int\.Parse)\(.*\)|\((?:int|long|float)\)\s*[$\w.>-]+"
    r"|.*\.(?:length|size|count|Length|Count|to_i|to_f|toInt\(\)|toLong\(\)|size\(\)|len\(\)|length\(\))",
    re.DOTALL,
)
_QUOTED = re.compile(
    r"(?:[\w$.:>@-]*?)(?:quote|escape|sanitize|Identifier|literal)\w*!?\s*\(.*|.*\.Sanitize\(\)",
    re.DOTALL | re.IGNORECASE,
)
_MARKS = re.compile(
    r"(?:place_?holders?|q?marks?|binds?|bindings?|param(?:eter)?s?|question_?marks?)"
    r"(?:_?(?:list|str|string|sql|s))?",
    re.IGNORECASE,
)
_LAST_NAME = re.compile(rf"{_WORD}$")
_JOINED = re.compile(
    r"(?:(?P<a>[\w.$>-]+?)\s*\.(?:join|joinToString)\(|(?:.*(?:join|Join|implode))\(\s*(?:['\"].*?['\"]\s*,\s*)?(?P<b>[\w.$>-]+))"
)
_STRINGS = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|`((?:[^`\\]|\\.)*)`", re.DOTALL)
_MARK_TEXT = re.compile(
    r"[\s,()]*(?:(?:\?|%s|\$(?:\d+|\{.*?\}|%d)?|:p?\w*|@p?|:?\{.*?\}|%\(\w+\)s)[\s,()]*)+"
)
_BETWEEN = re.compile(r"[\s,()]*")
_CHOICE = re.compile(r"[^?]+\?\s*(['\"]).*?\1\s*:\s*(['\"]).*?\2|(['\"]).*?\3\s+if\s.+\selse\s+(['\"]).*?\4",
                     re.DOTALL)  # fmt: skip
_REPEATS = re.compile(r"join|implode|repeat|map|fill|nCopies|\*|collect", re.IGNORECASE)


def given_by(expression: str) -> Given:
    """What a gap's expression says of the text it will give; "value" where it says nothing."""
    text = expression.strip()
    if _CONSTANT.fullmatch(text) or _CHOICE.fullmatch(text):
        return "constant"
    if _are_marks(text):
        return "marks"
    if _QUOTED.fullmatch(text):
        return "quoted"
    return "number" if _NUMBER.fullmatch(text) else "value"


def _are_marks(text: str) -> bool:
    """Whether an expression gives a list of placeholders: ``?, ?, ?`` however it is made."""
    name = _LAST_NAME.search(text)
    if name and re.fullmatch(r"[\w.$>@-]+", text) and _MARKS.fullmatch(name[0]):
        return True
    joined = _JOINED.match(text)
    if joined:
        name = _LAST_NAME.search(joined["a"] or joined["b"] or "")
        if name and _MARKS.fullmatch(name[0]):
            return True
    if not _REPEATS.search(text):
        return False
    strings = [m[1] or m[2] or m[3] or "" for m in _STRINGS.finditer(text)]
    marks = [s for s in strings if _MARK_TEXT.fullmatch(s)]
    return bool(marks) and all(s in marks or _BETWEEN.fullmatch(s) for s in strings)


# -- what the surroundings say ----------------------------------------------------------------------

_TALKS = frozenset(
    ("debug", "info", "warning", "warn", "error", "exception", "critical", "fatal", "trace", "log",
     "print", "println", "printf", "printfn", "eprintln", "eprint", "errorf", "fatalf", "logf", "warnf",
     "warningf", "infof", "debugf", "panicf", "skipf", "tracef", "fprintf", "fprintln", "puts", "panic",
     "die", "exit", "abort", "bail", "anyhow", "ensure", "expect", "unreachable", "todo",
     "unimplemented", "writeline", "it", "describe", "test", "alert", "confirm", "prompt", "gettext",
     "ngettext", "_", "t", "echo", "raise", "fail", "notify", "toast", "perror", "add_argument",
     "error_log", "trigger_error", "assert", "assertion", "say", "wrapf", "wrap")
)  # fmt: skip
_TALKERS = frozenset(
    ("log", "logger", "logging", "console", "slog", "zap", "tracing", "i18n", "_logger")
)
_NOT_SQL_CALLS = frozenset(("createquery", "createnamedquery", "graphql", "gql", "namedquery"))
_QUERY_CALL = re.compile(
    r"(?:.*_)?(?:query|exec|execute|prepare|raw|fetch|fetchall|fetchrow|fetchval|find_by_sql|copy|sql"
    r"|text|command|createcommand|select_(?:all|one|value|rows)|mogrify|read_sql|explain)"
    r"(?:row|rows|all|one|many|async|context|x|params|_?sql|_?raw|unsafe|map|rowx|_as|_scalar|_row"
    r"|_params|_with|_query|_batch|s|nonquery|update|reader|scalar|_?query)*",
    re.IGNORECASE,
)
_QUERY_NAME = re.compile(r"sql|query|queries|stmt|statement|cte(?:_|$)", re.IGNORECASE)
_SEGMENTS = re.compile(r"[A-Za-z_]\w*")


def use_of_call(callee: str) -> str:
    """What being an argument of a call (its text up to the arguments) says of a string."""
    names = [n for n in _SEGMENTS.findall(_without_arguments(callee)) if n != "new"]
    if not names:
        return ""
    last = names[-1].lower()
    if last in _TALKS or last.endswith(("error", "exception")) or last in _NOT_SQL_CALLS:
        return "message"
    if any(n.lower() in _TALKERS for n in names[:-1]):
        return "message"
    return "query" if _QUERY_CALL.fullmatch(last) else ""


def use_of_name(name: str) -> str:
    """What being assigned to a variable says of a string."""
    return "query" if _QUERY_NAME.search(name) else ""


def _without_arguments(callee: str) -> str:
    """``db.with(a).query`` as ``db.with.query``; only what is near its end matters."""
    return re.sub(r"\([^()]*\)|<[^<>]*>", "", callee[-300:])


def line_starts(text: str) -> tuple[int, ...]:
    """The offsets at which lines start."""
    return (0, *(m.end() for m in re.finditer("\n", text)))


def merged(pieces: Sequence[Piece]) -> Iterator[Piece]:
    """The pieces without empty text that stands for nothing in the file."""
    for piece in pieces:
        if isinstance(piece, Gap) or piece.value or piece.end > piece.start:
            yield piece
