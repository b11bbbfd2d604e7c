"""Partition bounds as conditions: what a CHECK must say to spare ATTACH PARTITION its scan."""

from __future__ import annotations

from sqladvisor.migrate.context import MigrationContext, Table
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, names, unwrap


def bound_condition(ctx: MigrationContext, parent: Table, bound: Node) -> str:
    """The partition constraint of a bound over one column, as SQL; "" where it cannot be told.

    As get_qual_for_range() and get_qual_for_list() of src/backend/partitioning/partbounds.c have it.
    """
    key = parent.relation.partition_key if parent.relation else ()
    if len(key) != 1 or bound.get("is_default"):
        return ""
    column = identifier(key[0])
    if bound.get("strategy") == "l":
        return _list(ctx, column, bound.get("listdatums", ()))
    if bound.get("strategy") != "r":
        return ""
    parts = [f"{column} IS NOT NULL"]
    for field, operator in (("lowerdatums", ">="), ("upperdatums", "<")):
        for datum in bound.get(field, ()):
            kind, node = unwrap(datum)
            if kind == "ColumnRef" and names(node.get("fields")) in (("minvalue",), ("maxvalue",)):
                continue
            text = ctx.text(datum)
            if not text:
                return ""
            parts.append(f"{column} {operator} {text}")
    return " AND ".join(parts)


def _list(ctx: MigrationContext, column: str, datums: list[Node]) -> str:
    values = [ctx.text(d) for d in datums if constant(d) is not None]
    with_null = len(values) < len(datums)
    if not all(values):
        return ""
    parts = [f"{column} IN ({', '.join(values)})"] if values else []
    if with_null:
        parts.append(f"{column} IS NULL")
        return " OR ".join(parts)
    return " AND ".join([f"{column} IS NOT NULL", *parts])
