"""The program's entry. A plain static audit, or gate, starts without the command-line library.

Importing typer and building its commands costs three times what auditing a small file does, and
editors and pre-commit hooks run just that on every save. What is not plain goes to ``cli``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

_VALUES = ("--format", "--fail-on", "--select", "--ignore")
_FLAGS = ("--quiet", "-q", "--verbose", "-v", "--no-color", "--color")
_GATE_VALUES = ("--base", "--runner", "--schema", "--baseline")
_GATE_FLAGS = ("--judge-down", "--each", "--no-cache", "--no-trace")


def main() -> None:
    """Run ``sqladvisor`` with the process's arguments and exit."""
    import os

    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    code = None
    if "_SQLADVISOR_COMPLETE" not in os.environ:
        code = plain(sys.argv[1:])
        if code is not None and (sys.argv[1] == "audit" or "--no-trace" in sys.argv):
            _leave(code)
    if code is None:
        from sqladvisor.cli import app

        app(prog_name="sqladvisor")
    sys.exit(code)


def plain(argv: Sequence[str]) -> int | None:
    """Run ``audit`` or ``gate`` if the arguments are paths and the commonest options; else None."""
    if len(argv) < 2 or argv[0] not in ("audit", "gate"):
        return None
    gating = argv[0] == "gate"
    with_value = _VALUES + _GATE_VALUES if gating else _VALUES
    bare = _FLAGS + _GATE_FLAGS if gating else _FLAGS
    paths: list[str] = []
    values: dict[str, list[str]] = {name: [] for name in _VALUES + _GATE_VALUES}
    flags: set[str] = set()
    arguments = iter(argv[1:])
    for argument in arguments:
        if argument in bare:
            flags.add(argument)
        elif argument in with_value:
            value = next(arguments, None)
            if value is None:
                return None
            values[argument].append(value)
        elif argument.startswith("-") and argument != "-":
            return None
        else:
            paths.append(argument)
    from sqladvisor.command import FAIL_ON, FORMATS, Output, run_audit, run_gate

    form = (values["--format"] or ["text"])[-1]
    fail_on = (values["--fail-on"] or [None])[-1]  # type: ignore[list-item]
    if not paths or form not in FORMATS or (fail_on is not None and fail_on not in FAIL_ON):
        return None
    from sqladvisor.engine import Selection

    color = True if "--color" in flags else False if "--no-color" in flags else None
    selection = Selection(split(values["--select"]), split(values["--ignore"]))
    output = Output(
        form,
        fail_on=fail_on,
        color=color,
        quiet=bool(flags & {"--quiet", "-q"}),
        verbose=bool(flags & {"--verbose", "-v"}),
        baseline=(values["--baseline"] or [None])[-1],  # type: ignore[list-item]
    )
    if not gating:
        from sqladvisor.auditor import Options

        return run_audit(paths, Options(selection=selection), output)
    from sqladvisor.migrate.gate import GateOptions

    options = GateOptions(
        runner=(values["--runner"] or [None])[-1],  # type: ignore[list-item]
        base=(values["--base"] or [None])[-1],  # type: ignore[list-item]
        schema=tuple(values["--schema"]),
        judge_down="--judge-down" in flags,
        each="--each" in flags,
        cache="--no-cache" not in flags,
        trace="--no-trace" not in flags,
        selection=selection,
    )
    return run_gate(paths, options, output)


def _leave(code: int) -> NoReturn:
    """End the process without taking a million parse tree nodes apart: a fifth of a gate's time.

    Only where no server of ours runs, whose end is seen to at exit.
    """
    import os

    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def split(values: Sequence[str]) -> tuple[str, ...]:
    """``--select a,b --select c`` as one tuple."""
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


if __name__ == "__main__":
    main()
