"""Alert rules, their states over time, and the file they are read from."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.errors import InputError
from sqladvisor.monitor.alert import Alert, AlertRule, Alerts, Event
from sqladvisor.monitor.alert_file import read_alerts
from sqladvisor.monitor.duration import said, seconds
from sqladvisor.monitor.family import Row, Sampled, Tick
from sqladvisor.monitor.measure import MEASURES
from sqladvisor.monitor.queries import ACTIVITY, DATABASE, SLOT, TABLE
from sqladvisor.monitor.sink import CommandSink, WebhookSink

RULE = AlertRule("waits", "lock_waiting_sessions", "error", "they wait", above=5, clear=2, for_s=20)


def waiting(at: float, sessions: float | None) -> Tick:
    """A tick in which so many sessions wait for a lock; None: it is not known."""
    if sessions is None:
        return Tick("db", at)
    row = Row(("client backend", "active", "Lock", "relation"), (sessions, 1.0, 1.0))
    return Tick("db", at, {"activity": Sampled(ACTIVITY, 10.0, (row,))})


def play(alerts: Alerts, *values: float | None) -> list[tuple[float, str]]:
    """Ten seconds apart: when something began or ended."""
    events: list[Event] = []
    for n, value in enumerate(values):
        events += alerts.update(waiting(n * 10.0, value))
    return [(e.at, e.event) for e in events]


def test_it_fires_after_its_for_and_not_before() -> None:
    assert play(Alerts([RULE]), 9, 9) == []
    assert play(Alerts([RULE]), 9, 9, 9) == [(20, "firing")]
    assert play(Alerts([RULE]), 9, 9, 1, 9, 9) == []


def test_it_does_not_swing_around_the_threshold() -> None:
    swing = play(Alerts([RULE]), 9, 9, 9, 4, 9, 3, 9, 2, 9)
    assert swing == [(20, "firing"), (70, "resolved")]


def test_it_is_said_once_while_it_lasts() -> None:
    assert play(Alerts([RULE]), *[9] * 20) == [(20, "firing")]


def test_what_is_unknown_changes_nothing() -> None:
    assert play(Alerts([RULE]), 9, None, 9) == [(20, "firing")]
    assert play(Alerts([RULE]), 9, 9, 9, None, None) == [(20, "firing")]


def test_targets_are_apart_and_unreachable_ones_alert() -> None:
    rule = AlertRule("down", "up", "error", "down", below=1)
    alerts = Alerts([rule])
    assert [e.target for e in alerts.update(Tick("a", 0.0, error="x"))] == ["a"]
    assert alerts.update(Tick("b", 0.0)) == []
    assert [(e.target, e.event) for e in alerts.update(Tick("a", 5.0))] == [("a", "resolved")]


def test_an_alert_ends_with_the_object_it_is_about() -> None:
    rule = AlertRule("slot", "inactive_slot_bytes", "error", "kept", above=10)
    alerts = Alerts([rule])

    def slot(at: float, *names: str) -> Tick:
        rows = tuple(Row((name, "physical"), (0.0, 100.0)) for name in names)
        return Tick("db", at, {"slot": Sampled(SLOT, 10.0, rows)})

    assert [e.label for e in alerts.update(slot(0, "a", "b"))] == ["a", "b"]
    ended = alerts.update(slot(10, "b"))
    assert [(e.label, e.event, e.value) for e in ended] == [("a", "resolved", None)]
    assert alerts.update(Tick("db", 20.0)) == []  # not read in this tick


def test_states_go_from_run_to_run() -> None:
    first = Alerts([RULE])
    play(first, 9, 9)
    known = first.of("db")
    assert [a.state for a in known] == ["pending"]
    second = Alerts([RULE], known)
    assert [e.event for e in second.update(waiting(20.0, 9))] == ["firing"]
    other = Alert("db", "no such rule", "", "firing", "error", 0, 0, 1, "")
    assert Alerts([RULE], [other]).forgotten == [other.id]


def test_ratios_say_nothing_where_there_is_little() -> None:
    def database(**columns: float) -> Tick:
        values = tuple(columns.get(c) for c in DATABASE.columns)
        return Tick("db", 0.0, {"database": Sampled(DATABASE, 10.0, (Row((), values),))})

    read = MEASURES["cache_hit_ratio"].read
    assert read(database(blks_hit=900, blks_read=300)) == {"": 0.75}
    assert read(database(blks_hit=9, blks_read=3)) == {}
    assert read(Tick("db", 0.0)) is None
    assert MEASURES["deadlocks_per_min"].read(database(deadlocks=1)) == {"": 6}


def test_dead_rows_are_known_for_tables_that_did_not_change() -> None:
    current = {("public", "t"): (20_000.0, 60_000.0, 0.0), ("public", "small"): (1.0, 9.0, 0.0)}
    tick = Tick("db", 0.0, {"table": Sampled(TABLE, 60.0, (), current=current)})
    assert MEASURES["dead_rows_ratio"].read(tick) == {"public.t": 0.75}


# -- the file ----------------------------------------------------------------------------------


def test_the_built_in_rules_are_valid() -> None:
    rules = {rule.name: rule for rule in read_alerts().rules}
    assert rules["unreachable"].for_s == 30
    assert len(rules) >= 12


def test_a_file_adds_replaces_and_turns_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", "https://hooks.example/secret")
    path = tmp_path / "alerts.toml"
    path.write_text(
        '[[alert]]\nname = "deadlocks"\nmeasure = "deadlocks_per_min"\nabove = 3\nfor = "2m"\n'
        '[[alert]]\nname = "rollbacks"\nenabled = false\n'
        '[[alert]]\nname = "mine"\nmeasure = "statement_mean_ms"\nabove = 250.5\n'
        '[[sink]]\ntype = "webhook"\nurl-env = "HOOK"\nseverity = "error"\ntimeout = "3s"\n'
        '[[sink]]\ntype = "command"\ncommand = ["/usr/bin/page", "me"]\n'
    )
    config = read_alerts(str(path))
    rules = {rule.name: rule for rule in config.rules}
    assert (rules["deadlocks"].above, rules["deadlocks"].for_s) == (3, 120)
    assert "rollbacks" not in rules and rules["mine"].above == 250.5
    assert config.sinks == (
        WebhookSink("https://hooks.example/secret", 3.0, "error"),
        CommandSink(("/usr/bin/page", "me")),
    )
    assert "secret" not in str(config.sinks[0])


@pytest.mark.parametrize(
    ("text", "said_"),
    [
        ("[[alert]]\nmeasure = 'up'", "alert 1: has no name"),
        ("[[alert]]\nname = 'a'\nmeasure = 'ups'\nabove = 1", "unknown measure 'ups'"),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'", "needs either above or below"),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\nbelow = 2", "either above or below"),
        (
            "[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\nclear = 2",
            "clear must not lie beyond",
        ),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = true", "above must be a number"),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\nfor = 'soon'", "for: not a duration"),
        (
            "[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\nseverty = 'x'",
            "unknown key 'severty'",
        ),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\nseverity = 'x'", "severity must be"),
        ("[[alert]]\nname = 'a'\nmeasure = 'up'\nabove = 1\n" * 2, "is there twice"),
        ("[alert]\nname = 'a'", "must be written as [[alert]]"),
        ("alerts = 1", "unknown table 'alerts'"),
        ("[[sink]]\ntype = 'mail'", "type must be"),
        ("[[sink]]\ntype = 'webhook'\nurl = 'file:///etc/passwd'", "needs url"),
        ("[[sink]]\ntype = 'webhook'\nurl-env = 'SQLADVISOR_NOT_SET'", "is not set"),
        ("[[sink]]\ntype = 'command'\ncommand = 'rm -rf /'", "a list of words"),
        ("[[alert", "not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, text: str, said_: str) -> None:
    path = tmp_path / "alerts.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_alerts(str(path))
    message = str(caught.value)
    assert said_ in message and message.startswith(f"{path}: ") and "\n" not in message


def test_durations() -> None:
    given = {"10s": 10, "1.5h": 5400, "14d": 14 * 86400, "250ms": 0.25, "7": 7, "2 min": 120}
    assert {text: seconds(text) for text in given} == given
    assert [said(v) for v in (0.25, 45, 90, 7200, 172800)] == [
        "0.25 s", "45 s", "1.5 min", "2 h", "2 d",
    ]  # fmt: skip
    for wrong in ("", "s", "-1s", "1y", "1e9"):
        with pytest.raises(InputError):
            seconds(wrong)
