"""Fixtures: the accounts that run our programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import Account, accounts, make_account


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    # Not pytest's own directory, which other accounts cannot pass. Short: sockets lie in it.
    folder = Path(tempfile.mkdtemp(prefix="sqla-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=accounts())
def account(request: pytest.FixtureRequest, home: Path) -> Account:
    return make_account(request.param, home)


@pytest.fixture
def me(home: Path) -> Account:
    """Whoever runs the tests."""
    return make_account(accounts()[0], home)
