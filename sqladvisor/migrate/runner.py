"""Reads a folder of migrations as its runner would: which files, in which order, in what transactions.

Each runner is a ``Layout``: how to recognise its folders, and how to read them. The readers are in
``runner_names`` (the file's name says it all), ``runner_marks`` (directives in comments say it) and
``runner_plans`` (a plan or journal beside the files says it).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqladvisor.errors import InputError
from sqladvisor.finding import InputProblem
from sqladvisor.migrate import runner_marks, runner_names, runner_plans
from sqladvisor.migrate.ahead import parsing_ahead
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import Migration, MigrationSet
from sqladvisor.sql.inputs import STDIN, expand, load

Reader = Callable[[Files, Sequence[str]], list[Migration]]


@dataclass(frozen=True, slots=True)
class Layout:
    """A runner. ``claims`` says whether these files are of its making."""

    name: str
    claims: Callable[[Files, Sequence[str]], bool]
    read: Reader


LAYOUTS: tuple[Layout, ...] = (
    Layout("sqitch", runner_plans.is_sqitch, runner_plans.sqitch),
    Layout("atlas", runner_plans.is_atlas, runner_plans.atlas),
    Layout("drizzle", runner_plans.is_drizzle, runner_plans.drizzle),
    Layout("prisma", runner_names.is_prisma, runner_names.prisma),
    Layout("diesel", runner_names.is_diesel, runner_names.diesel),
    Layout("supabase", runner_names.is_supabase, runner_names.supabase),
    Layout("goose", runner_marks.is_goose, runner_marks.goose),
    Layout("dbmate", runner_marks.is_dbmate, runner_marks.dbmate),
    Layout("node-pg-migrate", runner_marks.is_node_pg, runner_marks.node_pg),
    Layout("alembic", runner_marks.is_alembic, runner_marks.alembic),
    Layout("django", runner_marks.is_django, runner_marks.django),
    Layout("refinery", runner_names.is_refinery, runner_names.refinery),
    Layout("flyway", runner_names.is_flyway, runner_names.flyway),
    Layout("sqlx", runner_names.is_sqlx, runner_names.sqlx),
    Layout("golang-migrate", runner_names.is_golang, runner_names.golang),
    Layout("rails", runner_names.is_rails, runner_names.rails),
    Layout("plain", lambda _files, _paths: True, runner_names.plain),
)
RUNNERS = tuple(layout.name for layout in LAYOUTS)


def read_set(
    paths: Sequence[str],
    runner: str | None = None,
    *,
    stdin: Callable[[], bytes] | None = None,
) -> MigrationSet:
    """The migrations that files, directories, globs or ``-`` hold, in their runner's order.

    What cannot be read becomes a problem of the set. Raises InputError for an unknown runner.
    """
    return read_files(load_files(paths, stdin), runner)


def load_files(paths: Sequence[str], stdin: Callable[[], bytes] | None = None) -> Files:
    """The bytes of all files that the arguments name."""
    found, problems = expand(paths)
    sql: dict[str, bytes] = {}
    for path in found:
        data = stdin() if path == "-" and stdin else load(path)
        if isinstance(data, InputProblem):
            problems.append(data)
        else:
            sql[STDIN if path == "-" else path] = data
    return Files(sql, aux, problems=problems)


def read_files(files: Files, runner: str | None = None) -> MigrationSet:
    """The migrations among files already loaded. Raises InputError for an unknown runner."""
    layout = choose(files, runner)
    with parsing_ahead(files.sql) as files.ahead:
        migrations = layout.read(files, list(files.sql))
    files.ahead = None
    return MigrationSet(
        layout.name,
        tuple(migrations),
        files.texts,
        tuple(files.problems),
        tuple(files.notes),
        one_transaction=layout.name == "drizzle",
        variables=files.variables,
    )


def choose(files: Files, runner: str | None) -> Layout:
    """The layout of that name, or the first that recognises the files."""
    if runner is not None:
        for layout in LAYOUTS:
            if layout.name == runner:
                return layout
        raise InputError(f"no runner {runner!r} (known: {', '.join(RUNNERS)})")
    paths = list(files.sql)
    return next(layout for layout in LAYOUTS if layout.claims(files, paths))


def aux(path: str) -> bytes | None:
    """The bytes of a small file beside the migrations, None where there is none."""
    if not os.path.isfile(path):
        return None
    data = load(path)
    return data if isinstance(data, bytes) else None
