"""Where alerts go: a webhook (Slack, Mattermost, or anything that takes JSON), a command.

Sinks block, so they are called in a thread, with a timeout each. Text from a server is escaped for
where it goes; the address of a webhook is a secret and is never shown.
"""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from sqladvisor.finding import SEVERITY_RANK, Severity
from sqladvisor.monitor.alert import Event
from sqladvisor.report.escape import printable

_MARK = {"error": ":red_circle:", "warning": ":large_orange_circle:", "info": ":large_blue_circle:"}


class SinkError(Exception):
    """An alert that was not delivered, and why, in one line."""


class Sink(Protocol):
    """Takes events. ``wants`` says which; ``send`` raises SinkError."""

    def wants(self, event: Event) -> bool: ...

    def send(self, event: Event) -> None: ...


def _wants(severity: Severity, event: Event) -> bool:
    return SEVERITY_RANK[event.severity] >= SEVERITY_RANK[severity]


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A webhook that moves is to be told to us, not followed to whoever says so."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """POSTs JSON: ``text`` is what Slack shows, the other fields are for programs."""

    url: str
    timeout_s: float = 10.0
    severity: Severity = "info"

    def wants(self, event: Event) -> bool:
        return _wants(self.severity, event)

    def send(self, event: Event) -> None:
        request = urllib.request.Request(  # noqa: S310 - http(s) was checked when it was read
            self.url,
            json.dumps(document(event)).encode(),
            {"Content-Type": "application/json", "User-Agent": "sqladvisor"},
        )
        try:
            opener = urllib.request.build_opener(_NoRedirect)
            with opener.open(request, timeout=self.timeout_s) as answer:
                answer.read(1024)
        except urllib.error.HTTPError as error:
            error.close()
            raise SinkError(f"{self}: HTTP {error.code}") from None
        except (OSError, ValueError) as error:
            cause = getattr(error, "reason", None) or error
            raise SinkError(f"{self}: {printable(str(cause))}") from None

    def __str__(self) -> str:
        return f"webhook at {urlsplit(self.url).hostname}"


@dataclass(frozen=True, slots=True)
class CommandSink:
    """Runs a program, without a shell: the event is in SQLADVISOR_ALERT_* of its environment."""

    command: tuple[str, ...]
    timeout_s: float = 10.0
    severity: Severity = "info"

    def wants(self, event: Event) -> bool:
        return _wants(self.severity, event)

    def send(self, event: Event) -> None:
        try:
            done = subprocess.run(
                self.command,
                env={**os.environ, **environment(event)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=self.timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise SinkError(f"{self}: did not end within {self.timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise SinkError(f"{self}: {getattr(error, 'strerror', None) or error}") from None
        if done.returncode:
            raise SinkError(f"{self}: exit code {done.returncode}")

    def __str__(self) -> str:
        return f"command {os.path.basename(self.command[0])}"


def document(event: Event) -> Mapping[str, object]:
    """The event as a webhook gets it."""
    mark = ":white_check_mark:" if event.event == "resolved" else _MARK[event.severity]
    # Slack's own markup: these three are all that must be escaped (docs.slack.dev, formatting).
    text = printable(event.text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {
        "text": f"{mark} {text}",
        "event": event.event,
        "rule": event.rule,
        "severity": event.severity,
        "target": event.target,
        "label": event.label,
        "measure": event.measure,
        "value": event.value,
        "message": event.message,
        "at": event.at,
    }


def environment(event: Event) -> Mapping[str, str]:
    """The event as a command's environment gets it."""
    fields = {
        "EVENT": event.event,
        "RULE": event.rule,
        "SEVERITY": event.severity,
        "TARGET": event.target,
        "LABEL": event.label,
        "MEASURE": event.measure,
        "VALUE": "" if event.value is None else f"{event.value:g}",
        "MESSAGE": event.message,
        "TEXT": event.text,
    }
    return {f"SQLADVISOR_ALERT_{k}": printable(v).replace("\0", "") for k, v in fields.items()}
