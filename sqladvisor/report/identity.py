"""Names for findings and their files that hold from run to run, for the systems that track them."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable

from sqladvisor.finding import Finding

_ROOTS = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
"""Where GitHub and GitLab say the checkout is: they want paths that are relative to it."""


def identities(findings: Iterable[Finding]) -> list[str]:
    """A name of 32 hexadecimal digits for each finding, no two alike.

    It rests on the rule, the file and the statement's fingerprint, not on lines, literals or
    figures: edits above a statement and another measurement leave it as it is. Findings that are
    alike in these are numbered in their order.
    """
    seen: Counter[str] = Counter()
    names = []
    for finding in findings:
        statement = finding.fingerprint or finding.statement or finding.message
        key = "\0".join((finding.rule, repository_path(finding.location.path), statement))
        seen[key] += 1
        text = f"{key}\0{seen[key]}"
        names.append(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32])
    return names


def repository_path(path: str) -> str:
    """A path as seen from the repository's root, in CI; else from the working directory.

    A file outside of it, and what is no file, keeps its name.
    """
    here = os.getcwd()
    root = next((r for name in _ROOTS if (r := os.environ.get(name))), here)
    if not os.path.isabs(path) and os.path.normpath(root) == here:
        return path
    relative = os.path.relpath(os.path.join(here, path), root)
    return path if relative.startswith(os.pardir) else relative
