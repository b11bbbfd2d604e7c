"""A column, or a table, that the schema does not have: PostgreSQL refuses the statement.

Why: a misspelt name, a column that a migration renamed or dropped, a table's own name where it has
    an alias: the statement fails whenever it is sent, and only then.
Fix: the name that was probably meant, where one name of the tables at hand is close enough.
Silent when: a table's columns are not known; the name could be a whole row, a system column, an
    output column's (ORDER BY, GROUP BY), a function called like a column, or a parameter of the
    function around it; the same file creates or alters the table; the name came from a template.
    An unknown table alone is named only where a known one is called almost the same.
Source: PostgreSQL manual, 4.2.1 "Column References"; errorMissingColumn() in
    src/backend/parser/parse_relation.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import WORKLOAD, rule
from sqladvisor.sql.quote import identifier
from sqladvisor.sql.resolve import FromItem, Scope
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import names, unwrap

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text, "Straße" text, tags text[]);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint REFERENCES users, total numeric,
    created_at timestamptz NOT NULL);
CREATE SCHEMA crm;
CREATE TABLE crm.notes (id int PRIMARY KEY, body text);
CREATE VIEW late AS SELECT id, total FROM orders;
CREATE FUNCTION full_name(users) RETURNS text LANGUAGE sql AS 'SELECT $1.name';
"""
BAD = [
    "SELECT u.emial FROM users u",
    """SELECT 'ä', u.name
       FROM users u JOIN orders o ON o.user_id = u.id
       WHERE o.totl > 5""",
    "SELECT creatd_at FROM orders",
    "SELECT u.name FROM users u WHERE users.id = 5",
    "SELECT total * 2 AS double FROM orders WHERE double > 5",
    "UPDATE users SET emal = 'x' WHERE id = $1",
    "INSERT INTO orders (id, usr_id, totals) VALUES (1, 2, 3)",
    "INSERT INTO users (id, name) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = excluded.nam",
    "WITH t AS (SELECT id, total FROM orders) SELECT t.created_at FROM t",
    "SELECT id FROM oders",
    """SELECT "Strasse" FROM users""",
    "SELECT x.body FROM users u, crm.notes n",
    "SELECT (SELECT max(o.amount) FROM orders o WHERE o.user_id = u.id) FROM users u",
    """DELETE FROM users WHERE name = "Ann" """,
    "MERGE INTO users u USING orders o ON u.id = o.user_id WHEN MATCHED THEN UPDATE SET nmae = 'x'",
    "SELECT l.created_at FROM late l",
]
GOOD = [
    "SELECT u.ctid, u.xmin, tableoid::regclass FROM users u",
    "SELECT u FROM users u",
    "SELECT u.full_name, row_to_json(u), u.* FROM users u",
    "SELECT total * 2 AS double FROM orders ORDER BY double",
    "SELECT date_trunc('day', created_at) AS day, count(*) FROM orders GROUP BY day",
    "INSERT INTO users (id, name) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET name = excluded.name RETURNING id",
    "SELECT x.a, y FROM unnest(ARRAY[1]) AS y, json_to_record('{}') AS x(a int)",
    "SELECT f.whatever FROM some_function(5) f",
    "CREATE TABLE tmp AS SELECT id AS a FROM users; SELECT a, b FROM tmp",
    "ALTER TABLE users ADD COLUMN age int; SELECT age FROM users",
    "SELECT t.tag FROM users u CROSS JOIN LATERAL unnest(u.tags) AS t(tag)",
    "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT n FROM r",
    "SELECT id, total FROM orders UNION SELECT id, 0 FROM users ORDER BY total",
    "SELECT (u).name FROM users u",
    "DELETE FROM users u USING orders o WHERE o.user_id = u.id RETURNING o.total, u.name",
    "UPDATE users SET name = 'x' RETURNING old.name, new.name",
    "SELECT a.name, b.total FROM users a JOIN LATERAL (SELECT total FROM orders WHERE user_id = a.id) b ON true",
    "SELECT id FROM users JOIN orders USING (id)",
    "SELECT last_value FROM orders_id_seq",
    "SELECT relname, oid FROM pg_class",
    "SELECT n.body FROM crm.notes n WHERE n IS NULL",
    "CREATE FUNCTION f(who bigint) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM orders WHERE user_id = who; END",
    "SELECT {{ column }} FROM users",
    "SELECT j.id FROM (users u JOIN orders o ON o.user_id = u.id) AS j(id)",
    "SELECT s.max FROM (SELECT max(total) FROM orders) s",
]

_ROOTS = frozenset(
    ("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", "ExplainStmt", "ViewStmt",
     "CreateTableAsStmt", "DeclareCursorStmt", "CopyStmt", "PrepareStmt")
)  # fmt: skip
_SYSTEM = frozenset(("ctid", "tableoid", "xmin", "xmax", "cmin", "cmax", "oid"))
# Functions of any type that can be called as if they were a column of the row.
_ROW_FUNCTIONS = frozenset(
    ("count", "row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg", "array_agg", "hstore",
     "pg_typeof", "pg_column_size", "num_nulls", "num_nonnulls", "record_out", "text", "any_value")
)  # fmt: skip


@rule(WORKLOAD, severity="error", needs=("schema",))
def check(contexts: Sequence[Context], ctx: Context) -> Iterator[Finding]:
    if not ctx.catalog:
        return
    made = _made_here(contexts)
    if made is None:
        return
    for context in contexts:
        statement = context.statement
        if statement.kind not in _ROOTS or any(not p.number for p in statement.placeholders):
            continue
        context.rule = ctx.rule
        yield from _tables(context, made)
        yield from _targets(context, made)
        for column in context.tree.of("ColumnRef"):
            yield from _column(column, context, made)


def _made_here(contexts: Sequence[Context]) -> frozenset[str] | None:
    """Relations that the file creates or alters; None where it may make any, or moves the search

    path."""
    made = set()
    for context in contexts:
        kind, tree = context.statement.kind, context.tree
        if kind in ("RenameStmt", "DoStmt", "CallStmt", "ImportForeignSchemaStmt"):
            return None
        if kind == "VariableSetStmt" and context.statement.tree.get("name") == "search_path":
            return None
        for node in tree.of("CreateStmt", "AlterTableStmt", "ViewStmt"):
            made.add((node.get("relation") or node.get("view") or {}).get("relname", ""))
        for node in tree.of("CreateForeignTableStmt"):
            made.add(node.get("base", {}).get("relation", {}).get("relname", ""))
        for node in tree.of("IntoClause"):
            made.add(node.get("rel", {}).get("relname", ""))
    return frozenset(made)


# -- columns ----------------------------------------------------------------------------------------


def _column(column: Node, ctx: Context, made: frozenset[str]) -> Iterator[Finding]:
    fields = names(column.get("fields"))
    kind, query = ctx.tree.query_of(column)
    if not fields or fields[-1] == "*" or not kind:
        return
    scopes = list(_scopes(ctx.scope(query, kind)))
    if any(_uncertain(i, made) for s in scopes for i in s.items):
        return
    wrapped = {"ColumnRef": column}
    binding = ctx.resolve(column)
    if len(fields) > 1:
        qualifier, name = fields[-2:]
        if binding is not None:
            item = binding.item
            if not binding.sure and item.columns is not None and not _callable(name, ctx):
                table = item.name or item.alias
                message = f"column {ctx.text(wrapped)} does not exist: {table} has no column {name}"
                yield _missing(column, message, name, item.columns, ctx)
            return
        if len(fields) == 2 and not any(_names(s, qualifier) for s in scopes):
            yield from _no_such_table(column, qualifier, name, scopes, ctx)
        return
    name = fields[0]
    if binding is not None or name in _SYSTEM or _output(column, name, ctx):
        return
    if any(_has(scope, name) for scope in scopes):
        return
    items = [i for s in scopes for i in s.items]
    if not items:
        return
    tables = ", ".join(dict.fromkeys(i.name or i.alias for i in items))
    message = f"column {name} does not exist in {tables}"
    if any(t.get("ResTarget", {}).get("name") == name for t in query.get("targetList", ())):
        message += f": {name} names an output column, which only ORDER BY and GROUP BY can use"
    elif ctx.text(wrapped).startswith('"') and not _near(name, _columns(items)):
        message += ": double quotes name a column, a string has single quotes"
    yield _missing(column, message, name, _columns(items), ctx)


def _scopes(scope: Scope | None) -> Iterator[Scope]:
    while scope is not None:
        yield scope
        scope = scope.parent


def _columns(items: Iterable[FromItem]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(c for i in items for c in i.columns or ()))


def _uncertain(item: FromItem, made: frozenset[str]) -> bool:
    """Whether the columns of an item are not known for certain."""
    if item.columns is None or item.name in made:
        return True
    return item.relation is not None and not item.relation.columns


def _names(scope: Scope, qualifier: str) -> bool:
    """Whether a qualifier means anything in a scope."""
    items = (*scope.items, *scope.versions)
    return qualifier in scope.aliases or any(i.alias == qualifier for i in items)


def _has(scope: Scope, name: str) -> bool:
    """Whether an unqualified name means anything in a scope: a column, or a whole row."""
    if any(part.unknown for part in scope.parts) or _names(scope, name):
        return True
    joined = [n for names_ in scope.aliases.values() for n in names_.columns]
    return any(n.name == name for part in scope.parts for n in (*part.columns, *joined))


def _callable(name: str, ctx: Context) -> bool:
    """Whether a function could be meant: ``u.full_name`` is ``full_name(u)`` where there is one."""
    return name in _SYSTEM or name in _ROW_FUNCTIONS or name in ctx.catalog.functions


def _output(column: Node, name: str, ctx: Context) -> bool:
    """Whether ORDER BY, GROUP BY or DISTINCT ON name an output column by a bare name."""
    kind, above = ctx.tree.parent(column)
    while kind in ("SortBy", "GroupingSet"):
        kind, above = ctx.tree.parent(above)
    if kind != "SelectStmt":
        return False
    if any(
        column is unwrap(w)[1]
        for w in (above.get("whereClause", {}), above.get("havingClause", {}))
    ):
        return False
    outputs = ctx.resolver.output_columns(above)
    return outputs is None or name in outputs or "larg" in above


def _no_such_table(
    column: Node, qualifier: str, name: str, scopes: list[Scope], ctx: Context
) -> Iterator[Finding]:
    """A qualifier that names nothing in FROM."""
    items = [i for s in scopes for i in s.items]
    if not items:
        return
    wrapped = {"ColumnRef": column}
    message = f"{ctx.text(wrapped)} does not exist: {qualifier} is not in FROM"
    renamed = [i for i in items if i.name == qualifier]
    span = ctx.span(wrapped)
    fixes = []
    if len(renamed) == 1:
        alias = renamed[0].alias
        message = f"{ctx.text(wrapped)} does not exist: {qualifier} is called {alias} here"
        if span and name in (renamed[0].columns or ()):
            text = f"{identifier(alias)}.{identifier(name)}"
            fixes.append(_fix(f"say {text}", Edit(*span, text), ctx))
    yield ctx.finding(wrapped, message, fixes=fixes)


def _missing(
    column: Node, message: str, name: str, columns: tuple[str, ...], ctx: Context
) -> Finding:
    near = _near(name, columns)
    span = ctx.span({"ColumnRef": column})
    fixes = []
    if near:
        message += f"; {near} is"
        if span:
            last = ctx.spans.tokens[ctx.spans.token_at(span[1] - 1)]
            fixes.append(_fix(f"say {near}", Edit(last[0], last[1], identifier(near)), ctx))
    return ctx.finding({"ColumnRef": column}, message, fixes=fixes)


def _fix(description: str, edit: Edit, ctx: Context) -> Fix:
    return Fix(description, ctx.edit(edit), changes_result="as written, the statement fails")


# -- assigned columns and tables --------------------------------------------------------------------


def _targets(ctx: Context, made: frozenset[str]) -> Iterator[Finding]:
    """Columns that INSERT, UPDATE and MERGE write to."""
    for kind in ("InsertStmt", "UpdateStmt", "MergeStmt"):
        for query in ctx.tree.of(kind):
            item = ctx.scope(query, kind).items[0]
            if item.relation is None or _uncertain(item, made):
                continue
            for target in _assigned(query, kind):
                name = str(target.get("name", ""))
                if not name or name in (item.columns or ()):
                    continue
                place = ctx.spans.token_at(target.get("location", 0))
                span = ctx.spans.tokens[place][:2]
                near = _near(name, item.columns or ())
                message = f"column {name} does not exist: {item.name} has no such column"
                fixes = [_fix(f"say {near}", Edit(*span, identifier(near)), ctx)] if near else []
                yield ctx.finding(span, message + (f"; {near} is" if near else ""), fixes=fixes)


def _assigned(query: Node, kind: str) -> Iterator[Node]:
    lists = [query.get("cols", ())] if kind == "InsertStmt" else [query.get("targetList", ())]
    lists.append(query.get("onConflictClause", {}).get("targetList", ()))
    if kind == "MergeStmt":
        lists += [
            c["MergeWhenClause"].get("targetList", ()) for c in query.get("mergeWhenClauses", ())
        ]
    for targets in lists:
        for wrapped in targets:
            yield wrapped.get("ResTarget", {})


def _tables(ctx: Context, made: frozenset[str]) -> Iterator[Finding]:
    """Tables that are not there, where one of almost the same name is."""
    for table in ctx.tree.of("RangeVar"):
        name, schema = str(table.get("relname", "")), table.get("schemaname")
        kind, query = ctx.tree.query_of(table)
        if not kind or name in made or "catalogname" in table:
            continue
        item = next((i for i in ctx.scope(query, kind).items if i.node is table), None)
        if item is None or item.kind != "table" or ctx.catalog.find(name, schema) is not None:
            continue
        schemas = (schema,) if schema else ctx.catalog.search_path
        known = tuple(n for s, n in ctx.catalog.relations if s in schemas)
        near = _near(name, known)
        if not near:
            continue
        start, end = ctx.spans.of("RangeVar", table) or (0, 0)
        place = next(
            (t for t in ctx.spans.tokens if start <= t[0] < end and _is(t, name, ctx)), None
        )
        fixes = (
            [_fix(f"say {near}", Edit(place[0], place[1], identifier(near)), ctx)] if place else []
        )
        yield ctx.finding(
            {"RangeVar": table}, f"table {name} does not exist; {near} does", fixes=fixes
        )


def _is(token: tuple[int, int, str], name: str, ctx: Context) -> bool:
    written = ctx.spans.sql[token[0] : token[1]]
    return written.strip('"') == name or written.lower() == name


# -- names that are almost the same -----------------------------------------------------------------


def _near(name: str, known: Iterable[str]) -> str:
    """The one known name at the least distance, if that is a slip of the pen; else ""."""
    limit = 1 if len(name) < 6 else 2
    found: dict[int, list[str]] = {}
    for other in known:
        if abs(len(other) - len(name)) <= limit and len(name) > 2:
            found.setdefault(_distance(name.lower(), other.lower()), []).append(other)
    best = min(found, default=limit + 1)
    return found[best][0] if best <= limit and len(found[best]) == 1 else ""


def _distance(one: str, other: str) -> int:
    """Letters to insert, delete, replace or exchange with their neighbour to get from one name to

    the other (optimal string alignment)."""
    before: list[int] = []
    above = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            row.append(cost)
        before, above = above, row
    return above[-1]
