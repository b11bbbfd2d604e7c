"""The page in a browser: it draws, in light and dark, and names from a server stay text."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from needs import chromium
from serving import HOSTILE, TARGET, fill, serving

from sqladvisor.monitor.store import Store

# As root Chromium has no sandbox; without the others it looks for hosts of its makers.
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--virtual-time-budget=5000", "--window-size=1300,2000", "--enable-logging=stderr",
)  # fmt: skip


def browse(url: str, folder: Path, *flags: str) -> tuple[str, str]:
    """The page's document after its scripts ran, and what they wrote to the console."""
    done = subprocess.run(
        [chromium(), *FLAGS, f"--user-data-dir={folder}", *flags, "--dump-dom", url],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return done.stdout, "\n".join(console)


def test_the_page_draws_what_is_stored(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    with Store(path, write=True) as store:
        fill(store)
        store.save_findings(TARGET, 1.0, [("database/x", "error", HOSTILE, HOSTILE)])
    with serving(path) as running:
        url = f"http://127.0.0.1:{running.port}/#window=15m"
        page, console = browse(url, tmp_path / "light")
        dark, _ = browse(url, tmp_path / "dark", "--blink-settings=preferredColorScheme=0")
    assert console == "", console  # no error, and nothing that the policy forbade
    assert 'data-ready="yes"' in page and 'data-ready="yes"' in dark
    assert "<title>sqladvisor</title>" in page  # HOSTILE would have changed it
    assert "<img src=x" not in page and "&lt;img src=x" in page
    drawn = dict(re.findall(r'<figure id="(\w+)".*?</figcaption>(.*?)</figure>', page, re.S))
    for name in ("throughput", "latency", "cache", "sessions", "waits", "writes"):
        assert drawn[name].count("<polyline") >= 1, name
    assert "outage" in drawn["throughput"] and "★" in drawn["latency"]
    for said in ("18.1", "10 %", "Index Scan", "database/x", "p95 est."):
        assert said in page


def test_a_browser_gets_in_with_the_token(tmp_path: Path) -> None:
    path = str(tmp_path / "store.sqlite")
    with Store(path, write=True) as store:
        fill(store, 3)
    with serving(path, token="correct horse battery staple") as running:
        page, console = browse(f"http://127.0.0.1:{running.port}/login?wrong", tmp_path / "b")
        assert "That is not the token." in page and 'type="password"' in page
        assert 'id="wrong" class="bad">' in page and console == ""
