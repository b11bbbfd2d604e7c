"""Sinks, against a real HTTP server and real programs."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from sqladvisor.monitor.alert import Event
from sqladvisor.monitor.sink import CommandSink, SinkError, WebhookSink

EVENT = Event(
    1.0, "me@db:5432/shop", "dead-rows", "public.<!channel>\x1b[2J", "firing", "warning", 0.75,
    "more dead rows & live ones", "dead_rows_ratio",
)  # fmt: skip


class Hook(HTTPServer):
    """Keeps what it was sent, and answers with ``status`` after ``delay_s``."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, object]]] = []
        self.status, self.delay_s, self.location = 200, 0.0, ""
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/secret"


class _Handler(BaseHTTPRequestHandler):
    server: Hook

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.headers["Content-Type"], json.loads(body)))
        time.sleep(self.server.delay_s)
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hook() -> Iterator[Hook]:
    server = Hook()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_webhook_gets_what_slack_and_programs_read(hook: Hook) -> None:
    WebhookSink(hook.url).send(EVENT)
    kind, body = hook.got[0]
    assert kind == "application/json"
    text = body["text"]
    assert isinstance(text, str) and text.startswith(":large_orange_circle: me@db:5432/shop")
    # No mention, no control character can be smuggled in by a table's name.
    assert "&lt;!channel&gt;" in text and "<" not in text and "\x1b" not in text
    assert "dead rows &amp; live ones" in text and "(dead_rows_ratio = 0.75)" in text
    assert (body["rule"], body["value"], body["event"]) == ("dead-rows", 0.75, "firing")


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_is_an_error_without_the_secret(hook: Hook, status: int) -> None:
    hook.status = status
    with pytest.raises(SinkError) as caught:
        WebhookSink(hook.url).send(EVENT)
    assert f"HTTP {status}" in str(caught.value) and "secret" not in str(caught.value)


def test_a_redirect_is_not_followed(hook: Hook) -> None:
    hook.status, hook.location = 307, "http://127.0.0.1:1/elsewhere"
    with pytest.raises(SinkError, match="HTTP 307"):
        WebhookSink(hook.url).send(EVENT)
    assert len(hook.got) == 1


def test_a_webhook_that_does_not_answer_is_given_up(hook: Hook) -> None:
    hook.delay_s = 1.0
    start = time.monotonic()
    with pytest.raises(SinkError, match="timed out"):
        WebhookSink(hook.url, timeout_s=0.2).send(EVENT)
    assert time.monotonic() - start < 0.9


def test_nobody_there() -> None:
    with pytest.raises(SinkError, match="refused"):
        WebhookSink("http://127.0.0.1:1/").send(EVENT)


def test_a_command_gets_its_environment_and_no_shell(tmp_path: Path) -> None:
    out = tmp_path / "out $(touch oops)"
    code = (
        "import json, os, sys; json.dump({k: v for k, v in os.environ.items() "
        "if k.startswith('SQLADVISOR_ALERT_')}, open(sys.argv[1], 'w'))"
    )
    CommandSink((sys.executable, "-c", code, str(out))).send(EVENT)
    got = json.loads(out.read_text())
    assert got["SQLADVISOR_ALERT_RULE"] == "dead-rows"
    assert got["SQLADVISOR_ALERT_EVENT"] == "firing"
    assert got["SQLADVISOR_ALERT_VALUE"] == "0.75"
    assert got["SQLADVISOR_ALERT_LABEL"] == "public.<!channel>\\x1b[2J"
    assert not os.path.exists("oops")


def test_commands_that_fail_hang_or_are_missing() -> None:
    for command, said in (
        (("false",), "exit code 1"),
        (("sleep", "5"), "did not end within 0.2 s"),
        (("/no/such/program",), "No such file"),
    ):
        with pytest.raises(SinkError, match=said):
            CommandSink(command, timeout_s=0.2).send(EVENT)


def test_severities_are_wanted_from_one_up() -> None:
    assert WebhookSink("http://a", severity="warning").wants(EVENT)
    assert not WebhookSink("http://a", severity="error").wants(EVENT)
