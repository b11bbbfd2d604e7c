"""Statements of one file that differ only in their literals, and where those literals stand."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
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


# ( , = < > [ and the keywords and operators after which a minus is a sign.
_BEFORE_SIGN = frozenset(
    ("ASCII_40", "ASCII_44", "ASCII_61", "ASCII_60", "ASCII_62", "ASCII_91", "LESS_EQUALS",
     "GREATER_EQUALS", "NOT_EQUALS", "BETWEEN", "AND", "OR", "SELECT", "THEN", "ELSE", "LIMIT")
)  # fmt: skip


def skeleton(ctx: Context) -> tuple[str, ...]:
    """The statement's tokens, literals replaced by ``?``: equal for statements of one group."""
    return tokens_around(ctx, literal_spans(ctx))


def tokens_around(ctx: Context, slots: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    """The statement's tokens, each slot replaced by ``?``: equal where only the slots differ."""
    sql = ctx.statement.sql
    ends = dict(slots)
    result = []
    covered = -1
    for start, end, _ in ctx.spans.tokens:
        if start in ends:
            result.append("?")
            covered = ends[start]
        elif start >= covered:
            text = sql[start:end]
            result.append(text if text.startswith(("'", '"')) else text.lower())
    return tuple(result)


def literals(ctx: Context) -> list[str]:
    """The literals' texts, in order."""
    sql = ctx.statement.sql
    return [sql[s:e] for s, e in literal_spans(ctx)]


def groups(contexts: Sequence[Context], kind: str, at_least: int) -> Iterator[Group]:
    """Groups of at least so many statements of a kind, wherever in the file (or run) they stand."""
    members = [c for c in contexts if c.statement.kind == kind]
    if len(members) < at_least:
        return
    by_skeleton: dict[tuple[int, tuple[str, ...]], list[Context]] = {}
    for ctx in members:
        by_skeleton.setdefault((ctx.statement.run, skeleton(ctx)), []).append(ctx)
    for members in by_skeleton.values():
        if len(members) >= at_least:
            yield _group(members)


def runs(contexts: Sequence[Context], kind: str, at_least: int) -> Iterator[Group]:
    """The same, but only statements that follow one another directly, in one transaction."""
    if sum(c.statement.kind == kind for c in contexts) < at_least:
        return
    for members in adjacent(
        contexts, lambda c: skeleton(c) if c.statement.kind == kind else None, at_least
    ):
        yield _group(members)


def adjacent(
    contexts: Sequence[Context], key: Callable[[Context], Hashable | None], at_least: int
) -> Iterator[list[Context]]:
    """Statements of one key (None: of none) that follow one another directly, in one transaction

    (or all outside of any) and one run."""
    current: list[Context] = []
    last: Hashable | None = None
    for ctx in contexts:
        own = key(ctx)
        if own is not None:
            own = (own, ctx.statement.in_transaction, ctx.statement.run)
        if own is None or own != last:
            if len(current) >= at_least:
                yield current
            current = []
        if own is not None:
            current.append(ctx)
        last = own
    if len(current) >= at_least:
        yield current


def _group(members: list[Context]) -> Group:
    texts = [literals(c) for c in members]
    width = min(map(len, texts))
    varying = tuple(i for i in range(width) if len({t[i] for t in texts}) > 1)
    return Group(tuple(members), varying)
