"""Plans statements against a masked snapshot: literals are replaced by their stand-ins, and back.

Only what is compared: operands of comparisons, lists and arrays of them, JSON documents of ``@>``.
Patterns of LIKE, arguments of functions and full-text queries stay as they are: what they match
among the stand-ins is nothing, which is what they match among the texts in most cases.
"""

from __future__ import annotations

import json
import re
from typing import Any
from weakref import WeakKeyDictionary

import psycopg

from sqladvisor.catalog.stand_ins import StandIns, array_items, array_text
from sqladvisor.sql.libpg import ParseProblem, parse, scan
from sqladvisor.sql.quote import literal
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import operator, unwrap

_COMPARED = frozenset(("=", "<>", "<", "<=", ">", ">=", "@>", "<@", "&&", "?", "?|", "?&"))
_KEY_OPERATORS = frozenset(("?", "?|", "?&"))
Places = dict[int, tuple[str, bool]]
"""Offset of a constant → its value, and whether it is a key that a JSON document is asked for."""
_KINDS = frozenset(
    ("AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL", "AEXPR_IN", "AEXPR_DISTINCT",
     "AEXPR_NOT_DISTINCT", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN")
)  # fmt: skip


_attached: WeakKeyDictionary[psycopg.Connection[Any], StandIns] = WeakKeyDictionary()


def attach(connection: psycopg.Connection[Any], stand_ins: StandIns) -> None:
    """Have statements that are planned in this session find these stand-ins."""
    _attached[connection] = stand_ins


def translated(connection: psycopg.Connection[Any], sql: str) -> tuple[str, dict[str, str]]:
    """The statement to plan in a session, and what its new literals were, to say it in the plan."""
    stand_ins = _attached.get(connection)
    return translate(sql, stand_ins) if stand_ins is not None else (sql, {})


def translate(sql: str, stand_ins: StandIns) -> tuple[str, dict[str, str]]:
    """A statement with its literals replaced, and stand-in → literal."""
    try:
        places: Places = {}
        for statement in parse(sql):
            _find({statement.kind: statement.node}, statement.start, places)
        tokens = scan(sql) if places else []
    except ParseProblem:
        return sql, {}
    parts: list[str] = []
    at = 0
    back: dict[str, str] = {}
    for token in tokens:
        value, is_key = places.get(token.start, ("", False))
        if not value or token.name not in ("SCONST", "USCONST"):
            continue
        made = stand_ins.json_string(value) if is_key else _stand_in(value, stand_ins)
        if made is not None and made != value:
            parts += [sql[at : token.start], literal(made)]
            at = token.end + 1
            back[made] = value
    return "".join(parts) + sql[at:], back


def _stand_in(value: str, stand_ins: StandIns) -> str | None:
    found = stand_ins.find(value)
    if found is None and value[:1] in ("{", "["):
        found = stand_ins.json(value)
        if found is None and value[:1] == "{":
            items = array_items(value)
            found = array_text(None if i is None else stand_ins.find(i) or i for i in items)
    return found


_JSON = re.compile(r"'((?:[^']|'')*)'::jsonb")


def restored(plan: Any, back: dict[str, str]) -> Any:
    """The JSON of a plan with the statement's own literals in it again."""
    if not back:
        return plan
    pattern = re.compile("|".join(re.escape(literal(made)) for made in back))
    written = {literal(made): literal(value) for made, value in back.items()}
    # PostgreSQL prints a document in its own way: it is known by what it holds.
    documents = [(json.loads(m), v) for m, v in back.items() if m[:1] in ("{", "[") and _is_json(m)]

    def put_document(match: re.Match[str]) -> str:
        text = match[1].replace("''", "'")
        if _is_json(text):
            found = json.loads(text)
            for made, value in documents:
                if made == found:
                    return f"{literal(json.dumps(json.loads(value), ensure_ascii=False))}::jsonb"
        return match[0]

    def put(node: Any) -> Any:
        if isinstance(node, str):
            node = pattern.sub(lambda m: written[m[0]], node)
            return _JSON.sub(put_document, node) if documents and "::jsonb" in node else node
        if isinstance(node, list):
            return [put(n) for n in node]
        if isinstance(node, dict):
            return {k: put(v) for k, v in node.items()}
        return node

    return put(plan)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _find(wrapped: Any, start: int, places: Places) -> None:
    """Offsets and values of the string constants that are compared with something."""
    if isinstance(wrapped, list):
        for item in wrapped:
            _find(item, start, places)
    elif isinstance(wrapped, dict):
        node = wrapped.get("A_Expr")
        if node is not None and node.get("kind") in _KINDS:
            between = "BETWEEN" in node["kind"]
            if between or operator(node) in _COMPARED:
                is_key = not between and operator(node) in _KEY_OPERATORS
                for side in ("lexpr", "rexpr"):
                    _constants(node.get(side), start, places, is_key)
        for value in wrapped.values():
            _find(value, start, places)


def _constants(wrapped: Any, start: int, places: Places, is_key: bool) -> None:
    if not isinstance(wrapped, dict) or len(wrapped) != 1:
        return
    kind, node = unwrap(wrapped)
    if kind == "A_Const":
        value = node.get("sval", {}).get("sval")
        if value:
            places[start + int(node.get("location", 0))] = (value, is_key)
    elif kind == "TypeCast":
        _constants(node.get("arg"), start, places, is_key)
    elif kind == "A_ArrayExpr":
        _each(node.get("elements"), start, places, is_key)
    elif kind == "List":
        _each(node.get("items"), start, places, is_key)
    elif kind == "RowExpr":
        _each(node.get("args"), start, places, is_key)


def _each(items: list[Node] | None, start: int, places: Places, is_key: bool) -> None:
    for item in items or ():
        _constants(item, start, places, is_key)
