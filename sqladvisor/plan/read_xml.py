"""Reads EXPLAIN's XML format. Document types, and with them entities, are refused unread."""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

from sqladvisor.plan.read_parts import MAX_DEPTH, Damaged, Properties, typed

# ExplainXMLTag in explain.c turns every character that XML forbids in a name into a hyphen.
_NAMES = {
    "One-Time-Filter": "One-Time Filter",
}
_LISTS = frozenset(
    ("Plans", "Workers", "Triggers", "Target Tables", "Grouping Sets", "Group Keys", "Hash Keys",
     "Output", "Sort Key", "Presorted Key", "Group Key", "Hash Key", "Params Evaluated",
     "Conflict Arbiter Indexes", "Sampling Parameters", "Sort Methods Used")
)  # fmt: skip

_CUT_OFF = tuple(
    expat.errors.codes[message]
    for message in (
        expat.errors.XML_ERROR_NO_ELEMENTS,
        expat.errors.XML_ERROR_UNCLOSED_TOKEN,
        expat.errors.XML_ERROR_PARTIAL_CHAR,
    )
)


def read_xml(text: str, first_line: int) -> list[Properties]:
    """The objects of one ``<explain>`` document: one for each of its queries. Raises Damaged."""
    builder = _Builder(first_line)
    parser = expat.ParserCreate("utf-8")
    builder.parser = parser
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = builder.refuse
    parser.EntityDeclHandler = builder.refuse
    try:
        # In UTF-8 whatever the declaration says: the text is decoded already.
        parser.Parse(text.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        line = first_line + error.lineno - 1
        if error.code in _CUT_OFF:
            raise Damaged(line, "the XML plan breaks off here") from None
        raise Damaged(line, f"not valid XML: {expat.ErrorString(error.code)}") from None
    return builder.queries


class _Element:
    __slots__ = ("above", "children", "line", "name", "text")

    def __init__(self, name: str, above: str, line: int) -> None:
        self.name = name
        self.above = above
        self.line = line
        self.text: list[str] = []
        self.children: list[tuple[str, Any]] = []


class _Builder:
    def __init__(self, first_line: int) -> None:
        self.first_line = first_line
        self.parser: Any = None
        self.stack: list[_Element] = []
        self.queries: list[Properties] = []

    def line(self) -> int:
        return self.first_line + int(self.parser.CurrentLineNumber) - 1

    def refuse(self, *_: Any) -> None:
        raise Damaged(self.line(), "XML with a document type or entities is refused")

    def start(self, tag: str, _: dict[str, str]) -> None:
        if len(self.stack) > 3 * MAX_DEPTH:
            raise Damaged(self.line(), "nested too deeply")
        # The names of settings are kept as they are.
        above = self.stack[-1].name if self.stack else ""
        name = tag if above == "Settings" else _name(tag)
        self.stack.append(_Element(name, above, self.line()))

    def data(self, text: str) -> None:
        if self.stack:
            self.stack[-1].text.append(text)

    def end(self, _: str) -> None:
        element = self.stack.pop()
        value = _value(element)
        if isinstance(value, Properties) and (
            # auto_explain leaves the Query out.
            element.name == "Query" or (element.name == "explain" and "Plan" in value)
        ):
            self.queries.append(value)
        elif self.stack:
            self.stack[-1].children.append((element.name, value))


def _name(tag: str) -> str:
    if tag in _NAMES:
        return _NAMES[tag]
    name = tag.replace("-", " ")
    return name.replace("I O ", "I/O ", 1)


def _value(element: _Element) -> Any:
    if element.name in _LISTS:
        return [value for _, value in element.children]
    if element.children or element.name in ("Settings", "Query"):
        found = Properties(element.line)
        children = element.children
        if element.name == "Incremental Sort Groups":
            children = _sort_spaces(element)
        elif element.name == "Plan":
            children = _sort_groups(element)
        found.update(children)
        return found
    text = "".join(element.text)
    return text if element.above == "Settings" else typed(element.name, text)


def _sort_groups(element: _Element) -> list[tuple[str, Any]]:
    """The children of an Incremental Sort, whose two groups XML does not tell apart: by order."""
    names = iter(("Full-sort Groups", "Pre-sorted Groups"))
    return [
        (next(names, name) if name == "Incremental Sort Groups" else name, value)
        for name, value in element.children
    ]


def _sort_spaces(element: _Element) -> list[tuple[str, Any]]:
    """Likewise their spaces: memory comes first, and is all there is but for external sorts."""
    methods = dict(element.children).get("Sort Methods Used", ())
    external = bool(methods) and all("external" in str(m) for m in methods)
    names = iter(("Sort Space Disk",) if external else ("Sort Space Memory", "Sort Space Disk"))
    return [
        (next(names, name) if name == "Sort Space" else name, value)
        for name, value in element.children
    ]
