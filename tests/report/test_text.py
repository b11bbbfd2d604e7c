"""The text report as users see it."""

from __future__ import annotations

import pytest

from sqladvisor.finding import Evidence, Finding, Fix, InputProblem, Location
from sqladvisor.report.model import Report
from sqladvisor.report.text import ms, number, render, size_of

TEXT = "-- Größe\nSELECT *\nFROM t WHERE f(a) = 1;\n"


def report(**changes: object) -> Report:
    evidence = Evidence(
        "measured",
        {"time_before_ms": 20.4, "time_after_ms": 0.005, "cost_before": 5430.2, "cost_after": 8.44,
         "buffers_before": 3080, "buffers_after": 4, "size_bytes": 8151040},
        ("a note",),
    )  # fmt: skip
    fix = Fix(
        "compare a itself", "SELECT *\nFROM t WHERE a = 1", proof={"same_rows": True, "rows": 1}
    )
    found = Finding(
        "query/example", "warning", "f(a) is computed for every row", Location("q.sql", 3, 14, 3, 22),
        "SELECT *\nFROM t WHERE f(a) = 1", "", evidence, (fix,),
    )  # fmt: skip
    values: dict[str, object] = {
        "command": "audit", "findings": (found,), "files": 1, "statements": 1, "texts": {"q.sql": TEXT},
    } | changes  # fmt: skip
    return Report(**values)  # type: ignore[arg-type]


def test_a_finding_in_full() -> None:
    assert render(report()) == (
        "q.sql:3:14  warning  query/example\n"
        "  f(a) is computed for every row\n"
        "  3 | FROM t WHERE f(a) = 1;\n"
        "    |              ^^^^^^^^\n"
        "  measured: 20.4 ms → 0.005 ms (4,080× faster), planner cost 5,430 → 8.44, "
        "3,080 → 4 buffers, index size 7960 kB\n"
        "  · a note\n"
        "  fix: compare a itself\n"
        "    proof: ran both: the same row\n"
        "    SELECT *\n"
        "    FROM t WHERE a = 1;\n"
        "\n"
        "1 warning in 1 statement in 1 file (static: no --schema, no --dsn)\n"
    )


def test_colours_change_nothing_but_colours() -> None:
    import re

    coloured = render(report(), color=True)
    assert coloured != render(report())
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == render(report())


def test_nothing_found_and_input_that_could_not_be_read() -> None:
    problem = InputProblem("x.sql", 'syntax error at or near "FORM"', 7, 3)
    text = render(report(findings=(), problems=(problem,)))
    assert text.splitlines()[0] == 'x.sql:7:3: cannot audit: syntax error at or near "FORM"'
    assert "no findings in 1 statement in 1 file, 1 could not be audited" in text


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [(100.0, 95.0, "(no difference)"), (100.0, 200.0, "(2× slower)"), (100.0, 50.0, "(2× faster)")],
)
def test_a_gain_is_claimed_only_beyond_noise(before: float, after: float, shown: str) -> None:
    evidence = Evidence("measured", {"time_before_ms": before, "time_after_ms": after})
    found = Finding("query/x", "info", "m", Location("q.sql", 1, 1, 1, 2), "", "", evidence)
    assert shown in render(report(findings=(found,)))


def test_figures_for_people() -> None:
    assert [ms(v) for v in (0.0832, 12.34, 4213.0)] == ["0.083 ms", "12.3 ms", "4.21 s"]
    assert [number(v) for v in (12, 12345.6, 1.5)] == ["12", "12,346", "1.5"]
    assert [size_of(v) for v in (8192, 8151040, 3 << 30)] == ["8192 bytes", "7960 kB", "3072 MB"]


def test_the_indexes_of_fixes_are_listed_too_and_no_column_is_empty() -> None:
    def missing(index: str, statement: str, line: int, **times: object) -> Finding:
        use = {"line": line, "cost_before": 900.0, "cost_after": 9.0,
               "time_before_ms": None, "time_after_ms": None, **times}  # fmt: skip
        figures = {"index": index, "size_bytes": 8192, "queries": [use]}
        return Finding("index/missing", "info", "missing", Location("q.sql", line, 1, line, 2),
                       statement, "", Evidence("estimated", figures))  # fmt: skip

    def hidden(statement: str, line: int, **proof: object) -> Finding:
        fix = Fix("index it", "CREATE INDEX CONCURRENTLY ON t (lower(a));", "ddl", proof=proof)
        return Finding("query/example", "info", "hidden", Location("q.sql", line, 1, line, 2),
                       statement, "", Evidence(), (fix,))  # fmt: skip

    costs = {"cost_before": 500.0, "cost_after": 5.0, "size_bytes": 16384}
    both = (missing("t (b)", "one", 2), hidden("two", 3, **costs))
    table = render(report(findings=both)).partition("Indexes worth adding\n")[2].split("\n")
    assert table[0].split("  ")[-1] == "planner cost, all"
    assert table[2].split() == ["t", "(b)", "8192", "bytes", "2", "900", "→", "9"]
    assert table[3].split() == ["t", "(lower(a))", "16", "kB", "3", "500", "→", "5"]
    # An index advised for the statement, or no figures of the fix's: not one more to choose from.
    for other in (hidden("one", 2, **costs), hidden("two", 3)):
        assert "worth adding" not in render(report(findings=(both[0], other)))


def test_long_times_are_told_in_seconds() -> None:
    assert [ms(v) for v in (10_300.0, 10_700_000.0)] == ["10.3 s", "10,700 s"]
