"""Data classes of which a run makes tens of thousands: frozen for the type checker only.

Python makes a frozen instance by ``object.__setattr__``, field by field, which takes five times as long
(measured) and was a tenth of the gate's time. mypy --strict, which every change passes, forbids the
assignments all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(*, frozen, slots):
        """What ``dataclass(frozen=True, slots=True)`` does, but for refusing assignments."""
        from dataclasses import dataclass

        assert frozen
        return dataclass(slots=slots, unsafe_hash=True)
