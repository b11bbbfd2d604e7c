"""A filter compares a column with a function that is called again for every row.

Why: random(), clock_timestamp() and nextval() are VOLATILE: their value may change from row to row,
    so PostgreSQL calls them for each row and cannot look the value up in an index. id = (random()
    * 1000)::int draws a new number for every row and so finds none, one or several.
Fix: the call in a subquery of its own, (SELECT …): then it is called once and the value can be
    looked up; the statement's time, statement_timestamp(), for clock_timestamp(). A function of
    your own that only reads is better declared STABLE.
Silent when: no column is on the other side (random() < 0.01 samples on purpose), or random() is
    compared with it as it is (weighted sampling); the function takes a column; the row is found
    by a unique key anyway; for clocks, the table is known to be small; for functions that are
    neither built in nor in the schema. Info where no index on the column is known to be lost.
    Partition keys are query/now-in-partition-predicate's.
Source: PostgreSQL manual, 36.7 "Function Volatility Categories"; contain_volatile_functions() in
    src/backend/optimizer/util/clauses.c.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqladvisor.context import Context
from sqladvisor.finding import Edit, Finding, Fix
from sqladvisor.rule import rule
from sqladvisor.sql.comparisons import conditions, is_system, narrowing, only_column
from sqladvisor.sql.resolve import Binding
from sqladvisor.sql.statement import Node
from sqladvisor.sql.tree import conjuncts, function_name, names, operator, unwrap, walk

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, name text, tenant_id int, weight float8, "Größe" int,
    created_at timestamptz);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, at timestamptz);
CREATE TABLE log (at timestamptz, line text) PARTITION BY RANGE (at);
CREATE SEQUENCE tickets;
CREATE FUNCTION tenant() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION one() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION region() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION score(text) RETURNS int LANGUAGE sql AS 'SELECT 1';
"""
BAD = [
    "SELECT * FROM users WHERE id = floor(random() * 1000)::int",
    "SELECT u.name FROM users u WHERE u.id >= (random() * 1000) ORDER BY u.id LIMIT 1",
    """SELECT id
       FROM users WHERE name <> 'é' AND created_at > clock_timestamp() - interval '1 day'""",
    "SELECT id FROM users WHERE id = nextval('tickets')",
    "SELECT id FROM public.users AS u WHERE u.tenant_id = tenant()",
    "DELETE FROM users WHERE created_at < clock_timestamp() - $1::interval",
    "UPDATE users SET name = 'x' WHERE \"Größe\" BETWEEN 5 AND (random() * 9)::int",
    "WITH lucky AS (SELECT id FROM users WHERE (random() * 1000)::int = id) SELECT * FROM lucky",
    "SELECT 1 FROM users u JOIN orders o ON o.user_id = u.id AND o.at > clock_timestamp() WHERE u.name = 'x'",
]
GOOD = [
    "SELECT * FROM users WHERE random() < 0.01",
    "SELECT id FROM users WHERE tenant_id = one()",  # inlined
    "SELECT * FROM users WHERE random() < weight",
    "SELECT * FROM users WHERE id = (SELECT floor(random() * 1000)::int)",
    "SELECT * FROM users WHERE created_at > now() - interval '1 day'",
    "SELECT * FROM users WHERE created_at > statement_timestamp() - interval '1 day'",
    "SELECT random() FROM users WHERE id = 5",
    "SELECT * FROM users WHERE id = 5 AND created_at > clock_timestamp() - interval '1 day'",
    "SELECT * FROM users WHERE tenant_id = region()",
    "SELECT * FROM users WHERE tenant_id = unknown_function()",
    "SELECT * FROM users WHERE tenant_id = score(name)",
    "INSERT INTO users (id, created_at) VALUES (nextval('tickets'), clock_timestamp())",
    "SELECT * FROM log WHERE at > clock_timestamp() - interval '1 day'",
    "SELECT * FROM generate_series(1, 9) n WHERE n = (random() * 9)::int",
    "SELECT id FROM users WHERE random() > 0.5 OR id = 7",
    "SELECT * FROM users ORDER BY random() LIMIT 5",
    "SELECT * FROM pg_stat_activity WHERE xact_start < clock_timestamp() - interval '1 hour'",
]

_CLOCKS = frozenset(("clock_timestamp", "timeofday"))
# Other built-in functions that are VOLATILE and that people compare columns with (pg_proc).
_VOLATILE = frozenset(
    ("random", "random_normal", "nextval", "gen_random_uuid", "uuidv4", "uuidv7",
     "uuid_generate_v1", "uuid_generate_v4", "setval")
)  # fmt: skip
_OPERATORS = frozenset(("=", "<", "<=", ">", ">="))


@rule("SelectStmt", "UpdateStmt", "DeleteStmt", severity="warning")
def check(query: Node, ctx: Context) -> Iterator[Finding]:
    if "FuncCall" not in ctx.tree.by_kind or (
        "whereClause" not in query and "fromClause" not in query
    ):
        return
    scope = ctx.scope(query, "UpdateStmt" if "relation" in query else "SelectStmt")
    found = [
        (part, value, call, binding)
        for part in conditions(query, scope)
        for value, call, binding in _compared(part, ctx)
    ]
    if not found:
        return
    # What a volatile value is compared with finds no row: only the other predicates narrow.
    volatile = [f[0] for f in found]
    others = [p for p in conjuncts(query.get("whereClause")) if p not in volatile]
    rest = {"whereClause": {"BoolExpr": {"boolop": "AND_EXPR", "args": others}}} if others else {}
    narrowed = narrowing(scope, rest, ctx.resolver)
    for part, value, call, binding in found:
        item = binding.item
        name = function_name(call)
        clock = name in _CLOCKS
        if narrowed.get(id(item)) == "unique" or (clock and (ctx.small(item) or is_system(item))):
            continue
        relation = item.relation
        if relation and clock and binding.column in relation.partition_key:
            continue
        indexed = relation and any(i.keys[:1] == (binding.column,) for i in relation.indexes)
        effect = f"no index on {binding.column} can be used"
        wrong = True
        if name.startswith("random") and operator(unwrap(part)[1]) == "=":
            effect = f"each row is compared with another number, and {effect}"
        elif name == "nextval":
            effect = f"each row takes a number of the sequence, and {effect}"
        else:
            wrong = name not in _VOLATILE and not clock
        yield ctx.finding(
            part,
            f"{name}() is called again for every row of {item.name} read: {effect}",
            severity="warning" if wrong or indexed else "info",
            fixes=_fixes(value, call, ctx),
        )


def _compared(part: Node, ctx: Context) -> Iterator[tuple[Node, Node, Binding]]:
    """Of a predicate: the volatile side, its volatile call, and the column it is compared with."""
    kind, node = unwrap(part)
    if kind != "A_Expr":
        return
    how = node.get("kind", "AEXPR_OP")
    left, right = node.get("lexpr", {}), node.get("rexpr", {})
    if how == "AEXPR_OP" and operator(node) in _OPERATORS:
        pairs = [(left, right), (right, left)]
    elif how in ("AEXPR_BETWEEN", "AEXPR_IN") and operator(node) in ("=", "BETWEEN"):
        pairs = [(left, value) for value in unwrap(right)[1].get("items", ())]
    else:
        return
    for column, value in pairs:
        binding = only_column(column, ctx.resolver) if "ColumnRef" in column else None
        if binding is None or binding.depth or binding.item.kind != "table":
            continue
        relation = binding.item.relation
        if relation and relation.kind not in ("table", "partitioned", "matview"):
            continue
        call = _volatile_call(value, ctx)
        bare = unwrap(value)[0] == "FuncCall" and function_name(unwrap(value)[1]) == "random"
        if call is not None and not (bare and operator(node) != "="):
            yield value, call, binding
            return


def _volatile_call(value: Node, ctx: Context) -> Node | None:
    """The volatile function a side without columns and subqueries calls."""
    found = None
    for kind, node in walk(*unwrap(value)):
        if kind in ("ColumnRef", "SubLink"):
            return None
        if kind == "FuncCall" and found is None:
            name = function_name(node)
            info = ctx.catalog.functions.get(name)
            built_in = info is None and len(names(node.get("funcname"))) == 1
            if (built_in and (name in _CLOCKS or name in _VOLATILE)) or (
                info is not None and info.volatility == "volatile" and not info.returns_set
            ):
                found = node
    return found


def _fixes(value: Node, call: Node, ctx: Context) -> list[Fix]:
    span, name = ctx.span(value), function_name(call)
    if span is None:
        return []
    fixes = []
    place = ctx.span({"FuncCall": call})
    if name == "clock_timestamp" and place:
        fixes.append(
            Fix(
                "compare with the time the statement began",
                ctx.edit(Edit(*place, "statement_timestamp()")),
                changes_result="the time stands still while the statement runs",
            )
        )
    else:
        fixes.append(
            Fix(
                f"call {name}() once",
                ctx.edit(Edit(span[0], span[0], "(SELECT "), Edit(span[1], span[1], ")")),
                changes_result=f"{name}() has one value for all rows",
            )
        )
    if ctx.catalog.functions.get(name) and not call.get("args"):
        shown = ".".join(names(call.get("funcname")))
        fixes.append(
            Fix(f"if {name}() only reads", f"ALTER FUNCTION {shown}() STABLE", "ddl"),
        )
    return fixes
