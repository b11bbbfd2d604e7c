"""A statement writes much WAL, largely full images of pages.

Why: after each checkpoint the first change of a page writes the whole page (8 kB) to the WAL, for the
    table and for each of its indexes. Scattered changes then cost many times their own size, in
    writes, in replication and in archives.
Fix: fewer indexes on the table, changes in key order, longer max_wal_size and checkpoint_timeout,
    wal_compression; for loading, COPY into a table without indexes.
Silent when: less than 64 MB was written, or less than half of it was full-page images.
Source: PostgreSQL manual, full_page_writes in 19.5.1, 28.5 "WAL Configuration".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.plan.node import Plan
from sqladvisor.rule import PLAN, rule

SETUP = ""
BAD = ["-- plan: pg18-wal_heavy", "-- plan: pg18-wal_heavy_delete"]
GOOD = ["-- plan: pg18-modify_triggers", "-- plan: pg18-cte_modifying"]

_PAGE = 8192


@rule(
    PLAN,
    severity="info",
    needs=("analyze",),
    thresholds={"min_wal_mb": 64, "min_image_share": 0.5},  # four WAL segments of 16 MB
)
def check(plan: Plan, ctx: Context) -> Iterator[Finding]:
    node = next((n for n in plan.nodes() if n.node_type == "ModifyTable"), None)
    if node is None:
        return
    written = float(plan.root.raw.get("WAL Bytes", 0))
    images = float(plan.root.raw.get("WAL FPI", 0))
    if written < ctx.threshold("min_wal_mb") * 1048576:
        return
    share = min(1.0, images * _PAGE / written)
    if share < ctx.threshold("min_image_share"):
        return
    relation = ctx.catalog.find(str(node.relation), node.schema) if node.relation else None
    indexes = f"; {len(relation.indexes)} indexes are written too" if relation else ""
    yield ctx.finding(
        None,
        f"{written / 1048576:,.0f} MB of WAL for changes to {node.relation}, about {share:.0%} of it "
        f"full images of {images:,.0f} pages{indexes}",
        level="measured",
        figures={"wal_bytes": written, "full_page_images": images, "image_share": round(share, 2)},
    )
