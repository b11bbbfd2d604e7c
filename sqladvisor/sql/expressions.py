"""Expressions compared by meaning, and made ready to stand in an index definition."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from sqladvisor.catalog.model import Index, Relation
from sqladvisor.sql import libpg
from sqladvisor.sql.resolve import FromItem
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import column_name, function_name, names, unwrap, walk

if TYPE_CHECKING:
    from sqladvisor.context import Context

# Fields that say where or how an expression is written, not what it is.
_NOISE = frozenset(
    ("location", "funcformat", "rexpr_list_start", "rexpr_list_end", "list_start", "list_end")
)
# Casts that pg_get_indexdef() adds around columns and literals.
_TEXT_TYPES = frozenset(("text", "varchar", "bpchar"))


def shape(node: Any) -> Any:
    """A hashable form of an expression: equal for equal expressions, however they are written.

    Table qualifiers, places, schema pg_catalog and casts to text are left out.
    """
    if isinstance(node, list):
        return tuple(shape(item) for item in node if item != _PG_CATALOG)
    if not isinstance(node, dict):
        return node
    if len(node) == 1:
        kind, inner = next(iter(node.items()))
        if kind == "ColumnRef":
            return "ColumnRef", column_name(inner)[1]
        if kind == "TypeCast" and names(inner["typeName"].get("names"))[-1] in _TEXT_TYPES:
            return shape(inner.get("arg", {}))
    return tuple(sorted((k, shape(v)) for k, v in node.items() if k not in _NOISE))


_PG_CATALOG = {"String": {"sval": "pg_catalog"}}


@lru_cache(maxsize=1024)
def shape_of_text(expression: str) -> Any:
    """The shape of an expression given as SQL text; None when it cannot be parsed."""
    try:
        found = libpg.parse(f"SELECT {expression}")
        return shape(found[0][3]["targetList"][0]["ResTarget"]["val"])
    except (libpg.ParseProblem, KeyError, IndexError):
        return None


def expression_index(relation: Relation, wrapped: Node) -> Index | None:
    """An index of the relation that has this expression among its keys."""
    wanted: Any = None
    for index in relation.indexes:
        for text in index.expressions if index.valid else ():
            if wanted is None:
                wanted = shape(wrapped)
            if shape_of_text(text) == wanted:
                return index
    return None


def unqualified(wrapped: Node, ctx: Context) -> str:
    """An expression's text with table qualifiers removed; "" where its place is unknown."""
    span, spans = ctx.span(wrapped), ctx.spans
    if span is None:
        return ""
    text = spans.sql[span[0] : span[1]]
    columns = [n for k, n in walk(*unwrap(wrapped)) if k == "ColumnRef"]
    for column in sorted(columns, key=lambda c: c.get("location", 0), reverse=True):
        place = spans.of("ColumnRef", column)
        if place is None:
            return ""
        last = spans.tokens[spans.token_at(place[1] - 1)][0]
        text = text[: place[0] - span[0]] + text[last - span[0] :]
    return text


def index_key(wrapped: Node, ctx: Context) -> str:
    """An expression as an index key: in parentheses unless it is a column or a function call."""
    text = unqualified(wrapped, ctx)
    kind, node = unwrap(wrapped)
    plain = kind == "ColumnRef" or (
        kind == "FuncCall" and node.get("funcformat", "") != "COERCE_SQL_SYNTAX"
    )
    return text if plain or not text else f"({text})"


def create_index(item: FromItem, keys: str, method: str = "") -> str:
    """DDL of an index on a table of the query, without blocking writes where that is possible."""
    from sqladvisor.sql.quote import qualified

    relation = item.relation
    how = f" USING {method}" if method else ""
    # CREATE INDEX CONCURRENTLY is refused on a partitioned table.
    concurrently = "" if relation and relation.kind == "partitioned" else " CONCURRENTLY"
    return f"CREATE INDEX{concurrently} ON {qualified(item.schema, item.name)}{how} ({keys});"


_IMMUTABLE = frozenset(
    [
        "lower",
        "upper",
        "initcap",
        "btrim",
        "ltrim",
        "rtrim",
        "length",
        "char_length",
        "character_length",
        "octet_length",
        "bit_length",
        "substr",
        "substring",
        "left",
        "right",
        "md5",
        "abs",
        "ceil",
        "ceiling",
        "floor",
        "round",
        "trunc",
        "mod",
        "sign",
        "replace",
        "split_part",
        "reverse",
        "lpad",
        "rpad",
        "repeat",
        "translate",
        "strpos",
        "position",
        "overlay",
        "ascii",
        "chr",
        "sqrt",
        "power",
        "cardinality",
        "array_length",
        "jsonb_array_length",
        "json_array_length",
        "starts_with",
        "regexp_replace",
        "jsonb_extract_path",
        "jsonb_extract_path_text",
        "json_extract_path_text",
        "coalesce",
        "nullif",
        "greatest",
        "least",
        "hashtext",
        "sha256",
    ]
)
"""Built-in functions that are IMMUTABLE for every argument type people filter by (pg_proc)."""

_IMMUTABLE_CASTS = frozenset(
    [
        "int2",
        "int4",
        "int8",
        "integer",
        "bigint",
        "smallint",
        "numeric",
        "float4",
        "float8",
        "text",
        "varchar",
        "bpchar",
        "bool",
    ]
)
"""Target types of casts that do not depend on settings, from a number, text or boolean."""
_SETTING_DEPENDENT = frozenset(
    ("timestamp with time zone", "timestamp without time zone", "date", "time with time zone",
     "interval", "bytea", "time without time zone", "")
)  # fmt: skip


def is_immutable(wrapped: Node, column_type: str, functions: frozenset[str]) -> bool:
    """Whether an index over the expression is allowed: nothing in it depends on settings.

    ``column_type`` is the type of its column ("" unknown), ``functions`` the user functions known
    to be IMMUTABLE. Sound, not complete.
    """
    for kind, node in walk(*unwrap(wrapped)):
        if kind == "FuncCall":
            name = function_name(node)
            if name in ("extract", "date_part", "date_trunc"):
                if column_type not in ("timestamp without time zone", "date") or (
                    name == "date_trunc" and column_type == "date"
                ):
                    return False
            elif name not in _IMMUTABLE and name not in functions:
                return False
        elif kind == "TypeCast":
            target = names(node["typeName"].get("names"))[-1]
            if unwrap(node.get("arg", {}))[0] == "A_Const" and target != "interval":
                continue
            if target == "date" and column_type == "timestamp without time zone":
                continue
            if target not in _IMMUTABLE_CASTS or column_type in _SETTING_DEPENDENT:
                return False
        elif kind in ("SQLValueFunction", "ParamRef", "SubLink"):
            return False
    return True
