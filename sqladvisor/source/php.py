"""PHP: quoted strings, heredocs and nowdocs, ``.`` and ``sprintf``."""

from __future__ import annotations

from typing import ClassVar

from sqladvisor.source.grammar import Node, TreeReader
from sqladvisor.source.literal import Piece, Reading, single_quoted, unescaped, verbatim

_HOLES = frozenset(
    ("variable_name", "dynamic_variable_name", "member_access_expression", "subscript_expression",
     "nullsafe_member_access_expression", "member_call_expression", "scoped_property_access_expression",
     "function_call_expression", "scoped_call_expression", "class_constant_access_expression")
)  # fmt: skip


def read(text: str, suffix: str) -> Reading:
    return _Reader(text, "tree_sitter_php", "language_php").read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(("string", "encapsed_string", "heredoc", "nowdoc"))
    holes: ClassVar = _HOLES
    sums: ClassVar = {"binary_expression": "."}
    printf: ClassVar = frozenset(("sprintf",))
    talking: ClassVar = frozenset(
        (
            "throw_expression",
            "throw_statement",
            "echo_statement",
            "print_intrinsic",
            "exit_statement",
        )
    )
    assignments: ClassVar = (
        ("assignment_expression", "left", "right"),
        ("const_element", "name", "value"),
        ("property_element", "name", "default_value"),
    )
    writes: ClassVar = frozenset(
        ("formal_parameters", "foreach_statement", "augmented_assignment_expression")
    )

    def _bind(self, node: Node) -> None:
        if node.type == "augmented_assignment_expression":
            self._names.add(self.source(node.children[0]).lstrip("$"), None)
        elif node.type == "foreach_statement":
            head = self.source(node)[:300].partition("{")[0].partition(" as ")[2]
            for name in head.replace("=>", " ").replace("$", " ").replace(")", " ").split():
                self._names.add(name, None)
        else:
            super()._bind(node)

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        if node.type in ("heredoc", "nowdoc"):
            body = next((c for c in node.children if c.type.endswith("_body")), None)
            if body is None:
                return None
            start, end = self.start(body), self.end(body)
            if node.type == "nowdoc":
                return verbatim(self.text, start, end)
            return self.spliced(body, start, end, inner)
        start, end = self.start(node) + 1, self.end(node) - 1
        if self.text[self.start(node)] in "bB":
            start += 1
        return self.spliced(node, start, end, inner)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        if node.type == "string":
            return single_quoted(self.text, start, end)
        return unescaped(self.text, start, end, keep_unknown=True)

    def hole_span(self, hole: Node) -> tuple[int, int]:
        """With the braces of ``{$x->y}``."""
        start, end = self.start(hole), self.end(hole)
        if self.text[start - 1] == "{" and self.text[end : end + 1] == "}":
            return start - 1, end + 1
        return start, end

    def hole(self, hole: Node, start: int, end: int) -> Piece:
        return self.put_in(self.source(hole), start, end)
