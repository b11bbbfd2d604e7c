"""Folders as teams have them, with all that is in their way: the right words, and no false alarm."""

from __future__ import annotations

from pathlib import Path

from sqladvisor.migrate.gate import GateOptions, gate
from sqladvisor.report.model import Report


def judged(tmp_path: Path, files: dict[str, str | bytes], **options: object) -> Report:
    folder = tmp_path / "m"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    chosen = GateOptions(**{"trace": True, "cache": False, **options})  # type: ignore[arg-type]
    return gate([str(folder)], chosen)


def rules(report: Report) -> list[str]:
    return [f.rule for f in report.findings if f.severity != "info"]


FLYWAY = {
    "V1__init.sql": 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";\nCREATE EXTENSION pgcrypto;\n'
    "COMMENT ON EXTENSION pgcrypto IS 'x';\n"
    "CREATE TABLE ${app}.customers (id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), "
    "secret bytea DEFAULT digest('a', 'sha256'), email text);\n",
    "V2__phone.sql": b"\xef\xbb\xbfSET LOCAL lock_timeout = '1s';\r\n"
    b"ALTER TABLE ${app}.customers ADD COLUMN phone text;\r\n"
    b"ALTER TABLE ${app}.customers ADD k uuid DEFAULT uuid_generate_v4();\r\n"
    b"CREATE INDEX i ON ${app}.customers (phone);\r\n",
    "V3__roles.sql": "SET LOCAL lock_timeout = '1s';\n"
    "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'sa_teams_rw') THEN\n"
    "  CREATE ROLE sa_teams_rw; END IF; END $$;\nGRANT ALL ON ${app}.customers TO sa_teams_rw;\n",
}  # fmt: skip


def test_flyways_variables_extensions_and_roles(tmp_path: Path) -> None:
    report = judged(tmp_path, FLYWAY, each=True)
    assert not report.problems
    # Nothing is left untraced: the schema is made as Flyway makes it, extensions are stood in for.
    assert not [n for n in report.notes if "not traced" in n], report.notes
    assert any('"uuid-ossp" is not available here: its functions' in n for n in report.notes)
    found = {f.rule: f for f in report.findings}
    index = found["migration/create-index"]
    assert "${app}.customers" in index.message
    assert "ON ${app}.customers (phone)" in index.fixes[0].sql
    # A rewrite although the function is a stand-in: it is as volatile as the extension's.
    assert found["migration/add-column-volatile-default"].evidence.level == "measured"


def test_fixes_are_written_with_the_variables(tmp_path: Path) -> None:
    report = judged(tmp_path, FLYWAY, each=True, fix="write")
    assert not report.problems
    texts = "".join(p.read_text() for p in (tmp_path / "m").iterdir())
    assert "CREATE INDEX CONCURRENTLY i ON ${app}.customers (phone);" in texts
    assert "vapp__" not in texts


def test_a_retry_with_variables_is_read_again(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "V1__a.sql": "CREATE TABLE ${App}.t (id int);\n",
        "V2__b.sql": "ALTER TABLE ${App}.t ADD b int;\n",
    }
    report = judged(tmp_path, files, each=True, fix="write")
    text = (tmp_path / "m" / "V2__b.sql").read_text()
    assert "ALTER TABLE ${App}.t ADD b int;\n      EXIT;" in text
    assert rules(report) == []


def test_psql_scripts(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        {
            "1.sql": "\\set ON_ERROR_STOP on\n\\i other.sql\n"
            "CREATE TABLE items (id int PRIMARY KEY, name text);\nCOPY items FROM stdin;\n"
            "1\tnut; -- no comment\n2\t\\N\n\\.\n\\echo done\n"
            "ALTER TABLE items ADD COLUMN tag text DEFAULT :'tag';\n"
        },
    )
    assert not report.problems
    assert rules(report) == []
    notes = "\n".join(report.notes)
    assert "1.sql:2: \\i other.sql is not followed" in notes
    assert "it has a variable whose value is not known here (:'tag')" in notes


def test_seeds_of_ten_megabytes(tmp_path: Path) -> None:
    rows = ",\n".join(f"({i}, '{'x' * 80} ; -- {i}')" for i in range(100_000))
    single = "".join(f"INSERT INTO seeds VALUES ({i}, '{'x' * 300}');\n" for i in range(30_000))
    report = judged(
        tmp_path,
        {
            "1.sql": "CREATE TABLE seeds (id int, name text);\n",
            "2.sql": f"INSERT INTO seeds VALUES\n{rows};\nALTER TABLE elsewhere ADD a int;\n",
            "3.sql": single,
        },
    )
    assert not report.problems
    assert rules(report) == ["migration/lock-timeout-missing"]  # what follows a large row is read
    notes = "\n".join(report.notes)
    assert "2.sql:1: this INSERT: too large to be judged or run" in notes
    assert "the rows from here on: too large" in notes


def test_a_file_that_is_too_large_for_anything_else_is_no_seed(tmp_path: Path) -> None:
    single = "".join(f"INSERT INTO seeds VALUES ({i}, '{'x' * 300}');\n" for i in range(15_000))
    report = judged(tmp_path, {"1.sql": single + "DROP TABLE users;\n"}, trace=False)
    assert [p.message for p in report.problems] != []


def test_seeds_are_run_in_batches_and_one_that_fails_is_told(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "1.sql": "CREATE TABLE seeds (id int PRIMARY KEY);\n"
        + "".join(f"INSERT INTO seeds VALUES ({i % 40});\n" for i in range(60))
    }
    report = judged(tmp_path, files, trace_report=True)
    timeline = report.details["timeline"]
    assert len(timeline) == 61
    assert [bool(s["not_traced"]) for s in timeline] == [False] * 41 + [True] * 20


def test_a_down_that_leaves_a_variables_default_out(tmp_path: Path) -> None:
    report = judged(
        tmp_path,
        {
            "00001_a.sql": "-- +goose ENVSUB ON\n-- +goose Up\n"
            "CREATE TABLE ${SCHEMA:-public}.users (id bigint PRIMARY KEY);\n"
            "-- +goose Down\nDROP TABLE users;\n"
        },
    )
    assert report.findings == ()


def test_a_dump_of_an_old_database(tmp_path: Path) -> None:
    (tmp_path / "schema.sql").write_text(
        "\\restrict x\nSELECT pg_catalog.set_config('search_path', '', false);\n"
        "CREATE SCHEMA app;\nALTER SCHEMA app OWNER TO appuser;\n"
        "CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA public;\n"
        "COMMENT ON EXTENSION pgcrypto IS 'cryptographic functions';\n"
        "CREATE TABLE app.users (id uuid DEFAULT public.gen_random_uuid() NOT NULL);\n"
        "GRANT SELECT ON TABLE app.users TO readonly;\n"
        "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION app.nope();\n"
    )
    report = judged(
        tmp_path,
        {"1.sql": "SET lock_timeout = '1s';\nALTER TABLE app.users ALTER id TYPE text;\n"},
        schema=(str(tmp_path / "schema.sql"),),
    )
    assert rules(report) == ["migration/alter-column-type"]
    assert report.findings[0].evidence.level == "measured"
    assert not [n for n in report.notes if "not applied" in n], report.notes
