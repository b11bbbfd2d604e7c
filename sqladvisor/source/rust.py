"""Rust: string literals plain and raw, ``format!`` and ``concat!``, ``+``."""

from __future__ import annotations

import re
from typing import ClassVar

from sqladvisor.source.grammar import Call, Node, TreeReader, filling
from sqladvisor.source.literal import Filling, Piece, Reading, braces, unescaped, verbatim

_RAW = re.compile(r"r(#*)\"")


def read(text: str, suffix: str) -> Reading:
    return _Reader(text, "tree_sitter_rust").read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(("string_literal", "raw_string_literal"))
    assignments: ClassVar = (
        ("let_declaration", "pattern", "value"),
        ("const_item", "name", "value"),
        ("static_item", "name", "value"),
        ("assignment_expression", "left", "right"),
    )
    writes: ClassVar = frozenset(("parameters", "closure_parameters", "compound_assignment_expr"))

    def _bind(self, node: Node) -> None:
        if node.type == "compound_assignment_expr":
            self._names.add(self.source(node.children[0]).rpartition(".")[2], None)
        else:
            super()._bind(node)

    def call(self, node: Node) -> Call | None:
        if node.type != "macro_invocation":
            return super().call(node)
        tokens = next((c for c in node.children if c.type == "token_tree"), None)
        if tokens is None:
            return None
        callee = self.text[self.start(node) : self.start(tokens)]
        return Call(callee, callee.rstrip("! ").rpartition(":")[2], None, self.named(tokens))

    def use_within(self, node: Node, use: str) -> str:
        if node.type == "token_tree":
            return use
        return super().use_within(node, use)

    def pieces(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        if node.type != "macro_invocation":
            return super().pieces(node, inner)
        call = self.call(node)
        if call is None or call.method not in ("format", "concat", "format_args"):
            return None
        tokens = next(c for c in node.children if c.type == "token_tree")
        parts = self._split(tokens)
        if call.method == "concat":
            return self._concatenated(parts)
        return self._formatted(parts, inner)

    def _split(self, tokens: Node) -> list[list[Node]]:
        """The arguments of a macro: its tokens between commas."""
        parts: list[list[Node]] = [[]]
        for token in tokens.children[1:-1]:
            if token.type == ",":
                parts.append([])
            else:
                parts[-1].append(token)
        return [p for p in parts if p]

    def _concatenated(self, parts: list[list[Node]]) -> list[Piece] | None:
        result: list[Piece] = []
        for part in parts:
            found = self.pieces(part[0], []) if len(part) == 1 else None
            if found is None:
                return None
            result += found
        return result or None

    def _formatted(self, parts: list[list[Node]], inner: list[Node]) -> list[Piece] | None:
        text = self.pieces(parts[0][0], inner) if parts and len(parts[0]) == 1 else None
        if text is None:
            return None
        values: dict[str | int, str] = {}
        for position, part in enumerate(parts[1:]):
            expression = self.text[self.start(part[0]) : self.end(part[-1])]
            if len(part) > 2 and part[1].type == "=":
                values[self.source(part[0])] = self.text[self.start(part[2]) : self.end(part[-1])]
            else:
                values[position] = expression

        def argument(key: str | int) -> Filling:
            if isinstance(key, str):
                return self._known(values.get(key, key))
            return self._known(values[key]) if key in values else None

        return braces(text, argument)

    def _known(self, expression: str) -> Filling:
        return filling(self.put_in(expression.lstrip("&"), 0, 0))

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        start, end = self.start(node), self.end(node)
        raw = _RAW.match(self.text, start)
        if raw:
            return verbatim(self.text, raw.end(), end - 1 - len(raw[1]))
        if self.text[start] != '"':
            return None  # bytes
        return self.run(node, start + 1, end - 1)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        return unescaped(self.text, start, end, joins_lines=True)
