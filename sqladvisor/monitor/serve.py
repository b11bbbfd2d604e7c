"""The page, the JSON API and the metrics of a store, over HTTP.

    /                       the page                /metrics    for Prometheus
    /api/overview           targets and alerts      /healthz    "ok", without a token
    /api/target?name=&window=15m|1h|6h|24h|7d       /login      a token for a cookie

Answers come from ``snapshots``. It listens on loopback unless told, and elsewhere only with a token.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sqladvisor.command import guarded
from sqladvisor.errors import InputError
from sqladvisor.monitor.guard import COOKIE, MIN_TOKEN, Access, Guard, is_loopback
from sqladvisor.monitor.snapshots import Snapshots
from sqladvisor.monitor.store import default_path
from sqladvisor.monitor.view import WINDOWS

TOKEN_VARIABLE = "SQLADVISOR_TOKEN"  # noqa: S105 - a name
MAX_LOGIN_BYTES = 4096
LOGIN_PAUSE_S = 0.5
"""What a wrong token costs: guessing goes no faster than this, a connection at a time."""
MAX_CONNECTIONS = 512
_TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html", "svg": "image/svg+xml"}


def run_serve(
    *, store: str | None, host: str, port: int, token: str | None, names: Sequence[str], quiet: bool
) -> int:
    """Serve until interrupted."""

    def job() -> int:
        import uvicorn

        secret = token or os.environ.get(TOKEN_VARIABLE) or None
        check_access(host, secret)
        snapshots = Snapshots(store or default_path())
        listening = listen(host, port)
        app = make_app(snapshots, Access(host, secret, names))
        config = uvicorn.Config(
            app, log_level="error", access_log=False, server_header=False, lifespan="off",
            limit_concurrency=MAX_CONNECTIONS, timeout_keep_alive=30, ws="none",
        )  # fmt: skip
        if not quiet:
            import sys

            at = listening.getsockname()
            shown = f"[{at[0]}]" if ":" in at[0] else at[0]
            sys.stderr.write(f"http://{shown}:{at[1]}/ (Ctrl-C ends it)\n")
            sys.stderr.flush()
        try:
            uvicorn.Server(config).run(sockets=[listening])
        except KeyboardInterrupt:
            return 0  # uvicorn has shut down, and says again what it was told by
        finally:
            listening.close()
            snapshots.close()
        return 0

    return guarded(job)


def check_access(host: str, token: str | None) -> None:
    """Raises InputError where others could read what they should not."""
    if token is not None and len(token) < MIN_TOKEN:
        raise InputError(f"the token is too short: {MIN_TOKEN} characters or more")
    if not is_loopback(host) and token is None:
        raise InputError(
            f"{host} can be reached from other machines: give a token ({TOKEN_VARIABLE} in the "
            "environment, or --token)"
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InputError where the address cannot be had."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(f"{host}: {error.strerror or error}") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise InputError(f"{host}:{port}: {error.strerror or error}") from None
    return listening


def make_app(snapshots: Snapshots, access: Access) -> Guard:
    """The ASGI application."""

    async def overview(request: Request) -> Response:
        return Response(await snapshots.overview(), media_type="application/json")

    async def target(request: Request) -> Response:
        name = request.query_params.get("name", "")
        window = request.query_params.get("window", "1h")
        if window not in WINDOWS:
            return PlainTextResponse(f"window is one of {', '.join(WINDOWS)}\n", 400)
        body = await snapshots.detail(name, window)
        if not body:
            return PlainTextResponse("no such target\n", 404)
        return Response(body, media_type="application/json")

    async def metrics(request: Request) -> Response:
        body = await snapshots.metrics()
        return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def page(request: Request) -> Response:
        return _asset("index.html")

    async def asset(request: Request) -> Response:
        return _asset(request.path_params["name"])

    async def login(request: Request) -> Response:
        if request.method != "POST":
            return _asset("login.html")
        given = await _form_token(request)
        if not access.is_token(given):
            await asyncio.sleep(LOGIN_PAUSE_S)
            return RedirectResponse("/login?wrong", 303)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, access.cookie, httponly=True, samesite="strict",
            secure=request.headers.get("x-forwarded-proto") == "https",
        )  # fmt: skip
        return answer

    routes = [
        Route("/", page),
        Route("/api/overview", overview),
        Route("/api/target", target),
        Route("/metrics", metrics),
        Route("/healthz", health),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/assets/{name}", asset),
    ]
    return Guard(Starlette(routes=routes), access)


async def _form_token(request: Request) -> str:
    """The token of a login form; "" for a body that is none, or too long."""
    from urllib.parse import parse_qs

    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_LOGIN_BYTES:
            return ""
    return parse_qs(body.decode("latin-1")).get("token", [""])[0]


@cache
def _assets() -> dict[str, bytes]:
    folder = files("sqladvisor.monitor") / "assets"
    return {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}


def _asset(name: str) -> Response:
    body = _assets().get(name)
    if body is None:
        return PlainTextResponse("no such page\n", 404)
    return Response(body, media_type=_TYPES[name.rpartition(".")[2]])
