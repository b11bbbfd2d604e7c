"""Differences between readings: never negative, whatever the server did in between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sqladvisor.monitor.delta import difference
from sqladvisor.monitor.family import Family, Raw, Reading

FAMILY = Family(
    "thing", ("name",), ("calls", "ms"), (), {130000: ""}, identity=("role",),
    smooth=frozenset(("ms",)),
)  # fmt: skip
SLOW = Family("slow", ("name",), ("calls",), ("bytes",), {130000: ""}, every_s=60)


def reading(at: float, **rows: tuple[str, float, float]) -> Reading:
    return Reading(at, {(k, "r"): Raw(e, (c, m), ()) for k, (e, c, m) in rows.items()})


def values(before: Reading | None, now: Reading) -> dict[str, tuple[float | None, ...]]:
    return {row.key[0]: row.values for row in difference(FAMILY, before, now).rows}


def test_a_first_reading_has_nothing_to_compare_with() -> None:
    sampled = difference(FAMILY, None, reading(10, a=("", 5, 50)))
    assert sampled.rows == () and sampled.elapsed_s is None


def test_counters_become_differences_and_still_objects_are_left_out() -> None:
    before = reading(10, a=("", 5, 50.0), b=("", 7, 70.0))
    now = reading(20, a=("", 8, 80.0), b=("", 7, 70.0))
    assert values(before, now) == {"a": (3, 30)}
    assert difference(FAMILY, before, now).elapsed_s == 10


def test_a_reset_leaves_what_was_counted_since() -> None:
    before = reading(10, a=("", 5, 50.0))
    sampled = difference(FAMILY, before, reading(20, a=("", 2, 20.0)))
    assert sampled.rows[0].values == (2, 20) and sampled.resets == 1


def test_a_reset_that_was_overtaken_is_known_by_its_epoch() -> None:
    before = reading(10, a=("monday", 5, 50.0))
    sampled = difference(FAMILY, before, reading(20, a=("tuesday", 9, 90.0)))
    assert sampled.rows[0].values == (9, 90) and sampled.resets == 1


def test_a_new_object_began_at_nothing() -> None:
    assert values(reading(10), reading(20, a=("", 4, 40.0))) == {"a": (4, 40)}


def test_rounding_is_no_reset() -> None:
    before = reading(10, a=("", 5, 1e9))
    assert values(before, reading(20, a=("", 6, 1e9 - 10))) == {"a": (1, 0)}


def test_rows_of_one_key_are_added_up() -> None:
    before = Reading(10, {("a", "x"): Raw("", (1, 1.0), ()), ("a", "y"): Raw("", (2, 2.0), ())})
    now = Reading(20, {("a", "x"): Raw("", (4, 4.0), ()), ("a", "y"): Raw("", (4, 4.0), ())})
    assert values(before, now) == {"a": (5, 5)}


def test_sparse_objects_are_kept_when_they_change_and_known_always() -> None:
    first = Reading(0, {("a",): Raw("", (1,), (10,)), ("b",): Raw("", (1,), (20,))})
    then = Reading(60, {("a",): Raw("", (1,), (10,)), ("b",): Raw("", (1,), (30,))})
    assert len(difference(SLOW, None, first).rows) == 2
    sampled = difference(SLOW, first, then)
    assert [row.key for row in sampled.rows] == [("b",)]
    assert sampled.current == {("a",): (10,), ("b",): (30,)}


def test_a_sparse_object_that_is_gone_is_kept_as_unknown() -> None:
    first = Reading(0, {("a",): Raw("", (1,), (10,)), ("b",): Raw("", (1,), (20,))})
    then = Reading(60, {("a",): Raw("", (1,), (10,))})
    sampled = difference(SLOW, first, then)
    assert [(row.key, row.values) for row in sampled.rows] == [(("b",), (None, None))]


_raws = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(st.sampled_from(("", "1", "2")), st.integers(0, 2**60), st.floats(0, 1e15)),
)


@given(_raws, _raws)
def test_no_difference_is_negative_or_more_than_what_is_counted(
    before: dict[str, tuple[str, float, float]], now: dict[str, tuple[str, float, float]]
) -> None:
    found = values(reading(0, **before), reading(1, **now))
    for name, (calls, ms) in found.items():
        assert calls is not None and ms is not None
        assert 0 <= calls <= now[name][1] and 0 <= ms <= now[name][2]
