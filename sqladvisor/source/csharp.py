"""C#: string literals plain, verbatim, raw and interpolated, ``+``, ``string.Format``."""

from __future__ import annotations

import re
from typing import ClassVar

from sqladvisor.source.grammar import Call, Node, TreeReader
from sqladvisor.source.literal import Gap, Piece, Reading, Text, doubled, unescaped, verbatim

_OPENING = re.compile(r"(?P<marks>[$@]*)(?P<quotes>\"{3,}|\")")
_BINDING = frozenset(
    ("fromsql", "fromsqlinterpolated", "executesqlinterpolated", "executesqlinterpolatedasync", "executesql",
     "executesqlasync", "sqlquery")
)  # fmt: skip
"""Entity Framework's methods that take the holes of an interpolated string as parameters."""


def read(text: str, suffix: str) -> Reading:
    return _Reader(text, "tree_sitter_c_sharp").read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(
        (
            "string_literal",
            "verbatim_string_literal",
            "raw_string_literal",
            "interpolated_string_expression",
        )
    )
    braces: ClassVar = frozenset(("format",))
    assignments: ClassVar = (
        ("variable_declarator", "name", "value"),
        ("assignment_expression", "left", "right"),
        ("property_declaration", "name", "value"),
    )
    writes: ClassVar = frozenset(("parameter_list", "implicit_parameter_list"))

    def _bind(self, node: Node) -> None:
        if node.type == "assignment_expression" and "+=" in self.source(node)[:200]:
            self._names.add(self.source(node).partition("+=")[0].strip().rpartition(".")[2], None)
        elif node.type == "foreach_statement":
            left = node.child_by_field_name("left")
            if left is not None:
                self._names.add(self.source(left), None)
        else:
            super()._bind(node)

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        start, end = self.start(node), self.end(node)
        opening = _OPENING.match(self.text, start)
        if opening is None:
            return None
        pieces = self.spliced(node, opening.end(), end - len(opening["quotes"]), inner)
        if "$" in opening["marks"] and self._binds(node):
            return [
                Gap(p.expression, p.start, p.end, "bound") if isinstance(p, Gap) else p
                for p in pieces
            ]
        return pieces

    def _binds(self, node: Node) -> bool:
        argument = node.parent
        arguments = argument.parent if argument is not None else None
        call: Call | None = None
        if arguments is not None and arguments.parent is not None:
            call = self.call(arguments.parent)
        return call is not None and call.method.lower() in _BINDING

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        opening = _OPENING.match(self.text, self.start(node))
        marks, quotes = (opening["marks"], opening["quotes"]) if opening else ("", '"')
        if len(quotes) > 1:
            return verbatim(self.text, start, end)
        pieces = (
            doubled(self.text, start, end, '"')
            if "@" in marks
            else unescaped(self.text, start, end)
        )
        if "$" not in marks:
            return pieces
        result: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Text) and len(piece.value) == piece.end - piece.start:
                for part in doubled(self.text, piece.start, piece.end, "{"):
                    if isinstance(part, Text) and len(part.value) == part.end - part.start:
                        result += doubled(self.text, part.start, part.end, "}")
                    else:
                        result.append(part)
            else:
                result.append(piece)
        return result

    def hole(self, hole: Node, start: int, end: int) -> Piece:
        values = [c for c in self.named(hole) if not c.type.startswith("interpolation")]
        expression = self.source(values[0]) if values else self.text[start:end].strip("{}")
        return self.put_in(expression, start, end)
