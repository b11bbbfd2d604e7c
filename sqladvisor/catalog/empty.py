"""The catalog of an audit that was given no schema.

Apart from the model, whose classes take longer to build than a small file takes to audit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sqladvisor.catalog.model import Catalog, Relation


class _Empty:
    """Answers what a Catalog answers when it knows nothing."""

    relations: dict[tuple[str, str], Relation] = {}  # noqa: RUF012 - never written to
    search_path = ("public",)
    extensions: frozenset[str] = frozenset()
    functions: dict[str, object] = {}  # noqa: RUF012
    server_version = None
    source = "ddl"
    collation_is_c = False

    def find(self, name: str, schema: str | None = None) -> None:
        return None

    def __bool__(self) -> bool:
        return False


EMPTY = cast("Catalog", _Empty())
