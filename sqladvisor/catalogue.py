"""The catalogue of rules as text, generated from the rule files themselves."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from sqladvisor.engine import META_RULES
from sqladvisor.errors import InputError
from sqladvisor.rule import Rule, load_rules

KINDS = ("query", "index", "batch", "prepare", "plan", "database", "migration")


def list_rules(kind: str | None = None, packs: Sequence[str] = ()) -> str:
    """A table of all rules (id, severity, what it finds). Raises InputError for an unknown kind."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"no rules of kind {kind!r} (kinds: {', '.join(KINDS)})")
    from tabulate import tabulate

    found = load_rules((kind,) if kind else KINDS, packs)
    rows = [(r.id, _severity(r), r.summary) for r in found]
    table = tabulate(rows, headers=["rule", "severity", "finds"], tablefmt="simple")
    return f"{table}\n\n{len(rows)} rules. `sqladvisor rule ID` shows one in full.\n"


def describe_rule(rule_id: str, packs: Sequence[str] = ()) -> str:
    """One rule in full. Raises InputError for an id that does not exist."""
    if rule_id in META_RULES:
        return f"{rule_id}\n\n{META_RULES[rule_id]}\n"
    found = {r.id: r for r in load_rules(KINDS, packs)}
    if rule_id not in found:
        near = difflib.get_close_matches(rule_id, found, n=1, cutoff=0.5)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise InputError(f"no rule {rule_id!r}{hint}; `sqladvisor rules` lists them")
    return _describe(found[rule_id])


def _describe(rule: Rule) -> str:
    lines = [f"{rule.id} ({_severity(rule)})", "", rule.doc.strip(), ""]
    if rule.opt_in:
        lines[2:2] = [f"Runs only where it is selected: --select {rule.opt_in}, or by its id.", ""]
    for name, value in rule.thresholds.items():
        lines.append(f"Threshold: {name} = {value:g}")
    for title, key in (("Bad", "bad"), ("Good", "good")):
        for example in rule.examples[key][:2]:
            lines += [f"{title}:", *(f"    {line.strip()}" for line in _sql(example)), ""]
    return "\n".join(lines).rstrip() + "\n"


def _severity(rule: Rule) -> str:
    return f"{rule.severity}, opt-in" if rule.opt_in else rule.severity


def _sql(example: object) -> list[str]:
    return example_text(example).strip().splitlines()


def example_text(example: object) -> str:
    """An example as one text: of a migration set (file name → text) each file under its name."""
    if isinstance(example, dict):
        return "\n".join(f"-- {name}\n{text.strip()}" for name, text in example.items())
    return example if isinstance(example, str) else str(getattr(example, "sql", example))
