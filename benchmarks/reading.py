"""How reading hostile and broken text grows with its length, as ratios in one run.

Each piece is repeated 1,000 and 10,000 times: reading that is linear takes ten times as long.
(Nested comments are PostgreSQL's own scanner's: it takes the square of their number.)

    python benchmarks/reading.py
"""

from __future__ import annotations

import time

from sqladvisor.sql.source import Source, comments, statements

PIECES = (
    "{", "{{", "{%", "{#", "{{ a }", "$$", "$a$ ", "/*", "/* */", "'", "''", "' ", '"', ":'",
    ":'a\n", "(", "-", "- ", "?", "@a ", "a?", "\n", "\n\n", "\\", "\\\n", ";", "%s ", "a b;\n",
    "'x\nSELECT 1;\n", "SELECT $a$;\n", "SELECT (;\n", "COPY t FROM stdin;\n",
    "\\copy t from stdin\n", "SELECT /*\n\n", "CREATE FUNCTION f() BEGIN ATOMIC ;\n",
    "{% else %}", "SELECT 1\nSELECT 'a\n",
)  # fmt: skip


def seconds(text: str) -> float:
    began = time.perf_counter()
    source = Source("f.sql", text)
    statements(source)
    list(comments(source))
    return time.perf_counter() - began


def main() -> None:
    statements(Source("f.sql", "SELECT '"))  # what is compiled at first use
    print("text × 10,000                                 ms   ratio to × 1,000")
    for piece in PIECES:
        short, long = seconds(piece * 1_000), seconds(piece * 10_000)
        print(f"{piece!r:40} {long * 1000:7.0f}   {long / max(short, 0.001):16.1f}")


if __name__ == "__main__":
    main()
