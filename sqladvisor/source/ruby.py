"""Ruby: quoted strings, %q and %Q, adjacent literals, heredocs, ``+``, ``%`` and ``format``."""

from __future__ import annotations

from typing import ClassVar

from sqladvisor.source.grammar import Node, TreeReader
from sqladvisor.source.literal import (
    Filling,
    Piece,
    Reading,
    printf,
    single_quoted,
    unescaped,
    verbatim,
)

_SAME = frozenset(("strip", "squish", "freeze", "chomp", "dup", "strip_heredoc", "to_s"))


def read(text: str, suffix: str) -> Reading:
    return _Reader(text, "tree_sitter_ruby").read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(("string", "chained_string", "heredoc_beginning"))
    sums: ClassVar = {"binary": "+"}
    printf: ClassVar = frozenset(("format", "sprintf"))
    assignments: ClassVar = (("assignment", "left", "right"),)
    writes: ClassVar = frozenset(
        (
            "method_parameters",
            "block_parameters",
            "lambda_parameters",
            "operator_assignment",
            "exception_variable",
        )
    )

    def __init__(self, text: str, module: str) -> None:
        super().__init__(text, module)
        self._bodies = self._heredocs()

    def _heredocs(self) -> dict[int, Node]:
        """The body of each heredoc, by where its beginning stands: they come in the same order."""
        beginnings, bodies = [], []
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            if node.type == "heredoc_beginning":
                beginnings.append(node)
            elif node.type == "heredoc_body":
                bodies.append(node)
            waiting += reversed(node.children)
        beginnings.sort(key=self.start)
        bodies.sort(key=self.start)
        return {self.start(b): body for b, body in zip(beginnings, bodies, strict=False)}

    def _bind(self, node: Node) -> None:
        if node.type == "operator_assignment" or (
            node.type == "binary" and len(node.children) > 2 and node.children[1].type == "<<"
        ):
            self._names.add(self.source(node.children[0]).lstrip("@$"), None)
        else:
            super()._bind(node)

    def pieces(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        if node.type == "binary" and len(node.children) == 3 and node.children[1].type == "%":
            left = self.pieces(node.children[0], inner)
            return None if left is None else self._percent(left, node.children[2], inner)
        if node.type == "call" and not any(c.type == "argument_list" for c in node.children):
            # "…".squish and <<~SQL.strip have no arguments.
            receiver, method = (
                node.child_by_field_name("receiver"),
                node.child_by_field_name("method"),
            )
            if receiver is not None and method is not None and self.source(method) in _SAME:
                return self.pieces(receiver, inner)
        return super().pieces(node, inner)

    def _percent(self, left: list[Piece], right: Node, inner: list[Node]) -> list[Piece]:
        values = self.named(right) if right.type == "array" else [right]
        inner += values
        given = [self.given(v) for v in values]

        def argument(key: str | int) -> Filling:
            return given[key] if isinstance(key, int) and key < len(given) else None

        return printf(left, argument)

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        if node.type == "chained_string":
            pieces: list[Piece] = []
            for part in self.named(node):
                pieces += self.string(part, inner) or []
            return pieces
        if node.type == "heredoc_beginning":
            body = self._bodies.get(self.start(node))
            if body is None:
                return None
            closing = [c for c in body.children if c.type == "heredoc_end"]
            end = self.start(closing[0]) if closing else self.end(body)
            raw = self.source(node).endswith("'")
            if raw:
                return verbatim(self.text, self.start(body), end)
            return self.spliced(body, self.start(body), end, inner)
        if len(node.children) < 2:
            return None
        return self.spliced(node, self.end(node.children[0]), self.start(node.children[-1]), inner)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        opening = self.source(node.children[0]) if node.type == "string" and node.children else ""
        if opening == "'" or opening.startswith("%q"):
            if "\\" not in self.text[start:end]:
                return verbatim(self.text, start, end)
            return single_quoted(self.text, start, end)
        return unescaped(self.text, start, end)
