"""UPDATE … FROM, DELETE … USING or MERGE whose target no condition links to the other table.

Why: each row of the target is then paired with every row of the other table. UPDATE takes the new
    values from an arbitrary one of them, DELETE removes every row that its own filters leave as
    soon as the other table has any, and MERGE fails at the second match. The commonest cause is a
    target that is named again in FROM, as other databases want it: in PostgreSQL that is a second,
    independent reading of the table, and all rows are changed.
Fix: the condition that links the target: by the key that the target shares with its second reading,
    or by the only foreign key between the tables.
Silent when: any condition mentions both, directly or through other tables; the other side is one
    row (a unique key fixed, an aggregate, VALUES) or chosen by an equality whose uniqueness is not
    known; MERGE ON false, which only inserts.
Source: PostgreSQL manual, UPDATE, "Notes" ("only one of the join rows will be used … which one will
    be used is not readily predictable"), and DELETE, "Notes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import comparison, conditions
from sqladvisor.sql.links import unlinked
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope, columns_in
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, city text, spent numeric);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric, status text);
CREATE TABLE imports (user_id bigint, "Größe" numeric, city text);
CREATE TABLE rates (code text PRIMARY KEY, rate numeric, label text);
"""
BAD = [
    "UPDATE users SET city = i.city FROM imports i WHERE i.city IS NOT NULL",
    "UPDATE orders o SET status = 'late' FROM orders o2 JOIN users u ON u.id = o2.user_id WHERE u.city = 'Oslo'",
    "DELETE FROM orders USING users u WHERE u.city LIKE 'O%' AND orders.status = 'new'",
    """UPDATE users u SET spent = i."Größe", name = 'Zoë'
       FROM imports i, orders o WHERE i.user_id = u.id AND o.total > 5""",
    "MERGE INTO users u USING imports i ON i.city = 'Oslo' WHEN MATCHED THEN UPDATE SET city = i.city",
    "DELETE FROM orders o USING orders o2, users u WHERE o2.user_id = u.id",
]
GOOD = [
    "UPDATE users SET city = i.city FROM imports i WHERE i.user_id = users.id",
    "UPDATE users SET city = 'x' FROM (SELECT max(total) AS m FROM orders) t WHERE spent > t.m",
    "UPDATE users SET spent = t.s FROM (SELECT sum(total) AS s FROM orders) t",
    "UPDATE orders SET total = total * r.rate FROM rates r WHERE r.code = 'EUR' AND status = 'new'",
    "UPDATE orders SET total = total * r.rate FROM rates r WHERE r.label = 'standard'",
    "UPDATE users SET city = v.c FROM (VALUES (1, 'a'), (2, 'b')) v(id, c) WHERE v.id = users.id",
    "DELETE FROM orders o USING users u WHERE u.id = o.user_id AND u.city = 'Oslo'",
    "UPDATE orders o SET total = 0 FROM users u, imports i WHERE u.id = o.user_id AND i.user_id = u.id",
    "MERGE INTO users u USING imports i ON u.id = i.user_id WHEN MATCHED THEN UPDATE SET city = i.city",
    "MERGE INTO users u USING imports i ON false WHEN NOT MATCHED THEN INSERT VALUES (i.user_id, i.city)",
    "UPDATE orders SET total = total * s.factor FROM settings s",
    "DELETE FROM orders USING users WHERE orders.id = $1 AND users.id = $2",
    "UPDATE users SET city = 'x' WHERE id IN (SELECT user_id FROM orders)",
    "WITH moved AS (DELETE FROM imports RETURNING *) UPDATE users u SET city = m.city FROM moved m WHERE m.user_id = u.id",
]

_WHAT = {
    "UpdateStmt": "each row of {target} is updated from an arbitrary row of {other}",
    "DeleteStmt": "every row of {target} that passes its own filters is deleted if {other} has any row",
    "MergeStmt": "each row of {target} matches every row of {other}",
}


@rule("UpdateStmt", "DeleteStmt", "MergeStmt", severity="error")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    kind = _kind(query)
    scope = ctx.scope(query, kind)
    if len(scope.items) < 2:
        return
    extra = (query["joinCondition"],) if "joinCondition" in query else ()
    apart = unlinked(query, scope, ctx.resolver, extra)
    if len(apart) < 2:
        return
    target = scope.items[0]
    mine = next((g for g in apart if target in g), apart[0])
    for group in apart:
        again = next((i for i in group if _same_table(i, target)), None)
        chosen = any(_chosen(i, query, scope, extra, ctx) for i in group)
        if group is mine or (chosen and again is None):
            continue
        other = again or group[0]
        reads = kind != "UpdateStmt" or _reads(query, group, ctx)
        if target in mine:
            what = _WHAT[kind].format(target=target.name, other=other.name or other.alias)
            if not reads:
                what = f"every row of {target.name} that passes its own filters is updated if " + (
                    f"{other.name or other.alias} has any row"
                )
        else:
            what = f"every row of {mine[0].alias} is paired with every row of {other.alias}"
        if again is not None:
            message = (
                f"{again.alias} is a second reading of {target.name}, not the target, and nothing "
                f"links the two: {what}"
            )
        else:
            message = f"no condition links {target.alias} to {other.alias}: {what}"
        yield ctx.finding(
            {"RangeVar": other.node} if other.name else None,
            message,
            severity="error" if mine == [target] or (reads and target in mine) else "warning",
            fixes=_fixes(kind, query, target, again, group, ctx),
        )


def _kind(query: Node) -> str:
    if "joinCondition" in query:
        return "MergeStmt"
    return "UpdateStmt" if "targetList" in query else "DeleteStmt"


def _chosen(
    item: FromItem, query: Node, scope: Scope, extra: tuple[Node, ...], ctx: Context
) -> bool:
    """Whether an equality with a constant chooses rows of an item: perhaps just the one."""
    if extra:
        return False  # MERGE matches in ON: what stands there is not how its source was chosen
    for part in conditions(query, scope):
        c = comparison(part)
        binding = ctx.binding(c.side) if c and c.operator == "=" else None
        if binding is not None and binding.item is item:
            return True
    return False


def _same_table(item: FromItem, target: FromItem) -> bool:
    return item.kind == "table" and (item.name, item.schema) == (target.name, target.schema)


def _reads(query: Node, group: list[FromItem], ctx: Context) -> bool:
    """Whether SET takes values from the items of a group."""
    for wrapped in query.get("targetList", ()):
        for column in columns_in(*unwrap(wrapped["ResTarget"].get("val", {}))):
            binding = ctx.resolve(column)
            if binding is None or binding.item in group:
                return True
    return False


def _fixes(
    kind: str,
    query: Node,
    target: FromItem,
    again: FromItem | None,
    group: list[FromItem],
    ctx: Context,
) -> list[Fix]:
    condition = ""
    if again is not None and target.relation:
        condition = _equal(target, again, [(k, k) for k in target.relation.primary_key])
    elif again is None:
        condition = _foreign_key(target, group)
    place = query.get("whereClause")
    span = ctx.span(place) if place else None
    if not condition or span is None or kind == "MergeStmt":
        return []
    start, end = span
    wrap = unwrap(place or {})[1].get("boolop") == "OR_EXPR"
    edits = [Edit(end, end, f"{')' if wrap else ''} AND {condition}")]
    if wrap:
        edits.append(Edit(start, start, "("))
    return [
        Fix(
            f"link them: {condition}",
            ctx.edit(*edits),
            changes_result="changes only the rows that have a partner",
        )
    ]


def _equal(one: FromItem, other: FromItem, pairs: list[tuple[str, str]]) -> str:
    return " AND ".join(
        f"{identifier(one.alias)}.{identifier(x)} = {identifier(other.alias)}.{identifier(y)}"
        for x, y in pairs
    )


def _foreign_key(target: FromItem, group: list[FromItem]) -> str:
    """The condition of the only foreign key between the target and a group; "" if there is none."""
    found = []
    for item in group:
        for one, other in ((target, item), (item, target)):
            if one.relation is None or other.relation is None:
                continue
            found += [
                _equal(one, other, list(zip(k.columns, k.target_columns, strict=True)))
                for k in one.relation.foreign_keys
                if (k.target_schema, k.target) == (other.relation.schema, other.relation.name)
            ]
    return found[0] if len(found) == 1 else ""
