"""A program puts values into the text of its SQL, where they should be parameters.

Why: A value that becomes part of the text can end its literal and go on as SQL: the query then does
    what the value says (SQL injection). And every value makes another statement: it is parsed and
    planned anew, no prepared statement or plan cache serves it, and pg_stat_statements and logs
    count each text apart, unless their literals are normalised.
Fix: the text with parameters in the style of the program's library, and the values beside it.
    A table's or column's name cannot be a parameter: it is quoted as an identifier by the library
    (sql.Identifier, pgx.Identifier, format('%I')), or taken from a fixed list.
Silent when: what is put in is a constant of the program, a list of placeholders (?, ?, ?), a value
    that the library binds (tagged templates, sql.SQL().format), an identifier that was quoted, or a
    clause that is built elsewhere; when the text is logged or thrown, not run.
Source: PostgreSQL manual, 32.3.1 "Main Functions" (PQexecParams: "avoiding the need for tedious and
    error-prone quoting and escaping"); 43.5.4 "Executing Dynamic Commands"; PREPARE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from sqladvisor.context import Context
from sqladvisor.finding import Finding, Fix, Severity
from sqladvisor.rule import rule
from sqladvisor.sql.statement import Hole, Node

PATH = "example.py"
BAD = [
    "cur.execute(f\"SELECT id FROM users WHERE name = '{name}'\")",
    'cur.execute("SELECT id FROM users WHERE name = \'" + name + "\' ORDER BY id")',
    "cur.execute(\"SELECT id FROM users WHERE name = '%s' AND age > %s\" % (name, age))",
    'cur.execute("DELETE FROM users WHERE id = {}".format(user_id))',
    """cur.execute(f'''
        SELECT id
          FROM users -- die Straße
         WHERE email LIKE '%{domain}' AND "name" = 'Ünï'
    ''')""",
    "cur.execute(f\"INSERT INTO users (id, name) VALUES ({user.id}, '{user.name}')\")",
    'cur.execute(f"UPDATE users SET age = {age} WHERE id = %s", (user_id,))',
    "cur.execute(f\"SELECT id FROM users WHERE created > now() - interval '{days} days'\")",
    'cur.execute(f"SELECT id FROM users LIMIT {int(count)}")',
    'def find(table): cur.execute(f"SELECT id FROM {table} WHERE id = %s", (1,))',
    "cur.execute(f\"WITH n AS (SELECT id FROM users WHERE name = '{a}') SELECT * FROM n\")",
]
GOOD = [
    'cur.execute("SELECT id FROM users WHERE name = %s", (name,))',
    'TABLE = "users"\ncur.execute(f"SELECT id FROM {TABLE} WHERE id = %s", (1,))',
    'cur.execute("SELECT id FROM " + Tables.USERS + " WHERE id = %s", (1,))',
    'marks = ", ".join(["%s"] * len(ids))\ncur.execute(f"SELECT id FROM users WHERE id IN ({marks})", ids)',
    "cur.execute(\"SELECT id FROM users WHERE id IN (%s)\" % ','.join('?' * len(ids)), ids)",
    'cur.execute(sql.SQL("SELECT id FROM {} WHERE id = %s").format(sql.Identifier(t)), (1,))',
    'cur.execute(f"SELECT id FROM {quote_ident(table)} WHERE id = %s", (1,))',
    'log.warning(f"SELECT id FROM users WHERE name = {name} took {ms} ms")',
    'raise ValueError(f"DELETE FROM users WHERE id = {user_id}")',
    'print(f"Select a file from {folder}")\ntext = f"Delete {name} from users"',
    'where = build(filters)\ncur.execute(f"SELECT id FROM users WHERE {where}", values)',
    "cur.execute(f\"SELECT id FROM users ORDER BY id {'DESC' if newest else 'ASC'}\")",
    'cur.execute("SELECT id FROM users " "WHERE name = %(name)s", {"name": name})',
    'PAGE = 20\ncur.execute(f"SELECT id FROM users LIMIT {PAGE}")',
]


@rule("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    embedding = ctx.statement.embedding
    if embedding is None or query is not ctx.statement.tree:
        return
    values: list[Hole] = []
    numbers: list[Hole] = []
    named: list[Hole] = []
    for hole in embedding.holes:
        if hole.given not in ("value", "number", "quoted"):
            continue
        if hole.role == "value":
            (values if hole.given == "value" else numbers).append(hole)
        elif hole.role == "name" and hole.given == "value":
            named.append(hole)
    if values:
        yield _finding(
            values,
            f"{_listed(values)} {_is(values, 'becomes', 'become')} part of the SQL text: a value "
            "with SQL in it is run, and every other value is another statement to parse and plan",
            "warning",
            _fixes(values + numbers, ctx),
            ctx,
        )
    elif numbers:
        yield _finding(
            numbers,
            f"{_listed(numbers)} {_is(numbers, 'becomes', 'become')} part of the SQL text: every "
            "other value is another statement to parse and plan",
            "info",
            _fixes(numbers, ctx),
            ctx,
        )
    if named:
        yield _finding(
            named,
            f"{_listed(named)} {_is(named, 'names', 'name')} a table or column in the SQL text "
            "without quoting: whoever can choose the name can write the query",
            "info",
            [],
            ctx,
        )


def _fixes(holes: Sequence[Hole], ctx: Context) -> list[Fix]:
    # Imported here: only programs have holes, and an audit of .sql files needs none of it.
    from sqladvisor.source.parameters import parametrised

    found = parametrised(ctx.statement, holes)
    if found is None:
        return []
    text, expressions = found
    how = "a parameter" if len(expressions) == 1 else "parameters"
    return [Fix(f"pass {', '.join(expressions)} as {how}", text, "advice")]


def _finding(
    holes: Sequence[Hole], message: str, severity: Severity, fixes: list[Fix], ctx: Context
) -> Finding:
    finding = ctx.finding(None, message, severity=severity, fixes=fixes)
    return replace(finding, location=ctx.statement.locate(holes[0].start, holes[0].end))


def _listed(holes: Sequence[Hole]) -> str:
    names = list(dict.fromkeys(" ".join(h.expression.split()) for h in holes))
    if len(names) == 1:
        return names[0]
    if len(names) > 3:
        return f"{names[0]} and {len(names) - 1} more values"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _is(holes: Sequence[Hole], one: str, many: str) -> str:
    return one if len({h.expression for h in holes}) == 1 else many
