"""What the readers of tree-sitter grammars share: the walk, concatenations, calls and names.

A language's reader says which node types are what, and how the text of its literals is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

from sqladvisor.source.literal import (
    Filling,
    Literal,
    Piece,
    Reading,
    Text,
    Unreadable,
    braces,
    line_starts,
    printf,
    use_of_call,
    use_of_name,
)
from sqladvisor.source.names import Names, Value

Node = Any
"""A node of tree-sitter: ``type``, ``children``, ``start_byte``, ``end_byte``."""

_NAME = re.compile(r"[A-Za-z_]\w*")
_SIMPLE = re.compile(r"[\w$@.:>?&*!-]+")
_NUMBER = re.compile(r"-?\d[\d_.]*[A-Za-z]{0,3}")
_ARGUMENTS = frozenset(
    ("arguments", "argument_list", "value_arguments", "annotation_argument_list")
)
_WRAPPERS = _ARGUMENTS | {
    "argument", "value_argument", "parenthesized_expression", "token_tree", "conditional_expression",
    "ternary_expression", "await_expression", "conditional", "element_value_pair", "expression_list",
    "reference_expression", "array", "list",
}  # fmt: skip
_SAME_TEXT = frozenset(
    ("strip", "trim", "trimindent", "trimmargin", "stripindent", "squish", "to_string", "to_owned",
     "into", "tostring", "freeze", "html_safe", "chomp", "strip_heredoc", "as_str")
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A call as all grammars have it."""

    callee: str
    method: str
    receiver: Node | None
    arguments: list[Node]


class TreeReader:
    """Reads the string expressions of one file."""

    strings: ClassVar[frozenset[str]] = frozenset()
    holes: ClassVar[frozenset[str]] = frozenset(("interpolation",))
    sums: ClassVar[dict[str, str]] = {"binary_expression": "+"}
    """Node types of concatenations, and their operator."""
    printf: ClassVar[frozenset[str]] = frozenset()
    """Calls that fill a printf-like format, in lower case."""
    braces: ClassVar[frozenset[str]] = frozenset()
    talking: ClassVar[frozenset[str]] = frozenset(("throw_statement", "throw_expression"))
    """Node types whose strings are for people."""
    assignments: ClassVar[tuple[tuple[str, str, str], ...]] = ()
    """(node type, field of the name, field of the value)."""
    writes: ClassVar[frozenset[str]] = frozenset()
    """Node types that give names values nobody knows: parameters, loops, appending."""

    def __init__(self, text: str, module: str, function: str = "language") -> None:
        from tree_sitter import Language, Parser

        self.text = text
        data = text.encode()
        grammar = getattr(import_module(module), function)
        self.root = Parser(Language(grammar())).parse(data).root_node
        self._wide = None if len(data) == len(text) else _byte_offsets(text)
        self._names = Names(self._value)

    def read(self) -> Reading:
        """All of the file. Raises Unreadable."""
        try:
            return self._reading()
        except RecursionError:
            raise Unreadable("nested too deeply") from None

    # -- places -------------------------------------------------------------------------------

    def start(self, node: Node) -> int:
        offset: int = node.start_byte
        return offset if self._wide is None else self._wide[offset]

    def end(self, node: Node) -> int:
        offset: int = node.end_byte
        return offset if self._wide is None else self._wide[offset]

    def source(self, node: Node) -> str:
        return self.text[self.start(node) : self.end(node)]

    # -- the walk -----------------------------------------------------------------------------

    def _reading(self) -> Reading:
        lines = line_starts(self.text)
        reading = Reading()
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            self._bind(node)
            if "comment" in node.type:
                line = node.start_point[0] + 1 if len(lines) > 1 else 1
                reading.comments.append((line, self.source(node)))
            else:
                waiting += node.children
        tasks: list[tuple[Node, str]] = [(self.root, "")]
        while tasks:
            node, use = tasks.pop()
            inner: list[Node] = []
            pieces = self.pieces(node, inner)
            if pieces is not None:
                span = self.start(node), max(self.end(node), *(p.end for p in pieces), 0)
                reading.literals.append(Literal(tuple(pieces), *span, use))
                tasks += ((n, "") for n in inner)
            else:
                tasks += self._children(node, use)
        reading.literals.sort(key=lambda literal: literal.start)
        reading.comments.sort()
        return reading

    def _children(self, node: Node, use: str) -> Iterator[tuple[Node, str]]:
        says = self.use_within(node, use)
        for child in node.children:
            if child.child_count or child.type in self.strings:
                yield child, says

    def use_within(self, node: Node, use: str) -> str:
        """What a node says of the strings right in it; ``use`` is what was said of itself."""
        if node.type in self.talking:
            return "message"
        call = self.call(node)
        if call is not None:
            return use_of_call(call.callee)
        for kind, name, _ in self.assignments:
            if node.type == kind:
                target = node.child_by_field_name(name) or (node.children or [node])[0]
                return use_of_name(self.source(target)[:80])
        return use if node.type in _WRAPPERS else ""

    # -- expressions --------------------------------------------------------------------------

    def pieces(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        """What a string expression is made of; None for any other expression.

        Expressions in it that are not text themselves are added to ``inner``.
        """
        if node.type in self.strings:
            return self.string(node, inner)
        if node.type in self.sums:
            return self._sum(node, inner)
        if node.type == "parenthesized_expression":
            within = self.named(node)
            return self.pieces(within[0], inner) if len(within) == 1 else None
        call = self.call(node)
        return None if call is None else self.called(node, call, inner)

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        """The pieces of one literal; None for one that is not text."""
        raise NotImplementedError

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        """The text between two holes of a literal."""
        raise NotImplementedError

    def spliced(self, node: Node, start: int, end: int, inner: list[Node]) -> list[Piece]:
        """The text from ``start`` to ``end`` of a literal, with its holes."""
        pieces: list[Piece] = []
        for hole in node.children:
            if hole.type not in self.holes or not start <= self.start(hole) < end:
                continue
            first, last = self.hole_span(hole)
            pieces += self.run(node, start, first)
            pieces.append(self.hole(hole, first, last))
            inner += hole.children
            start = last
        return pieces + self.run(node, start, end)

    def hole_span(self, hole: Node) -> tuple[int, int]:
        return self.start(hole), self.end(hole)

    def hole(self, hole: Node, start: int, end: int) -> Piece:
        """The piece of ``${expression}``, whatever its marks."""
        expression = self.text[start:end].strip("#${}").strip()
        return self.put_in(expression, start, end)

    def put_in(self, expression: str, start: int, end: int) -> Piece:
        name = ""
        if _SIMPLE.fullmatch(expression):
            names = _NAME.findall(expression)
            name = names[-1] if names else ""
        return self._names.put_in(expression, name, start, end)

    def operand(self, node: Node, inner: list[Node]) -> list[Piece]:
        """The pieces of a part of a concatenation."""
        found = self.pieces(node, inner)
        if found is not None:
            return found
        start, end = self.start(node), self.end(node)
        text = self.text[start:end]
        if _NUMBER.fullmatch(text):
            return [Text(text, start, end)]
        inner.append(node)
        return [self.put_in(text.lstrip("&*"), start, end)]

    def _sum(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        operands: list[Node] = []
        while node.type in self.sums:
            left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
            operator = (
                self.text[self.end(left) : self.start(right)].strip() if left and right else ""
            )
            if operator != self.sums[node.type]:
                break
            operands.append(right)
            node = left
        if not operands:
            return None
        operands.append(node)
        operands.reverse()
        beyond: list[Node] = []
        parts = [self.pieces(o, beyond) for o in operands]
        if all(p is None for p in parts):
            return None
        inner += beyond
        result: list[Piece] = []
        for operand, part in zip(operands, parts, strict=True):
            result += self.operand(operand, inner) if part is None else part
        return result

    # -- calls --------------------------------------------------------------------------------

    def call(self, node: Node) -> Call | None:
        """A node as a call; None if it is none."""
        arguments = next((c for c in node.children if c.type in _ARGUMENTS), None)
        if arguments is None:
            return None
        callee = self.text[self.start(node) : self.start(arguments)]
        names = _NAME.findall(callee[-200:])
        function = node.child_by_field_name("function") or (node.children or [None])[0]
        receiver = None
        for holder in (node, function):
            for field in ("object", "receiver", "operand", "value", "expression"):
                if receiver is None and holder is not None:
                    receiver = holder.child_by_field_name(field)
        if receiver is None and function is not None and function.type == "navigation_expression":
            receiver = function.children[0]
        return Call(callee, names[-1] if names else "", receiver, self._values(arguments))

    def called(self, node: Node, call: Call, inner: list[Node]) -> list[Piece] | None:
        """The pieces of a call that gives a string made of strings."""
        method = call.method.lower()
        if method in self.printf or method in self.braces:
            return self._format(call, method in self.braces, inner)
        if method in ("stringbuilder", "stringbuffer") and len(call.arguments) == 1:
            return self.pieces(call.arguments[0], inner)
        if call.receiver is None:
            return None
        if method in _SAME_TEXT:
            return self.pieces(call.receiver, inner)
        if method in ("append", "concat") and len(call.arguments) == 1:
            before = self.pieces(call.receiver, inner)
            return None if before is None else before + self.operand(call.arguments[0], inner)
        return None

    def _format(self, call: Call, braced: bool, inner: list[Node]) -> list[Piece] | None:
        arguments = list(call.arguments)
        text = self.pieces(call.receiver, inner) if call.receiver is not None else None
        # The format may follow a locale or a writer.
        while text is None and arguments:
            text = self.pieces(arguments.pop(0), inner)
        if text is None:
            return None
        inner += arguments
        given = [self.given(a) for a in arguments]

        def argument(key: str | int) -> Filling:
            return given[key] if isinstance(key, int) and key < len(given) else None

        return (braces if braced else printf)(text, argument)

    def given(self, node: Node) -> Filling:
        """What a format's argument is."""
        text = self.source(node)
        if node.type in self.strings:
            return text, "constant"
        if _NUMBER.fullmatch(text):
            return text
        return filling(self.put_in(text, self.start(node), self.end(node)))

    def _values(self, arguments: Node) -> list[Node]:
        found = []
        for child in self.named(arguments):
            if child.type in ("argument", "value_argument"):
                within = self.named(child)
                found.append(within[-1] if within else child)
            else:
                found.append(child)
        return found

    # -- names --------------------------------------------------------------------------------

    def _bind(self, node: Node) -> None:
        kind = node.type
        if kind in self.writes:
            for name in set(_NAME.findall(self.source(node)[:500])):
                self._names.add(name, None)
            return
        for declared, name_field, value_field in self.assignments:
            if kind != declared:
                continue
            target = node.child_by_field_name(name_field) or self._first_name(node)
            value = node.child_by_field_name(value_field) or self._last_value(node)
            if target is None:
                return
            targets, values = self._several(target), self._several(value) if value else []
            for position, one in enumerate(targets):
                names = _NAME.findall(self.source(one)[:200])
                if names:
                    same = len(targets) == len(values)
                    self._names.add(names[-1], values[position] if same else None)

    def _first_name(self, node: Node) -> Node | None:
        return next((c for c in node.children if "name" in c.type or "declaration" in c.type), None)

    def _last_value(self, node: Node) -> Node | None:
        """What stands behind the = of a declaration whose grammar does not name it."""
        children = node.children
        at = next((i for i, c in enumerate(children) if c.type == "="), None)
        return children[at + 1] if at is not None and at + 1 < len(children) else None

    def _several(self, node: Node) -> list[Node]:
        return self.named(node) if node.type == "expression_list" else [node]

    def _value(self, node: Node) -> Value:
        pieces = self.pieces(node, [])
        return Value(self.source(node), None if pieces is None else tuple(pieces))

    def named(self, node: Node) -> list[Node]:
        return [c for c in node.children if c.is_named and "comment" not in c.type]


def filling(piece: Piece) -> Filling:
    """A piece as what fills a place of a format."""
    return piece.value if isinstance(piece, Text) else (piece.expression, piece.given)


def _byte_offsets(text: str) -> Sequence[int]:
    """The character offset of each UTF-8 byte offset."""
    offsets: list[int] = []
    for position, character in enumerate(text):
        code = ord(character)
        size = 1 if code < 0x80 else 2 if code < 0x800 else 3 if code < 0x10000 else 4
        offsets += [position] * size
    return [*offsets, len(text)]
