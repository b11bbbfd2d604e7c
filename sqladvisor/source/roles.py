"""What a hole stands for in its statement: a value, a name, or a clause that nobody can judge."""

from __future__ import annotations

from sqladvisor.sql.statement import Node, Role, Statement
from sqladvisor.sql.tree import Tree

_CLAUSES = ("whereClause", "havingClause", "quals")
_LISTS = ("sortClause", "groupClause", "targetList", "returningList", "distinctClause")


class Roles:
    """Finds the roles of one statement's placeholders."""

    def __init__(self, statement: Statement) -> None:
        self._statement = statement
        self._tree = Tree(statement.kind, statement.tree)
        self._named = any(not p.number for p in statement.placeholders)

    def of(self, start: int) -> Role:
        """The role of what stands at an offset in the statement's text."""
        mark = next((p for p in self._statement.placeholders if p.start == start), None)
        if mark is None:
            return "value"  # within a quoted string
        if mark.text.startswith("{%"):
            return "clause"
        if not mark.number:
            at = next((s for s, t in self._statement.offsets if t == start), -1)
            return "name" if self._statement.sql[at : at + 1].strip() else "clause"
        found: Role = "clause"
        for node in self._tree.of("ParamRef"):
            if node.get("number") == mark.number:
                found = self._place(node)
                if found == "value":
                    break
        return found

    def _place(self, param: Node) -> Role:
        kind, above = self._tree.parent(param)
        if kind == "BoolExpr" or any(_holds(above.get(f), param) for f in _CLAUSES):
            return "clause"
        if kind == "SortBy" or any(_holds(above.get(f), param) for f in _LISTS):
            return "name"
        if kind == "ResTarget":
            writes = self._tree.parent(above)[0] in ("UpdateStmt", "InsertStmt", "MergeWhenClause")
            return "value" if writes else "name"
        if kind == "List" and len(above.get("items", ())) == 1 and self._is_row(above):
            return "clause"
        return "value"

    def _is_row(self, items: Node) -> bool:
        """Whether a list is a row of VALUES for other than one known column: ``VALUES ({marks})``."""
        for insert in self._tree.of("InsertStmt"):
            rows = insert.get("selectStmt", {}).get("SelectStmt", {}).get("valuesLists", ())
            if any(row.get("List") is items for row in rows):
                return len(insert.get("cols", ())) != 1 or self._named
        return False


def _holds(value: object, param: Node) -> bool:
    if isinstance(value, dict):
        return value.get("ParamRef") is param
    return isinstance(value, list) and any(_holds(v, param) for v in value)
