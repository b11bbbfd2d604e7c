"""Plans of real servers (fixtures/plans, see plans.sql there) and the figures read from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqladvisor.errors import InputError
from sqladvisor.plan.node import Plan, PlanNode
from sqladvisor.plan.read import read_json

PLANS = Path(__file__).parents[2] / "fixtures" / "plans"
SAVED = sorted(p.stem for p in PLANS.glob("pg*.json"))
VERSIONS = ("pg15", "pg18")


def saved(name: str) -> Plan:
    return read_json((PLANS / f"{name}.json").read_text())


def one(plan: Plan, node_type: str, **raw: Any) -> PlanNode:
    found = [
        n
        for n in plan.nodes()
        if n.node_type == node_type and all(n.raw.get(k) == v for k, v in raw.items())
    ]
    assert len(found) == 1, found
    return found[0]


def printed_ms(node: PlanNode) -> float:
    assert node.actual_total_ms is not None
    assert node.actual_loops is not None
    return node.actual_total_ms * node.actual_loops


def node(kind: str = "Result", total: float = 1, loops: float = 1, **more: Any) -> dict[str, Any]:
    return {
        "Node Type": kind,
        "Parent Relationship": "Outer",
        "Startup Cost": 0.0,
        "Total Cost": 1.0,
        "Plan Rows": 1,
        "Plan Width": 0,
        "Actual Startup Time": 0.0,
        "Actual Total Time": total,
        "Actual Rows": 1,
        "Actual Loops": loops,
        **more,
    }


def test_the_saved_plans_are_there() -> None:
    assert len(SAVED) >= 70


@pytest.mark.parametrize("name", SAVED)
def test_self_times_add_up_to_the_whole(name: str) -> None:
    plan = saved(name)
    own = [n.self_ms for n in plan.nodes()]
    assert None not in own
    assert min(own) >= 0
    # A data-modifying CTE that nobody reads runs after the top node is done.
    whole = plan.execution_ms if "cte_modifying" in name else plan.root.total_ms
    assert sum(own) == pytest.approx(whole, rel=0.02, abs=0.1)


@pytest.mark.parametrize("name", SAVED)
def test_self_blocks_add_up_to_the_whole(name: str) -> None:
    plan = saved(name)
    nodes = list(plan.nodes())
    whole = [plan.root]
    if "cte_modifying" in name:
        whole.append(next(n for n in nodes if n.subplan_name == "CTE silent"))
    for counter in ("shared_hit", "shared_read", "temp_read", "temp_written"):
        own = [getattr(n, f"self_{counter}") for n in nodes]
        assert min(own) >= 0
        assert sum(own) == sum(getattr(n, counter) for n in whole)


@pytest.mark.parametrize("name", SAVED)
def test_no_node_takes_longer_than_the_plan(name: str) -> None:
    plan = saved(name)
    assert plan.execution_ms is not None
    for n in plan.nodes():
        assert n.total_ms is not None
        assert n.self_ms is not None
        assert n.self_ms <= n.total_ms + 1e-9
        assert n.total_ms <= plan.execution_ms + 0.1
        assert 0 <= plan.self_share(n) <= 1
        if not n.executed:
            assert n.total_ms == n.self_ms == n.rows_out == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_parallel_processes_run_side_by_side(version: str) -> None:
    plan = saved(f"{version}-parallel_hash_join")
    gather = one(plan, "Gather")
    join = one(plan, "Hash Join")
    scan = one(plan, "Seq Scan")
    assert scan.actual_loops == 3
    assert scan.total_ms == pytest.approx(printed_ms(scan) / 3, rel=0.01)
    assert join.total_ms < gather.total_ms
    assert scan.rows_out == pytest.approx(59340, abs=2)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_inner_side_of_a_parallel_loop_is_shared_too(version: str) -> None:
    plan = saved(f"{version}-parallel_nested_loop")
    inner = one(plan, "Index Scan")
    assert inner.actual_loops == 5000
    assert inner.total_ms == pytest.approx(printed_ms(inner) / 3, rel=0.15)
    assert inner.rows_out == pytest.approx(30000, rel=0.02)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gather_run_again_divides_by_its_processes_not_its_loops(version: str) -> None:
    plan = saved(f"{version}-gather_rescanned")
    scan = one(plan, "Seq Scan")
    assert (one(plan, "Gather").actual_loops, scan.actual_loops) == (5, 15)
    assert scan.total_ms == pytest.approx(printed_ms(scan) / 3, rel=0.01)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_subplan_that_the_leader_runs_is_not_divided(version: str) -> None:
    plan = saved(f"{version}-subplan_in_gather")
    subplan = next(n for n in plan.nodes() if n.parent_relationship == "SubPlan")
    assert subplan.total_ms == pytest.approx(printed_ms(subplan), rel=0.01)
    assert one(plan, "Gather").self_ms < subplan.total_ms


def test_what_workers_did_while_the_leader_was_busy_took_no_time() -> None:
    scan = node("Seq Scan", total=6.0, loops=3)
    workers = node("Nested Loop", total=8.0, loops=3, Plans=[scan])
    subplan = node("Aggregate", total=3.0, loops=3, **{"Parent Relationship": "SubPlan"})
    plan = read_json({"Plan": node("Gather", total=10.0, Plans=[workers, subplan])})
    assert [round(n.total_ms or 0, 2) for n in plan.nodes()] == [10, 1, 0.75, 9]
    assert sum(n.self_ms or 0 for n in plan.nodes()) == pytest.approx(10, abs=0.001)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_initplan_ran_in_the_node_that_filters_by_it(version: str) -> None:
    plan = saved(f"{version}-initplan_filter")
    sort, scan = plan.root, one(plan, "Seq Scan")
    initplan = next(n for n in sort.children if n.parent_relationship == "InitPlan")
    assert scan.self_ms == pytest.approx(scan.total_ms - initplan.total_ms, abs=0.002)
    assert sort.self_ms == pytest.approx(sort.total_ms - scan.total_ms, abs=0.002)
    assert scan.self_shared_hit == scan.shared_hit - initplan.shared_hit


@pytest.mark.parametrize("version", VERSIONS)
def test_an_initplan_of_the_output_list_ran_below_the_sort(version: str) -> None:
    plan = saved(f"{version}-initplan_target")
    sort, scan = plan.root, one(plan, "Seq Scan", **{"Relation Name": "orders"})
    initplan = next(n for n in sort.children if n.parent_relationship == "InitPlan")
    assert scan.self_ms == pytest.approx(scan.total_ms - initplan.total_ms, abs=0.002)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_gather_computes_what_its_workers_compare_with(version: str) -> None:
    plan = saved(f"{version}-initplan_parallel")
    initplan, gather = plan.root.children
    assert initplan.parent_relationship == "InitPlan"
    expected = gather.total_ms - gather.children[0].total_ms - initplan.total_ms
    assert gather.self_ms == pytest.approx(expected, abs=0.002)
    assert gather.children[0].children[0].self_ms > 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_cte_ran_in_the_scan_that_pulled_it(version: str) -> None:
    plan = saved(f"{version}-cte_twice")
    cte = next(n for n in plan.nodes() if n.subplan_name == "CTE big")
    first, second = sorted(
        (n for n in plan.nodes() if n.node_type == "CTE Scan"), key=lambda n: -n.total_ms
    )
    assert first.self_ms == pytest.approx(first.total_ms - cte.total_ms, abs=0.002)
    assert second.self_ms == second.total_ms
    join = plan.root
    sorts = [c for c in join.children if c.node_type == "Sort"]
    assert join.self_ms == pytest.approx(join.total_ms - sum(s.total_ms for s in sorts), abs=0.002)


@pytest.mark.parametrize("version", VERSIONS)
def test_ctes_of_one_name_are_told_apart(version: str) -> None:
    plan = saved(f"{version}-cte_same_name")
    outer = next(n for n in plan.root.children if n.subplan_name == "CTE x")
    inner = outer.children[0]
    assert (outer.node_type, inner.subplan_name) == ("CTE Scan", "CTE x")
    assert outer.self_ms == pytest.approx(outer.total_ms - inner.total_ms, abs=0.002)
    scan = next(n for n in plan.root.children if n.node_type == "CTE Scan" and n is not outer)
    assert scan.self_ms == pytest.approx(scan.total_ms - outer.total_ms, abs=0.002)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_never_executed_has_no_figures(version: str) -> None:
    plan = saved(f"{version}-never_executed")
    inner = plan.root.children[1]
    assert not inner.executed
    assert inner.estimate_ratio is None
    assert inner.removed_by_filter == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_triggers_settings_and_planning(version: str) -> None:
    plan = saved(f"{version}-modify_triggers")
    assert [t["Trigger Name"] for t in plan.triggers] == ["after_row", "before_row"]
    assert plan.settings["max_parallel_workers_per_gather"] == "0"
    assert plan.planning_ms is not None
    assert plan.planning_ms > 0
    assert plan.jit is None
    assert plan.root.label == "Update on orders"


def test_jit_is_read_where_the_server_has_it() -> None:
    plan = saved("pg15-jit")
    assert plan.jit is not None
    assert plan.jit["Functions"] > 0


def test_rows_removed_count_all_loops() -> None:
    plan = saved("pg18-parallel_append")
    removed = [n.removed_by_filter for n in plan.nodes() if n.filter]
    assert sum(removed) == pytest.approx(30000 - 21429, abs=3)


def test_estimate_ratio_is_per_loop_and_symmetric() -> None:
    def ratio(estimated: float, actual: float, loops: float = 1) -> float | None:
        document = {"Plan": node(**{"Plan Rows": estimated, "Actual Rows": actual}, loops=loops)}
        return read_json(document).root.estimate_ratio

    assert ratio(100, 1000) == 10
    assert ratio(1000, 100, loops=50) == 10
    assert ratio(1, 0.02, loops=50) == 1
    assert ratio(40, 0) == 40


def test_hot_path_ends_where_the_time_goes() -> None:
    plan = saved("pg18-sort_spill")
    assert [n.node_type for n in plan.hot_path()] == ["Sort"]
    plan = saved("pg18-subplan_correlated")
    assert [n.node_type for n in plan.hot_path()][:2] == ["Seq Scan", "Aggregate"]
    assert plan.parent_of(plan.hot_path()[1]) is plan.root


def test_hot_path_without_execution_follows_cost() -> None:
    cheap, dear = (
        {"Node Type": "Seq Scan", "Total Cost": 5},
        {"Node Type": "Sort", "Total Cost": 90},
    )
    plan = read_json({"Plan": {"Node Type": "Append", "Total Cost": 100, "Plans": [cheap, dear]}})
    assert [n.node_type for n in plan.hot_path()] == ["Append", "Sort"]
    assert not plan.analyzed
    assert plan.self_share(plan.root) == 0


def test_list_object_text_and_bytes_are_the_same_plan() -> None:
    text = (PLANS / "pg18-memoize.json").read_text()
    document = json.loads(text)
    plans = [read_json(d) for d in (text, text.encode(), document, document[0])]
    assert plans[1:] == plans[:-1]


def test_postgresql_12_prints_less() -> None:
    plan = read_json([{"Plan": node("Seq Scan", 2.0), "Planning Time": 0.1, "Execution Time": 2.1}])
    assert (plan.root.shared_hit, plan.triggers, plan.settings) == (0, (), {})
    assert plan.self_share(plan.root) == pytest.approx(2 / 2.1)


def test_timing_off_leaves_rows_and_no_times() -> None:
    raw = node()
    del raw["Actual Total Time"], raw["Actual Startup Time"]
    plan = read_json({"Plan": {**raw, "Plans": [raw]}, "Execution Time": 3.0})
    assert plan.analyzed
    assert (plan.root.total_ms, plan.root.self_ms, plan.root.rows_out) == (None, None, 1)
    assert plan.self_share(plan.root) == 0


def test_auto_explain_has_the_query_and_the_top_node_s_time() -> None:
    plan = read_json({"Query Text": "SELECT 1", "Plan": node(total=4.0)})
    assert (plan.query, plan.execution_ms) == ("SELECT 1", 4.0)
    assert plan.self_share(plan.root) == 1


def test_of_several_plans_the_costliest_is_read() -> None:
    small, large = node("Result"), node("Sort", **{"Total Cost": 7.0})
    assert read_json([{"Plan": small}, {"Plan": large}]).root.node_type == "Sort"


def test_a_million_short_loops_do_not_outgrow_their_parent() -> None:
    inner = node("Index Scan", total=0.001, loops=1_000_000)
    plan = read_json({"Plan": node("Nested Loop", 700.0, Plans=[node("Seq Scan", 100.0), inner])})
    outer, probe = plan.root.children
    assert probe.total_ms == pytest.approx(600)
    assert outer.total_ms == pytest.approx(100, abs=0.001)


def test_a_node_rounded_to_nothing_holds_its_children() -> None:
    scan = node("Index Scan", total=0.002, loops=2000)
    memoize = node("Memoize", total=0.0, loops=24000, Plans=[scan])
    plan = read_json({"Plan": node("Nested Loop", 19.0, Plans=[node("Seq Scan", 5.0), memoize])})
    assert plan.root.children[1].total_ms == pytest.approx(3)
    assert sum(n.self_ms or 0 for n in plan.nodes()) == pytest.approx(19)


def test_a_plan_may_be_very_deep() -> None:
    raw = node("Append", total=1.0)
    for _ in range(3000):
        raw = node("Append", total=1.0, Plans=[raw])
    plan = read_json({"Plan": raw})
    assert sum(1 for _ in plan.nodes()) == 3001


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("", "not EXPLAIN"),
        ("{", "not EXPLAIN"),
        (b"\xff\xfe\x00", "not EXPLAIN"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", 'no "Plan"'),
        ('["Utility Statement"]', 'no "Plan"'),
        (None, 'no "Plan"'),
        (3, 'no "Plan"'),
        ({"Plan": None}, "Node Type"),
        ({"Plan": {"Node Type": 3}}, "Node Type"),
        ({"Plan": {"Node Type": "Sort", "Plans": {"a": 1}}}, "not a list"),
        ({"Plan": {"Node Type": "Sort", "Plans": [1]}}, "Node Type"),
        ({"Plan": {"Node Type": "Sort", "Total Cost": "much"}}, "Total Cost"),
        ({"Plan": {"Node Type": "Sort", "Actual Loops": "many"}}, "Actual Loops"),
        ({"Plan": {"Node Type": "Sort"}, "Settings": []}, None),
        ({"Plan": {"Node Type": "Sort"}, "Settings": [1]}, "Settings"),
        ({"Plan": {"Node Type": "Sort"}, "Execution Time": "long"}, "Execution Time"),
    ],
)
def test_bad_input_is_one_line(document: Any, says: str | None) -> None:
    if says is None:
        assert read_json(document).settings == {}
        return
    with pytest.raises(InputError, match=says) as caught:
        read_json(document)
    assert "\n" not in str(caught.value)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> tuple[dict[str, Any], float]:
    """A node as EXPLAIN would print it, and its true inclusive time over all loops."""
    children = draw(st.lists(trees(depth - 1), max_size=3)) if depth else []
    whole = draw(st.floats(0, 500)) + sum(time for _, time in children)
    loops = draw(st.sampled_from([1, 1, 1, 3, 700, 100_000]))
    printed = node(
        "Nested Loop", round(whole / loops, 3), loops, Plans=[raw for raw, _ in children]
    )
    return printed, whole


@given(trees())
def test_rounding_never_makes_time(tree: tuple[dict[str, Any], float]) -> None:
    raw, whole = tree
    plan = read_json({"Plan": raw})
    own = [n.self_ms or 0 for n in plan.nodes()]
    assert min(own) >= 0
    assert sum(own) == pytest.approx(plan.root.total_ms, abs=1e-6)
    assert abs((plan.root.total_ms or 0) - whole) <= 0.0005 * raw["Actual Loops"] + 1e-6
