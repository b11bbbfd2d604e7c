"""Baselines: findings that were there before, so that only new ones count.

A baseline names findings by rule, file and the statement's fingerprint, not by line: edits above a
statement do not bring its old findings back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable

from sqladvisor.errors import InputError
from sqladvisor.finding import Finding


def _key(finding: Finding) -> str:
    return f"{finding.rule} {finding.location.path} {finding.fingerprint}"


def write(path: str, findings: Iterable[Finding]) -> None:
    """Write the baseline of these findings. Raises InputError when the file cannot be written."""
    counts = Counter(_key(f) for f in findings)
    text = json.dumps(
        {"sqladvisor_baseline": 1, "findings": dict(sorted(counts.items()))}, indent=1
    )
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")
    except OSError as error:
        raise InputError(f"{path}: baseline cannot be written: {error.strerror}") from error


def subtract(path: str, findings: Iterable[Finding]) -> list[Finding]:
    """The findings that the baseline does not know. Raises InputError for an unusable file."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
        left = Counter({str(k): int(v) for k, v in document["findings"].items()})
    except OSError as error:
        raise InputError(f"{path}: baseline cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a sqladvisor baseline") from error
    new = []
    for finding in findings:
        if left[_key(finding)] > 0:
            left[_key(finding)] -= 1
        else:
            new.append(finding)
    return new
