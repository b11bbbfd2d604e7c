"""The formats for CI: what each must hold, and that no name or text can break out of one."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit
from xml.etree import ElementTree as ET

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from sqladvisor import Options, audit
from sqladvisor.command import Output, render
from sqladvisor.engine import Selection
from sqladvisor.finding import Evidence, Finding, Fix, InputProblem, Location, Severity
from sqladvisor.report import github, gitlab, junit, markdown, sarif
from sqladvisor.report.escape import one_line, printable
from sqladvisor.report.model import Report
from sqladvisor.rule import load_rules

DATA = Path(__file__).parent / "data"
SELECTED = ("query/outer-join-nullified", "query/null-comparison", "query/select-star")
SARIF = jsonschema.Draft4Validator(json.loads((DATA / "sarif-schema-2.1.0.json").read_text()))
NASTY = (
    "]]>", "<!--", "-->", "<script>alert(1)</script>", "</details>", "<b", "&amp;", "&#64;", '"', "'",
    "\n", "\r\n", "\t", "::error::x", "::stop-commands::x", "##[error]x", "%0A", "%", ":", ",", "|",
    "\\", "\\|", "`", "```", "~~~~", "@team", "#12", "!34", "https://evil.example", "www.evil.example",
    "[x](https://evil.example)", "![x](y)", "**b**", "__b__", "_i_", "$x$", "~~s~~", "- ", "# ", "1. ",
    "\x1b[31m", "\x00", "\x07", "\u202e", "\u2066", "\udc80", "\ufffe", "é", "日本", "🙂", "{0}", "a", " ",
)  # fmt: skip
RAW_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe]"
)


@pytest.fixture(autouse=True)
def outside_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def audited(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.chdir(DATA)
    return audit(["queries.sql"], Options(selection=Selection(SELECTED)))


def finding(
    text: str = "m",
    severity: Severity = "warning",
    path: str = "q.sql",
    fixes: tuple[Fix, ...] = (),
    statement: str = "SELECT 1",
) -> Finding:
    return Finding(
        "query/example", severity, text, Location(path, 1, 1, 1, 7), statement, "f0",
        Evidence("static", {}, (text,)), fixes,
    )  # fmt: skip


def hostile(text: str) -> Report:
    """A report in which every text that comes from outside is this one."""
    fix = Fix(f"fix {text}", f"SELECT '{text}'", changes_result=text)
    found = finding(text, path=f"d/{text}.sql", fixes=(fix,), statement=f"SELECT {text}")
    problem = InputProblem(f"p/{text}.sql", text, 3, 4)
    texts = {f"d/{text}.sql": f"SELECT {text};\n"}
    return Report("audit", (found,), (problem,), 1, 1, texts, server=text, notes=(text,))


texts = st.lists(st.sampled_from(NASTY), min_size=1, max_size=6).map("".join)
each_hostile = pytest.mark.parametrize("text", NASTY, ids=[repr(t) for t in NASTY])


# -- snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["sarif", "junit", "github", "gitlab", "markdown"])
def test_the_report_is_as_it_was(form: str, audited: Report) -> None:
    rendered = render(audited, Output(form, fail_on="error"))
    if form == "sarif":  # the rules' own documentation is not what this is about
        log = json.loads(rendered)
        driver = log["runs"][0]["tool"]["driver"]
        driver["rules"] = [r["id"] for r in driver["rules"]]
        driver["version"] = driver["semanticVersion"] = "VERSION"
        rendered = json.dumps(log, indent=1) + "\n"
    snapshot = DATA / "snapshots" / f"queries.{form}"
    if os.environ.get("UPDATE_SNAPSHOTS"):
        snapshot.write_text(rendered, encoding="utf-8")
    assert rendered == snapshot.read_text(encoding="utf-8")


# -- SARIF ----------------------------------------------------------------------------------------


def run_of(report: Report) -> dict:  # type: ignore[type-arg]
    log = json.loads(sarif.render(report))
    SARIF.validate(log)
    assert len(log["runs"]) == 1
    return log["runs"][0]  # type: ignore[no-any-return]


def test_sarif_describes_every_rule_from_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DATA)
    run = run_of(audit(["queries.sql"]))
    rules = {r["id"]: r for r in run["tool"]["driver"]["rules"]}
    assert set(rules) == {r.id for r in load_rules(("query", "batch", "prepare"))}
    described = rules["query/not-in-subquery"]
    assert described["defaultConfiguration"] == {"level": "warning"}
    assert described["shortDescription"]["text"].startswith("NOT IN takes its list from a subquery")
    assert described["fullDescription"]["text"].startswith("one NULL among the subquery's rows")
    for part in ("Why:", "Silent when:", "subplan_is_hashable()", "NOT EXISTS"):
        assert part in described["help"]["text"] and part in described["help"]["markdown"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_sarif_tells_of_input_that_could_not_be_read(audited: Report) -> None:
    (invocation,) = run_of(audited)["invocations"]
    assert invocation["executionSuccessful"] is False
    (told,) = invocation["toolExecutionNotifications"]
    assert told["level"] == "error"
    assert told["message"]["text"] == 'syntax error at or near "WHERE"'
    assert told["locations"][0]["physicalLocation"]["region"] == {"startLine": 6, "startColumn": 13}


def test_a_sarif_fix_put_into_the_file_is_the_rewrite(audited: Report) -> None:
    lines = audited.texts["queries.sql"].split("\n")
    (result,) = [
        r for r in run_of(audited)["results"] if r["ruleId"] == "query/outer-join-nullified"
    ]
    (fix,) = result["fixes"]  # the other remedy changes the result: a tool must not apply it
    (change,) = fix["artifactChanges"]
    (replacement,) = change["replacements"]
    region = replacement["deletedRegion"]
    before = [
        *lines[: region["startLine"] - 1],
        lines[region["startLine"] - 1][: region["startColumn"] - 1],
    ]
    after = [lines[region["endLine"] - 1][region["endColumn"] - 1 :], *lines[region["endLine"] :]]
    fixed = "\n".join(before) + replacement["insertedContent"]["text"] + "\n".join(after)
    assert fixed == audited.texts["queries.sql"].replace("LEFT JOIN", "INNER JOIN")


def test_no_sarif_fix_for_a_statement_in_a_program() -> None:
    fix = Fix("d", "SELECT 2")
    for path, count in (("q.sql", 1), ("q.py", 0)):
        found = finding(path=path, fixes=(fix,))
        (result,) = run_of(Report("audit", (found,), texts={path: "SELECT 1\n"}))["results"]
        assert len(result.get("fixes", ())) == count


def test_sarif_explains_a_finding_that_no_rule_file_makes() -> None:
    """Without an address of the project there is no helpUri: the help itself is in the log."""
    found = replace(finding(), rule="migration/fails-on-data")
    (described,) = run_of(Report("gate", (found,)))["tool"]["driver"]["rules"]
    assert "rows that the schema allows" in described["help"]["markdown"]
    assert "helpUri" not in described


def test_sarif_names_documentation_where_the_project_has_an_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    urls = {"documentation": "https://docs.example/rules", "homepage": "https://example"}
    monkeypatch.setattr(sarif, "_project_urls", lambda: urls)
    driver = run_of(Report("audit", (finding(),)))["tool"]["driver"]
    assert driver["rules"][0]["helpUri"] == "https://docs.example/rules#queryexample"
    assert driver["informationUri"] == "https://docs.example/rules"


@given(texts)
@settings(max_examples=60, deadline=None)
def test_sarif_stays_valid_whatever_the_names(text: str) -> None:
    report = hostile(text)
    run = run_of(report)
    (result,) = run["results"]
    assert not RAW_CONTROL.search(result["message"]["text"])
    assert "](" not in result["message"]["text"]
    artifact = result["locations"][0]["physicalLocation"]["artifactLocation"]
    assert not urlsplit(artifact["uri"]).scheme
    assert os.fsdecode(unquote_to_bytes(artifact["uri"])) == report.findings[0].location.path
    assert result["properties"]["remedies"][0]["sql"] == report.findings[0].fixes[0].sql


# -- JUnit ----------------------------------------------------------------------------------------


def test_junit_fails_from_the_severity_that_fails_the_run(audited: Report) -> None:
    for fail_on, failures in (("error", 1), ("warning", 2), ("info", 3), ("never", 0)):
        root = ET.fromstring(junit.render(audited, fail_on=fail_on))
        assert root.get("failures") == str(failures), fail_on
        assert root.get("skipped") == str(3 - failures)
        assert (root.get("tests"), root.get("errors")) == ("4", "1")


def test_junit_passes_a_file_without_findings(tmp_path: Path) -> None:
    path = tmp_path / "q.sql"
    path.write_text("SELECT 1;")
    root = ET.fromstring(junit.render(audit([str(path)])))
    (case,) = root.findall("testsuite/testcase")
    assert len(case) == 0 and root.get("tests") == "1"


@given(texts)
@settings(max_examples=60, deadline=None)
def test_junit_stays_xml_whatever_the_names(text: str) -> None:
    rendered = junit.render(hostile(text))
    assert rendered.isascii()
    root = ET.fromstring(rendered)
    assert [s.get("name") for s in root] == [one_line(f"d/{text}.sql"), one_line(f"p/{text}.sql")]
    skipped = root.find("testsuite/testcase/skipped")
    assert skipped is not None and skipped.get("message") == f"warning: {one_line(text)}"
    body = root.findtext("testsuite/testcase/system-out")
    assert body is not None and not RAW_CONTROL.search(body)


# -- GitHub ---------------------------------------------------------------------------------------


def obeyed(line: str) -> tuple[str, dict[str, str], str] | None:
    """What GitHub's runner takes a line for: command, properties, data (ActionCommand.cs)."""
    line = line.lstrip()
    found = re.match(r"::([^ :]+)(?: ([^:]*))?::(.*)$", line, re.DOTALL)
    if not found:
        return None

    def plain(text: str) -> str:
        for code, char in (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")):
            text = text.replace(code, char)
        return text

    pairs = (p.partition("=") for p in (found[2] or "").split(",") if p)
    return found[1], {k: plain(v) for k, _, v in pairs}, plain(found[3])


@given(texts)
@settings(max_examples=150, deadline=None)
def test_github_obeys_our_commands_and_no_other(text: str) -> None:
    lines = github.render(hostile(text)).split("\n")
    commands = [obeyed(line) for line in lines]
    assert [c and c[0] for c in commands] == ["error", "warning", None, None]
    assert lines[-1] == "" and not any("##[" in line for line in lines if not line.startswith("::"))
    problem, found = commands[0], commands[1]
    assert problem and found
    assert problem[1] == {
        "file": one_line(f"p/{text}.sql"),
        "line": "3",
        "col": "4",
        "title": "cannot be read",
    }
    assert problem[2] == printable(text)
    assert found[1] == {
        "file": one_line(f"d/{text}.sql"),
        "line": "1",
        "col": "1",
        "endColumn": "7",
        "title": "query/example",
    }
    assert found[2].startswith(printable(text))
    assert not RAW_CONTROL.search("".join(lines))


def test_github_is_told_columns_only_within_a_line() -> None:
    from dataclasses import replace

    over = replace(finding(), location=Location("q.sql", 2, 5, 4, 1))
    command = obeyed(github.render(Report("audit", (over,))).split("\n")[0])
    assert command and command[1] == {
        "file": "q.sql",
        "line": "2",
        "endLine": "3",
        "title": "query/example",
    }


def test_paths_are_those_of_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "db").mkdir()
    monkeypatch.chdir(tmp_path / "db")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    report = Report(
        "audit", (finding(), finding(path=str(tmp_path / "x.sql")), finding(path="../../y.sql"))
    )
    files = [c[1]["file"] for line in github.render(report).split("\n") if (c := obeyed(line))]
    assert files == ["db/q.sql", "x.sql", "../../y.sql"]


# -- GitLab ---------------------------------------------------------------------------------------


def test_gitlab_maps_severities_and_names_each_finding_once() -> None:
    severities: tuple[Severity, ...] = ("error", "warning", "info", "info")
    report = Report(
        "audit", tuple(finding(severity=s) for s in severities), (InputProblem("x.sql", "m"),)
    )
    entries = json.loads(gitlab.render(report))
    assert [e["severity"] for e in entries] == ["blocker", "critical", "minor", "info", "info"]
    assert len({e["fingerprint"] for e in entries}) == 5


def test_a_fingerprint_outlives_edits_above_the_statement(tmp_path: Path) -> None:
    path = tmp_path / "q.sql"
    seen = []
    for text in (
        "SELECT id FROM t WHERE a = NULL;",
        "\n\nSELECT 1;\nSELECT id FROM t WHERE a = NULL;",
    ):
        path.write_text(text)
        seen.append([e["fingerprint"] for e in json.loads(gitlab.render(audit([str(path)])))])
    assert seen[0] == seen[1] and seen[0]


@given(texts)
@settings(max_examples=60, deadline=None)
def test_gitlab_stays_json_whatever_the_names(text: str) -> None:
    problem, found = json.loads(gitlab.render(hostile(text)))
    assert (problem["location"]["path"], found["location"]["path"]) == (
        one_line(f"p/{text}.sql"),
        one_line(f"d/{text}.sql"),
    )
    assert found["description"] == one_line(text)
    assert found["location"]["lines"] == {"begin": 1, "end": 1}
    assert set(found) == {"description", "check_name", "fingerprint", "severity", "location"}


# -- Markdown -------------------------------------------------------------------------------------

OURS = re.compile(r"</?(?:details|summary|code)>")
REFERENCE = re.compile(r"[@#!]\w|://|www\.", re.IGNORECASE)


def tokens(text: str) -> Iterator[Token]:
    """The Markdown's tokens as CommonMark with GitHub's tables and strike-through has them."""
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    for token in reader.parse(text):
        yield token
        yield from token.children or ()


@given(texts)
@settings(max_examples=200, deadline=None)
def test_markdown_holds_its_form_whatever_the_names(text: str) -> None:
    rendered = markdown.render(hostile(text))
    assert not RAW_CONTROL.search(rendered)
    found = list(tokens(rendered))
    kinds = [t.type for t in found]
    assert not {"link_open", "image", "em_open", "s_open", "code_inline"} & set(kinds)
    assert kinds.count("heading_open") == 1
    assert kinds.count("table_open") == 2
    assert kinds.count("td_open") == 2 + 4
    assert kinds.count("fence") == 2, "the source line and the fix"
    assert kinds.count("strong_open") == 2, "the severity, and the word Fix"
    tags = [
        t
        for token in found
        if token.type.startswith("html")
        for t in re.findall("<[^>]*>", token.content)
    ]
    assert [t for t in tags if not OURS.fullmatch(t)] == []
    assert tags.count("<details>") == tags.count("</details>") == 1
    for token in found:
        if token.type == "text":
            assert not REFERENCE.search(token.content.replace("&#", ""))
    shown = "".join(t.content for t in found if t.type == "text").replace("\u200b", "")
    assert one_line(text).strip() in shown


@each_hostile
def test_markdown_fences_hold_sql_as_it_is(text: str) -> None:
    fences = [t for t in tokens(markdown.render(hostile(text))) if t.type == "fence"]
    assert fences[-1].info == "sql"
    assert fences[-1].content == "\n".join(printable(f"SELECT '{text}'").splitlines()) + ";\n"


def test_markdown_fits_into_a_comment_and_says_what_is_left_out() -> None:
    report = Report(
        "audit", tuple(finding("x" * 200, fixes=(Fix("d", "SELECT 1;"),)) for _ in range(1000))
    )
    rendered = markdown.render(report)
    assert len(rendered) <= markdown.MAX_CHARACTERS
    shown = rendered.count("| 🟡 warning |")
    assert 100 < shown < 1000
    assert f"… {1000 - shown:,} more findings: the other formats have them." in rendered
    for count, in_full in ((100, 61), (50, 50)):
        some = markdown.render(Report("audit", report.findings[:count]))
        assert len(some) <= markdown.MAX_CHARACTERS
        assert some.count("| 🟡 warning |") == count
        assert some.count("<details>") == some.count("</details>") == in_full
        assert (f"… {count - in_full} findings are not shown in full" in some) == (in_full < count)


def test_a_report_without_findings_is_one_line() -> None:
    rendered = markdown.render(Report("audit", (), files=1, statements=2))
    assert html.unescape(rendered) == (
        "### sqladvisor audit: no findings in 2 statements in 1 file (static: no --schema, no --dsn)\n"
    )


def test_a_text_report_is_quoted_whole_or_cut_at_a_line() -> None:
    own = "Seq Scan on `t`\n``` @team <b>\n" + "line\n" * 100
    whole = markdown.render(Report("explain", (finding(),)), own=own)
    (quoted,) = [t for t in tokens(whole) if t.type == "fence" and "Seq Scan" in t.content]
    assert quoted.content == own
    cut = markdown.render(Report("explain", ()), own=own, limit=600)
    assert len(cut) <= 600
    shown = cut.count("\nline")
    assert f"… {100 - shown} more lines" in cut and 0 < shown < 100
