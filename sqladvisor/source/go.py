"""Go: interpreted and raw string literals, ``+``, ``fmt.Sprintf``."""

from __future__ import annotations

from typing import ClassVar

from sqladvisor.source.grammar import Node, TreeReader
from sqladvisor.source.literal import Piece, Reading, unescaped, verbatim


def read(text: str, suffix: str) -> Reading:
    return _Reader(text, "tree_sitter_go").read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(("interpreted_string_literal", "raw_string_literal"))
    holes: ClassVar = frozenset()
    printf: ClassVar = frozenset(("sprintf",))
    assignments: ClassVar = (
        ("const_spec", "name", "value"),
        ("var_spec", "name", "value"),
        ("short_var_declaration", "left", "right"),
        ("assignment_statement", "left", "right"),
    )
    writes: ClassVar = frozenset(("parameter_declaration", "range_clause"))

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        return self.run(node, self.start(node) + 1, self.end(node) - 1)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        raw = node.type == "raw_string_literal"
        return verbatim(self.text, start, end) if raw else unescaped(self.text, start, end)

    def _bind(self, node: Node) -> None:
        if node.type == "assignment_statement" and b"+=" in node.text[:200]:
            self._names.add(self.source(node).partition("+=")[0].strip().rpartition(".")[2], None)
        else:
            super()._bind(node)
