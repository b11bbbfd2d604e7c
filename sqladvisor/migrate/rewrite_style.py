"""How each runner takes what must not run in a migration's transaction: marks, and files of its own."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.migrate.rewrite_forms import outside

IN_PLACE = frozenset(("plain", "sqitch"))
"""psql applies them: each statement is on its own, but for BEGIN … COMMIT in the file."""
MANY = frozenset(("goose", "atlas", "flyway"))
"""Runners with a mark for files without a transaction, whose statements are then sent one by one."""
SINGLE = frozenset(("golang-migrate", "sqlx", "dbmate", "supabase", "prisma", "diesel"))
"""Runners that send such a file as one message: it may hold one statement that refuses transactions."""
_VERSION = re.compile(r"(?P<head>(?:\d+-){3})?(?P<last>\d+)")
"""A migration's version in its name; diesel's begins with a date."""


class StyleError(Exception):
    """The runner has no way, or no room, for what has to be written. One line."""


@dataclass(slots=True)
class Layout:
    """Files to write: texts by path, of those that exist and of new ones."""

    texts: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)
    """Files beside the SQL: Flyway's .conf, diesel's metadata.toml."""


def later_files(
    migrations: MigrationSet, migration: Migration, steps: Sequence[str], taken: set[str]
) -> Layout:
    """New migrations behind ``migration`` that run these statements outside of its transaction.

    Raises StyleError for a runner without such a way, or without a version left between two.
    """
    runner = migrations.runner
    layout = Layout()
    for number, group in enumerate(_groups(runner, steps), 1):
        bare = runner in MANY or any(map(outside, group))
        path = _path(migrations, migration, number, taken)
        taken.add(path)
        _write(layout, runner, path, group, migration, bare=bare)
    return layout


def _groups(runner: str, steps: Sequence[str]) -> list[list[str]]:
    if runner in MANY:
        return [list(steps)]
    if runner not in SINGLE:
        raise StyleError(f"{runner} has no files without a transaction that could be written")
    groups: list[list[str]] = []
    for i, step in enumerate(steps):
        if outside(step):
            # It makes a build repeatable: not worth a migration of its own.
            if "CONCURRENTLY IF EXISTS" in step and i + 1 < len(steps) and outside(steps[i + 1]):
                continue
            groups.append([step])
        elif groups and not outside(groups[-1][0]):
            groups[-1].append(step)
        else:
            groups.append([step])
    return groups


def marked(runner: str, path: str, text: str) -> Layout:
    """A file's text with the mark that it runs outside of a transaction. Raises StyleError."""
    if runner == "goose":
        return Layout({path: f"-- +goose NO TRANSACTION\n{text}"})
    if runner == "atlas":
        return Layout({path: f"-- atlas:txmode none\n\n{text}"})
    if runner == "sqlx":
        return Layout({path: f"-- no-transaction\n{text}"})
    if runner == "dbmate":
        return Layout({path: re.sub(r"^(--\s*migrate:up)\b.*$", r"\1 transaction:false", text,
                                    count=1, flags=re.MULTILINE)})  # fmt: skip
    if runner == "flyway":
        return Layout({path: text}, {path + ".conf": "executeInTransaction=false\n"})
    if runner == "diesel":
        beside = os.path.join(os.path.dirname(path), "metadata.toml")
        return Layout({path: text}, {beside: "run_in_transaction = false\n"})
    if runner in SINGLE:
        return Layout({path: text})
    raise StyleError(f"{runner} has no files without a transaction that could be written")


def sent(runner: str, step: str) -> str:
    """A statement with its semicolon, marked where its runner would cut it at one inside of it."""
    step = step.rstrip(";") + ";"
    if runner == "goose" and ";" in step[:-1]:
        return f"-- +goose StatementBegin\n{step}\n-- +goose StatementEnd"
    return step


def _path(migrations: MigrationSet, migration: Migration, number: int, taken: set[str]) -> str:
    runner = migrations.runner
    folder, base = os.path.split(migration.path)
    above = ""
    if runner in ("prisma", "diesel"):
        above, name = os.path.split(folder)
    else:
        name = base
    match = _VERSION.search(name)
    if match is None:
        raise StyleError(f"{migration.path} has no version to put another one behind")
    stem, suffix = _suffix(name) if runner not in ("prisma", "diesel") else (name, "")
    if runner == "flyway":
        head, _, label = stem.partition("__")
        made = f"{head}.{number}__{label}_later{suffix}"
    else:
        last = str(int(match["last"]) + number).zfill(len(match["last"]))
        version = (match["head"] or "") + last
        behind = [
            (n, m[0])
            for other in migrations.migrations
            if (m := _VERSION.search(_label(runner, other)))
            and (n := _number(m[0])) > _number(match[0])
        ]
        if behind and _number(version) >= min(behind)[0]:
            raise StyleError(
                f"no version is free between {match[0]} and {min(behind)[1]}: what must follow in a "
                "migration of its own has no place"
            )
        tail = stem[match.end() :]
        made = f"{stem[: match.start()]}{version}{tail}_later" + (
            f"_{number}" if number > 1 else ""
        ) + suffix  # fmt: skip
    path = os.path.join(above, made, base) if above or not suffix else os.path.join(folder, made)
    if path in taken or os.path.exists(path):
        raise StyleError(f"{path} exists")
    return path


def _number(version: str) -> int:
    return int(version.replace("-", ""))


def _label(runner: str, migration: Migration) -> str:
    if runner in ("prisma", "diesel"):
        return os.path.basename(os.path.dirname(migration.path))
    return os.path.basename(migration.path)


def _suffix(name: str) -> tuple[str, str]:
    for suffix in (".up.sql", ".sql"):
        if name.endswith(suffix):
            return name[: -len(suffix)], suffix
    raise StyleError(f"{name} is not named as migrations are")


def _write(
    layout: Layout,
    runner: str,
    path: str,
    group: Sequence[str],
    migration: Migration,
    *,
    bare: bool,
) -> None:
    body = "".join(f"{sent(runner, step)}\n" for step in group)
    undone = f"-- The down of {os.path.basename(migration.path)} takes this back.\n"
    has_down = migration.down is not None
    if runner == "goose":
        down = f"\n-- +goose Down\n{undone}" if has_down else ""
        layout.texts[path] = f"-- +goose NO TRANSACTION\n-- +goose Up\n{body}{down}"
        return
    if runner == "dbmate":
        mark = " transaction:false" if bare else ""
        layout.texts[path] = f"-- migrate:up{mark}\n{body}\n-- migrate:down\n{undone}"
        return
    if bare:
        made = marked(runner, path, body)
        layout.texts |= made.texts
        layout.extra |= made.extra
    else:
        layout.texts[path] = body
    if has_down and migration.down_path and migration.down_path != migration.path:
        if path.endswith(".up.sql"):
            layout.texts[path[: -len(".up.sql")] + ".down.sql"] = undone
        elif runner == "diesel":
            layout.texts[os.path.join(os.path.dirname(path), "down.sql")] = undone
