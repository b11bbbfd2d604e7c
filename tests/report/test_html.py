"""The HTML report: everything is in it, nothing gets out of it, and a browser draws it."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from needs import chromium

from sqladvisor.auditor import Options, audit
from sqladvisor.explainer import explain
from sqladvisor.finding import Evidence, Finding, Fix, InputProblem, Location
from sqladvisor.report.html import render
from sqladvisor.report.markup import Markup, join, tag
from sqladvisor.report.model import Report

HOSTILE = (
    "</style></pre><script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&\x1b[2J"
)
ROOT = Path(__file__).parents[2]

_OPEN = ("meta",)


class Strict(HTMLParser):
    """Reads a document as it must be written: every element closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((name, dict(attrs)))
        if name not in _OPEN:
            self.stack.append(name)

    def handle_startendtag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((name, dict(attrs)))

    def handle_endtag(self, name: str) -> None:
        assert self.stack and self.stack.pop() == name, name

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Strict:
    parser = Strict()
    parser.feed(page)
    parser.close()
    assert parser.stack == []
    return parser


def check(page: str) -> Strict:
    """What holds for every report."""
    parser = read(page)
    names = {name for name, _ in parser.seen}
    assert not names & {"script", "img", "link", "iframe", "object", "form", "base"}
    for name, attributes in parser.seen:
        assert "style" not in attributes, name
        assert not any(a.startswith("on") for a in attributes), name
        link = attributes.get("href")
        assert link is None or link.startswith("#"), link
    ids = [a["id"] for _, a in parser.seen if "id" in a]
    assert len(ids) == len(set(ids))
    policy = next(a["content"] for n, a in parser.seen if a.get("http-equiv"))
    style = re.search(r"<style>(.*?)</style>", page, re.S)
    assert style and policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy and policy.startswith("default-src 'none'")
    assert "http:" not in page and "https:" not in style[1] and "url(" not in style[1]
    return parser


def finding(severity: Any = "warning", line: int = 1, **figures: Any) -> Finding:
    return Finding(
        rule="query/x", severity=severity, message=HOSTILE,
        location=Location("a.sql", line, 8, line, 12), statement="SELECT", fingerprint="f",
        evidence=Evidence("measured", figures, (HOSTILE,)),
        fixes=(Fix(HOSTILE, HOSTILE, changes_result=HOSTILE, proof={"note": HOSTILE}),),
    )  # fmt: skip


def hostile() -> Report:
    return Report(
        command="audit",
        findings=(
            finding("info", 1), finding("error", 2),
            finding("warning", 3, time_before_ms=90.0, time_after_ms=3.0, name=HOSTILE),
            finding("warning", 2, time_before_ms=900.0, time_after_ms=3.0),
        ),
        problems=(InputProblem(HOSTILE, HOSTILE, 3),),
        files=1, statements=3, server=HOSTILE, notes=(HOSTILE,),
        texts={"a.sql": f"SELECT {HOSTILE}\r\nSELECT abcdefghijk\nSELECT {'x' * 500}"},
    )  # fmt: skip


def test_nothing_breaks_out() -> None:
    page = render(hostile())
    parser = check(page)
    text = "".join(parser.text)
    assert text.count("document.title='owned'") >= 20
    assert "\x1b" not in page and "\\x1b[2J" in text


def test_the_worst_and_dearest_come_first() -> None:
    page = render(hostile())
    places = re.findall(r'class="place">(a\.sql:\d+)', page)
    assert places == ["a.sql:2", "a.sql:2", "a.sql:3", "a.sql:1"]
    gains = re.findall(r'<a href="#f-\w+">(a\.sql:\d+)', page)
    assert gains == ["a.sql:2", "a.sql:3"]
    assert "900 ms → 3 ms" in page and "300×" in page
    assert "<mark>abcd</mark>efghijk" in page


def test_an_audit_with_measured_evidence(tmp_path: Path) -> None:
    queries = tmp_path / "q.sql"
    queries.write_text(
        "SELECT a FROM t WHERE b = 5;\nSELECT a FROM t WHERE b = 7 ORDER BY a;\n"
        "SELECT a FROM t WHERE b = NULL;\n"
    )
    schema = tmp_path / "s.sql"
    schema.write_text(
        "CREATE TABLE t (a int PRIMARY KEY, b int, c text);\n"
        "INSERT INTO t SELECT g, g % 5000, repeat('x', 80) FROM generate_series(1, 60000) g;\n"
    )
    page = render(audit([str(queries)], Options(schema=(str(schema),), data=(str(schema),))))
    check(page)
    assert "CREATE INDEX CONCURRENTLY ON t (b)" in page
    assert 'class="bars"' in page and "faster" in page
    assert "<mark>" in page and 'class="tag error"' in page


def test_plans_are_drawn(tmp_path: Path) -> None:
    names = sorted((ROOT / "fixtures" / "plans").glob("*.json"))
    assert len(names) > 20
    for path in names:
        parser = check(render(explain(str(path), None, Options(), top=20)))
        nodes = [a for _, a in parser.seen if str(a.get("class", "")).startswith("step ")]
        assert nodes, path.name


def test_a_plan_is_a_tree_of_svg(tmp_path: Path) -> None:
    path = ROOT / "fixtures" / "plans" / "pg18-initplan_filter.json"
    parser = check(page := render(explain(str(path), None, Options(), top=20)))
    looks = [a.get("class") for name, a in parser.seen if name in ("rect", "path")]
    assert [look for look in looks if look in ("h0", "h1", "h2", "h3")] == ["h2", "h1", "h1", "h2"]
    assert looks.count("edge") == 3
    assert "30,000 rows, 20,000 exp." in page and "14.2 ms · 38%" in page
    assert ">Index Only Scan</text>" in page and ">using orders_amount on orders" in page
    (picture,) = [a for name, a in parser.seen if name == "svg" and a.get("role") == "img"]
    width, height = map(int, str(picture["viewbox"]).split()[2:])
    boxes = [a for name, a in parser.seen if name == "rect" and "rx" in a and a.get("y") != "0"]
    for box in (b for b in boxes if b.get("class") in ("h0", "h1", "h2", "h3")):
        assert int(str(box["x"])) >= 0 and int(str(box["x"])) + int(str(box["width"])) <= width
        assert int(str(box["y"])) >= 0 and int(str(box["y"])) + int(str(box["height"])) <= height


def test_names_in_a_tree_are_escaped(tmp_path: Path) -> None:
    scan = (
        '{"Node Type": "Seq Scan", "Relation Name": "<script>x", "Total Cost": 1, "Plan Rows": 1}'
    )
    path = tmp_path / "plan.json"
    path.write_text(
        f'[{{"Plan": {{"Node Type": "Sort", "Total Cost": 2, "Plan Rows": 1, "Plans": [{scan}]}}}}]'
    )
    page = render(explain(str(path), None, Options(), top=1))
    check(page)
    assert "plantree" in page and "<script>x" not in page


def test_a_very_deep_plan_is_not_nested(tmp_path: Path) -> None:
    plan = '{"Node Type": "Seq Scan", "Relation Name": "t", "Total Cost": 1, "Plan Rows": 1}'
    for _ in range(300):
        plan = f'{{"Node Type": "Materialize", "Total Cost": 1, "Plan Rows": 1, "Plans": [{plan}]}}'
    path = tmp_path / "deep.json"
    path.write_text(f'[{{"Plan": {plan}}}]')
    page = render(explain(str(path), None, Options(), top=1))
    check(page)
    assert page.count('class="step ') == 301 and "depth 300" in page


def test_a_live_server(make_database: Callable[..., Any]) -> None:
    from sqladvisor.live import Watch, live

    database = make_database(
        f'CREATE TABLE "{HOSTILE.replace(chr(34), chr(34) * 2)[:30]}" (a int);'
        "CREATE TABLE t (a int);"
    )
    page = render(live(Options(dsn=database.dsn), Watch(window_s=0.2)))
    parser = check(page)
    assert "<h1>sqladvisor <span>live" in page and "What matters most" in page
    assert any(name == "article" for name, _ in parser.seen)


def test_index_advice(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from sqladvisor.cli import app

    schema = tmp_path / "s.sql"
    schema.write_text("CREATE TABLE t (a int PRIMARY KEY, b int, c int);\n")
    queries = tmp_path / "q.sql"
    queries.write_text("SELECT a FROM t WHERE b = 5;\nSELECT a FROM t WHERE c = 5 AND b = 1;\n")
    out = tmp_path / "out.html"
    done = CliRunner().invoke(
        app,
        [
            "indexes",
            "--workload",
            str(queries),
            "--schema",
            str(schema),
            "--format",
            "html",
            "-o",
            str(out),
        ],
    )
    assert done.exit_code in (0, 1), done.output
    page = out.read_text()
    parser = check(page)
    assert "To run" in page and "CREATE INDEX" in page
    assert sum(name == "polyline" for name, _ in parser.seen) >= 1


def test_markup_escapes_what_it_is_given() -> None:
    assert tag("a", "<b>", href='"x') == '<a href="&quot;x">&lt;b&gt;</a>'
    assert tag("p", [tag("b", "1"), None, ["2", Markup("<i></i>")]], hidden=True, x=None) == (
        "<p hidden><b>1</b>2<i></i></p>"
    )
    assert tag("rect", x=1, class_="a") == '<rect x="1" class="a"/>'
    assert join(["<", Markup("<")]) == "&lt;<"
    assert tag("p", "a\x00b\u202e") == "<p>a\\x00b\\u202e</p>"


def test_a_browser_draws_it_and_runs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text(render(hostile()))
    picture = tmp_path / "report.png"
    done = subprocess.run(
        [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}",
         f"--screenshot={picture}", "--window-size=900,1200", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert "<title>sqladvisor audit</title>" in done.stdout
    assert "CONSOLE" not in done.stderr, done.stderr  # nothing was refused: nothing was tried
    assert picture.stat().st_size > 20_000
