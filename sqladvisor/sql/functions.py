"""Which functions return one value per row: the parse tree does not tell them from sets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.sql.aggregates import is_aggregate
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import children, function_name, unwrap

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog

# Functions of pg_catalog that people select and that return one value (not proretset).
_SCALARS = frozenset(
    ("abs", "age", "array_append", "array_cat", "array_length", "array_position",
     "array_prepend", "array_remove", "array_replace", "array_to_json", "array_to_string",
     "array_upper", "ascii", "bit_length", "btrim", "cardinality", "cbrt", "ceil", "ceiling",
     "char_length", "character_length", "chr", "clock_timestamp", "coalesce", "concat",
     "concat_ws", "convert_from", "current_setting", "current_user", "date", "date_bin",
     "date_part", "date_trunc", "decode", "degrees", "div", "encode", "exp", "extract",
     "first_value", "float4", "float8", "floor", "format", "format_type", "gen_random_uuid",
     "get_byte", "greatest", "hashtext", "initcap", "int2", "int4", "int8", "isfinite",
     "json_array_length", "json_build_array", "json_build_object", "json_extract_path",
     "json_extract_path_text", "json_typeof", "jsonb_array_length", "jsonb_build_array",
     "jsonb_build_object", "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_set",
     "jsonb_strip_nulls", "jsonb_typeof", "justify_days", "justify_hours", "justify_interval",
     "lag", "last_value", "lead", "least", "left", "length", "ln", "localtimestamp", "log",
     "lower", "lower_inc", "lpad", "ltrim", "make_date", "make_interval", "make_timestamp",
     "make_timestamptz", "md5", "mod", "now", "nth_value", "ntile", "nullif", "num_nonnulls",
     "num_nulls", "numeric", "obj_description", "octet_length", "overlay", "pg_get_expr",
     "pg_get_indexdef", "pg_get_userbyid", "pg_relation_size", "pg_size_pretty",
     "pg_table_size", "pg_total_relation_size", "pg_typeof", "pi", "position", "power",
     "quote_ident", "quote_literal", "radians", "random", "regexp_count", "regexp_instr",
     "regexp_like", "regexp_match", "regexp_replace", "regexp_substr", "repeat", "replace",
     "reverse", "right", "round", "row_number", "row_to_json", "rpad", "rtrim", "session_user",
     "setseed", "sha256", "sign", "split_part", "sqrt", "starts_with", "statement_timestamp",
     "strpos", "substr", "substring", "text", "timezone", "to_char", "to_date", "to_hex",
     "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsquery", "to_tsvector",
     "transaction_timestamp", "translate", "trim", "trunc", "ts_rank", "upper", "upper_inc",
     "uuidv4", "uuidv7", "width_bucket")
)  # fmt: skip


def calls(wrapped: Node) -> Iterator[Node]:
    """The function calls of an expression, without those of its subqueries."""
    stack = [unwrap(wrapped)]
    while stack:
        kind, node = stack.pop()
        if kind == "FuncCall":
            yield node
        if kind != "SelectStmt":
            stack += children(node)


def is_scalar(call: Node, catalog: Catalog) -> bool:
    """Whether a call is known to be a plain function of one value: no aggregate, window or set."""
    name = function_name(call)
    if "over" in call or is_aggregate("FuncCall", call):
        return False
    known = catalog.functions.get(name)
    return name in _SCALARS or (known is not None and not known.returns_set)


def may_return_set(wrapped: Node, catalog: Catalog) -> bool:
    """Whether an expression of a SELECT list may give more than one row, or none."""
    return not all(
        "over" in c or is_aggregate("FuncCall", c) or is_scalar(c, catalog) for c in calls(wrapped)
    )
