"""Settings from ``sqladvisor.toml`` or ``[tool.sqladvisor]`` in ``pyproject.toml``.

The nearest file upwards from the working directory counts. Command-line options win over it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqladvisor.errors import InputError

_KEYS = {
    "select": list,
    "ignore": list,
    "per-file-ignores": dict,
    "rule-packs": list,
    "fail-on": str,
    "rule": dict,
}


@dataclass(frozen=True, slots=True)
class Config:
    """What a configuration file can set. ``path`` is the file, "" for none."""

    path: str = ""
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rule_packs: tuple[str, ...] = ()
    fail_on: str | None = None
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Rule id → threshold name → value (``[tool.sqladvisor.rule."query/in-list-too-long"]``)."""


def find_config(explicit: str | None = None, start: str | None = None) -> Config:
    """The configuration in force. Raises InputError for one that cannot be used."""
    if explicit is not None:
        return _read(explicit, required=True)
    folder = os.path.abspath(start or os.getcwd())
    while True:
        for name in ("sqladvisor.toml", "pyproject.toml"):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                config = _read(path, required=False)
                if config.path:
                    return config
        parent = os.path.dirname(folder)
        if parent == folder or os.path.exists(os.path.join(folder, ".git")):
            return Config()
        folder = parent


def _read(path: str, *, required: bool) -> Config:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    is_project = os.path.basename(path) == "pyproject.toml"
    if is_project and not required and "[tool.sqladvisor" not in text:
        return Config()
    import tomllib

    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from error
    if is_project:
        table = table.get("tool", {}).get("sqladvisor", {})
    for key, value in table.items():
        if key not in _KEYS:
            raise InputError(f"{path}: unknown setting {key!r} (known: {', '.join(_KEYS)})")
        if not isinstance(value, _KEYS[key]):
            raise InputError(f"{path}: {key} must be a {_KEYS[key].__name__}")
    folder = os.path.dirname(path)
    return Config(
        path=path,
        select=tuple(table.get("select", ())),
        ignore=tuple(table.get("ignore", ())),
        per_file_ignores={k: tuple(v) for k, v in table.get("per-file-ignores", {}).items()},
        rule_packs=tuple(os.path.join(folder, p) for p in table.get("rule-packs", ())),
        fail_on=table.get("fail-on"),
        thresholds=table.get("rule", {}),
    )
