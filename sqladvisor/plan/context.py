"""Plans from files, as rules see them: with their query where the file has it, and with places."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sqladvisor.catalog.empty import EMPTY
from sqladvisor.context import Context
from sqladvisor.finding import Location
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.sql.statement import Node, Statement

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog

PLANNED = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"))
"""The statements that have a plan of their own, as libpg_query names them."""


class PlanContext(Context):
    """A plan read from a file. Findings are placed on the lines of its nodes."""

    def __init__(
        self,
        plan: Plan,
        path: str,
        *,
        catalog: Catalog = EMPTY,
        thresholds: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        statement = statement_of(plan, path)
        fingerprint = "" if statement.sql else _shape(plan)
        super().__init__(statement, catalog, fingerprint=fingerprint, thresholds=thresholds)
        self.plan = plan
        self._line = plan.line or 1

    def place(self, at: Node | tuple[int, int] | PlanNode | None) -> Location:
        """The line of a plan's node; of the plan for anything else."""
        line = getattr(at, "line", None) or self._line
        return Location(self.statement.path, line, 1, line, 1)


def statement_of(plan: Plan, path: str) -> Statement:
    """The statement whose plan this is, as auto_explain logged it, on the plan's line.

    Empty where the file does not have it, where several statements were sent as one, and where it
    only names a prepared one.
    """
    line = plan.line or 1
    if plan.query:
        from sqladvisor.sql.source import read_source, statements

        data = plan.query.encode("utf-8", "replace")
        found, problems = statements(read_source("query.sql", data))
        if len(found) == 1 and not problems and found[0].kind in PLANNED:
            return replace(found[0], path=path, line=line, column=1, start=0)
    return Statement(path=path, text="", sql="", start=0, line=line, column=1, kind="", tree={})


def _shape(plan: Plan) -> str:
    """What stands for a fingerprint where there is no query: the same for plans of one shape."""
    nodes = "\n".join(f"{node.depth} {node.label}" for node in plan.nodes())
    return hashlib.sha256(nodes.encode("utf-8", "replace")).hexdigest()[:16]
