"""Alert rules and their states. Pure: a tick goes in, events come out.

A value beyond ``above`` (or ``below``) makes an alert pending; once it has been so for the rule's
``for``, it fires. It is over when the value is back past ``clear``, so that one that swings around
the threshold does not fire again and again. What is unknown in a tick changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sqladvisor.finding import Severity
from sqladvisor.monitor.family import Tick
from sqladvisor.monitor.measure import MEASURES

State = Literal["pending", "firing"]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """When to raise an alert. Exactly one of ``above`` and ``below`` is set."""

    name: str
    measure: str
    severity: Severity
    message: str
    above: float | None = None
    below: float | None = None
    clear: float | None = None
    for_s: float = 0.0

    def beyond(self, value: float) -> bool:
        if self.above is not None:
            return value > self.above
        return self.below is not None and value < self.below

    def over(self, value: float) -> bool:
        """Whether an alert that fires ends at this value."""
        if self.clear is None:
            return not self.beyond(value)
        return value <= self.clear if self.above is not None else value >= self.clear


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule that holds on a target, for a label. ``since``: when its state began (Unix seconds)."""

    target: str
    rule: str
    label: str
    state: State
    severity: Severity
    since: float
    at: float
    value: float
    message: str

    @property
    def id(self) -> tuple[str, str, str]:
        return self.target, self.rule, self.label


@dataclass(frozen=True, slots=True)
class Event:
    """What a sink is told: an alert began or ended. ``value`` is None where its object is gone."""

    at: float
    target: str
    rule: str
    label: str
    event: Literal["firing", "resolved"]
    severity: Severity
    value: float | None
    message: str
    measure: str = ""

    @property
    def text(self) -> str:
        """The event in one line, without time and severity."""
        about = f" [{self.label}]" if self.label else ""
        unit = MEASURES[self.measure].unit if self.measure in MEASURES else ""
        figure = ""
        if self.value is not None:
            figure = " (" + f"{self.measure} = {_short(self.value)} {unit}".rstrip() + ")"
        if self.event == "resolved":
            return f"{self.target}{about}: {self.rule} is over{figure}"
        return f"{self.target}{about}: {self.message}{figure}"


class Alerts:
    """The states of all alerts, and how a tick changes them."""

    def __init__(self, rules: Sequence[AlertRule], known: Sequence[Alert] = ()) -> None:
        """``known``: alerts of an earlier run; those whose rule is gone are forgotten."""
        self.rules = tuple(rules)
        names = {rule.name for rule in rules}
        self._states = {a.id: a for a in known if a.rule in names}
        self.forgotten = [a.id for a in known if a.rule not in names]

    @property
    def firing(self) -> list[Alert]:
        return [a for a in self._states.values() if a.state == "firing"]

    def of(self, target: str) -> list[Alert]:
        """The alerts, pending and firing, of a target."""
        return [a for a in self._states.values() if a.target == target]

    def update(self, tick: Tick) -> list[Event]:
        """Take a tick in; what began and what ended with it."""
        events: list[Event] = []
        for rule in self.rules:
            values = MEASURES[rule.measure].read(tick)
            if values is None:
                continue
            for label, value in values.items():
                events += self._step(rule, tick, label, value)
            for alert in self.of(tick.target):
                if alert.rule == rule.name and alert.label not in values:
                    events += self._end(rule, alert, tick.at, None)
        return events

    def _step(self, rule: AlertRule, tick: Tick, label: str, value: float) -> list[Event]:
        old = self._states.get((tick.target, rule.name, label))
        beyond = rule.beyond(value)
        if old is None:
            if not beyond:
                return []
            old = Alert(
                tick.target, rule.name, label, "pending", rule.severity, tick.at, tick.at, value,
                rule.message,
            )  # fmt: skip
        elif old.state == "firing":
            if rule.over(value):
                return self._end(rule, old, tick.at, value)
        elif not beyond:
            del self._states[old.id]
            return []
        alert = replace(old, at=tick.at, value=value, severity=rule.severity, message=rule.message)
        fires = alert.state == "pending" and tick.at - alert.since >= rule.for_s
        if fires:
            alert = replace(alert, state="firing")
        self._states[alert.id] = alert
        return [_event(rule, alert, tick.at, "firing", value)] if fires else []

    def _end(self, rule: AlertRule, alert: Alert, at: float, value: float | None) -> list[Event]:
        del self._states[alert.id]
        if alert.state != "firing":
            return []
        return [_event(rule, alert, at, "resolved", value)]


def _event(
    rule: AlertRule,
    alert: Alert,
    at: float,
    event: Literal["firing", "resolved"],
    value: float | None,
) -> Event:
    return Event(
        at, alert.target, rule.name, alert.label, event, rule.severity, value, rule.message,
        rule.measure,
    )  # fmt: skip


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def as_row(alert: Alert | Event) -> Mapping[str, object]:
    """The columns that the store keeps of an alert or an event."""
    names = ("target", "rule", "label", "severity", "value", "message", "at")
    row: dict[str, object] = {name: getattr(alert, name) for name in names}
    if isinstance(alert, Alert):
        return row | {"state": alert.state, "since": alert.since}
    return row | {"event": alert.event}
