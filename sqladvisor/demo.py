"""The demo: the main job on the shop fixture, with an embedded server and a million orders."""

from __future__ import annotations

import os

from sqladvisor.auditor import SERVER_KINDS, Audited
from sqladvisor.auditor import Options as AuditOptions
from sqladvisor.auditor import finish as audit_report
from sqladvisor.command import Output, finish, guarded, progress
from sqladvisor.config import Config
from sqladvisor.engine import Engine
from sqladvisor.errors import InputError
from sqladvisor.modules import load_module
from sqladvisor.rule import load_rules


def shop() -> str:
    """The directory of the shop fixture (installed, or in a checkout). Raises InputError."""
    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (
        os.path.join(here, "_fixtures"),
        os.path.join(os.path.dirname(here), "fixtures"),
    ):
        path = os.path.join(folder, "shop")
        if os.path.isfile(os.path.join(path, "queries.sql")):
            return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path
    raise InputError("the shop fixture is missing from this installation: reinstall sqladvisor")


def run_demo(scale: float, postgres_bin: str | None, output: Output) -> int:
    """Audit the shop's queries on generated rows; ``scale`` 1.0 is 200,000 users, 1 M orders."""

    def job() -> int:
        from sqladvisor.evidence import audit_with_server

        folder = shop()
        generator = load_module(os.path.join(folder, "generate.py"), "sqladvisor_shop_generate")
        options = AuditOptions(
            schema=(os.path.join(folder, "schema.sql"),),
            analyze=True,
            postgres_bin=postgres_bin,
        )
        engine = Engine(load_rules(SERVER_KINDS))
        audited = Audited()
        say = progress(output) or (lambda _: None)
        audit_with_server(
            [os.path.join(folder, "queries.sql")],
            options,
            engine,
            audited,
            say,
            rows=lambda: generator.tables(scale),
        )
        return finish(
            audit_report(engine, audited, options), Config(), output, default_fail_on="never"
        )

    return guarded(job)
