"""Plans as they lie around: several in a file, framed by clients, in logs, cut off, damaged."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.read import read_json
from sqladvisor.plan.read_file import plans_in

PLANS = Path(__file__).parents[2] / "fixtures" / "plans"
CLIENTS = PLANS / "clients"
VERSIONS = ("pg15", "pg18")
TEXT = (CLIENTS / "psql-unaligned.txt").read_text()
JSON = (PLANS / "pg18-memoize.json").read_text()
XML = "<explain>" + (PLANS / "pg18.xml").read_text().split("<explain", 2)[1].partition(">")[2]
YAML = "- Plan:" + (PLANS / "pg18.yaml").read_text().split("- Plan:", 2)[1].partition("-- name")[0]


def read(text: str) -> list[Plan]:
    found = list(plans_in("plan.txt", text))
    assert not [f for f in found if isinstance(f, InputProblem)]
    return [f for f in found if isinstance(f, Plan)]


def problem(text: str) -> InputProblem:
    found = next(f for f in plans_in("plan.txt", text) if isinstance(f, InputProblem))
    assert "\n" not in found.message
    return found


def recorded(version: str, ending: str) -> dict[str, Plan]:
    text = (PLANS / f"{version}.{ending}").read_text()
    names = [line.removeprefix("-- name: ") for line in text.split("\n") if line[:3] == "-- "]
    return dict(zip(names, read(text), strict=True))


def shape(plan: Plan) -> list[tuple[Any, ...]]:
    return [(n.path, n.label, n.subplan_name, n.plan_rows, n.total_cost) for n in plan.nodes()]


ALL = [(v, e, name) for v in VERSIONS for e in ("txt", "yaml", "xml") for name in recorded(v, e)]


@pytest.mark.parametrize(("version", "ending", "name"), ALL)
def test_recorded_plans_of_every_format(version: str, ending: str, name: str) -> None:
    plan = recorded(version, ending)[name]
    saved = read_json((PLANS / f"{version}-{name}.json").read_text())
    unstable = ("parallel", "gather", "modif", "limit")  # estimates move with what was rolled back
    if not any(word in name for word in unstable):
        assert [s[:3] for s in shape(plan)] == [s[:3] for s in shape(saved)]
    own = [n.self_ms for n in plan.nodes()]
    assert None not in own
    assert min(o or 0 for o in own) >= 0
    whole = plan.execution_ms if "cte_modifying" in name else plan.root.total_ms
    assert sum(o or 0 for o in own) == pytest.approx(whole, rel=0.02, abs=0.1)
    assert sum(o or 0 for o in own) <= (plan.execution_ms or 0) * 1.001
    assert plan.settings
    assert plan.planning_ms


def test_triggers_and_jit_are_read_from_text() -> None:
    plan = recorded("pg18", "txt")["modify_triggers"]
    assert [(t["Trigger Name"], t["Calls"]) for t in plan.triggers] == [
        ("after_row", 3000),
        ("before_row", 3000),
    ]
    assert recorded("pg18", "txt")["modify_foreign_key"].triggers[0]["Constraint Name"]
    for ending in ("txt", "yaml", "xml"):
        jit = recorded("pg15", ending)["jit"].jit
        assert jit is not None
        assert jit["Functions"] > 0
        assert jit["Options"]["Expressions"] is True
        assert jit["Timing"]["Total"] > 0


FRAMES = sorted(p.name for p in CLIENTS.glob("psql-*") if "timing" not in p.name)


@pytest.mark.parametrize("name", FRAMES)
def test_what_clients_print_is_the_plan_inside(name: str) -> None:
    (plan,) = read((CLIENTS / name).read_text())
    assert [n.label for n in plan.nodes()] == [
        "Limit",
        "Sort",
        "HashAggregate",
        "Hash Join",
        "Seq Scan on orders o",
        "Hash",
        "Seq Scan on customers c",
    ]
    assert plan.root.children[0].children[0].children[0].children[0].filter == (
        "(note <> 'one\ntwo'::text)"
    )
    assert plan.execution_ms
    assert plan.planning_ms


def test_several_plans_with_timing_lines_and_the_lines_they_stand_on() -> None:
    first, second = read((CLIENTS / "psql-timing.txt").read_text())
    assert (first.root.node_type, second.root.node_type) == ("Result", "Index Scan")
    assert (first.line, second.line) == (3, 13)


LOGS = sorted(p.name for p in CLIENTS.glob("pg*"))


@pytest.mark.parametrize("name", LOGS)
def test_auto_explain_in_every_log_and_format(name: str) -> None:
    joined, updated, prepared = read((CLIENTS / name).read_text())
    assert joined.query is not None
    assert joined.query.startswith("SELECT count(*)\nFROM orders o\n")
    assert joined.query.endswith("LOG:  last, \"quoted\", ''twice''';")
    (scan,) = (n for n in joined.nodes() if n.filter)
    assert scan.filter is not None
    assert scan.filter.endswith("LOG:  last, \"quoted\", ''twice'''::text)")
    assert updated.root.label == "Update on orders"
    assert prepared.query is not None
    assert prepared.query.startswith("PREPARE q(int)")
    assert "Query Parameters" not in prepared.query
    for plan in (joined, updated, prepared):
        assert plan.execution_ms is not None
        assert plan.execution_ms >= (plan.root.total_ms or 0)
        assert plan.line


def test_formats_mixed_in_one_file() -> None:
    plans = read(f"Before:\n\n{TEXT}\nthen JSON\n{JSON}\nthen YAML\n{YAML}\nand XML\n{XML}\nEnd.\n")
    assert len(plans) == 4
    lines = [p.line or 0 for p in plans]
    assert lines == sorted(lines)


@pytest.mark.parametrize(
    "around",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: "\x1b[1m" + t.replace("Sort", "\x1b[31mSort\x1b[0m") + "\x1b[0m",
        lambda t: "    " + t.replace("\n", "\n    "),
        lambda t: f"```\n{t}\n```",
        lambda t: "postgres=# EXPLAIN ANALYZE SELECT 1;\n" + t + "postgres=# \\q\n",
        lambda t: "\n".join(f'"{line}"' for line in t.strip().split("\n")),
        lambda t: json.dumps([{"QUERY PLAN": line} for line in t.strip().split("\n")]),
        lambda t: json.dumps([{"QUERY PLAN": json.loads(JSON)}]),
    ],
)
def test_other_frames(around: Any) -> None:
    (plan,) = read(around(TEXT))
    assert plan.execution_ms


OLD = """\
 Sort  (cost=40.64..41.89 rows=500 width=12) (actual time=1.514..1.580 rows=500 loops=1)
   Sort Key: a
   Sort Method: quicksort  Memory: 48kB
   I/O Timings: read=0.500 write=0.250
   InitPlan 1 (returns $0)
     ->  Seq Scan on s  (cost=0.00..8.00 rows=1 width=4) (actual time=0.010..0.020 rows=1 loops=1)
   ->  Gather  (cost=0.00..18.22 rows=500 width=12) (actual time=0.1..1.2 rows=500 loops=1)
         Workers Planned: 1
         Workers Launched: 1
         ->  Parallel Seq Scan on t  (cost=0.00..18.22 rows=500 width=12) (actual time=0.035..0.913 rows=250 loops=2)
               Filter: (b > $0)
               Worker 0: actual time=0.030..0.800 rows=240 loops=1
                 Buffers: shared hit=3
 Planning Time: 0.160 ms
 JIT:
   Functions: 4
   Options: Inlining false, Optimization false, Expressions true, Deforming true
   Timing: Generation 0.480 ms (Deform 0.100 ms), Inlining 0.000 ms, Optimization 0.2 ms, Emission 4.0 ms, Total 4.7 ms
 Trigger RI_ConstraintTrigger_a_1 for constraint child_fk on parent: time=1.500 calls=3
 Trigger log_it: calls=2
 Execution Time: 2.080 ms
"""


def test_what_other_versions_print() -> None:
    (plan,) = read(OLD)
    nodes = {n.label: n for n in plan.nodes()}
    assert plan.root.raw["I/O Read Time"] == 0.5
    assert nodes["Seq Scan on s"].subplan_name == "InitPlan 1 (returns $0)"
    scan = nodes["Parallel Seq Scan on t"]
    assert scan.raw["Workers"] == [
        {
            "Worker Number": 0,
            "Actual Startup Time": 0.03,
            "Actual Total Time": 0.8,
            "Actual Rows": 240,
            "Actual Loops": 1,
            "Shared Hit Blocks": 3,
        }
    ]
    assert plan.jit is not None
    assert plan.jit["Timing"]["Generation"] == {"Deform": 0.1, "Total": 0.48}
    assert plan.triggers[0]["Constraint Name"] == "child_fk"
    assert plan.triggers[1] == {"Trigger Name": "log_it", "Calls": 2}
    # Timed from 15 on with a kind, from 17 on for each.
    for printed, expected in (
        ("shared/local read=0.5, temp write=2", {"I/O Read Time": 0.5, "Temp I/O Write Time": 2}),
        ("shared read=0.5, local read=1", {"Shared I/O Read Time": 0.5, "Local I/O Read Time": 1}),
    ):
        (plan,) = read(OLD.replace("read=0.500 write=0.250", printed))
        assert expected.items() <= plan.root.raw.items()


def test_an_extension_s_node_is_kept_by_its_name() -> None:
    (plan,) = read(
        "Custom Scan (Citus Adaptive)  (cost=0.00..0.00 rows=100 width=4)\n"
        "  Task Count: 32\n"
        "  ->  Task\n"
        "        Node: host=localhost port=9701\n"
        "        ->  Gadget Scan on t_102008 t  (cost=0.00..35.50 rows=2550 width=4)\n"
    )
    labels = [n.label for n in plan.nodes()]
    assert labels[0].startswith("Custom Scan (Citus Adaptive)")
    assert labels[1:] == ["Task", "Gadget Scan on t_102008 t"]


def test_summary_off_still_has_a_time_to_compare_with() -> None:
    (plan,) = read("\n".join(TEXT.split("\n")[:-4]))
    assert plan.execution_ms == plan.root.total_ms


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (JSON[: len(JSON) // 2], None, "breaks off"),
        (JSON.replace('"Plans": [', '"Plans": [,', 1), 32, "not valid JSON"),
        ('[{"Plan": {"Node Type": "Sort", "Plans": 7}}]', 1, "not a list"),
        ('[{"Plan": {"Node Type": "Sort",\n\n "Total Cost": "x"}}]', 1, "Total Cost"),
        ('[{"Plan": {"Node Type": "Sort", "Plan Rows": 1e999}}]', 1, "out of range"),
        ('[{"Plan": {"Node Type": "Sort", "Plan Rows": NaN}}]', 1, "out of range"),
        ('[{"Plan": {"Node Type": "Sort", "Alias": ["a"]}}]', 1, "not a text"),
        ('[{"Plan": {"Node Type": "Sort", "Plan Rows": ' + "9" * 5000 + "}}]", 1, "too long"),
        ('[{"Plan": ' * 3000, 1, "nested too deeply"),
        (XML[: len(XML) // 2], None, "XML"),
        (XML.replace("</Plans>", "</Plan>", 1), None, "not valid XML: mismatched tag"),
        ('<?xml version="1.0"?>\n<!DOCTYPE explain [<!ENTITY a "b">]>\n<explain>&a;</explain>', 2, "refused"),
        (YAML.replace("    Strategy", "   Strategy"), 3, "indented wrongly"),
        (YAML.replace('Strategy: "Plain"', 'Strategy: "Plai', 1), 3, "breaks off"),
        (TEXT[:60], 1, "figures break off"),
        (TEXT.replace("width=13) (actual", "width="), 11, "figures break off"),
        (re.sub("\n +", "\n", TEXT), 3, "indentation is lost"),
        (TEXT.replace("Execution Time: ", "Execution Time: about "), 26, "no time in ms"),
        ("2024-05-01 12:00:00 UTC [1] LOG:  duration: 5.1 ms  plan:\n\tQuery Text: SELECT 1\n", 1, "before its first node"),
    ],
)  # fmt: skip
def test_damage_is_one_line_with_its_place(text: str, line: int | None, says: str) -> None:
    found = problem(text)
    assert says in found.message
    assert found.line is not None
    if line is not None:
        assert found.line == line


def test_damage_does_not_hide_the_other_plans() -> None:
    broken = TEXT.replace("rows=60000 width=13)", "rows=", 1)
    found = list(plans_in("x", f"{TEXT}\n{broken}\n{TEXT}"))
    assert [type(f).__name__ for f in found] == ["Plan", "InputProblem", "Plan"]


@pytest.mark.parametrize(
    "text",
    [
        "", "\n\n", "SELECT 1;", "[]", "{}", "[1, 2]", '{"a": {"b": "c"}}', "---\na: b\n", "<a/>",
        "<?xml version='1.0'?><a/>", "Limit the damage\nSort of.", "Seq Scan on orders is slow.\n",
        "-- Seq Scan on orders\nSELECT * FROM orders;", "Result", "a,b\n1,2\n",
    ],
)  # fmt: skip
def test_what_is_no_plan_is_none(text: str) -> None:
    assert list(plans_in("x", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "[\n" * 200_000,
        "{\n" * 200_000,
        "<explain>\n" * 100_000,
        "- Plan:\n" * 100_000,
        "Plan:\n" * 100_000,
        "Seq Scan on t  (cost=0.00..1.00 rows=1 width=1)\n  Filter: '\"\n" * 5_000,
        "Seq Scan on t  (cost=0.00..1.00 rows=1 width=1)\n" + "  Filter: \"'\n" * 100_000,
        "Trigger " + " on x for constraint y" * 100_000 + ": calls=z",
        "Sort  (cost=0.00..1.00 rows=1 width=1)\n" + "  Output: " + "a, " * 300_000 + "\n",
        " " * 1_000_000 + "x",
        "LOG:  duration: 1 ms  plan:\n" * 100_000,
        "Seq Scan on t\n" * 100_000,
    ],
    ids=lambda t: t[:12],
)
def test_hostile_input_is_read_in_bounded_time(text: str) -> None:
    started = time.process_time()
    sum(1 for _ in plans_in("x", text))
    assert time.process_time() - started < 10


def test_a_very_deep_plan_is_read_in_every_format() -> None:
    depth = 400
    text = "".join(
        f"{' ' * (6 * i - 4 if i else 0)}{'->  ' if i else ''}Limit  (cost=0.00..1.00 rows=1 width=1)\n"
        for i in range(depth)
    )
    (plan,) = read(text)
    assert sum(1 for _ in plan.nodes()) == depth


SEEDS = [TEXT, JSON[:3000], YAML[:3000], XML[:3000], OLD]
SEEDS += [(CLIENTS / name).read_text()[:4000] for name in (*LOGS, *FRAMES)]


@st.composite
def mangled(draw: st.DrawFn) -> str:
    """A real file with pieces cut out, doubled, swapped and strewn with what breaks parsers."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 1, 5, 40, 400))))
        piece = draw(
            st.sampled_from(
                ("", "\n", " ", '"', "'", "{", "}", "]", "->  ", "(", ")", "\t", "|", "+", ": ", "- ",
                 "NaN", "-1", "1e400", "null", "<", "&x;", "\x00", "\x1b[0m", "é", "\ud800", "9" * 400,
                 "(cost=", "actual time=", "\u2028", "\x0c", text[start:end] * 2)
            )
        )  # fmt: skip
        text = text[:start] + piece + text[end:]
    return text


@settings(max_examples=300, deadline=None)
@given(mangled() | st.text(max_size=300))
def test_no_input_makes_the_readers_raise(text: str) -> None:
    for found in plans_in("x", text):
        if isinstance(found, InputProblem):
            assert "\n" not in found.message
        else:
            use(found)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = ("Node Type", "Plans", "Parent Relationship", "Subplan Name", "Actual Loops", "Actual Rows",
        "Actual Total Time", "Total Cost", "Plan Rows", "Plan Width", "Relation Name", "Alias", "Filter",
        "Shared Hit Blocks", "Strategy", "Join Type", "Rows Removed by Filter")  # fmt: skip
NODES = st.recursive(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4),
    lambda inner: st.builds(
        lambda node, below: {"Node Type": "Append", **node, "Plans": below},
        st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(
    NODES,
    st.dictionaries(st.sampled_from(("Triggers", "Settings", "JIT", "Execution Time")), VALUES),
)
def test_no_json_makes_the_reader_raise_but_input_error(node: Any, rest: dict[str, Any]) -> None:
    try:
        plan = read_json({"Plan": node, **rest})
    except InputError as error:
        assert "\n" not in str(error)
    else:
        use(plan)


def use(plan: Plan) -> None:
    """Ask a plan all that reports and rules ask."""
    assert plan.hot_path()
    plan.indexes_used()
    for node in plan.nodes():
        assert isinstance(node, PlanNode)
        assert node.label
        assert node.removed_by_filter >= 0 or node.removed_by_filter < 0
        plan.self_share(node)
