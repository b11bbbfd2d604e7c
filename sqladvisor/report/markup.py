"""HTML that cannot be broken out of: text becomes markup only through ``tag``, which escapes it."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from sqladvisor.report.escape import printable

_EMPTY = frozenset(("meta", "rect", "line", "polyline"))
"""Elements without content: those of SVG must be closed, and HTML does not mind."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | Markup | None | Iterable["Child"]


def tag(name: str, /, *children: Child, **attributes: object) -> Markup:
    """An element. Strings are escaped, Markup is kept, None left out, iterables taken apart.

    ``class_`` is class, other underscores are hyphens; an attribute that is None or False is left
    out, one that is True has no value.
    """
    start = f"<{name}{''.join(_attribute(k, v) for k, v in attributes.items())}>"
    if name in _EMPTY:
        return Markup(f"{start[:-1]}/>")
    return Markup(f"{start}{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after another, escaped where they are plain text."""
    return Markup("".join(_child(child) for child in children))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str):
        return escape(printable(child))
    return join(child)


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    shown = name.rstrip("_").replace("_", "-") if name != "viewBox" else name
    return f" {shown}" if value is True else f' {shown}="{escape(printable(str(value)))}"'
