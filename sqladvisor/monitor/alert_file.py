"""Reads alert rules and sinks from TOML. What is wrong is said in one line with the file's name."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqladvisor.errors import InputError
from sqladvisor.finding import SEVERITIES
from sqladvisor.monitor.alert import AlertRule
from sqladvisor.monitor.duration import seconds
from sqladvisor.monitor.measure import MEASURES
from sqladvisor.monitor.sink import CommandSink, Sink, WebhookSink

BUILT_IN = os.path.join(os.path.dirname(__file__), "alerts.toml")
_RULE_KEYS = (
    "name", "measure", "above", "below", "clear", "for", "severity", "message", "enabled",
)  # fmt: skip
_SINK_KEYS = ("type", "url", "url-env", "command", "timeout", "severity")


@dataclass(frozen=True, slots=True)
class AlertConfig:
    """The rules in force and where alerts go, beside standard output."""

    rules: tuple[AlertRule, ...]
    sinks: tuple[Sink, ...] = ()


def read_alerts(path: str | None = None) -> AlertConfig:
    """The built-in rules with those of a file over them. Raises InputError."""
    rules = {name: rule for name, rule in _rules(BUILT_IN, _toml(BUILT_IN)).items() if rule}
    if path is None:
        return AlertConfig(tuple(rules.values()))
    document = _toml(path)
    for key in document:
        if key not in ("alert", "sink"):
            raise InputError(f"{path}: unknown table {key!r} (known: alert, sink)")
    for name, rule in _rules(path, document).items():
        if rule is None:
            rules.pop(name, None)
        else:
            rules[name] = rule
    sinks = tuple(_sink(path, n, s) for n, s in enumerate(_tables(path, document, "sink"), 1))
    return AlertConfig(tuple(rules.values()), sinks)


def _toml(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error


def _tables(path: str, document: Mapping[str, Any], name: str) -> Sequence[dict[str, Any]]:
    found = document.get(name, [])
    if not isinstance(found, list) or not all(isinstance(t, dict) for t in found):
        raise InputError(f"{path}: {name} must be written as [[{name}]]")
    return found


def _rules(path: str, document: Mapping[str, Any]) -> dict[str, AlertRule | None]:
    """Rules by name; None for one that is turned off."""
    rules: dict[str, AlertRule | None] = {}
    for number, table in enumerate(_tables(path, document, "alert"), 1):
        name = table.get("name")
        if not isinstance(name, str) or not name:
            raise InputError(f"{path}: alert {number}: has no name")
        place = f"{path}: alert {name!r}"
        if name in rules:
            raise InputError(f"{place}: is there twice")
        _check_keys(place, table, _RULE_KEYS)
        rules[name] = None if table.get("enabled") is False else _rule(place, name, table)
    return rules


def _rule(place: str, name: str, table: Mapping[str, Any]) -> AlertRule:
    measure = table.get("measure")
    if measure not in MEASURES:
        raise InputError(f"{place}: unknown measure {measure!r} (known: {', '.join(MEASURES)})")
    above, below, clear = (_number(place, table, key) for key in ("above", "below", "clear"))
    if (above is None) == (below is None):
        raise InputError(f"{place}: needs either above or below")
    threshold = above if above is not None else below
    if clear is not None and threshold is not None:
        wrong = clear > threshold if above is not None else clear < threshold
        if wrong:
            side = "above" if above is not None else "below"
            raise InputError(f"{place}: clear must not lie beyond {side}")
    severity = table.get("severity", "warning")
    if severity not in SEVERITIES:
        raise InputError(f"{place}: severity must be one of {', '.join(SEVERITIES)}")
    message = table.get("message", MEASURES[measure].about)
    if not isinstance(message, str):
        raise InputError(f"{place}: message must be a string")
    return AlertRule(
        name, measure, severity, message, above, below, clear, _seconds(place, table, "for", 0.0)
    )


def _sink(path: str, number: int, table: Mapping[str, Any]) -> Sink:
    place = f"{path}: sink {number}"
    _check_keys(place, table, _SINK_KEYS)
    severity = table.get("severity", "info")
    if severity not in SEVERITIES:
        raise InputError(f"{place}: severity must be one of {', '.join(SEVERITIES)}")
    timeout_s = _seconds(place, table, "timeout", 10.0)
    kind = table.get("type")
    if kind == "webhook":
        url = table.get("url")
        if url is None and isinstance(table.get("url-env"), str):
            url = os.environ.get(table["url-env"])
            if not url:
                raise InputError(f"{place}: the environment variable {table['url-env']} is not set")
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            raise InputError(f'{place}: a webhook needs url = "https://…", or url-env')
        return WebhookSink(url, timeout_s, severity)
    if kind == "command":
        command = table.get("command")
        words = isinstance(command, list) and all(isinstance(w, str) for w in command)
        if not words or not command:
            raise InputError(f"{place}: a command is a list of words: no shell reads it")
        return CommandSink(tuple(command), timeout_s, severity)
    raise InputError(f'{place}: type must be "webhook" or "command"')


def _check_keys(place: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise InputError(f"{place}: unknown key {key!r} (known: {', '.join(known)})")


def _number(place: str, table: Mapping[str, Any], key: str) -> float | None:
    value = table.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{place}: {key} must be a number")
    return float(value)


def _seconds(place: str, table: Mapping[str, Any], key: str, default: float) -> float:
    value = table.get(key)
    if value is None:
        return default
    try:
        return seconds(str(value))
    except InputError as error:
        raise InputError(f"{place}: {key}: {error}") from None
