"""What a rule about a whole database can ask: thresholds, and a finding at the database's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqladvisor.finding import Evidence, Finding, Fix, Level, Location, Severity
from sqladvisor.sql.statement import Statement

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog
    from sqladvisor.rule import Rule
    from sqladvisor.server.activity import Activity


@dataclass(slots=True)
class DatabaseContext:
    """The database under study. ``place`` names it in reports; the engine sets ``rule``."""

    place: str
    catalog: Catalog | None = None
    activity: Activity | None = None
    cores: int | None = None
    """Of the server's machine, None where nobody knows."""
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    rule: Rule = field(init=False)

    @property
    def statement(self) -> Statement:
        """Stands for the whole database where the engine has to name a place."""
        return Statement(self.place, "", "", 0, 1, 1, "", {})

    def threshold(self, name: str) -> float:
        """A threshold of the running rule: the user's setting, else the rule's default."""
        own = self.thresholds.get(self.rule.id, {})
        return own.get(name, self.rule.thresholds[name])

    def finding(
        self,
        subject: str,
        message: str,
        *,
        severity: Severity | None = None,
        fixes: Iterable[Fix] = (),
        level: Level = "measured",
        figures: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
    ) -> Finding:
        """A finding of the running rule about one object of the database."""
        return Finding(
            rule=self.rule.id,
            severity=severity or self.rule.severity,
            message=message,
            location=Location(self.place, 1, 1, 1, 1),
            statement="",
            fingerprint=subject,
            evidence=Evidence(level, {**(figures or {}), "object": subject}, tuple(notes)),
            fixes=tuple(fixes),
        )
