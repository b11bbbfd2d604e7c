"""The ``monitor`` command: everything between parsed arguments and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

from sqladvisor.command import guarded
from sqladvisor.errors import InputError
from sqladvisor.monitor.alert_file import read_alerts
from sqladvisor.monitor.duration import seconds
from sqladvisor.monitor.store import Store, default_path
from sqladvisor.monitor.watch import Outcome, Settings, Watch, check_targets
from sqladvisor.report.escape import printable
from sqladvisor.server.connect import check_dsn, resolve_dsn

MIN_INTERVAL_S = 1.0
EXIT_ALERTS = 1
EXIT_UNREACHABLE = 2


def run_monitor(
    dsns: Sequence[str],
    *,
    dsn_file: str | None,
    interval: str,
    store: str | None,
    once: bool,
    retention: str,
    alerts: str | None,
    plans: str | None,
    findings: str,
    quiet: bool,
) -> int:
    """Monitor until interrupted (exit code 0), or once: 1 where an alert fires, 2 unreachable."""

    def job() -> int:
        settings = Settings(
            _at_least(interval, "--interval", MIN_INTERVAL_S),
            _at_least(retention, "--retention", 60.0),
            _at_least(plans, "--plans", MIN_INTERVAL_S) if plans else 0.0,
            0.0 if findings == "never" else _at_least(findings, "--findings", MIN_INTERVAL_S),
        )
        config = read_alerts(alerts)
        targets = [*dsns, *(_listed(dsn_file) if dsn_file else ())]
        if not targets:
            targets = [resolve_dsn(None)]
        for dsn in targets:
            check_dsn(dsn)
        check_targets(targets)
        with Store(store or default_path(), write=True) as opened:
            note = _quiet if quiet else _note
            if once:
                return _code(
                    asyncio.run(Watch(targets, opened, config, settings, _say, note).once())
                )
            note(
                f"{len(targets)} database{'s' * (len(targets) != 1)} every {interval}, "
                f"kept in {opened.path}"
            )
            asyncio.run(_until_told(Watch(targets, opened, config, settings, _say, note)))
        return 0

    return guarded(job)


async def _until_told(watch: Watch) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, RuntimeError):
            loop.add_signal_handler(number, stop.set)
    await watch.run(stop)


def _code(outcome: Outcome) -> int:
    for alert in outcome.firing:
        about = f" [{alert.label}]" if alert.label else ""
        _say(f"{alert.severity}: {alert.target}{about}: {alert.rule}: {alert.message}")
    if outcome.unreachable:
        return EXIT_UNREACHABLE
    return EXIT_ALERTS if outcome.firing else 0


def _listed(path: str) -> list[str]:
    """DSNs of a file, one a line; blank lines and those that begin with # are left out."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file]
    except UnicodeDecodeError:
        raise InputError(f"{path}: is not UTF-8") from None
    return [line for line in lines if line and not line.startswith("#")]


def _at_least(text: str, option: str, least: float) -> float:
    try:
        value = seconds(text)
    except InputError as error:
        raise InputError(f"{option}: {error}") from None
    if value < least:
        raise InputError(f"{option}: at least {least:g} s, not {text}")
    return value


def _say(text: str) -> None:
    sys.stdout.write(printable(text).replace("\n", " ") + "\n")
    sys.stdout.flush()


def _note(text: str) -> None:
    sys.stderr.write(printable(text).replace("\n", " ") + "\n")
    sys.stderr.flush()


def _quiet(_: str) -> None:
    """--quiet: alerts only."""
