"""The errors sqladvisor raises. Each carries its cause and its cure in one line.

Only the command line turns them into text and an exit code.
"""


class SqladvisorError(Exception):
    """Base of every error a user can cause or must hear about."""


class InputError(SqladvisorError):
    """A file, pattern, option or configuration that cannot be used."""


class ServerError(SqladvisorError):
    """A PostgreSQL server that cannot be started, reached or used."""
