"""How much work_mem a node that went to disk would have needed, as a remedy that can be tried.

The figures are bounds for choosing a setting to measure, never shown as a promise: whether it pays
is what the sandbox measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqladvisor.finding import Experiment, Fix

if TYPE_CHECKING:
    from sqladvisor.context import Context

_MB = 1048576
MAX_WORK_MEM_MB = 1024
"""MB. Each sort and hash of each session may take this much: beyond it memory is no remedy."""
SORT_EXPANSION = 3
"""A sort's tuples in memory to the same on tape: headers, pointers and palloc rounding
(tuplesort.c; 2 to 2.7 measured on rows of 20 to 200 bytes)."""


def more_memory(ctx: Context, needed_bytes: float) -> tuple[tuple[Fix, ...], Experiment | None]:
    """The fix that gives this statement so many bytes of work_mem, and the experiment that tries it.

    Nothing where it would take more than 1 GB; no experiment where the statement has parameters.
    """
    megabytes = 8
    while megabytes * _MB < needed_bytes:
        megabytes *= 2
    if megabytes > MAX_WORK_MEM_MB:
        return (), None
    setting = f"SET LOCAL work_mem = '{megabytes}MB'"
    fix = Fix(
        f"give this statement {megabytes} MB of work_mem, for its transaction only "
        "(each of its sorts and hashes may take as much)",
        f"BEGIN;\n{setting};\n{ctx.statement.text};\nCOMMIT",
        "advice",
    )
    if "ParamRef" in ctx.tree.by_kind:
        return (fix,), None
    sql = ctx.statement.sql
    experiment = Experiment(
        "setting", (sql,), (setting, sql), "as it is", f"with work_mem = {megabytes}MB"
    )
    return (fix,), experiment
