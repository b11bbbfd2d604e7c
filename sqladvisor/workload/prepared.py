"""PREPARE and EXECUTE for statements that are sent with their values written into them."""

from __future__ import annotations

from sqladvisor.context import Context
from sqladvisor.sql import libpg
from sqladvisor.sql.tree import unwrap
from sqladvisor.workload.repeats import Group, literal_spans, literals


def compared(ctx: Context) -> tuple[int, ...]:
    """The ordinals of the literals that a column is compared with: what varies from call to call."""
    places = set()
    for node in ctx.tree.of("A_Expr"):
        for side, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
            kind, value = unwrap(node.get(side, {}))
            if kind == "TypeCast":
                kind, value = unwrap(value.get("arg", {}))
            if kind == "A_Const" and unwrap(node.get(other, {}))[0] == "ColumnRef":
                places.add(value.get("location", -1))
    spans = literal_spans(ctx)
    return tuple(i for i, (start, _) in enumerate(spans) if start in places)


def prepared(group: Group, name: str = "repeated") -> tuple[str, tuple[str, ...]] | None:
    """PREPARE and its EXECUTEs; None where a literal that varies cannot be a parameter."""
    first = group.contexts[0]
    if first.statement.placeholders or first.tree.by_kind.get("ParamRef"):
        return None
    sql = first.statement.sql
    spans = literal_spans(first)
    if _fixed_places(first) & {spans[ordinal][0] for ordinal in group.varying}:
        return None
    texts = [literals(member) for member in group.contexts]
    # Literals that are equal in every statement are one parameter: GROUP BY f($1) must stay the
    # expression that the output has.
    numbers: dict[tuple[str, ...], int] = {}
    parameters = {
        o: numbers.setdefault(tuple(t[o] for t in texts), len(numbers) + 1) for o in group.varying
    }
    typed = _typed_literals(first)
    for ordinal in reversed(group.varying):
        start, end = spans[ordinal]
        place, cast = typed.get(start, (start, ""))
        sql = f"{sql[:place]}${parameters[ordinal]}{cast}{sql[end:]}"
    prepare = f"PREPARE {name} AS {sql}"
    try:
        libpg.parse(prepare)
    except libpg.ParseProblem:
        return None
    shown = [next(o for o, n in parameters.items() if n == i + 1) for i in range(len(numbers))]
    if not shown:
        return prepare, (f"EXECUTE {name}",) * len(texts)
    return prepare, tuple(f"EXECUTE {name} ({', '.join(t[o] for o in shown)})" for t in texts)


def _fixed_places(ctx: Context) -> set[int]:
    """Where literals stand that mean something else as a parameter: ORDER BY 1, numeric(12, 2)."""
    found = []
    for node in ctx.tree.of("TypeName"):
        found += node.get("typmods", ())
    for query in ctx.tree.of("SelectStmt"):
        found += query.get("groupClause", ())
    found += [sort.get("node", {}) for sort in ctx.tree.of("SortBy")]
    return {unwrap(w)[1].get("location", -1) for w in found if "A_Const" in w}


def _typed_literals(ctx: Context) -> dict[int, tuple[int, str]]:
    """Literals like ``DATE '…'`` by their place: where the type begins, and it as a cast."""
    result = {}
    for cast in ctx.tree.of("TypeCast"):
        at = cast.get("arg", {}).get("A_Const", {}).get("location", -1)
        start = cast.get("typeName", {}).get("location", -1)
        if 0 <= start < at and cast.get("location", -1) < 0:
            result[at] = start, "::" + ctx.statement.sql[start:at].strip()
    return result
