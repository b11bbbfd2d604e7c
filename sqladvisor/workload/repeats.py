"""Statements of one file that differ only in their literals, and where those literals stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqladvisor.context import Context

_LITERALS = frozenset(("SCONST", "ICONST", "FCONST", "BCONST", "XCONST", "USCONST"))


@dataclass(frozen=True, slots=True)
class Group:
    """Statements with the same tokens but for literals, in file order.

    ``varying`` are the ordinals of the literals whose text differs between them.
    """

    contexts: tuple[Context, ...]
    varying: tuple[int, ...]


def literal_spans(ctx: Context) -> list[tuple[int, int]]:
    """(start, end) in ``statement.sql`` of every literal, in order; a sign before one belongs to it

    where it cannot be a subtraction.
    """
    spans = []
    tokens = ctx.spans.tokens
    for i, (start, end, name) in enumerate(tokens):
        if name not in _LITERALS:
            continue
        signed = i > 1 and tokens[i - 1][2] == "ASCII_45" and tokens[i - 2][2] in _BEFORE_SIGN
        spans.append((tokens[i - 1][0] if signed else start, end))
    return spans


_BEFORE_SIGN = frozenset(("ASCII_40", "ASCII_44", "ASCII_61", "ASCII_60", "ASCII_62"))


def skeleton(ctx: Context) -> tuple[str, ...]:
    """The statement's tokens, literals replaced by ``?``: equal for statements of one group."""
    sql = ctx.statement.sql
    inside = {start for start, _ in literal_spans(ctx)}
    result = []
    for start, end, name in ctx.spans.tokens:
        if start in inside or name in _LITERALS:
            result.append("?")
        else:
            text = sql[start:end]
            result.append(text if text.startswith('"') else text.lower())
    return tuple(result)


def literals(ctx: Context) -> list[str]:
    """The literals' texts, in order."""
    sql = ctx.statement.sql
    return [sql[s:e] for s, e in literal_spans(ctx)]


def groups(contexts: Sequence[Context], kind: str, at_least: int) -> Iterator[Group]:
    """Groups of at least so many statements of a kind, wherever in the file they stand."""
    by_skeleton: dict[tuple[str, ...], list[Context]] = {}
    for ctx in contexts:
        if ctx.statement.kind == kind:
            by_skeleton.setdefault(skeleton(ctx), []).append(ctx)
    for members in by_skeleton.values():
        if len(members) >= at_least:
            yield _group(members)


def runs(contexts: Sequence[Context], kind: str, at_least: int) -> Iterator[Group]:
    """The same, but only statements that follow one another directly, in one transaction."""
    current: list[Context] = []
    last: tuple[str, ...] = ()
    for ctx in contexts:
        own = skeleton(ctx) if ctx.statement.kind == kind else ()
        same = (
            bool(own)
            and own == last
            and (current[-1].statement.in_transaction == ctx.statement.in_transaction)
        )
        if not same:
            if len(current) >= at_least:
                yield _group(current)
            current = []
        if own:
            current.append(ctx)
        last = own
    if len(current) >= at_least:
        yield _group(current)


def _group(members: list[Context]) -> Group:
    texts = [literals(c) for c in members]
    width = min(map(len, texts))
    varying = tuple(i for i in range(width) if len({t[i] for t in texts}) > 1)
    return Group(tuple(members), varying)
