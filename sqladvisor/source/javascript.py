"""JavaScript and TypeScript: quoted strings, template literals and their tags, ``+``, ``join``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from sqladvisor.source.grammar import Node, TreeReader
from sqladvisor.source.literal import Gap, Piece, Reading, Text, unescaped, use_of_name, verbatim

_PLAIN_TAGS = frozenset(
    ("raw", "dedent", "outdent", "stripIndent", "stripIndents", "unsafe", "oneLine")
)
"""Tags that put their values into the text. All others are taken to bind them."""
_PGTYPED = re.compile(r"(?P<spread>\$?)\$(?P<name>[A-Za-z_]\w*)(?P<pick>\([\w\s,!]*\))?!?")


def read(text: str, suffix: str) -> Reading:
    if suffix == "js":
        return _Reader(text, "tree_sitter_javascript").read()
    return _Reader(
        text, "tree_sitter_typescript", f"language_{'tsx' if suffix == 'tsx' else 'typescript'}"
    ).read()


class _Reader(TreeReader):
    strings: ClassVar = frozenset(("string", "template_string"))
    holes: ClassVar = frozenset(("template_substitution",))
    assignments: ClassVar = (
        ("variable_declarator", "name", "value"),
        ("assignment_expression", "left", "right"),
        ("public_field_definition", "name", "value"),
        ("field_definition", "property", "value"),
    )
    writes: ClassVar = frozenset(
        ("formal_parameters", "augmented_assignment_expression", "for_in_statement", "catch_clause")
    )

    def _bind(self, node: Node) -> None:
        if node.type in ("for_in_statement", "augmented_assignment_expression"):
            left = node.child_by_field_name("left")
            if left is not None:
                self._names.add(self.source(left).rpartition(".")[2], None)
        else:
            super()._bind(node)

    def pieces(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        tagged = self._tagged(node)
        if tagged is not None:
            return self._bound(*tagged, inner)
        return super().pieces(node, inner)

    def use_within(self, node: Node, use: str) -> str:
        if node.type == "pair":
            key = node.child_by_field_name("key")
            name = self.source(key) if key is not None else ""
            return "query" if name == "text" else use_of_name(name)
        if node.type in ("jsx_attribute", "jsx_element"):
            return "message"
        return super().use_within(node, use)

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        return self.spliced(node, self.start(node) + 1, self.end(node) - 1, inner)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        return unescaped(self.text, start, end)

    def called(self, node: Node, call: object, inner: list[Node]) -> list[Piece] | None:
        found = self.call(node)
        assert found is not None
        receiver = found.receiver
        if found.method == "join" and receiver is not None and receiver.type == "array":
            return self._joined(receiver, found.arguments, inner)
        return super().called(node, found, inner)

    def _joined(self, array: Node, arguments: list[Node], inner: list[Node]) -> list[Piece] | None:
        separator = self.pieces(arguments[0], []) if len(arguments) == 1 else [Text(",", 0, 0)]
        items = self.named(array)
        beyond: list[Node] = []
        parts = [self.pieces(i, beyond) for i in items]
        if separator is None or all(p is None for p in parts):
            return None
        inner += beyond
        value = "".join(p.value for p in separator if isinstance(p, Text))
        result: list[Piece] = []
        for item, part in zip(items, parts, strict=True):
            if result:
                result.append(Text(value, result[-1].end, result[-1].end))
            result += self.operand(item, inner) if part is None else part
        return result

    # -- tagged templates -----------------------------------------------------------------------

    def _tagged(self, node: Node) -> tuple[str, Node] | None:
        """The tag and the template of ``sql`…```, with or without type arguments."""
        children = node.children
        if not children or children[-1].type != "template_string":
            return None
        before = self.text[self.start(node) : self.start(children[-1])].strip()
        generic = node.type == "binary_expression" and before.endswith(">")
        if node.type != "call_expression" and not generic:
            return None
        return before.partition("<")[0].strip(), children[-1]

    def _bound(self, tag: str, template: Node, inner: list[Node]) -> list[Piece] | None:
        pieces = self.string(template, inner)
        name = tag.rpartition(".")[2]
        if pieces is None or name in _PLAIN_TAGS or name.lower().endswith("unsafe"):
            return pieces
        result: list[Piece] = []
        for piece in pieces:
            if isinstance(piece, Gap):
                result.append(Gap(piece.expression, piece.start, piece.end, "bound"))
            elif name == "sql" and len(piece.value) == piece.end - piece.start:
                result += self._pgtyped(piece)
            else:
                result.append(piece)
        return result

    def _pgtyped(self, piece: Text) -> Iterator[Piece]:
        """Text with pgtyped's ``$name``, ``$$names`` and ``$object(a, b)`` as gaps."""
        position = piece.start
        for match in _PGTYPED.finditer(self.text, piece.start, piece.end):
            yield from verbatim(self.text, position, match.start())
            start, position = match.start(), match.end()
            if not match["spread"] and not match["pick"]:
                yield Gap(match["name"], start, position, "bound")
                continue
            names = re.findall(r"\w+", match["pick"] or "") or [match["name"]]
            for i, name in enumerate(names):
                yield Text(", " if i else "(", start, start)
                yield Gap(name, start, position, "bound")
            yield Text(")", position, position)
        yield from verbatim(self.text, position, piece.end)
