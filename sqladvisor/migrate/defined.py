"""The columns that a statement defines, and the place of their types: for the rules about design."""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.finding import Edit, Fix
from sqladvisor.migrate.context import MigrationContext
from sqladvisor.sql.datatypes import type_name
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

DEFINES = ("CreateStmt", "AT_AddColumn", "AT_AlterColumnType")
"""What a rule about column types subscribes to."""
SERIALS = {
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
}
_TYPE_WORDS = frozenset(
    ("PRECISION", "VARYING", "WITH_LA", "WITHOUT_LA", "WITHOUT", "TIME", "ZONE", "ARRAY")
)


def columns_defined(node: Node, ctx: MigrationContext) -> Iterator[tuple[str, Node]]:
    """Name and ColumnDef of each column that a CREATE TABLE or a subcommand gives a type.

    None of temporary tables, which others neither see nor keep.
    """
    if ctx.statement.tree.get("relation", {}).get("relpersistence") == "t":
        return
    if "subtype" in node:
        definition = unwrap(node.get("def", {}))[1]
        if "typeName" in definition:
            yield str(definition.get("colname") or node.get("name", "")), definition
        return
    for wrapped in node.get("tableElts", ()):
        kind, element = unwrap(wrapped)
        if kind == "ColumnDef" and "typeName" in element:
            yield str(element["colname"]), element


def column_type(definition: Node) -> str:
    """A column's type as format_type() has it, without modifiers; ``serial`` as written."""
    return type_name(definition["typeName"])


def is_serial(definition: Node) -> bool:
    return (names(definition["typeName"].get("names")) or ("",))[-1] in SERIALS


def constraints_of(definition: Node) -> dict[str, Node]:
    """A column's own constraints by kind (``CONSTR_PRIMARY``)."""
    found = (unwrap(c)[1] for c in definition.get("constraints", ()))
    return {str(c.get("contype", "")): c for c in found}


def type_span(definition: Node, ctx: MigrationContext) -> tuple[int, int]:
    """Where a column's type stands in ``statement.sql``."""
    tokens = ctx.spans.tokens
    first = last = ctx.spans.token_at(definition["typeName"]["location"])

    def kind(index: int) -> str:
        return tokens[index][2] if index < len(tokens) else ""

    while kind(last + 1) == "ASCII_46":
        last += 2
    while True:
        following = kind(last + 1)
        if following in _TYPE_WORDS:
            last += 1
        elif following in ("ASCII_40", "ASCII_91"):
            close = "ASCII_41" if following == "ASCII_40" else "ASCII_93"
            last += 2
            while kind(last) != close:
                last += 1
        else:
            return tokens[first][0], tokens[last][1]


def with_type(definition: Node, type_: str, ctx: MigrationContext, description: str) -> Fix:
    """The statement with the type of one column replaced."""
    start, end = type_span(definition, ctx)
    array = "[]" * bool(definition["typeName"].get("arrayBounds"))
    sql = ctx.edit(Edit(start, end, type_ + array))
    return Fix(description, sql, "ddl", changes_result=f"the column is {type_}")


def created_tables(contexts: list[MigrationContext]) -> Iterator[MigrationContext]:
    """The statements that create a lasting table of its own: no partition, no foreign table."""
    for ctx in contexts:
        node = ctx.statement.tree
        if ctx.statement.kind != "CreateStmt" or "partbound" in node:
            continue
        if node.get("relation", {}).get("relpersistence") != "t":
            yield ctx
