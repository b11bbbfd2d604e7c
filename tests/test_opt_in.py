"""Rules of taste run only where their set, or they themselves, are selected."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sqladvisor.engine import Selection, check_selection
from sqladvisor.errors import InputError
from sqladvisor.rule import Rule, load_rules

PLAIN = load_rules(("migration",))[0]
TASTE = replace(PLAIN, id="migration/prefer-text", opt_in="design")


@pytest.mark.parametrize(
    ("select", "ignore", "plain", "taste"),
    [
        ((), (), True, False),
        (("migration",), (), True, False),
        (("migration/*",), (), True, False),
        (("design",), (), False, True),
        (("migration", "design"), (), True, True),
        (("migration/prefer-text",), (), False, True),
        (("migration/prefer-*",), (), False, True),
        (("all",), (), True, True),
        (("design",), ("migration/prefer-text",), False, False),
        (("all",), ("design",), True, False),
    ],
)
def test_which_rules_a_selection_runs(
    select: tuple[str, ...], ignore: tuple[str, ...], plain: bool, taste: bool
) -> None:
    selection = Selection(select, ignore)
    assert (selection.runs(PLAIN), selection.runs(TASTE)) == (plain, taste)


@pytest.mark.parametrize("rules", [[PLAIN, TASTE], [PLAIN]], ids=["with", "without"])
def test_a_set_can_be_named_wherever_rules_are(rules: list[Rule]) -> None:
    check_selection(Selection(("design",), ("design",)), rules)
    with pytest.raises(InputError, match="no rule matches 'desing'"):
        check_selection(Selection(("desing",)), rules)
