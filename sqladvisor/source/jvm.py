"""Java and Kotlin: string literals, text blocks, ``+``, ``String.format``, ``StringBuilder``."""

from __future__ import annotations

import re
from typing import ClassVar

from sqladvisor.source.grammar import Node, TreeReader
from sqladvisor.source.literal import Gap, Piece, Reading, unescaped, verbatim

_SPRING_SQL = re.compile(r"org\.springframework\.data\.(?:jdbc|r2dbc)|androidx\.room|org\.jdbi")
_NATIVE = re.compile(r"nativeQuery\s*=\s*true|@NamedNativeQuery|@NativeQuery|@Sql")
_JPQL = re.compile(r"@(?:\w+\.)*(?:Named)?Query\b")
_DOLLAR = re.compile(r"\$([A-Za-z_]\w*)")


def read(text: str, suffix: str) -> Reading:
    if suffix == "kt":
        return _Kotlin(text, "tree_sitter_kotlin").read()
    return _Java(text, "tree_sitter_java").read()


class _Jvm(TreeReader):
    printf: ClassVar = frozenset(("format", "formatted"))

    def use_within(self, node: Node, use: str) -> str:
        if node.type == "annotation":
            written = self.source(node)
            # JPQL looks like SQL, and names classes and their properties.
            if _JPQL.match(written) and not (
                _NATIVE.search(written) or _SPRING_SQL.search(self.text)
            ):
                return "message"
            return "query"
        if use and node.type in (
            "element_value_pair",
            "constructor_invocation",
            "annotation_argument_list",
        ):
            return use
        return super().use_within(node, use)


class _Java(_Jvm):
    strings: ClassVar = frozenset(("string_literal",))
    assignments: ClassVar = (
        ("variable_declarator", "name", "value"),
        ("assignment_expression", "left", "right"),
    )
    writes: ClassVar = frozenset(
        (
            "formal_parameters",
            "lambda_expression",
            "enhanced_for_statement",
            "catch_formal_parameter",
        )
    )

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        width = 3 if self.text.startswith('"""', self.start(node)) else 1
        return self.run(node, self.start(node) + width, self.end(node) - width)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        return unescaped(self.text, start, end)

    def _bind(self, node: Node) -> None:
        if node.type == "assignment_expression" and "+=" in self.source(node)[:200]:
            self._names.add(self.source(node).partition("+=")[0].strip().rpartition(".")[2], None)
        elif node.type in ("lambda_expression", "enhanced_for_statement"):
            head = re.split(r"->|:", self.source(node)[:300], maxsplit=1)[0]
            for name in re.findall(r"[A-Za-z_]\w*", head):
                self._names.add(name, None)
        else:
            super()._bind(node)


class _Kotlin(_Jvm):
    strings: ClassVar = frozenset(("string_literal", "multiline_string_literal"))
    assignments: ClassVar = (
        ("property_declaration", "name", "value"),
        ("assignment", "left", "right"),
    )
    writes: ClassVar = frozenset(
        (
            "function_value_parameters",
            "class_parameters",
            "lambda_parameters",
            "augmented_assignment",
        )
    )

    def string(self, node: Node, inner: list[Node]) -> list[Piece] | None:
        width = 3 if node.type == "multiline_string_literal" else 1
        return self.spliced(node, self.start(node) + width, self.end(node) - width, inner)

    def run(self, node: Node, start: int, end: int) -> list[Piece]:
        """``$name`` is looked for here: the grammar loses some."""
        pieces: list[Piece] = []
        raw = node.type == "multiline_string_literal"
        for match in _DOLLAR.finditer(self.text, start, end):
            if not raw and self.text[match.start() - 1] == "\\":
                continue
            pieces += self._plain(raw, start, match.start())
            pieces.append(self.put_in(match[1], match.start(), match.end()))
            start = match.end()
        return pieces + self._plain(raw, start, end)

    def _plain(self, raw: bool, start: int, end: int) -> list[Piece]:
        return verbatim(self.text, start, end) if raw else unescaped(self.text, start, end)

    def hole(self, hole: Node, start: int, end: int) -> Piece:
        piece = super().hole(hole, start, end)
        # ${"$"} is how a dollar sign is written.
        return (
            Gap(piece.expression, start, end, "constant")
            if isinstance(piece, Gap) and '"$"' in piece.expression
            else piece
        )
