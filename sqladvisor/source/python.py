"""Python: its own ``ast`` finds the string expressions; their text is read from the file itself.

``ast`` gives values without saying which character of the file gave which character of the value,
and, before Python 3.12, wrong places inside f-strings: so the literals' tokens are read here.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator

from sqladvisor.source.literal import (
    Filling,
    Gap,
    Literal,
    Piece,
    Reading,
    Text,
    Unreadable,
    braces,
    given_by,
    printf,
    unescaped,
    use_of_call,
    use_of_name,
    verbatim,
)
from sqladvisor.source.names import Names, Value
from sqladvisor.sql.statement import Given

_OPENING = re.compile(r"(?P<prefix>[rRbBuUfFtT]{0,2})(?P<quote>'''|\"\"\"|'|\")")
_BETWEEN = re.compile(r"(?:\s|\\\r?\n|#[^\n]*|[()])+")
_STRIPS = frozenset(("strip", "lstrip", "rstrip", "dedent", "cleandoc"))
_TALKING_KEYWORDS = frozenset(
    ("help", "description", "message", "msg", "label", "title", "doc", "epilog", "verbose_name", "help_text")
)  # fmt: skip
_COMPOSERS = frozenset(("SQL",))
"""psycopg's ``sql.SQL``: its ``format`` quotes what it is given."""


def read(text: str, *, with_comments: bool = False) -> Reading:
    """The string expressions of a Python file. Raises Unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except SyntaxError as error:
        raise Unreadable(f"not Python that this Python reads: {error.msg}", error.lineno) from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise Unreadable(f"Python's parser gives up: {error or type(error).__name__}") from None
    reader = _Reader(text)
    try:
        return Reading(reader.literals(module), list(_comments(text)) if with_comments else [])
    except RecursionError:
        raise Unreadable("nested too deeply") from None


def _comments(text: str) -> Iterator[tuple[int, str]]:
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string
    except (tokenize.TokenError, SyntaxError):
        return


class _Reader:
    """Reads one file's expressions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = [0, *(m.end() for m in re.finditer(r"\r\n|\r|\n", text))]
        self._ascii = text.isascii()
        self._names = Names(self._value)

    # -- places -------------------------------------------------------------------------------

    def offset(self, line: int, column: int) -> int:
        """The character offset of ``ast``'s line and column, which counts UTF-8 bytes."""
        start = self._lines[line - 1]
        if self._ascii:
            return start + column
        end = self._lines[line] if line < len(self._lines) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode(errors="ignore"))

    def span(self, node: ast.expr) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self.offset(node.lineno, node.col_offset),
            self.offset(node.end_lineno, node.end_col_offset),
        )

    def source(self, node: ast.expr) -> str:
        start, end = self.span(node)
        return self.text[start:end]

    # -- the walk -----------------------------------------------------------------------------

    def literals(self, module: ast.Module) -> list[Literal]:
        for node in ast.walk(module):
            self._bind(node)
        found = []
        waiting: list[tuple[ast.AST, str]] = [(module, "")]
        while waiting:
            node, use = waiting.pop()
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                continue  # a docstring
            if isinstance(node, ast.expr):
                inner: list[ast.expr] = []
                pieces = self.pieces(node, inner)
                if pieces is not None:
                    start, end = self.span(node)
                    found.append(Literal(tuple(pieces), start, end, use))
                    waiting += ((n, "") for n in inner)
                    continue
            waiting += self._children(node, use)
        return sorted(found, key=lambda literal: literal.start)

    def _children(self, node: ast.AST, use: str) -> Iterator[tuple[ast.AST, str]]:
        if isinstance(node, ast.Call):
            says = use_of_call(self.source(node.func))
            yield node.func, ""
            yield from ((a, says) for a in node.args)
            for keyword in node.keywords:
                talking = keyword.arg in _TALKING_KEYWORDS
                yield keyword.value, "message" if talking else says
            return
        inherited = ""
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            inherited = use_of_name(_name(target))
        elif isinstance(node, ast.Assert | ast.Raise):
            inherited = "message"
        elif isinstance(
            node, ast.IfExp | ast.BoolOp | ast.Await | ast.Starred | ast.Tuple | ast.List
        ):
            inherited = use
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.JoinedStr):
                continue
            yield child, inherited

    # -- expressions --------------------------------------------------------------------------

    def pieces(self, node: ast.expr, inner: list[ast.expr]) -> list[Piece] | None:
        """What a string expression is made of; None for any other expression.

        Expressions in it that are not text themselves are added to ``inner``.
        """
        if isinstance(node, ast.JoinedStr) or (
            isinstance(node, ast.Constant) and isinstance(node.value, str)
        ):
            return self._literal(node)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return self._sum(node, inner)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
            left = self.pieces(node.left, inner)
            return None if left is None else self._percent(left, node.right, inner)
        if isinstance(node, ast.Call):
            return self._call(node, inner)
        if type(node).__name__ == "TemplateStr":
            return self._literal(node)
        return None

    def _sum(self, node: ast.BinOp, inner: list[ast.expr]) -> list[Piece] | None:
        operands: list[ast.expr] = []
        left: ast.expr = node
        while isinstance(left, ast.BinOp) and isinstance(left.op, ast.Add):
            operands.append(left.right)
            left = left.left
        operands.append(left)
        beyond: list[ast.expr] = []
        parts = [self.pieces(o, beyond) for o in reversed(operands)]
        if all(p is None for p in parts):
            return None
        inner += beyond
        result: list[Piece] = []
        for operand, part in zip(reversed(operands), parts, strict=True):
            result += self._put_in(operand, inner) if part is None else part
        return result

    def _put_in(self, node: ast.expr, inner: list[ast.expr]) -> list[Piece]:
        start, end = self.span(node)
        if isinstance(node, ast.Constant):
            return [Text(str(node.value), start, end)]
        inner.append(node)
        return [self._names.put_in(self.text[start:end], _name(node), start, end)]

    def _percent(
        self, left: list[Piece], right: ast.expr, inner: list[ast.expr]
    ) -> list[Piece] | None:
        values: dict[str | int, ast.expr] = {}
        if isinstance(right, ast.Tuple):
            values.update(enumerate(right.elts))
        elif isinstance(right, ast.Dict):
            for key, value in zip(right.keys, right.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    values[key.value] = value
        else:
            values[0] = right
        inner.append(right)

        def argument(key: str | int) -> Filling:
            node = values.get(key)
            if node is not None:
                return self._given(node)
            # A mapping that is not written out: each of its names is put in.
            return (key, given_by(key)) if isinstance(key, str) and 0 in values else None

        return printf(left, argument)

    def _call(self, node: ast.Call, inner: list[ast.expr]) -> list[Piece] | None:
        function = node.func
        if isinstance(function, ast.Name) and function.id in _STRIPS and len(node.args) == 1:
            return self.pieces(node.args[0], inner)
        if not isinstance(function, ast.Attribute):
            return None
        if (
            function.attr in _STRIPS
            and len(node.args) == 1
            and isinstance(function.value, ast.Name)
        ):
            return self.pieces(node.args[0], inner)
        if function.attr == "format":
            return self._format(function.value, node, inner)
        text = self.pieces(function.value, inner)
        if text is None:
            return None
        if function.attr in _STRIPS and not node.keywords:
            return text
        if function.attr == "join" and len(node.args) == 1:
            return self._join(text, node.args[0], inner)
        return None

    def _format(
        self, receiver: ast.expr, node: ast.Call, inner: list[ast.expr]
    ) -> list[Piece] | None:
        composed = (
            isinstance(receiver, ast.Call)
            and _name(receiver.func) in _COMPOSERS
            and len(receiver.args) == 1
        )
        if composed:
            assert isinstance(receiver, ast.Call)
            receiver = receiver.args[0]
        text = self.pieces(receiver, inner)
        if text is None:
            return None
        values: dict[str | int, ast.expr] = dict(enumerate(node.args))
        values.update((k.arg, k.value) for k in node.keywords if k.arg)
        inner += values.values()

        def argument(key: str | int) -> Filling:
            parts = re.split(r"[.\[]", key, maxsplit=1) if isinstance(key, str) else [key]
            found = values.get(parts[0])
            if found is None:
                return (
                    (key, "value")
                    if isinstance(key, str) and any(k.arg is None for k in node.keywords)
                    else None
                )
            known = (str(key), given_by(str(key))) if len(parts) > 1 else self._given(found)
            return (known[0], "bound") if composed and isinstance(known, tuple) else known

        return braces(text, argument)

    def _join(
        self, separator: list[Piece], items: ast.expr, inner: list[ast.expr]
    ) -> list[Piece] | None:
        """``" ".join(["SELECT …", "FROM …"])``: written out like a concatenation."""
        if not isinstance(items, ast.List | ast.Tuple) or len(separator) > 1:
            return None
        value = "".join(p.value for p in separator if isinstance(p, Text))
        parts = [self.pieces(i, inner) for i in items.elts]
        if all(p is None for p in parts):
            return None
        result: list[Piece] = []
        for item, part in zip(items.elts, parts, strict=True):
            if result:
                result.append(Text(value, result[-1].end, result[-1].end))
            result += self._put_in(item, inner) if part is None else part
        return result

    def _given(self, node: ast.expr) -> Filling:
        """What a format's argument is."""
        if isinstance(node, ast.Constant):
            return (
                str(node.value) if isinstance(node.value, int) else (self.source(node), "constant")
            )
        start, end = self.span(node)
        piece = self._names.put_in(self.text[start:end], _name(node), start, end)
        return piece.value if isinstance(piece, Text) else (piece.expression, piece.given)

    # -- literals -----------------------------------------------------------------------------

    def _literal(self, node: ast.expr) -> list[Piece] | None:
        """The pieces of adjacent literals, read from their tokens."""
        position, end = self.span(node)
        pieces: list[Piece] = []
        while position < end:
            between = _BETWEEN.match(self.text, position, end)
            if between:
                position = between.end()
                continue
            opening = _OPENING.match(self.text, position, end)
            if opening is None:
                return None
            found, position = self._token(opening, end)
            pieces += found
        return pieces

    def _token(self, opening: re.Match[str], end: int) -> tuple[list[Piece], int]:
        prefix, quote = opening["prefix"].lower(), opening["quote"]
        formatted = "f" in prefix or "t" in prefix
        pieces: list[Piece] = []
        position = start = opening.end()
        while position < end:
            if self.text.startswith(quote, position):
                pieces += self._run(start, position, prefix)
                return pieces, position + len(quote)
            character = self.text[position]
            if character == "\\":
                position += 2
            elif formatted and character in "{}":
                pieces += self._run(start, position, prefix)
                if self.text.startswith(character * 2, position):
                    pieces.append(Text(character, position, position + 2))
                    position += 2
                else:
                    gap, position = self._field(position, end, bound="t" in prefix)
                    pieces.append(gap)
                start = position
            else:
                position += 1
        return pieces + self._run(start, end, prefix), end

    def _run(self, start: int, end: int, prefix: str) -> list[Piece]:
        if "r" in prefix:
            return verbatim(self.text, start, end)
        return unescaped(self.text, start, end, keep_unknown=True)

    def _field(self, position: int, end: int, *, bound: bool) -> tuple[Piece, int]:
        """The replacement field ``{expression!r:spec}`` at a position, and where it ends."""
        text, depth, stop, last = self.text, 0, 0, position
        i = position
        while i < end:
            character = text[i]
            if character in "'\"":
                quote = character * 3 if text.startswith(character * 3, i) else character
                closing = text.find(quote, i + len(quote), end)
                if closing < 0:
                    break
                i = closing + len(quote)
                continue
            if character in "([{":
                depth += 1
            elif character in ")]}":
                depth -= 1
                if not depth:
                    last = i + 1
                    break
            elif (
                depth == 1
                and not stop
                and (
                    character == ":"
                    or (character == "!" and text[i + 1 : i + 2] in ("r", "s", "a"))
                )
            ):
                stop = i
            i += 1
        last = last if last > position else end
        expression = text[position + 1 : stop or last - 1].strip().removesuffix("=").strip()
        spec = text[stop : last - 1] if stop else ""
        simple = expression.split(".")[-1]
        piece = self._names.put_in(
            expression, simple if simple.isidentifier() else "", position, last
        )
        if isinstance(piece, Text):
            return piece, last
        given: Given = "bound" if bound else piece.given
        if given == "value" and re.search(r":[^}]*[dfFeEgG]$", spec):
            given = "number"
        return Gap(piece.expression, position, last, given), last

    # -- names --------------------------------------------------------------------------------

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name | ast.Attribute):
                    self._names.add(_name(target), node.value)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._names.store(node.id)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Attribute):
            self._names.add(node.target.attr, None)
        elif isinstance(node, ast.arg):
            self._names.add(node.arg, None)
        elif isinstance(node, ast.alias):
            self._names.add((node.asname or node.name).split(".")[0], None)

    def _value(self, node: ast.expr) -> Value:
        pieces = self.pieces(node, [])
        return Value(self.source(node), None if pieces is None else tuple(pieces))


def _name(node: ast.AST) -> str:
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else ""
