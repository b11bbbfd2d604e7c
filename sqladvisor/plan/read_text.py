"""Reads EXPLAIN's text format into the properties that its JSON format has.

The format is ExplainNode's in src/backend/commands/explain.c, of PostgreSQL 12 to 18. What the text
does not say (an inner side's Parent Relationship, the Strategy of an aggregate) follows from the
node's name and place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqladvisor.plan.read_parts import MAX_DEPTH, Damaged, Properties, number, typed


class Line(NamedTuple):
    """A line of the input without what a client put around it, and its number in the file."""

    number: int
    text: str


_FIGURES = re.compile(
    r"(?:\(cost=(?P<startup>[\d.]+)\.\.(?P<total>[\d.]+) rows=(?P<rows>\d+) width=(?P<width>\d+)\))?"
    r" ?(?:\((?:never executed|actual (?:time=(?P<first>[\d.]+)\.\.(?P<last>[\d.]+) )?"
    r"rows=(?P<got>[\d.]+) loops=(?P<loops>[\d.]+))\))?"
)
_FIGURES_START = re.compile(r"\((?:cost=\d|actual (?:time|rows)=|never executed\))")
_ARROW = re.compile(r"->\s+")
_PROPERTY = re.compile(r"([A-Z][\w/-]*(?: [\w/()#-]+){0,6}):(?: +(.*)| *)")
_SUBPLAN = re.compile(r"(?:(?:InitPlan|SubPlan) [^:]+|CTE .+)")
_TARGET_TABLE = re.compile(r"(?:Foreign )?(?:Insert|Update|Delete|Merge) on (.+)")
_WORKER = re.compile(r"Worker (\d+): *(.*)")
_PARTS = re.compile(r"  +(?=[A-Z][\w -]*: )")
_QUOTES = re.compile("['\"]")
_NAME = r'(?:"(?:[^"]|"")*"|[^\s"().][^\s"().]*)'
_TARGET = re.compile(rf" on ({_NAME})(?:\.({_NAME}))?(?: ({_NAME}))?")
_INDEX = re.compile(rf"( Backward)? using ({_NAME})")
_ACTUAL = re.compile(
    r"actual (?:time=(?P<first>[\d.]+)\.\.(?P<last>[\d.]+) )?rows=(?P<got>[\d.]+) loops=(?P<loops>\d+)"
)

# The text's name of a node: its Node Type and what else the name says.
_PLAIN = (
    "Result", "ProjectSet", "Append", "Merge Append", "Recursive Union", "BitmapAnd", "BitmapOr",
    "Seq Scan", "Sample Scan", "Gather", "Gather Merge",
    "Index Scan", "Index Only Scan", "Bitmap Index Scan", "Bitmap Heap Scan", "Tid Scan",
    "Tid Range Scan", "Subquery Scan", "Function Scan", "Table Function Scan", "Values Scan",
    "CTE Scan", "Named Tuplestore Scan", "WorkTable Scan", "Materialize", "Memoize",
    "Sort", "Incremental Sort", "Group", "WindowAgg", "Unique", "LockRows", "Limit", "Hash",
)  # fmt: skip
_KINDS: dict[str, dict[str, Any]] = {
    **{name: {"Node Type": name} for name in _PLAIN},
    **{
        name: {"Node Type": name, "Join Type": "Inner"}
        for name in ("Nested Loop", "Merge Join", "Hash Join")
    },
    "Foreign Scan": {"Node Type": "Foreign Scan", "Operation": "Select"},
    "Aggregate": {"Node Type": "Aggregate", "Strategy": "Plain"},
    "GroupAggregate": {"Node Type": "Aggregate", "Strategy": "Sorted"},
    "HashAggregate": {"Node Type": "Aggregate", "Strategy": "Hashed"},
    "MixedAggregate": {"Node Type": "Aggregate", "Strategy": "Mixed"},
    "SetOp": {"Node Type": "SetOp", "Strategy": "Sorted"},
    "HashSetOp": {"Node Type": "SetOp", "Strategy": "Hashed"},
    **{
        name: {"Node Type": "ModifyTable", "Operation": name}
        for name in ("Insert", "Update", "Delete", "Merge")
    },
    **{
        f"Foreign {name}": {"Node Type": "Foreign Scan", "Operation": name}
        for name in ("Insert", "Update", "Delete")
    },
}
_JOINS = {"Nested Loop": "Nested Loop", "Merge": "Merge Join", "Hash": "Hash Join"}
_JOIN = re.compile(
    r"(Nested Loop|Merge|Hash) (Left|Right|Full|Semi|Anti|Right Semi|Right Anti) Join"
)
_OPERATION = re.compile(r"(?:(?:Parallel|Async|Partial|Finalize) )*")
_SET_COMMAND = re.compile(r" ((?:Intersect|Except)(?: All)?)")
_CUSTOM = re.compile(r"Custom Scan \(([^()]*)\)")
_MOST_WORDS = 3
MAX_CONTINUED = 500
"""Lines an expression's literal may go on for: beyond it a quote is taken for a damaged one."""
MAX_LITERAL = 1 << 20
"""Characters of an expression over several lines."""
MAX_TRIGGER_LINE = 1000
"""Characters: three names of 63 bytes each, quoted, and two figures."""

_OBJECT = {
    "CTE Scan": "CTE Name",
    "WorkTable Scan": "CTE Name",
    "Function Scan": "Function Name",
    "Table Function Scan": "Table Function Name",
    "Named Tuplestore Scan": "Tuplestore Name",
}
_ALIAS_ONLY = ("Subquery Scan", "Values Scan")
_LISTS = frozenset(
    ("Output", "Sort Key", "Presorted Key", "Group Key", "Hash Key", "Params Evaluated",
     "Conflict Arbiter Indexes")
)  # fmt: skip
_MEMBERS = frozenset(("Append", "Merge Append", "BitmapAnd", "BitmapOr"))
_STATEMENT_LEVEL = (
    "Planning", "Planning Time", "Execution Time", "Settings", "Query Identifier", "JIT",
    "Serialization", "Total runtime", "Total Runtime", "Planning time", "Execution time",
)  # fmt: skip
# Beside its own labels, what stands on a line with others is called otherwise than in JSON.
_JOINT = {
    "Sort Method", "Buckets", "Batches", "Planned Partitions", "Hits", "Storage",
    "Full-sort Groups", "Pre-sorted Groups", "Memory Usage", "Estimates",
}  # fmt: skip
_WAL = {"records": "WAL Records", "fpi": "WAL FPI", "bytes": "WAL Bytes",
        "buffers full": "WAL Buffers Full"}  # fmt: skip


@dataclass(slots=True)
class _Open:
    """A node being read: the column of its arrow (its name, for the first) and its children."""

    column: int
    raw: Properties
    children: list[tuple[str | None, Properties]] = field(default_factory=list)


class _Reader:
    def __init__(self, lines: Sequence[Line], start: int) -> None:
        self.lines = lines
        self.at = start
        self.document = Properties(lines[start].number)
        self.stack: list[_Open] = []
        self.nodes: list[_Open] = []
        self.root_column = 0
        self.subplan: tuple[int, str] | None = None
        self.worker: tuple[int, Properties] | None = None
        self.section: Properties | None = None
        self.sets: list[Properties] = []

    def read(self) -> tuple[Properties, int]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            text = line.text.strip()
            if text and not self._take(line, text):
                break
            self.at += 1
        timed = any("Actual Total Time" in opened.raw for opened in self.nodes)
        for opened in self.nodes:
            _relate(opened)
            if timed and opened.raw.get("Actual Loops") == 0:
                opened.raw.update({"Actual Startup Time": 0.0, "Actual Total Time": 0.0})
        self.document["Plan"] = self.nodes[0].raw
        return self.document, self.at

    def _take(self, line: Line, text: str) -> bool:
        """Make something of a line; False when it is not of this plan."""
        column = _column(line.text)
        arrow = _ARROW.match(text)
        if arrow or not self.nodes:
            return self._node(line, column, text[arrow.end() :] if arrow else text, bool(arrow))
        if column <= self.root_column and not _of_statement(text):
            return False
        if _SUBPLAN.fullmatch(text):
            self.subplan = column, text
            self.worker = self.section = None
            return True
        return self._property(line, column, text)

    def _node(self, line: Line, column: int, text: str, arrow: bool) -> bool:
        raw = node_of(text, line.number)
        if not self.nodes:
            self.root_column = column
        # A subplan's own line stands where its parent's properties do; its node further in.
        place = self.subplan[0] if self.subplan else column
        while self.stack and self.stack[-1].column >= place:
            self.stack.pop()
        if self.nodes and not self.stack:
            raise Damaged(
                line.number, "this node stands beside the first one: the plan's indentation is lost"
            )
        if len(self.stack) >= MAX_DEPTH:
            raise Damaged(line.number, "nested too deeply")
        opened = _Open(column, raw)
        if self.stack:
            name = self.subplan[1] if self.subplan else None
            self.stack[-1].children.append((name, raw))
        self.stack.append(opened)
        self.nodes.append(opened)
        self.subplan = self.worker = self.section = None
        self.sets = []
        return True

    def _property(self, line: Line, column: int, text: str) -> bool:
        worker = _WORKER.fullmatch(text)
        if worker:
            self._worker(int(worker[1]), column, worker[2], line)
            return True
        if text.startswith("Trigger ") and len(text) <= MAX_TRIGGER_LINE:
            self.section = None
            self._trigger(text, line)
            return True
        if target := _TARGET_TABLE.fullmatch(text):
            table = Properties(line.number)
            _target(f" on {target[1]}", "ModifyTable", table)
            self.nodes[-1].raw.setdefault("Target Tables", []).append(table)
            return True
        match = _PROPERTY.fullmatch(text)
        if match is None:
            return False
        label, value = match[1], self._whole(match[2] or "")
        if (label in _STATEMENT_LEVEL and column <= self.root_column + 2) or label == "JIT":
            self._statement(label, value, line)
        elif self.section is not None and column > self.root_column:
            _section(self.section, label, value)
        elif self.worker and column > self.worker[0]:
            self._set(self.worker[1], label, value, line)
        else:
            self.worker = None
            self._set(self.nodes[-1].raw, label, value, line)
        return True

    def _whole(self, value: str) -> str:
        """The value with the lines it goes on: a literal in an expression may hold newlines."""
        quote = _open_quote(value)
        if not quote:
            return value
        parts = [value]
        length = len(value)
        last = min(len(self.lines), self.at + 1 + MAX_CONTINUED)
        for ahead in range(self.at + 1, last):
            following = self.lines[ahead].text
            length += len(following)
            if length > MAX_LITERAL or is_node(following):
                break
            parts.append(following)
            quote = _open_quote(following, quote)
            if not quote:
                self.at = ahead
                return "\n".join(parts)
        return value

    def _set(self, raw: Properties, label: str, value: str, line: Line) -> None:
        if label in ("Group Key", "Hash Key") or (label == "Sort Key" and self.sets):
            self._grouping(raw, label, _items(value), line)
        elif label in _LISTS:
            raw[label] = _items(value)
        elif label in _JOINT:
            _joint(raw, f"{label}: {value}", line)
        elif setter := _SPECIAL.get(label):
            setter(raw, value)
        else:
            raw[label] = typed(label, value)

    def _grouping(self, raw: Properties, label: str, keys: list[str], line: Line) -> None:
        """Key lines: one Group Key is a property; several keys are Grouping Sets."""
        keys = [] if keys == ["()"] else keys
        plural = f"{label}s"
        last = self.sets[-1] if self.sets else None
        if label == "Sort Key":
            self.sets.append(Properties(line.number))
            self.sets[-1][label] = keys
        elif label == "Group Key" and last is not None and "Hash Keys" not in last:
            last.setdefault(plural, []).append(keys)
        else:
            self.sets.append(Properties(line.number))
            self.sets[-1][plural] = [keys]
        if label == "Group Key" and len(self.sets) == 1 and len(self.sets[0][plural]) == 1 and keys:
            raw["Group Key"] = keys
        else:
            raw.pop("Group Key", None)
            raw["Grouping Sets"] = self.sets

    def _worker(self, number_: int, column: int, text: str, line: Line) -> None:
        workers = self.nodes[-1].raw.setdefault("Workers", [])
        worker = next((w for w in workers if w["Worker Number"] == number_), None)
        if worker is None:
            worker = Properties(line.number)
            worker["Worker Number"] = number_
            workers.append(worker)
        self.worker = column, worker
        actual = _ACTUAL.fullmatch(text)
        if actual:
            _actual(worker, actual)
        elif match := _PROPERTY.fullmatch(text):
            self._set(worker, match[1], match[2] or "", line)

    def _statement(self, label: str, value: str, line: Line) -> None:
        self.worker = None
        self.section = None
        if label in ("Planning", "JIT"):
            self.section = Properties(line.number)
            self.document[label] = self.section
        elif label == "Settings":
            self.document[label] = dict(re.findall(r"([^\s=,]+) = '(.*?)'(?:, |$)", value))
        elif label.lower().endswith((" time", " runtime")):
            figure = number(value.removesuffix(" ms"))
            if figure is None:
                raise Damaged(line.number, f"{label} is no time in ms: {value[:40]!r}")
            name = "Planning Time" if label.startswith("Planning") else "Execution Time"
            self.document[name] = figure
        elif label == "Serialization":
            self.document[label] = dict(_pairs(value))
        else:
            self.document[label] = typed(label, value)

    def _trigger(self, text: str, line: Line) -> None:
        match = re.fullmatch(
            r"Trigger(?: (?!for constraint )(?P<name>.+?))?(?: for constraint (?P<constraint>.+?))?"
            r"(?: on (?P<relation>.+?))?: (?:time=(?P<time>[\d.]+) )?calls=(?P<calls>[\d.]+)",
            text,
        )
        if match is None:
            raise Damaged(line.number, f"not a trigger's figures: {text[:60]!r}")
        trigger = Properties(line.number)
        for key, group in (("Trigger Name", "name"), ("Constraint Name", "constraint"),
                           ("Relation", "relation")):  # fmt: skip
            if match[group]:
                trigger[key] = match[group]
        if match["time"]:
            trigger["Time"] = _figure(match["time"])
        trigger["Calls"] = _figure(match["calls"])
        self.document.setdefault("Triggers", []).append(trigger)


def read_text(lines: Sequence[Line], start: int) -> tuple[Properties, int]:
    """The plan whose first node is on ``lines[start]``, as in the JSON format, and where it ends.

    Raises Damaged where a line of it makes no sense.
    """
    return _Reader(lines, start).read()


def starts_plan(lines: Sequence[Line], at: int) -> bool:
    """Whether a line is the first node of a text plan.

    Without figures (COSTS OFF) it takes a known node's name alone, and a second line of a plan.
    """
    text = lines[at].text.strip()
    text = _ARROW.sub("", text, count=1) if text.startswith("->") else text
    figures = _FIGURES_START.search(text)
    if figures:
        return text[:1].isupper() and (known(text[: figures.start()]) or is_node(text))
    if not known(text):
        return False
    for following in lines[at + 1 : at + 4]:
        stripped = following.text.strip()
        if stripped:
            deeper = _column(following.text) > _column(lines[at].text)
            return deeper and bool(
                _ARROW.match(stripped)
                or _PROPERTY.fullmatch(stripped)
                or _SUBPLAN.fullmatch(stripped)
                or _TARGET_TABLE.fullmatch(stripped)
            )
    around, middle = lines[max(0, at - 5) : at + 5], min(at, 5)
    return " on " in text and not any(
        line.text.strip() for i, line in enumerate(around) if i != middle
    )


def is_node(text: str) -> bool:
    """Whether a line ends in a node's figures, complete."""
    figures = _FIGURES_START.search(text)
    return figures is not None and _FIGURES.fullmatch(text[figures.start() :].rstrip()) is not None


def known(head: str) -> bool:
    """Whether a text is the name of a plan node with what it works on, and no more."""
    return _head(head.rstrip(), Properties())


def node_of(text: str, line: int) -> Properties:
    """A node's own line, without the arrow. Raises Damaged."""
    raw = Properties(line)
    figures = _FIGURES_START.search(text)
    head = text[: figures.start()] if figures else text
    if not _head(head.rstrip(), raw):
        # An extension's node, or a newer PostgreSQL's: the name alone.
        raw.clear()
        raw["Node Type"] = head.strip()
    if figures:
        match = _FIGURES.fullmatch(text[figures.start() :].strip())
        if match is None:
            raise Damaged(
                line, f"a node's figures break off: {text[figures.start() :].strip()[:60]!r}"
            )
        _estimates(raw, match)
    raw.setdefault("Node Type", "")
    if not raw["Node Type"]:
        raise Damaged(line, "a node without a name")
    return raw


def _estimates(raw: Properties, match: re.Match[str]) -> None:
    if match["total"]:
        raw["Startup Cost"] = _figure(match["startup"])
        raw["Total Cost"] = _figure(match["total"])
        raw["Plan Rows"] = _figure(match["rows"])
        raw["Plan Width"] = _figure(match["width"])
    if match["loops"]:
        _actual(raw, match)
    elif "never executed" in match[0]:
        raw.update({"Actual Rows": 0, "Actual Loops": 0})


def _actual(raw: Properties, match: re.Match[str]) -> None:
    if match["first"]:
        raw["Actual Startup Time"] = _figure(match["first"])
        raw["Actual Total Time"] = _figure(match["last"])
    raw["Actual Rows"] = _figure(match["got"])
    raw["Actual Loops"] = _figure(match["loops"])


def _head(head: str, raw: Properties) -> bool:
    """Read ``Parallel Index Scan using i on s.t a`` into properties; False if it is none."""
    match = _OPERATION.match(head)
    prefixes = match[0].split() if match else []
    rest = head[match.end() :] if match else head
    raw["Parallel Aware"] = "Parallel" in prefixes
    if "Async" in prefixes:
        raw["Async Capable"] = True
    after = _kind(rest, raw)
    if after is None:
        return False
    rest = after
    if raw["Node Type"] == "Aggregate":
        mode = [p for p in prefixes if p in ("Partial", "Finalize")]
        raw["Partial Mode"] = mode[0] if mode else "Simple"
    if raw["Node Type"] == "SetOp" and (command := _SET_COMMAND.match(rest)):
        raw["Command"] = command[1]
        rest = rest[command.end() :]
    if "Index" in raw["Node Type"] and (index := _INDEX.match(rest)):
        raw["Scan Direction"] = "Backward" if index[1] else "Forward"
        raw["Index Name"] = _unquoted(index[2])
        rest = rest[index.end() :]
    return not rest or _target(rest, raw["Node Type"], raw)


def _kind(text: str, raw: Properties) -> str | None:
    """Set what the operation's name says; the text after it, None where no name is known."""
    if join := _JOIN.match(text):
        raw.update({"Node Type": _JOINS[join[1]], "Join Type": join[2]})
        return text[join.end() :]
    if custom := _CUSTOM.match(text):
        raw.update({"Node Type": "Custom Scan", "Custom Plan Provider": custom[1]})
        return text[custom.end() :]
    words = text.split(" ", _MOST_WORDS)[:_MOST_WORDS]
    while words:
        name = " ".join(words)
        if name in _KINDS:
            raw.update(_KINDS[name])
            return text[len(name) :]
        words.pop()
    return None


def _target(text: str, node_type: str, raw: Properties) -> bool:
    match = _TARGET.fullmatch(text)
    if match is None:
        return False
    first, second, alias = (_unquoted(g) if g else None for g in match.groups())
    name, schema = (second, first) if second else (first, None)
    if node_type == "Bitmap Index Scan":
        raw["Index Name"] = name
        return True
    if node_type in _ALIAS_ONLY:
        raw["Alias"] = name
        return True
    raw[_OBJECT.get(node_type, "Relation Name")] = name
    if schema:
        raw["Schema"] = schema
    raw["Alias"] = alias or name
    return True


def _relate(opened: _Open) -> None:
    """Give the children of a node their Parent Relationship, as ExplainPreScan's callers do."""
    plain = 0
    for name, child in opened.children:
        if name is not None:
            child["Parent Relationship"] = "SubPlan" if name.startswith("SubPlan") else "InitPlan"
            child["Subplan Name"] = name
            continue
        kind = opened.raw["Node Type"]
        if kind in _MEMBERS:
            relationship = "Member"
        elif kind == "Subquery Scan":
            relationship = "Subquery"
        else:
            relationship = "Inner" if plain else "Outer"
        child["Parent Relationship"] = "child" if kind == "Custom Scan" else relationship
        plain += 1
    if opened.children:
        opened.raw["Plans"] = [child for _, child in opened.children]


def _buffers(raw: Properties, value: str) -> None:
    for group in value.split(", "):
        kind, _, counts = group.strip().partition(" ")
        for name, figure in re.findall(r"(\w+)=(\d+)", counts):
            raw[f"{kind.title()} {name.title()} Blocks"] = int(figure)


def _io(raw: Properties, value: str) -> None:
    # Before 15 without a kind; 15 and 16 say shared/local, whose names in JSON are the old ones.
    kinds = {"shared/local": "", "": "", "shared": "Shared ", "local": "Local ", "temp": "Temp "}
    for group in value.split(", "):
        kind = group.strip().partition(" ")[0] if "=" not in group.strip().partition(" ")[0] else ""
        for name, figure in re.findall(r"(\w+)=([\d.]+)", group):
            raw[f"{kinds.get(kind, '')}I/O {name.title()} Time"] = _figure(figure)


def _wal(raw: Properties, value: str) -> None:
    for name, figure in re.findall(r"([a-z ]+)=(\d+)", value):
        if name.strip() in _WAL:
            raw[_WAL[name.strip()]] = int(figure)


def _heap_blocks(raw: Properties, value: str) -> None:
    raw.update({"Exact Heap Blocks": 0, "Lossy Heap Blocks": 0})
    for name, figure in re.findall(r"(exact|lossy)=(\d+)", value):
        raw[f"{name.title()} Heap Blocks"] = int(figure)


def _merged(raw: Properties, value: str) -> None:
    for name, figure in re.findall(r"(\w+)=([\d.]+)", value):
        raw[f"Tuples {name.title()}"] = _figure(figure)


def _sampling(raw: Properties, value: str) -> None:
    match = re.fullmatch(r"(.+?) \((.*?)\)(?: REPEATABLE \((.*)\))?", value)
    if match is None:
        raw["Sampling Method"] = value
        return
    raw["Sampling Method"] = match[1]
    raw["Sampling Parameters"] = _items(match[2])
    if match[3]:
        raw["Repeatable Seed"] = match[3]


_SPECIAL: dict[str, Callable[[Properties, str], None]] = {
    "Buffers": _buffers,
    "I/O Timings": _io,
    "WAL": _wal,
    "Heap Blocks": _heap_blocks,
    "Tuples": _merged,
    "Sampling": _sampling,
}


def _joint(raw: Properties, text: str, line: Line) -> None:
    """Several figures on one line: ``Sort Method: quicksort  Memory: 25kB``."""
    parts = dict(p.split(": ", 1) for p in _PARTS.split(text) if ": " in p)
    group = next((g for g in ("Full-sort Groups", "Pre-sorted Groups") if g in parts), None)
    if group:
        raw[group] = _sort_groups(parts, group, line)
        return
    if "Sort Method" in parts:
        raw["Sort Method"] = parts["Sort Method"]
        for kind in ("Memory", "Disk"):
            if kind in parts:
                raw["Sort Space Used"], raw["Sort Space Type"] = _kilobytes(parts[kind]), kind
    if "Buckets" in parts:
        for name in ("Buckets", "Batches"):
            now, _, before = parts.get(name, "0").partition(" (originally ")
            raw[f"Hash {name}"] = _kilobytes(now)
            raw[f"Original Hash {name}"] = _kilobytes(before.rstrip(")") or now)
    elif "Batches" in parts:
        raw["HashAgg Batches"] = _kilobytes(parts["Batches"])
    for name, key in (
        ("Planned Partitions", "Planned Partitions"),
        ("Disk Usage", "Disk Usage"),
        ("Memory Usage", "Peak Memory Usage"),
        ("Hits", "Cache Hits"),
        ("Misses", "Cache Misses"),
        ("Evictions", "Cache Evictions"),
        ("Overflows", "Cache Overflows"),
        ("Maximum Storage", "Maximum Storage"),
    ):
        if name in parts:
            raw[key] = _kilobytes(parts[name])
    if "Storage" in parts:
        raw["Storage"] = parts["Storage"]


def _sort_groups(parts: dict[str, str], group: str, line: Line) -> Properties:
    found = Properties(line.number)
    found["Group Count"] = _kilobytes(parts[group])
    methods = parts.get("Sort Method") or parts.get("Sort Methods") or ""
    found["Sort Methods Used"] = [m.strip() for m in methods.split(",") if m.strip()]
    for kind in ("Memory", "Disk"):
        if f"Peak {kind}" in parts:
            space = Properties(line.number)
            space["Average Sort Space Used"] = _kilobytes(parts.get(f"Average {kind}", "0"))
            space["Peak Sort Space Used"] = _kilobytes(parts[f"Peak {kind}"])
            found[f"Sort Space {kind}"] = space
    return found


def _section(section: Properties, label: str, value: str) -> None:
    """A line below ``Planning:`` or ``JIT:``."""
    if label == "Buffers":
        _buffers(section, value)
    elif label == "I/O Timings":
        _io(section, value)
    elif label == "Memory":
        for name, figure in re.findall(r"(used|allocated)=(\d+)", value):
            section[f"Memory {name.title()}"] = int(figure)
    elif label == "Options":
        section[label] = {k: v == "true" for k, v in re.findall(r"(\w+) (true|false)", value)}
    elif label == "Timing":
        section[label] = _jit_timing(value)
    else:
        section[label] = typed(label, value)


def _jit_timing(value: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, figure, deform in re.findall(r"(\w+) ([\d.]+) ms(?: \(Deform ([\d.]+) ms\))?", value):
        total = _figure(figure)
        found[name] = {"Deform": _figure(deform), "Total": total} if deform else total
    return found


def _pairs(value: str) -> Iterator[tuple[str, Any]]:
    names = {"time": "Time", "output": "Output Volume", "format": "Format"}
    for name, figure in re.findall(r"(\w+)=(\S+?)(?: ms|kB)?(?=  |$)", value):
        yield names.get(name, name), typed(names.get(name, name), figure)


def _items(value: str) -> list[str]:
    """``a, f(b, c), 'd, e'`` as its three items."""
    items: list[str] = []
    start = depth = 0
    quote = ""
    for i, char in enumerate(value):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([":
            depth += 1
        elif char in ")]":
            depth -= 1
        elif char == "," and depth <= 0 and value[i + 1 : i + 2] == " ":
            items.append(value[start:i].strip())
            start = i + 1
    items.append(value[start:].strip())
    return items


def _open_quote(value: str, quote: str = "") -> str:
    """The quote that an expression opens and does not close, "" if none; ``quote``: open before."""
    for char in _QUOTES.findall(value):
        if not quote:
            quote = char
        elif char == quote:
            quote = ""
    return quote


def _of_statement(text: str) -> bool:
    """Whether a line is one that EXPLAIN prints below the tree, at its margin."""
    if text.startswith("Trigger ") and len(text) <= MAX_TRIGGER_LINE:
        return bool(re.search(r": (?:time=[\d.]+ )?calls=\d", text))
    return text.partition(":")[0] in _STATEMENT_LEVEL and ":" in text


def _column(text: str) -> int:
    return len(text) - len(text.lstrip())


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') and len(name) > 1 else name


def _figure(text: str) -> int | float:
    value = number(text)
    return 0 if value is None else value


def _kilobytes(text: str) -> int | float:
    """``25kB`` as 25, and plain counts."""
    match = re.match(r"[\d.]+", text)
    return _figure(match[0]) if match else 0
