"""Writes docs/rules.md from the rule files: their docstrings and examples are the documentation.

python docs/generate.py            write it
python docs/generate.py --check    exit 1 when it is not current (the tests do this)
"""

from __future__ import annotations

import sys
from pathlib import Path

from sqladvisor.report.markdown import rule_page
from sqladvisor.rule import load_rules

KINDS = ("query", "index", "batch", "prepare", "plan", "database", "migration")
PAGE = Path(__file__).with_name("rules.md")


def page() -> str:
    """The whole page as Markdown."""
    rules = load_rules(KINDS)
    lines = [
        "# Rules",
        "",
        f"{len(rules)} rules, generated from `rules/` by `make docs`. "
        "`sqladvisor rule ID` shows one on the terminal.",
        "",
    ]
    for kind in KINDS:
        own = [r for r in rules if r.kind == kind]
        lines += [f"## {kind}/", "", "| rule | severity | finds |", "|---|---|---|"]
        lines += [
            f"| [`{r.id}`](#{r.id.replace('/', '')}) | {r.severity} | {_cell(r.summary)} |"
            for r in own
        ]
        lines.append("")
    for rule in rules:
        lines += [f"### {rule.id}", "", rule_page(rule), ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> int:
    text = page()
    if "--check" in sys.argv[1:]:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
