"""The names that PostgreSQL gives to output columns nobody named."""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import function_name, names, unwrap

# Constructs that name their column themselves (FigureColnameInternal, parse_target.c).
_NAMED = {
    "A_ArrayExpr": "array",
    "RowExpr": "row",
    "CoalesceExpr": "coalesce",
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
    "XmlSerialize": "xmlserialize",
    "JsonParseExpr": "json",
    "JsonScalarExpr": "json_scalar",
    "JsonSerializeExpr": "json_serialize",
    "JsonObjectConstructor": "json_object",
    "JsonArrayConstructor": "json_array",
    "JsonArrayQueryConstructor": "json_array",
    "JsonObjectAgg": "json_objectagg",
    "JsonArrayAgg": "json_arrayagg",
}
_NAMED_BY_OPERATION = {
    "IS_GREATEST": "greatest",
    "IS_LEAST": "least",
    "IS_XMLCONCAT": "xmlconcat",
    "IS_XMLELEMENT": "xmlelement",
    "IS_XMLFOREST": "xmlforest",
    "IS_XMLPARSE": "xmlparse",
    "IS_XMLPI": "xmlpi",
    "IS_XMLROOT": "xmlroot",
    "JSON_EXISTS_OP": "json_exists",
    "JSON_QUERY_OP": "json_query",
    "JSON_VALUE_OP": "json_value",
}


def output_name(kind: str, node: Node) -> str:
    """The name PostgreSQL gives an unnamed output column (FigureColname, parse_target.c)."""
    return _figure(kind, node)[0] or "?column?"


def _figure(kind: str, node: Node) -> tuple[str, bool]:
    """The name an expression gives its column, and whether it prevails over that of a cast or

    CASE around it."""
    if kind == "ColumnRef":
        fields = [n for n in names(node.get("fields")) if n != "*"]
        return (fields[-1] if fields else ""), bool(fields)
    if kind == "A_Indirection":
        fields = [n for n in names(node.get("indirection")) if n != "*"]
        return (fields[-1], True) if fields else _figure(*unwrap(node.get("arg", {})))
    if kind == "FuncCall":
        return names(node.get("funcname"))[-1], True
    if kind == "A_Expr":
        return ("nullif", True) if node.get("kind") == "AEXPR_NULLIF" else ("", False)
    if kind == "CollateClause":
        return _figure(*unwrap(node.get("arg", {})))
    if kind == "TypeCast":
        inner = _figure(*unwrap(node.get("arg", {})))
        return inner if inner[1] else (names(node["typeName"].get("names"))[-1], False)
    if kind == "CaseExpr":
        inner = _figure(*unwrap(node.get("defresult", {})))
        return inner if inner[1] else ("case", False)
    if kind == "SubLink":
        return _figure_sublink(node)
    if kind == "SQLValueFunction":
        name = str(node.get("op", "SVFOP_CURRENT_DATE")).removeprefix("SVFOP_").lower()
        return name.removesuffix("_n"), True
    if kind in ("MinMaxExpr", "XmlExpr", "JsonFuncExpr"):
        return _NAMED_BY_OPERATION.get(str(node.get("op")), ""), True
    return _NAMED.get(kind, ""), kind in _NAMED


def _figure_sublink(node: Node) -> tuple[str, bool]:
    what = node.get("subLinkType")
    if what in ("EXISTS_SUBLINK", "ARRAY_SUBLINK"):
        return ("exists" if what == "EXISTS_SUBLINK" else "array"), True
    query = unwrap(node.get("subselect", {}))[1]
    if what != "EXPR_SUBLINK":
        return "", False
    while query.get("larg"):
        query = query["larg"]
    if "valuesLists" in query:
        return "column1", True
    for wrapped in query.get("targetList", ())[:1]:
        target = wrapped.get("ResTarget", {})
        return str(target.get("name") or output_name(*unwrap(target.get("val", {})))), True
    return "", False


# Set-returning functions whose one column is called like the function, or like the alias given.
_ONE_COLUMN = frozenset(
    ("generate_series", "generate_subscripts", "unnest", "regexp_matches", "regexp_split_to_table",
     "string_to_table", "json_object_keys", "jsonb_object_keys", "jsonb_path_query",
     "jsonb_path_query_tz")
)  # fmt: skip
# Those with OUT parameters: their names (pg_proc.proargnames).
_COLUMNS = {
    f"{kind}_{name}{suffix}": columns
    for kind in ("json", "jsonb")
    for name, columns in (("array_elements", ("value",)), ("each", ("key", "value")))
    for suffix in ("", "_text")
}


def function_columns(node: Node, alias: str) -> tuple[str, ...] | None:
    """Names of the columns of a function, XMLTABLE or JSON_TABLE in FROM; None when unknown.

    ``node`` is a RangeFunction, RangeTableFunc or JsonTable; ``alias`` "" where it has none.
    """
    if "functions" not in node:
        return tuple(_declared(node.get("columns", ())))
    calls = [f.get("List", {}).get("items", ()) for f in node["functions"]]
    result: list[str] = []
    for call in calls:
        kind, function = unwrap(call[0]) if call else ("", {})
        columns = call[1].get("List", {}).get("items") if len(call) > 1 else None
        columns = columns or (node.get("coldeflist") if len(calls) == 1 else None)
        name = function_name(function) if kind == "FuncCall" else output_name(kind, function)
        if columns:
            result += [str(c.get("ColumnDef", {}).get("colname", "")) for c in columns]
        elif name in _COLUMNS:
            result += _COLUMNS[name]
        elif kind != "FuncCall" or name in _ONE_COLUMN:
            # unnest() of several arrays is one call for each (transformRangeFunction).
            arrays = len(function.get("args", ())) if name == "unnest" else 1
            alone = len(calls) == 1 and arrays == 1
            result += [alias if alias and alone else name] * arrays
        else:
            return None
    if node.get("ordinality"):
        result.append("ordinality")
    return tuple(result)


def _declared(columns: list[Node]) -> Iterator[str]:
    """Names of XMLTABLE's and JSON_TABLE's COLUMNS, those of NESTED PATHs behind the others."""
    found = [unwrap(wrapped)[1] for wrapped in columns]
    for column in found:
        if column.get("coltype") != "JTC_NESTED":
            yield str(column.get("colname", column.get("name", "")))
    for column in found:
        yield from _declared(column.get("columns", []))
