"""The columns of the table `waiting` that every engine has: the fields of a `WaitingHeader`, with the same names."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

from idlib.storage.values import WaitingHeader

HEADER: Final = tuple(field.name for field in fields(WaitingHeader))


def header_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a `WaitingHeader`, by their names.

    Args:
        row: The columns of `HEADER`, and perhaps more, which are ignored.
    """
    header = dict(zip(HEADER, row, strict=False))
    # SQLite has numbers instead.
    return {**header, "is_asked_again": bool(header["is_asked_again"]), "is_reserved": bool(header["is_reserved"])}


def columns_of(header: WaitingHeader) -> tuple[object, ...]:
    """Return the values of the columns of `HEADER`.

    Args:
        header: A message.
    """
    return tuple(getattr(header, name) for name in HEADER)
