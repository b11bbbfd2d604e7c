"""How fast the gate is on generated folders of migrations of real-world sizes: static, and traced.

Whole processes, wall and CPU time: cold (``--no-cache``), unchanged (from the cache), and one small
file. The corpus is of the size of 5,047 migration files of public repositories (5.3 MB): about 1 kB and
five statements a file, up and down, most of them tables, columns, indexes and constraints.

    python benchmarks/gate.py            print the figures
    python benchmarks/gate.py --check    and exit 1 where a target is missed
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNS = 5
TARGETS_S = {
    "1,700 files, cold": 0.8,
    "1,700 files, unchanged": 0.3,
    "5,000 files, cold": 1.5,
    "one small file": 0.12,
    "200 files, traced": 20.0,
}
"""Seconds of wall time on two idle cores."""
_TYPES = ("bigint", "text", "timestamptz NOT NULL DEFAULT now()", "boolean NOT NULL DEFAULT false",
          "numeric(12,2)", "jsonb", "uuid", "varchar(255)", "date")  # fmt: skip
_WORDS = ("account", "order", "invoice", "session", "message", "product", "shipment", "tag", "audit",
          "device", "team", "role", "event", "payment", "address", "comment")  # fmt: skip


def corpus(folder: Path, files: int, seed: int = 1) -> int:
    """Write ``files`` migrations in goose's manner. Returns their bytes."""
    random.seed(seed)
    tables: list[tuple[str, list[str]]] = []
    total = 0
    for number in range(1, files + 1):
        ups, downs = _migration(number, tables)
        why = "".join(
            f"-- {' '.join(random.choices(_WORDS, k=random.randint(6, 12)))}\n"
            for _ in range(random.randint(2, 6))
        )
        text = (
            why
            + "-- +goose Up\n"
            + "\n".join(ups)
            + "\n\n-- +goose Down\n"
            + "\n".join(downs)
            + "\n"
        )
        path = folder / f"{20200101000000 + number}_{random.choice(_WORDS)}.sql"
        path.write_text(text, encoding="utf-8")
        total += len(text.encode())
    return total


def _migration(number: int, tables: list[tuple[str, list[str]]]) -> tuple[list[str], list[str]]:
    ups: list[str] = []
    downs: list[str] = []
    for part in range(random.choice((1, 1, 1, 2))):
        pick = random.random()
        if pick < 0.35 or len(tables) < 5:
            name = f"{random.choice(_WORDS)}s_{number}_{part}"
            columns = [f"{random.choice(_WORDS)}_{i}" for i in range(random.randint(4, 12))]
            body = ",\n".join(f"    {c} {random.choice(_TYPES)}" for c in columns)
            ups.append(
                f"-- {name} holds what the {random.choice(_WORDS)} service writes.\n"
                f"CREATE TABLE {name} (\n    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n{body}\n);"
            )
            ups += [
                f"CREATE INDEX {name}_{c}_idx ON {name} ({c});"
                for c in random.sample(columns, random.randint(0, 3))
            ]
            ups.append(f"COMMENT ON TABLE {name} IS 'Written by the {name} service';")
            downs.insert(0, f"DROP TABLE {name};")
            tables.append((name, columns))
        elif pick < 0.6:
            name, columns = random.choice(tables)
            for i in range(random.randint(1, 3)):
                column = f"added_{number}_{part}_{i}"
                ups.append(f"ALTER TABLE {name} ADD COLUMN {column} {random.choice(_TYPES)};")
                downs.append(f"ALTER TABLE {name} DROP COLUMN {column};")
                columns.append(column)
        elif pick < 0.75:
            (name, columns), (other, _) = random.choice(tables), random.choice(tables)
            column = f"{other}_id"
            if column not in columns:
                columns.append(column)
                ups.append(f"ALTER TABLE {name} ADD COLUMN {column} bigint;")
                ups.append(
                    f"ALTER TABLE {name} ADD CONSTRAINT {name}_{number}_{part}_fk FOREIGN KEY ({column}) "
                    f"REFERENCES {other} (id) ON DELETE CASCADE;"
                )
                ups.append(f"CREATE INDEX ON {name} ({column});")
                downs.append(f"ALTER TABLE {name} DROP COLUMN {column};")
        elif pick < 0.9:
            name, columns = random.choice(tables)
            column = random.choice(columns)
            ups.append(f"UPDATE {name} SET {column} = {column} WHERE id = {number};")
            values = ",\n    ".join(["(NULL)"] * random.randint(5, 60))
            ups.append(f"INSERT INTO {name} ({column}) VALUES\n    {values};")
        else:
            name, columns = random.choice(tables)
            ups.append(
                f"-- +goose StatementBegin\nCREATE OR REPLACE FUNCTION touch_{number}_{part}() RETURNS trigger "
                "LANGUAGE plpgsql AS $$\nBEGIN\n    -- keep the time of the last change\n"
                + "".join(f"    NEW.{c} := coalesce(NEW.{c}, OLD.{c});\n" for c in columns * 3)
                + "    IF NEW.id IS NULL THEN\n"
                "        RAISE EXCEPTION 'no id';\n    END IF;\n    RETURN NEW;\nEND;\n$$;\n"
                "-- +goose StatementEnd"
            )
            ups.append(
                f"CREATE TRIGGER touch_{number}_{part} BEFORE UPDATE ON {name} FOR EACH ROW "
                f"EXECUTE FUNCTION touch_{number}_{part}();"
            )
            downs.append(f"DROP FUNCTION touch_{number}_{part} CASCADE;")
    return ups or ["SELECT 1;"], downs or ["SELECT 1;"]


def process(*arguments: str, environment: dict[str, str], runs: int = RUNS) -> tuple[float, float]:
    """Median wall and CPU seconds of a whole process with its children."""
    walls, cpus = [], []
    for _ in range(runs):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "sqladvisor", "gate", *arguments],
            stdout=subprocess.DEVNULL,
            env=environment,
            check=False,
        )
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as place:
        environment = {**os.environ, "XDG_CACHE_HOME": f"{place}/cache", "PYTHONPATH": str(ROOT)}
        folders = {}
        for files in (200, 1700, 5000):
            folders[files] = Path(place, f"{files}")
            folders[files].mkdir()
            size = corpus(folders[files], files)
            print(f"{files:,} files, {size / 1e6:.1f} MB")
        one = Path(place, "one.sql")
        one.write_text("ALTER TABLE users ADD COLUMN token uuid DEFAULT gen_random_uuid();\n")
        trace = ("--no-trace",)
        rows = {
            "1,700 files, cold": (str(folders[1700]), "--no-cache", *trace),
            "1,700 files, unchanged": (str(folders[1700]), *trace),
            "5,000 files, cold": (str(folders[5000]), "--no-cache", *trace),
            "one small file": (str(one), "--no-cache", *trace),
            "200 files, traced": (str(folders[200]), "--no-cache"),  # downs too: up, down and up
        }
        print(f"\n{'gate':26} {'wall s':>8} {'cpu s':>8} {'target s':>9}")
        for name, arguments in rows.items():
            if "unchanged" in name:
                process(*arguments, environment=environment)
            runs = 1 if "traced" in name else RUNS
            wall, cpu = process(*arguments, environment=environment, runs=runs)
            late = wall > TARGETS_S[name]
            missed += late
            print(f"{name:26} {wall:8.2f} {cpu:8.2f} {TARGETS_S[name]:9.2f}{'  missed' * late}")
    return int(bool(missed) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
