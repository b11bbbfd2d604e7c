"""Folders as each runner reads them: order, up and down, transactions, variables, odd names."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqladvisor.errors import InputError
from sqladvisor.migrate.files import Files
from sqladvisor.migrate.model import MigrationSet
from sqladvisor.migrate.runner import RUNNERS, read_files, read_set
from sqladvisor.migrate.transactions import transactions


def read(files: dict[str, str], runner: str | None = None) -> MigrationSet:
    sql = {p: t.encode() for p, t in files.items() if p.endswith(".sql")}
    return read_files(Files(sql, lambda p: files[p].encode() if p in files else None), runner)


def order(found: MigrationSet) -> list[str]:
    return [m.version for m in found.migrations]


def modes(found: MigrationSet) -> list[str]:
    return [m.transaction for m in found.migrations]


UP_DOWN = "-- +goose Up\nSELECT 1;\n-- +goose Down\nSELECT 2;\n"


def test_plain_sorts_numbers_as_numbers_and_pairs_downs() -> None:
    found = read({"10_b.sql": "SELECT 10;", "2_a.sql": "SELECT 2;", "2_a.down.sql": "SELECT -2;"})
    assert found.runner == "plain"
    assert order(found) == ["2", "10"]
    assert [m.down is not None for m in found.migrations] == [True, False]
    assert modes(found) == ["none", "none"]


def test_plain_keeps_the_folders_of_a_tree_in_order() -> None:
    found = read({"v10/1.sql": "SELECT 1;", "v9/2.sql": "SELECT 1;", "v9/1.sql": "SELECT 1;"})
    assert [m.path for m in found.migrations] == ["v9/1.sql", "v9/2.sql", "v10/1.sql"]


def test_golang_migrate_sorts_by_number_and_knows_implicit_transactions() -> None:
    found = read(
        {
            "10_b.up.sql": "SELECT 1; SELECT 2;",
            "9_a.up.sql": "SELECT 1;",
            "9_a.down.sql": "SELECT 1; SELECT 2;",
        }
    )
    assert found.runner == "golang-migrate"
    assert order(found) == ["9", "10"]
    assert modes(found) == ["statement", "file"]
    assert found.migrations[0].down_transaction == "file"
    assert found.migrations[1].down is None


@pytest.mark.parametrize(
    "beside", [{"Cargo.toml": "[package]"}, {"m/1_a.up.sql": "-- no-transaction\nSELECT 1;"}]
)
def test_sqlx_is_told_from_golang_migrate_by_what_is_there(beside: dict[str, str]) -> None:
    found = read({"m/1_a.up.sql": "SELECT 1; SELECT 2;", "m/2_b.up.sql": "SELECT 1;"} | beside)
    assert found.runner == "sqlx"
    assert modes(found)[1] == "file"


def test_sqlx_without_directions() -> None:
    files = {"1_a.sql": "-- no-transaction\nSELECT 1;\nSELECT 2;", "2_b.sql": "SELECT 1;"}
    found = read(files, "sqlx")
    assert modes(found) == ["file", "file"], "two statements in one message share a transaction"


def test_goose() -> None:
    found = read({"2_b.sql": UP_DOWN, "1_a.sql": "-- +goose NO TRANSACTION\n" + UP_DOWN})
    assert found.runner == "goose"
    assert modes(found) == ["statement", "file"]
    assert [s.text for s in found.migrations[0].up] == ["SELECT 1"]
    assert [s.text for s in found.migrations[0].down or ()] == ["SELECT 2"]


def test_goose_without_a_down_has_none() -> None:
    found = read({"1_a.sql": "-- +goose Up\nSELECT 1;\n", "2_b.sql": UP_DOWN})
    assert [m.down is None for m in found.migrations] == [True, False]


def test_goose_keeps_a_function_of_many_statements_whole() -> None:
    text = (
        "-- +goose Up\n-- +goose StatementBegin\nCREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM 1; PERFORM 2; END $$;\n-- +goose StatementEnd\n-- +goose Down\n"
        "DROP FUNCTION f();"
    )
    found = read({"1.sql": text})
    assert [s.kind for s in found.migrations[0].up] == ["CreateFunctionStmt"]


def test_dbmate_sections_have_each_its_transaction() -> None:
    text = "-- migrate:up transaction:false\nSELECT 1;\n\n-- migrate:down\nSELECT 2;\n"
    found = read({"1_a.sql": text})
    assert found.runner == "dbmate"
    assert (found.migrations[0].transaction, found.migrations[0].down_transaction) == (
        "statement",
        "file",
    )


@pytest.mark.parametrize(
    ("runner", "up", "down"),
    [
        ("dbmate", "-- migrate:up", "-- migrate:down"),
        ("dbmate", "--migrate:up", "--migrate:down transaction:false"),
        ("node-pg-migrate", "-- Up Migration", "\n\n---- Down Migration"),
    ],
)
def test_a_section_sent_whole_needs_no_last_semicolon(runner: str, up: str, down: str) -> None:
    found = read({"1_a.sql": f"{up}\nCREATE TABLE t (a int)\n\n{down}\nDROP TABLE t\n"})
    assert (found.runner, found.problems) == (runner, ())
    (migration,) = found.migrations
    assert [s.text for s in migration.up] == ["CREATE TABLE t (a int)"]
    assert [s.text for s in migration.down or ()] == ["DROP TABLE t"]
    assert migration.down and migration.down[0].line == 5 + down.count("\n")
    goose = "-- +goose Up\nCREATE TABLE t (a int)\n\n-- +goose Down\nDROP TABLE t;\n"
    assert read({"1_a.sql": goose}).problems  # goose sends statements, and refuses this file


def test_flyway_orders_versions_undo_and_repeatables() -> None:
    found = read(
        {
            "V10__c.sql": "SELECT 1;",
            "V2.1__b.sql": "SELECT 1;",
            "V2__a.sql": "SELECT 1;",
            "U2__a.sql": "SELECT 2;",
            "R__z.sql": "SELECT 3;",
            "B1__base.sql": "SELECT 4;",
        }
    )
    assert found.runner == "flyway"
    assert order(found) == ["1", "2", "2.1", "10", "R"]
    assert found.migrations[1].down is not None
    assert found.migrations[-1].repeatable
    assert any("baseline" in n for n in found.notes)


def test_flyway_takes_the_transaction_from_conf_or_from_the_statement() -> None:
    found = read(
        {
            "V1__a.sql": "CREATE INDEX CONCURRENTLY i ON t (a);",
            "V2__b.sql": "SELECT 1; CREATE INDEX CONCURRENTLY i ON t (a);",
            "V3__c.sql": "SELECT 1;",
            "V3__c.sql.conf": "executeInTransaction = false",
        }
    )
    assert modes(found) == ["statement", "file", "statement"]


def test_flyway_variables_are_parsed_and_shown_as_written() -> None:
    found = read({"V1__a.sql": "CREATE TABLE ${schema}.users (id int, note text DEFAULT '${x}');"})
    assert found.problems == ()
    statement = found.migrations[0].up[0]
    assert statement.text.startswith("CREATE TABLE ${schema}.users")
    assert statement.kind == "CreateStmt"


def test_refinery_has_a_cargo_file() -> None:
    found = read({"m/V1__a.sql": "SELECT 1;", "m/U2__b.sql": "SELECT 1;", "m/../Cargo.toml": ""})
    assert found.runner == "refinery"
    assert order(found) == ["1", "2"]


def test_diesel_reads_folders_and_metadata() -> None:
    found = read(
        {
            "2024-02-01-000000_b/up.sql": "SELECT 1;",
            "2024-01-01-000000_a/up.sql": "SELECT 1;",
            "2024-01-01-000000_a/down.sql": "SELECT 1;",
            "2024-02-01-000000_b/metadata.toml": "run_in_transaction = false\n",
        }
    )
    assert found.runner == "diesel"
    assert modes(found) == ["file", "statement"]
    assert found.migrations[0].down_path == "2024-01-01-000000_a/down.sql"


def test_prisma_reads_folders() -> None:
    found = read({"m/20240101000000_a/migration.sql": "SELECT 1; SELECT 2;"})
    assert (found.runner, modes(found)) == ("prisma", ["file"])


def test_drizzle_goes_by_its_journal() -> None:
    journal = '{"entries": [{"idx": 0, "tag": "b"}, {"idx": 1, "tag": "a"}]}'
    found = read({"a.sql": "SELECT 1;", "b.sql": "SELECT 2;", "meta/_journal.json": journal})
    assert found.runner == "drizzle"
    assert [m.path for m in found.migrations] == ["b.sql", "a.sql"]
    assert found.one_transaction


def test_a_broken_journal_is_one_problem() -> None:
    found = read({"a.sql": "SELECT 1;", "meta/_journal.json": "{"})
    assert [p.message for p in found.problems] == ["not a Drizzle journal"]


def test_sqitch_goes_by_its_plan() -> None:
    found = read(
        {
            "deploy/a.sql": "SELECT 1;",
            "deploy/b.sql": "SELECT 1;",
            "deploy/left.sql": "SELECT 1;",
            "revert/b.sql": "SELECT 1;",
            "verify/a.sql": "SELECT 1;",
            "sqitch.plan": "%project=x\n\nb 2024-01-01T00:00:00Z A <a@b>\na [b] 2024 A <a@b>\n@t 2024 A <>\n",
        }
    )
    assert found.runner == "sqitch"
    assert order(found) == ["b", "a"]
    assert found.notes == ("deploy/left.sql: not in sqitch.plan: left out",)


def test_atlas_directive() -> None:
    found = read(
        {"1.sql": "-- atlas:txmode none\n\nSELECT 1;", "2.sql": "SELECT 1;", "atlas.sum": ""}
    )
    assert (found.runner, modes(found)) == ("atlas", ["statement", "file"])


def test_node_pg_migrate() -> None:
    text = "-- Up Migration\nSELECT 1;\n\n-- Down Migration\nSELECT 2;\n"
    found = read({"1700000000000_a.sql": text})
    assert (found.runner, modes(found)) == ("node-pg-migrate", ["file"])
    assert len(found.migrations[0].up) == len(found.migrations[0].down or ()) == 1


def test_alembic_splits_one_text_into_its_migrations() -> None:
    text = "BEGIN;\n-- Running upgrade  -> aa\nSELECT 1;\n\n-- Running upgrade aa -> bb\nSELECT 2;\nCOMMIT;\n"
    found = read({"up.sql": text})
    assert (found.runner, order(found)) == ("alembic", ["aa", "bb"])
    inside = [t.inside for m in found.migrations for t in transactions(m.up, m.transaction)]
    assert inside == [True] * 4


def test_django_writes_its_transaction_out() -> None:
    text = "BEGIN;\n--\n-- Add field a to b\n--\nALTER TABLE b ADD COLUMN a int;\nCOMMIT;\n"
    found = read({"0001.sql": text})
    assert (found.runner, modes(found)) == ("django", ["none"])


def test_supabase_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "supabase" / "migrations"
    folder.mkdir(parents=True)
    (folder / "20240101000000_a.sql").write_text("SELECT 1; SELECT 2;")
    assert read_set([str(folder)]).runner == "supabase"


def test_rails_structure() -> None:
    found = read({"db/structure.sql": "SET statement_timeout = 0; CREATE TABLE t (a int);"})
    assert (found.runner, modes(found)) == ("rails", ["none"])


def test_a_runner_can_be_forced() -> None:
    assert read({"1_a.sql": "SELECT 1;"}, "atlas").runner == "atlas"
    with pytest.raises(InputError, match="no runner 'liquibase'"):
        read({"1_a.sql": "SELECT 1;"}, "liquibase")


@pytest.mark.parametrize("runner", RUNNERS)
def test_every_runner_reads_anything_without_failing(runner: str) -> None:
    hostile = {
        "a'b\n.sql": "SELECT 1;",
        "1_é.up.sql": "-- +goose Up\nSELECT 'é';",
        "empty.sql": "-- nothing\n",
        "broken.sql": "SELEC 1;\nSELECT 1;",
        "V1__x.sql": "${} $1 {{ x }} \\set a b\nSELECT :a;",
    }
    found = read(hostile, runner)
    assert found.runner == runner


def test_commit_ends_what_the_runner_has_opened() -> None:
    found = read(
        {"1.sql": "-- +goose Up\nSELECT 1;\nCOMMIT;\nSELECT 2;\nBEGIN;\nSELECT 3;\nCOMMIT;\n"}
    )
    migration = found.migrations[0]
    got = [(t.number, t.by) for t in transactions(migration.up, migration.transaction)]
    assert got == [
        (1, "runner"), (1, "runner"), (0, ""), (2, "file"), (2, "file"), (2, "file"),
    ]  # fmt: skip


def test_what_is_rolled_back_never_was() -> None:
    found = read({"1.sql": "BEGIN; SELECT 1; ROLLBACK; SELECT 2;"})
    got = [t.rolled_back for t in transactions(found.migrations[0].up, "none")]
    assert got == [True, True, True, False]
