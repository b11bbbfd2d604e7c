"""OFFSET pages through a large result by computing and discarding the rows before the page.

Why: PostgreSQL cannot jump to row 50,001 of an ordered result: it produces the 50,000 rows before
    it and throws them away, for each page again. The time grows with the page number; and rows
    that are inserted or deleted between two pages make the next one repeat or miss some.
Fix: keyset pagination: the page after the last row seen, found through an index on the ORDER BY
    columns. A unique key is added to ORDER BY, so that rows with equal values have a place; the
    client passes the last row's values instead of a number.
Silent when: the offset is a small constant, there is no LIMIT or no ORDER BY (see
    query/limit-without-order), the offset is computed (a median, a random row), LIMIT 1 picks a
    boundary, the table is small, or an index equality narrows the rows first.
Source: PostgreSQL manual, 7.6 "LIMIT and OFFSET" and 9.25.5 "Row Constructor Comparison".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.aggregates import aggregates_all
from sqladvisor.sql.clauses import and_where, clauses
from sqladvisor.sql.comparisons import narrowing
from sqladvisor.sql.keys import Dependencies
from sqladvisor.sql.never_null import nullness
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import constant, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL UNIQUE, city text,
    created_at timestamptz NOT NULL, seen_at timestamptz);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint NOT NULL REFERENCES users,
    total numeric NOT NULL, created_at timestamptz NOT NULL);
CREATE INDEX ON orders (user_id);
CREATE TABLE "Größen" ("Länge" integer NOT NULL, nr integer NOT NULL, PRIMARY KEY ("Länge", nr));
"""
BAD = [
    "SELECT id, total, created_at FROM orders ORDER BY created_at DESC LIMIT 20 OFFSET 50000",
    "SELECT id, email FROM users ORDER BY id LIMIT $1 OFFSET $2",
    """SELECT u.email, o.total
       FROM orders o JOIN users u ON u.id = o.user_id
       WHERE o.total > 5 OR u.city = 'Köln'
       ORDER BY o.created_at DESC, u.email
       OFFSET (($1 - 1) * 50) ROWS FETCH NEXT 50 ROWS ONLY""",
    'SELECT * FROM "Größen" g WHERE g."Länge" > 0 ORDER BY g."Länge", nr DESC LIMIT 10 OFFSET 5000;',
    "SELECT id, seen_at FROM users ORDER BY seen_at LIMIT 100 OFFSET 100000",
    "SELECT city, count(*) FROM users GROUP BY city ORDER BY 2 DESC LIMIT 20 OFFSET $1",
    "SELECT id FROM orders UNION ALL SELECT id FROM users ORDER BY 1 LIMIT 10 OFFSET 10000",
    "WITH page AS (SELECT id FROM orders ORDER BY id OFFSET 3000 LIMIT 30) SELECT * FROM page",
]
GOOD = [
    "SELECT id FROM orders ORDER BY created_at DESC LIMIT 20 OFFSET 40",
    "SELECT id FROM orders ORDER BY created_at DESC LIMIT 20 OFFSET 0",
    "SELECT id FROM orders ORDER BY created_at DESC LIMIT 20",
    "DELETE FROM orders WHERE id IN (SELECT id FROM orders ORDER BY created_at DESC OFFSET 10000)",
    "SELECT total FROM orders ORDER BY total LIMIT 1 OFFSET (SELECT count(*) / 2 FROM orders)",
    "SELECT id FROM orders WHERE id > $1 ORDER BY id LIMIT 1 OFFSET 1000",
    "SELECT id FROM orders WHERE user_id = $1 ORDER BY created_at LIMIT $2 OFFSET $3",
    "SELECT id FROM orders ORDER BY id OFFSET floor(random() * 100000) LIMIT 10",
    "SELECT id FROM orders LIMIT 10 OFFSET 5000",
    "SELECT 'LIMIT 10 OFFSET 5000' FROM orders ORDER BY id LIMIT 5",
    """SELECT u.id, x.id FROM users u CROSS JOIN LATERAL
       (SELECT id FROM orders o WHERE o.user_id = u.id ORDER BY id LIMIT 2 OFFSET $1) x""",
    "SELECT n FROM generate_series(1, 100000) n ORDER BY n LIMIT 10 OFFSET 5000",
]

_DESC = "SORTBY_DESC"


@dataclass(frozen=True, slots=True)
class _Key:
    """One ORDER BY column of the keyset: how it is written, named, and which way it goes."""

    text: str
    name: str
    descending: bool


@rule(
    "SelectStmt",
    severity="warning",
    # Rows. Fewer are skipped within about a millisecond.
    thresholds={"offset_rows": 1000},
)
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    offset = select.get("limitOffset")
    if not offset or "limitCount" not in select or "sortClause" not in select:
        return
    limit, skipped = constant(select["limitCount"]), constant(offset)
    if limit is None or limit == 1 or _in_lateral(select, ctx):
        return
    parameter = skipped is ...
    if parameter and not _is_page_number(offset):
        return
    if not parameter and not (
        isinstance(skipped, int | float) and skipped >= ctx.threshold("offset_rows")
    ):
        return
    known_large, narrowed, tables = _read(select, ctx)
    if not tables or (parameter and narrowed):
        return
    place = None if "larg" in select else clauses(select, ctx.spans).get("OFFSET")
    severity: Severity = "warning" if not parameter or known_large else "info"
    yield ctx.finding(
        place or offset,
        _message(select, skipped if isinstance(skipped, int) else None, tables, ctx),
        severity=severity,
        fixes=_fixes(select, ctx),
    )


def _in_lateral(select: Node, ctx: Context) -> bool:
    """Whether the query runs per row of an outer one: as a subquery of an expression, or LATERAL."""
    for kind, above in ctx.tree.ancestors(select):
        if kind == "SubLink" or (kind == "RangeSubselect" and above.get("lateral")):
            return True
        if kind == "CommonTableExpr":
            return False
    return False


def _is_page_number(offset: Node) -> bool:
    """Whether an offset is a parameter, or arithmetic on parameters."""
    kinds = {kind for kind, _ in walk(*unwrap(offset))}
    return "ParamRef" in kinds and not kinds & {"SubLink", "FuncCall", "ColumnRef"}


def _read(select: Node, ctx: Context) -> tuple[bool, bool, list[str]]:
    """Whether a table is known to be large, whether equalities narrow all of them, their names."""
    leaves = [select]
    while any("larg" in leaf for leaf in leaves):
        leaves = [
            part for s in leaves for part in ((s["larg"], s["rarg"]) if "larg" in s else (s,))
        ]
    large, narrow, names = False, True, []
    for leaf in leaves:
        scope = ctx.scope(leaf)
        narrowed = narrowing(scope, leaf, ctx.resolver)
        tables = [i for i in scope.items if i.kind not in ("function", "values")]
        if all(ctx.small(i) for i in tables):
            continue
        large = large or any(i.rows is not None and not ctx.small(i) for i in tables)
        # One item found by equality, the others following from it by their keys.
        narrow = narrow and any(narrowed.get(id(i)) for i in tables)
        names += [i.name or i.alias for i in tables]
    return large, narrow, list(dict.fromkeys(names))


def _message(select: Node, skipped: int | None, tables: list[str], ctx: Context) -> str:
    what = "groups" if "groupClause" in select else "rows"
    of = f" of {tables[0]}" if len(tables) == 1 and what == "rows" else ""
    if skipped is not None:
        return f"OFFSET {skipped} computes {skipped:,} {what}{of} and discards them to get to this page"
    return (
        f"OFFSET {ctx.text(select['limitOffset'])} computes and discards all {what}{of} "
        "before the page: each page takes longer than the one before"
    )


# -- the keyset form ----------------------------------------------------------------------------


def _fixes(select: Node, ctx: Context) -> list[Fix]:
    places = {} if "larg" in select else clauses(select, ctx.spans)
    if (
        not places.keys() >= {"FROM", "ORDER", "OFFSET"}
        or select.keys() & {"groupClause", "distinctClause", "windowClause", "havingClause"}
        or aggregates_all(select)
        or any("over" in n for k, n in walk("SelectStmt", select) if k == "FuncCall")
    ):
        return []
    dependencies = Dependencies(select, ctx.resolver)
    bindings, keys = [], []
    for wrapped in select["sortClause"]:
        sort = wrapped["SortBy"]
        found = _key(sort, select, ctx)
        if found is None:
            return []
        bindings.append(found[0])
        keys.append(found[1])
    added = dependencies.row_key([(b.item, b.column) for b in bindings])
    if added is None or any(item.nullable for item, _ in added):
        return []
    several = len(ctx.scope(select).items) > 1
    descending = keys[-1].descending
    for item, column in added:
        qualifier = f"{identifier(item.alias)}." if several else ""
        keys.append(_Key(qualifier + identifier(column), column, descending))
    names = _names(keys)
    values = _values(names, select, ctx)
    if values[0] in ("?", "%s") and len({k.descending for k in keys}) > 1:
        return []  # a value that its place numbers cannot be used twice
    more = "".join(f", {k.text}{' DESC' * k.descending}" for k in keys[len(bindings) :])
    offset, order = places["OFFSET"], places["ORDER"]
    before = max(t[1] for t in ctx.spans.tokens if t[1] <= offset[0])
    edits = [
        *and_where(select, places, _after(keys, values)),
        Edit(order[1], order[1], more),
        Edit(before, offset[1], ""),
    ]
    passed = ", ".join(f"{v} = its {k.text}" for k, v in zip(keys, values, strict=True))
    missing = [k.text for k, b in zip(keys, _selected(keys, select, ctx), strict=True) if not b]
    note = f"; select {', '.join(missing)} too, to have it at hand" if missing else ""
    return [
        Fix(
            f"keyset pagination: pass the last row of the page before ({passed}{note})",
            ctx.edit(*edits),
            kind="advice",
            changes_result="starts after the row that is passed, not at a row number",
        )
    ]


def _key(sort: Node, select: Node, ctx: Context) -> tuple[Binding, _Key] | None:
    """An ORDER BY element as a keyset column; None for expressions and columns that may be NULL."""
    if sort.get("sortby_dir") == "SORTBY_USING":
        return None
    wrapped, text = sort["node"], ""
    if unwrap(wrapped)[0] == "A_Const":
        outputs = ctx.resolver.outputs(select) or []
        place = int(unwrap(wrapped)[1].get("ival", {}).get("ival", 0)) - 1
        wrapped = (outputs[place].value if 0 <= place < len(outputs) else None) or {}
    binding = ctx.binding(wrapped)
    if binding is None or binding.depth or not binding.sure or binding.item.nullable:
        return None
    if nullness(wrapped, ctx.resolver) != "never":
        return None
    several = len(ctx.scope(select).items) > 1
    qualifier = f"{identifier(binding.item.alias)}." if several else ""
    text = qualifier + identifier(binding.column)
    return binding, _Key(text, binding.column, sort.get("sortby_dir") == _DESC)


def _names(keys: list[_Key]) -> list[str]:
    """A distinct parameter name for each key column."""
    names: list[str] = []
    for key in keys:
        name = "last_" + "".join(c if c.isalnum() else "_" for c in key.name)
        names.append(name if name not in names else f"{name}_{len(names) + 1}")
    return names


def _values(names: list[str], select: Node, ctx: Context) -> list[str]:
    """The placeholders of the last row's values, in the style of the statement."""
    placeholders = [p.text for p in ctx.statement.placeholders if p.number]
    style = placeholders[0] if placeholders else "$1"
    if style in ("?", "%s"):
        return [style] * len(names)
    if not style.startswith("$") or style.startswith("${"):
        first = next(i for i, c in enumerate(style) if c.isalnum() or c == "_")
        last = max(i for i, c in enumerate(style) if c.isalnum() or c == "_")
        return [style[:first] + name + style[last + 1 :] for name in names]
    numbers = [int(p.get("number", 0)) for p in ctx.tree.of("ParamRef")]
    gone = [
        int(n.get("number", 0)) for k, n in walk(*unwrap(select["limitOffset"])) if k == "ParamRef"
    ]
    free = sorted({n for n in gone if numbers.count(n) == gone.count(n)})
    following = range(max(numbers, default=0) + 1, max(numbers, default=0) + 1 + len(names))
    return [f"${n}" for n in [*free, *following][: len(names)]]


def _after(keys: list[_Key], values: list[str]) -> str:
    """The condition that a row comes after the one with these values."""
    pairs = list(zip(keys, values, strict=True))
    if len({k.descending for k in keys}) == 1:
        sign = "<" if keys[0].descending else ">"
        if len(keys) == 1:
            return f"{keys[0].text} {sign} {values[0]}"
        return f"({', '.join(k.text for k in keys)}) {sign} ({', '.join(values)})"
    # Mixed directions: bounded by the first column, so that an index on it finds the place.
    key, value = pairs[-1]
    condition = f"{key.text} {'<' if key.descending else '>'} {value}"
    for key, value in reversed(pairs[:-1]):
        sign = "<" if key.descending else ">"
        condition = f"{key.text} {sign}= {value} AND ({key.text} {sign} {value} OR {condition})"
    return condition


def _selected(keys: list[_Key], select: Node, ctx: Context) -> list[bool]:
    texts = set()
    several = len(ctx.scope(select).items) > 1
    for output in ctx.resolver.outputs(select) or []:
        binding = ctx.binding(output.value) if output.value else None
        item = output.item or (binding.item if binding else None)
        column = binding.column if binding else output.column
        if item:
            texts.add((f"{identifier(item.alias)}." if several else "") + identifier(column))
    return [k.text in texts for k in keys]
