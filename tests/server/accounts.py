"""Who runs our programs in these tests: root, or an ordinary account with what it can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import sqladvisor

ROOT = Path(sqladvisor.__file__).resolve().parents[1]
NOBODY = 65534


@dataclass(frozen=True)
class Account:
    """Who runs our program. ``home`` is the account's own: HOME and TMPDIR lie in it."""

    name: str
    home: Path
    python: tuple[str, ...]
    path: str
    ids: dict[str, Any] = field(default_factory=dict)

    @property
    def tmp(self) -> Path:
        return self.home / "tmp"

    def environment(self, **changes: str) -> dict[str, str]:
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PG", "XDG_", "SQLADVISOR"))
        }
        own = {"HOME": str(self.home), "TMPDIR": str(self.tmp), "PYTHONPATH": self.path,
               "NO_COLOR": "1", "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip
        return kept | own | changes

    def start(self, *arguments: str, env: dict[str, str] | None = None, **kw: Any) -> Any:
        """Start Python with these arguments."""
        return subprocess.Popen(
            [*self.python, *arguments], env=self.environment(**(env or {})), cwd=self.home,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            **self.ids, **kw,
        )  # fmt: skip

    def run(self, *arguments: str, env: dict[str, str] | None = None, **kw: Any) -> Any:
        """Run sqladvisor with these arguments to its end."""
        with self.start("-m", "sqladvisor", *arguments, env=env, **kw) as process:
            out, err = process.communicate(timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def write(self, name: str, text: str) -> str:
        (self.home / name).write_text(text)
        return name

    def left_behind(self) -> list[str]:
        """Directories and processes of clusters in the account's temporary directory."""
        found = [str(p) for p in self.tmp.glob("sqladvisor-pg-*")]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.tmp) in words and b"postgres" in words:
                found.append(words.replace(b"\0", b" ").decode(errors="replace"))
        return found


def accounts() -> list[str]:
    """Root can be both; an ordinary user can only be that."""
    return ["root", "ordinary"] if os.geteuid() == 0 else ["ordinary"]


def make_account(name: str, home: Path) -> Account:
    own = home / name
    made = not own.exists()
    (own / "tmp").mkdir(parents=True, exist_ok=True)
    if name == "root" or os.geteuid() != 0:
        return Account(name, own, (sys.executable,), str(ROOT))
    if made:
        for folder in (own, own / "tmp"):
            os.chown(folder, NOBODY, NOBODY)
    ids = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    python, path = _readable(home, str(ids))
    return Account(name, own, python, path, ids)


@cache
def _readable(home: Path, _: str) -> tuple[tuple[str, ...], str]:
    """An interpreter and PYTHONPATH that an ordinary account can use: ours, or a copy of them."""
    try:
        subprocess.run(
            [sys.executable, "-c", "import sqladvisor.cli, psycopg, pglast"], cwd="/", check=True,
            env={"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True,
            user=NOBODY, group=NOBODY, extra_groups=[],
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return copy_program(home / "copy")
    return (sys.executable,), str(ROOT)


def copy_program(folder: Path) -> tuple[tuple[str, ...], str]:
    """Copy interpreter, dependencies and sqladvisor into a folder, as hard links where possible."""
    site = Path(psycopg_home())
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = Path(sys.base_prefix)
    _link(site, folder / "site")
    for name in ("sqladvisor", "rules", "fixtures"):
        _link(ROOT / name, folder / "own" / name)
    _link(base / "lib" / version, folder / "python/lib" / version)
    for library in (base / "lib").glob(f"lib{version}*.so*"):
        _link(library, folder / "python/lib" / library.name)
    program = folder / "python/bin" / version
    _link(Path(os.path.realpath(sys.executable)), program)
    # A shared libpython is found by an absolute path, which the account cannot follow.
    libraries = f"LD_LIBRARY_PATH={folder / 'python/lib'}"
    return ("/usr/bin/env", libraries, str(program), "-s"), f"{folder}/own:{folder}/site"


def psycopg_home() -> str:
    import psycopg

    return str(Path(psycopg.__file__).parents[1])


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_file():
        _link_file(str(source), str(target))
        return
    leave = shutil.ignore_patterns("site-packages", "test", "__pycache__", "*.a")
    shutil.copytree(source, target, copy_function=_link_file, ignore=leave)
    for folder, _, _ in os.walk(target):
        os.chmod(folder, 0o755)


def _link_file(source: str, target: str) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
    if not os.stat(target).st_mode & 0o004:  # a copy of its own, as this mode is nobody else's
        os.unlink(target)
        shutil.copy2(source, target)
        os.chmod(target, 0o755)
