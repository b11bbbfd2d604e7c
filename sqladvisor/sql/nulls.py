"""What a predicate does with NULL: whether it can be true when a relation's columns are all NULL."""

from __future__ import annotations

from collections.abc import Callable

from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import Tree, function_name, operator, unwrap

# Built-in functions that return NULL for a NULL argument (pg_proc.proisstrict) and that people
# use around columns in predicates. Unknown functions are taken as not strict: silence, not noise.
_STRICT = frozenset(
    [
        "lower",
        "upper",
        "trim",
        "btrim",
        "ltrim",
        "rtrim",
        "length",
        "char_length",
        "substr",
        "substring",
        "left",
        "right",
        "replace",
        "date",
        "date_trunc",
        "date_part",
        "extract",
        "age",
        "abs",
        "round",
        "ceil",
        "ceiling",
        "floor",
        "trunc",
        "mod",
        "power",
        "sqrt",
        "to_char",
        "to_date",
        "to_timestamp",
        "to_number",
        "split_part",
        "position",
        "strpos",
        "reverse",
        "md5",
        "initcap",
        "lpad",
        "rpad",
        "regexp_replace",
        "timezone",
        "array_length",
        "cardinality",
        "jsonb_array_length",
        "jsonb_extract_path_text",
        "json_extract_path_text",
        "int4",
        "int8",
        "text",
        "numeric",
        "float8",
    ]
)


def is_null_when_null(wrapped: Node, is_target: Callable[[Node], bool]) -> bool:
    """Whether an expression is NULL whenever the target's columns are NULL."""
    kind, node = unwrap(wrapped)
    if kind == "ColumnRef":
        return is_target(node)
    if kind in ("TypeCast", "CollateClause"):
        return is_null_when_null(node.get("arg", {}), is_target)
    if kind == "A_Expr" and node.get("kind", "AEXPR_OP") == "AEXPR_OP":
        if operator(node) == "||":
            return False  # of arrays, NULL || x is x
        return is_null_when_null(node.get("lexpr", {}), is_target) or is_null_when_null(
            node.get("rexpr", {}), is_target
        )
    if kind == "FuncCall" and function_name(node) in _STRICT:
        return any(is_null_when_null(arg, is_target) for arg in node.get("args", ()))
    return False


def rejects_null(wrapped: Node, is_target: Callable[[Node], bool]) -> bool:
    """Whether a predicate cannot be true when every column of the target is NULL.

    ``is_target`` says of a ColumnRef whether it belongs to the relation in question. Sound, not
    complete: it answers False where it cannot tell. Follows find_nonnullable_rels() in
    src/backend/optimizer/util/clauses.c.
    """
    kind, node = unwrap(wrapped)
    if kind == "BoolExpr":
        parts = node.get("args", ())
        if node.get("boolop") == "AND_EXPR":
            return any(rejects_null(p, is_target) for p in parts)
        if node.get("boolop") == "OR_EXPR":
            return bool(parts) and all(rejects_null(p, is_target) for p in parts)
        return _is_null(parts[0], is_target) if parts else False
    if kind == "NullTest":
        return node.get("nulltesttype") == "IS_NOT_NULL" and is_null_when_null(
            node.get("arg", {}), is_target
        )
    if kind == "BooleanTest":
        test = node.get("booltesttype", "IS_TRUE")
        return test in ("IS_TRUE", "IS_FALSE", "IS_NOT_UNKNOWN") and _is_null(
            node.get("arg", {}), is_target
        )
    # = ANY over an empty set is false, not NULL: not true all the same.
    if kind == "SubLink" and node.get("subLinkType", "EXISTS_SUBLINK") == "ANY_SUBLINK":
        return is_null_when_null(node.get("testexpr", {}), is_target)
    if kind == "A_Expr" and node.get("kind") == "AEXPR_OP_ANY":
        return is_null_when_null(node.get("lexpr", {}), is_target)
    return _is_null(wrapped, is_target)


def _is_null(wrapped: Node, is_target: Callable[[Node], bool]) -> bool:
    """Whether a boolean expression is NULL (never false) when the target's columns are NULL."""
    kind, node = unwrap(wrapped)
    if kind == "A_Expr":
        how = node.get("kind", "AEXPR_OP")
        left, right = node.get("lexpr", {}), node.get("rexpr", {})
        if how in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_ILIKE", "AEXPR_SIMILAR"):
            return is_null_when_null(left, is_target) or is_null_when_null(right, is_target)
        if how == "AEXPR_IN" or "BETWEEN" in how:
            return is_null_when_null(left, is_target)
        return False
    if kind == "BoolExpr":
        return node.get("boolop") == "NOT_EXPR" and _is_null(node["args"][0], is_target)
    return is_null_when_null(wrapped, is_target)


def only_truth_counts(node: Node, tree: Tree) -> bool:
    """Whether false and NULL do the same where a predicate stands: in WHERE, ON, HAVING, WHEN.

    Not so below NOT, in a target list, or in a CHECK constraint (which NULL satisfies).
    """
    child = node
    for kind, above in tree.ancestors(node):
        if kind == "BoolExpr" and above.get("boolop") != "NOT_EXPR":
            child = above
            continue
        fields = ("whereClause", "havingClause", "quals", "expr" if kind == "CaseWhen" else "")
        return kind in _JUDGES and any(unwrap(above.get(f, {}))[1] is child for f in fields if f)
    return False


_JUDGES = frozenset(("SelectStmt", "UpdateStmt", "DeleteStmt", "JoinExpr", "CaseWhen"))
