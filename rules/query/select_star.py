"""SELECT * fetches every column of the tables, whether the caller uses it or not.

Why: wide values are read, decompressed from TOAST and sent for nothing; no index-only scan can
    answer the query; and the result changes with the tables: a new column appears in the caller's
    rows, a join gives two columns called id.
Fix: the column list, as the schema has it now: leave out what is not used.
Silent when: the star stands for the columns of a subquery or a common table expression that lists
    its own, for a function's or VALUES' columns, for one column; inside EXISTS, subqueries and
    views (a view's star is expanded when it is made); in INSERT … SELECT, CREATE TABLE AS and
    COPY; over system catalogs.
Source: PostgreSQL manual, 7.3.1 "Select-List Items"; 11.9 "Index-Only Scans and Covering Indexes".
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Named, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text NOT NULL, "Straße" text);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric);
CREATE TABLE lines (order_id bigint, id bigint, note text);
CREATE TABLE one (x integer);
CREATE SCHEMA crm;
CREATE TABLE crm.leads (id integer, score integer);
"""
BAD = [
    "SELECT * FROM users WHERE id = $1",
    "SELECT * FROM orders o JOIN users u ON u.id = o.user_id WHERE o.id = 77",
    """SELECT 'ü',
              o.*, u.email
       FROM orders AS o, users u WHERE u.id = o.user_id""",
    "SELECT crm.leads.* FROM crm.leads ORDER BY score",
    "SELECT * FROM orders JOIN lines USING (id) LEFT JOIN one ON true",
    "WITH r AS (SELECT id FROM orders) SELECT * FROM r JOIN users u ON u.id = r.id",
    "SELECT * FROM users WHERE id = 1 UNION ALL SELECT * FROM users WHERE id = 2",
    "TABLE users",
]
GOOD = [
    "SELECT id, email FROM users",
    "SELECT count(*) FROM users",
    "SELECT id FROM users u WHERE EXISTS (SELECT * FROM orders o WHERE o.user_id = u.id)",
    "WITH r AS (SELECT id, total FROM orders) SELECT * FROM r",
    "SELECT * FROM (SELECT id FROM users) x",
    "SELECT x.* FROM (SELECT u.*, 1 AS n FROM users u) x",
    "SELECT * FROM one",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT * FROM (VALUES (1, 2)) v",
    "INSERT INTO lines SELECT * FROM orders",
    "CREATE VIEW v AS SELECT * FROM users",
    "CREATE TABLE copy AS SELECT * FROM users",
    "COPY (SELECT * FROM users) TO STDOUT",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM information_schema.tables",
    "SELECT email, 2 * id FROM users",
    "SELECT * FROM my_function(5) AS f (a, b)",
]

_AROUND = frozenset(("PrepareStmt", "DeclareCursorStmt", "ExplainStmt"))
_CATALOGS = frozenset(("pg_catalog", "information_schema"))


@rule("SelectStmt", severity="info")
def check(select: Node, ctx: Context) -> Iterator[Finding]:
    if "fromClause" not in select or "intoClause" in select or not _is_answer(select, ctx):
        return
    if ctx.statement.embedding and ctx.statement.embedding.language == "PL/pgSQL":
        return  # read into a record, whose fields are taken by name
    scope = ctx.scope(select)
    stars = []
    for wrapped in select.get("targetList", ()):
        kind, column = unwrap(wrapped["ResTarget"].get("val", {}))
        fields = names(column.get("fields")) if kind == "ColumnRef" else ()
        if fields[-1:] == ("*",) and (tables := _tables(fields[:-1], scope)):
            stars.append((column, fields[:-1], tables))
    for column, qualifier, tables in stars:
        place = ctx.spans.of("ColumnRef", column)
        written = ".".join((*map(identifier, qualifier), "*"))
        if place is None:
            place, written = None, "TABLE" if column.get("location", 0) < 0 else "*"
        yield ctx.finding(
            place,
            f"{written if written == 'TABLE' else 'SELECT ' + written} returns {_what(tables)}, "
            "used or not, and any added later",
            fixes=_fixes(place, qualifier, select, scope, ctx),
        )


def _is_answer(select: Node, ctx: Context) -> bool:
    """Whether the rows of a SELECT go to the client: the statement itself, or a branch of it."""
    child = select
    for kind, above in ctx.tree.ancestors(select):
        branch = above.get("larg") is child or above.get("rarg") is child
        if not branch and kind not in _AROUND:
            return False
        child = above
    return True


def _tables(qualifier: tuple[str, ...], scope: Scope) -> list[FromItem]:
    """The tables whose columns a star stands for; [] where it says nothing to complain about."""
    items = scope.items
    if qualifier:
        items = [i for i in scope.items if i.alias == qualifier[-1]]
    tables = [i for i in items if i.kind == "table"]
    if any(i.schema in _CATALOGS or i.name.startswith("pg_") for i in tables):
        return []
    if all(i.columns is not None and len(i.columns) < 2 for i in tables):
        return []
    return tables


def _what(tables: list[FromItem]) -> str:
    """``all 12 columns of orders and 5 of users``."""
    parts: list[str] = []
    for table in tables:
        count = f"{len(table.columns)} " if table.columns is not None else ""
        word = "" if parts else "column of " if table.columns is None else "columns of "
        word = "of " if parts else word
        name = identifier(table.name)
        parts.append(f"{count}{word}{name}")
    known = all(t.columns is not None for t in tables)
    head = "all " if known else "every "
    return head + (" and ".join(filter(None, (", ".join(parts[:-1]), parts[-1]))))


def _fixes(
    place: tuple[int, int] | None,
    qualifier: tuple[str, ...],
    select: Node,
    scope: Scope,
    ctx: Context,
) -> list[Fix]:
    if place is None:
        return []
    columns = _columns(qualifier, scope)
    if not columns:
        return []
    several = bool(qualifier) or len(scope.items) > 1
    written = [_written(n, several, scope) for n in columns]
    return [
        Fix(
            "list the columns, and leave out those that are not used",
            ctx.edit(Edit(*place, ", ".join(written))),
        )
    ]


def _columns(qualifier: tuple[str, ...], scope: Scope) -> list[Named]:
    """What a star stands for, in its order; [] where that is not known."""
    if qualifier:
        items = [i for i in scope.items if i.alias == qualifier[-1] and not i.hidden]
        if len(items) != 1 or items[0].columns is None:
            return []
        return [Named(c, items[0], c) for c in items[0].columns]
    if any(part.unknown for part in scope.parts) or scope.aliases:
        return []
    return [named for part in scope.parts for named in part.columns]


def _written(named: Named, several: bool, scope: Scope) -> str:
    """A column as the SELECT list can name it: merged columns (USING) without a table."""
    merged = named.item is None or _is_merged(named, scope)
    if not several or merged or named.item is None or not named.item.alias:
        return identifier(named.name)
    return f"{identifier(named.item.alias)}.{identifier(named.column)}"


def _is_merged(named: Named, scope: Scope) -> bool:
    return (
        any(
            named.name in names(join.get("usingClause")) or join.get("isNatural")
            for join in scope.joins
        )
        and sum(n.name == named.name for p in scope.parts for n in p.columns) == 1
    )
