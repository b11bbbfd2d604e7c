"""What stands before every request: the Host, the token, and headers that browsers keep to.

Plain ASGI, because it runs for each of thousands of requests.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, SimpleCookie

from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "sqladvisor"
MIN_TOKEN = 16
"""Characters of a token: shorter ones can be guessed at over a network."""
OPEN_PATHS = frozenset(
    ("/healthz", "/login", "/assets/style.css", "/assets/login.js", "/assets/icon.svg")
)
"""What needs no token: nothing of a database is in it."""

_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Access:
    """Who may ask: by the name the server is called by, and by the token, if there is one."""

    def __init__(self, host: str, token: str | None, names: Iterable[str] = ()) -> None:
        self._token = hashlib.sha256(token.encode()).digest() if token else None
        # The cookie proves that the token was known; it is none, and ends with this process.
        key = secrets.token_bytes(32)
        self.cookie = hmac.new(key, self._token or b"", hashlib.sha256).hexdigest()
        self._names = {n.lower() for n in names} | {"localhost", host.lower()}
        self._local = is_loopback(host)
        if not self._local:
            self._names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    @property
    def needs_token(self) -> bool:
        return self._token is not None

    def knows_host(self, header: str) -> bool:
        """Whether a Host header is one of ours: a page of others that had its name point here

        (DNS rebinding) says its own. An address is nobody's name, but on loopback only its own."""
        name = _without_port(header.lower())
        if name in self._names:
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback or not self._local

    def is_token(self, given: str) -> bool:
        """Compares in constant time."""
        digest = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return self._token is None or hmac.compare_digest(digest, self._token)

    def allows(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request has the token, in its Authorization header, or the cookie."""
        if self._token is None:
            return True
        scheme, _, given = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() == "bearer" and self.is_token(given.strip()):
            return True
        return hmac.compare_digest(
            _cookie(headers).encode("utf-8", "replace"), self.cookie.encode()
        )


def _cookie(headers: Mapping[bytes, bytes]) -> str:
    try:
        found = SimpleCookie(headers.get(b"cookie", b"").decode("latin-1")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address that is listened on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets through what is allowed, and puts the headers on every answer."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        headers = dict(scope["headers"])
        access = self._access
        if not access.knows_host(headers.get(b"host", b"").decode("latin-1")):
            await _refuse(guarded, 421, b"this server is not called that: see --allow-host\n")
        elif scope["path"] in OPEN_PATHS or access.allows(headers):
            await self._app(scope, receive, guarded)
        elif scope["path"] == "/":
            await _refuse(guarded, 303, b"", [(b"location", b"/login")])
        else:
            await _refuse(guarded, 401, b"a token is needed\n", [(b"www-authenticate", b"Bearer")])


async def _refuse(
    send: Send, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()
) -> None:
    start = [(b"content-type", b"text/plain; charset=utf-8"), *headers]
    start.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
