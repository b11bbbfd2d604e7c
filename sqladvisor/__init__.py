"""sqladvisor: a query optimization advisor for PostgreSQL that proves what it says."""

__version__ = "0.1.0"
