"""Hazards in their safe form, in the runner's own style, proven by running both."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.model import Report

SCHEMA = """
CREATE TABLE users (id bigint PRIMARY KEY, email text, name text NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, user_id bigint, total numeric, code text NOT NULL);
CREATE INDEX orders_total ON orders (total);
"""


def fixed(tmp_path: Path, files: dict[str, str], fix: str = "write", **options: object) -> Report:
    (tmp_path / "schema.sql").write_text(SCHEMA)
    for name, text in files.items():
        path = tmp_path / "m" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    chosen = GateOptions(
        schema=(str(tmp_path / "schema.sql"),), trace=True, fix=fix, cache=False, check_down=False,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip
    return gate([str(tmp_path / "m")], chosen)


def texts(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "m"
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def errors(report: Report) -> list[str]:
    return [f.rule for f in report.findings if f.severity == "error"]


def test_plain_files_are_rewritten_in_place(tmp_path: Path) -> None:
    report = fixed(
        tmp_path,
        {
            "1.sql": """SET lock_timeout = '2s';
-- Addresses are looked up.
CREATE INDEX users_email ON users (email);
ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id);
ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0);
ALTER TABLE orders ADD CONSTRAINT u UNIQUE (code);
ALTER TABLE users ALTER COLUMN email SET NOT NULL;
DROP INDEX orders_total;
"""
        },
    )
    assert not report.problems, report.problems
    assert errors(report) == []
    assert texts(tmp_path) == {
        "1.sql": """SET lock_timeout = '2s';
-- Addresses are looked up.
DROP INDEX CONCURRENTLY IF EXISTS users_email;
CREATE INDEX CONCURRENTLY users_email ON users (email);
ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT fk;
ALTER TABLE orders ADD CONSTRAINT c CHECK (total > 0) NOT VALID;
ALTER TABLE orders VALIDATE CONSTRAINT c;
CREATE UNIQUE INDEX CONCURRENTLY u ON orders (code);
ALTER TABLE orders ADD CONSTRAINT u UNIQUE USING INDEX u;
ALTER TABLE users ADD CONSTRAINT users_email_not_null NOT NULL email NOT VALID;
ALTER TABLE users VALIDATE CONSTRAINT users_email_not_null;
DROP INDEX CONCURRENTLY orders_total;
"""
    }


def test_set_not_null_by_a_check_before_18(tmp_path: Path) -> None:
    fixed(
        tmp_path,
        {"1.sql": "SET lock_timeout = '2s';\nALTER TABLE users ALTER email SET NOT NULL;\n"},
        pg_version=15,
    )
    assert "SET NOT NULL;\nALTER TABLE users DROP CONSTRAINT" in texts(tmp_path)["1.sql"]


def test_goose_gets_a_file_without_transaction(tmp_path: Path) -> None:
    report = fixed(
        tmp_path,
        {
            "00001_a.sql": "-- +goose Up\nSET LOCAL lock_timeout = '2s';\n"
            "ALTER TABLE users ADD COLUMN a int;\n-- why\nCREATE INDEX users_email ON users (email);\n"
            "\n-- +goose Down\nDROP INDEX users_email;\nALTER TABLE users DROP COLUMN a;\n"
        },
    )
    assert errors(report) == []
    assert texts(tmp_path) == {
        "00001_a.sql": "-- +goose Up\nSET LOCAL lock_timeout = '2s';\n"
        "ALTER TABLE users ADD COLUMN a int;\n"
        "\n-- +goose Down\nDROP INDEX users_email;\nALTER TABLE users DROP COLUMN a;\n",
        "00002_a_later.sql": "-- +goose NO TRANSACTION\n-- +goose Up\n"
        "DROP INDEX CONCURRENTLY IF EXISTS users_email;\n"
        "-- why\nCREATE INDEX CONCURRENTLY users_email ON users (email);\n"
        "\n-- +goose Down\n-- The down of 00001_a.sql takes this back.\n",
    }


def test_goose_runs_the_file_itself_without_where_nothing_else_is_in_it(tmp_path: Path) -> None:
    fixed(
        tmp_path,
        {"00001_a.sql": "-- +goose Up\nCREATE INDEX users_email ON users (email);\n-- +goose Down\n"
         "DROP INDEX users_email;\n"},
    )  # fmt: skip
    assert list(texts(tmp_path)) == ["00001_a.sql"]
    assert texts(tmp_path)["00001_a.sql"].startswith("-- +goose NO TRANSACTION\n-- +goose Up\n")


def test_golang_migrate_gets_one_statement_a_file(tmp_path: Path) -> None:
    report = fixed(
        tmp_path,
        {
            "000001_a.up.sql": "SET LOCAL lock_timeout = '2s';\nALTER TABLE users ADD COLUMN a int;\n"
            "CREATE INDEX users_email ON users (email);\n"
            "ALTER TABLE orders ADD CONSTRAINT fk FOREIGN KEY (user_id) REFERENCES users (id);\n",
            "000001_a.down.sql": "ALTER TABLE orders DROP CONSTRAINT fk;\nDROP INDEX users_email;\n"
            "ALTER TABLE users DROP COLUMN a;\n",
        },
    )
    assert errors(report) == []
    found = texts(tmp_path)
    assert found["000002_a_later.up.sql"] == (
        "CREATE INDEX CONCURRENTLY users_email ON users (email);\n"
    )
    assert found["000003_a_later_2.up.sql"] == "ALTER TABLE orders VALIDATE CONSTRAINT fk;\n"
    assert "000002_a_later.down.sql" in found
    assert "NOT VALID" in found["000001_a.up.sql"]


@pytest.mark.parametrize(
    ("runner", "name", "text", "made"),
    [
        ("flyway", "V1__a.sql", "{0}{1}", {"V1.1__a_later.sql", "V1.1__a_later.sql.conf"}),
        ("dbmate", "20240101000000_a.sql", "-- migrate:up\n{0}{1}\n-- migrate:down\nSELECT 1;\n",
         {"20240101000001_a_later.sql"}),
        ("atlas", "20240101000000.sql", "{0}{1}", {"20240101000001_later.sql"}),
        ("supabase", "20240101000000_a.sql", "{0}{1}", {"20240101000001_a_later.sql"}),
        ("prisma", "20240101000000_a/migration.sql", "{0}{1}",
         {"20240101000001_a_later/migration.sql"}),
        ("diesel", "2024-01-01-000000_a/up.sql", "{0}{1}",
         {"2024-01-01-000001_a_later/up.sql", "2024-01-01-000001_a_later/metadata.toml"}),
        ("refinery", "V1__a.sql", "{0}{1}", None),
    ],
)  # fmt: skip
def test_other_runners(
    tmp_path: Path, runner: str, name: str, text: str, made: set[str] | None
) -> None:
    head = "SET LOCAL lock_timeout = '2s';\nALTER TABLE users ADD COLUMN a int;\n"
    index = "CREATE INDEX users_email ON users (email);\n"
    report = fixed(tmp_path, {name: text.format(head, index)}, runner=runner)
    if made is None:
        assert "migration/create-index" in errors(report)
        assert any("refinery has no files without a transaction" in n for n in report.notes)
        return
    assert errors(report) == [], report.notes
    assert texts(tmp_path).keys() == {name} | made
    later = [t for n, t in texts(tmp_path).items() if n in made and n.endswith(".sql")]
    assert any("CREATE INDEX CONCURRENTLY users_email ON users (email);" in t for t in later)


def test_backfills_are_batched(tmp_path: Path) -> None:
    report = fixed(tmp_path, {"1.sql": "UPDATE users SET email = lower(email);\n"})
    assert "migration/backfill-whole-table" not in [f.rule for f in report.findings]
    assert "COMMIT;" in texts(tmp_path)["1.sql"]


def test_no_version_is_left_between_two(tmp_path: Path) -> None:
    before = {
        "00001_a.sql": "-- +goose Up\nALTER TABLE users ADD COLUMN a int;\n"
        "CREATE INDEX users_email ON users (email);\n",
        "00002_b.sql": "-- +goose Up\nSELECT 1;\n",
    }
    report = fixed(tmp_path, before)
    assert any("no version is free between 00001 and 00002" in n for n in report.notes)
    assert "CREATE INDEX users_email" in texts(tmp_path)["00001_a.sql"]


def test_several_subcommands_are_taken_apart(tmp_path: Path) -> None:
    report = fixed(
        tmp_path,
        {
            "1.sql": "SET lock_timeout = '2s';\n"
            "ALTER TABLE users ADD COLUMN x int,\n  ADD CONSTRAINT c CHECK (id > 0), -- of old\n"
            "  ALTER COLUMN email SET NOT NULL,\n  ALTER COLUMN name SET DEFAULT 'a, b';\n"
        },
    )
    assert errors(report) == []
    assert texts(tmp_path) == {
        "1.sql": """SET lock_timeout = '2s';
ALTER TABLE users ADD COLUMN x int,
    ALTER COLUMN name SET DEFAULT 'a, b';
ALTER TABLE users ADD CONSTRAINT c CHECK (id > 0) NOT VALID;
ALTER TABLE users ADD CONSTRAINT users_email_not_null NOT NULL email NOT VALID;
ALTER TABLE users VALIDATE CONSTRAINT c;
ALTER TABLE users VALIDATE CONSTRAINT users_email_not_null;
"""
    }


def test_of_several_subcommands_those_with_a_safe_form(tmp_path: Path) -> None:
    report = fixed(
        tmp_path,
        {
            "1.sql": "SET lock_timeout = '2s';\n"
            "ALTER TABLE orders ADD UNIQUE (code), ALTER COLUMN total TYPE bigint;\n"
        },
    )
    text = texts(tmp_path)["1.sql"]
    assert "ALTER TABLE orders ALTER COLUMN total TYPE bigint;\n" in text
    assert "CREATE UNIQUE INDEX CONCURRENTLY orders_code_key ON orders (code);" in text
    assert errors(report) == ["migration/alter-column-type"]


def test_what_would_end_in_another_schema_is_not_written(tmp_path: Path) -> None:
    """Deferred behind the file, the index would be built after its table has another name."""
    before = {
        "00001_a.sql": "-- +goose Up\nSET LOCAL lock_timeout = '2s';\n"
        "CREATE INDEX users_email ON users (email);\nALTER TABLE users RENAME TO people;\n"
    }
    report = fixed(tmp_path, before)
    assert texts(tmp_path) == before
    assert any("the result does not run" in n for n in report.notes), report.notes


def test_diff_writes_nothing(tmp_path: Path) -> None:
    before = {"1.sql": "CREATE INDEX users_email ON users (email);\n"}
    report = fixed(tmp_path, before, "diff")
    assert texts(tmp_path) == before
    assert "+CREATE INDEX CONCURRENTLY users_email ON users (email);" in report.details["diff"]


def test_suppressed_findings_are_left_alone(tmp_path: Path) -> None:
    before = {
        "1.sql": "-- sqladvisor: ignore migration/create-index, migration/lock-timeout-missing small\n"
        "CREATE INDEX users_email ON users (email);\n"
    }
    fixed(tmp_path, before)
    assert texts(tmp_path) == before


def test_crlf_stays(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "1.sql").write_bytes(b"SELECT 1;\r\nCREATE INDEX i ON users (email);\r\n")
    fixed(tmp_path, {})
    data = (tmp_path / "m" / "1.sql").read_bytes()
    assert b"CONCURRENTLY i ON users" in data
    assert b"\n" not in data.replace(b"\r\n", b"")
