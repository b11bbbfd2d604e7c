"""A statement looks inside values (jsonb, arrays, full text, patterns), and no GIN index serves it.

Why: a b-tree orders whole values. What a document contains, which elements an array has, which words
    or trigrams a text has, is found by an inverted index: without one every row is read and taken
    apart. The advice is priced by the planner, and where there are rows it was built and timed.
Fix: CREATE INDEX CONCURRENTLY … USING gin. jsonb_path_ops where only @>, @? and @@ are asked for: it
    is smaller and finds less by chance; the default class where keys are asked for (?). Writing to a
    GIN index is dearer than to a b-tree: each element is an entry (fastupdate puts that off).
Silent when: the planner would not use it, saves less than a tenth with it, or the built index did not
    make the statement measurably faster; patterns without pg_trgm (query/leading-wildcard-like says
    that then), or with fewer than three characters in a row. Less than 5 ms saved is info.
Source: PostgreSQL manual, 8.14.4 "jsonb Indexing", 12.9 "Preferred Index Types for Text Search",
    64.4 "GIN Indexes" and F.35 "pg_trgm".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sqladvisor.advise import present
from sqladvisor.context import Context
from sqladvisor.finding import Finding
from sqladvisor.rule import ADVICE, rule

if TYPE_CHECKING:
    from sqladvisor.advise.select import IndexAdvice

SETUP = """
CREATE EXTENSION pg_trgm;
CREATE TABLE docs (id int PRIMARY KEY, payload jsonb NOT NULL, tags text[] NOT NULL, body text,
    "Größe" int[], words tsvector GENERATED ALWAYS AS (to_tsvector('simple', body)) STORED);
INSERT INTO docs SELECT i, jsonb_build_object('session', 's' || i, 'kind', i % 3, 'pad', repeat('p', 200)),
    ARRAY['t' || i % 9000, 'all', 'x' || i % 7], 'Körper ' || md5(i::text) || ' ' || repeat('lorem ', 20),
    ARRAY[i % 5000, 9999999] FROM generate_series(1, 60000) i;
CREATE TABLE served (id int PRIMARY KEY, payload jsonb, tags text[]);
INSERT INTO served SELECT id, payload, tags FROM docs;
CREATE INDEX ON served USING gin (payload);
CREATE INDEX ON served USING gin (tags);
"""
BAD = [
    'SELECT id FROM docs WHERE payload @> \'{"session": "s777"}\'',
    "SELECT d.id\n  FROM public.docs AS d WHERE ARRAY['t77'] <@ d.tags AND d.id > 0",
    'SELECT id FROM docs WHERE "Größe" && ARRAY[77, 78]',
    "SELECT id FROM docs WHERE words @@ to_tsquery('simple', 'c4ca4238a0b923820dcc509a6f75849b')",
    "SELECT id FROM docs WHERE to_tsvector('simple', body) @@ plainto_tsquery('simple', 'c4ca4238a0b923820dcc509a6f75849b')",
    "SELECT count(*) FROM docs WHERE body LIKE '%c4ca4238%'",
    "WITH hit AS (SELECT id FROM docs WHERE payload @? '$.session ? (@ == \"s5\")') SELECT * FROM hit",
]
GOOD = [
    'SELECT id FROM served WHERE payload @> \'{"session": "s777"}\'',
    "SELECT id FROM served WHERE tags @> ARRAY['t77']",
    "SELECT count(*) FROM docs WHERE tags @> ARRAY['all']",
    "SELECT id FROM docs WHERE id = 77 AND tags @> ARRAY['t77']",
    "SELECT count(*) FROM docs WHERE payload ? 'kind'",
    "SELECT count(*) FROM docs WHERE body LIKE '%l%'",
]


@rule(
    ADVICE,
    severity="warning",
    needs=("plan",),
    thresholds={"min_warning_ms": 5},  # as for index/missing
)
def check(advice: IndexAdvice, ctx: Context) -> Iterator[Finding]:
    if advice.index.method == "gin":
        column = advice.index.keys[-1].partition(" ")[0]
        yield from present.findings(
            advice, ctx, f"no index looks into {column} of {advice.index.table}"
        )
