"""Prints what the checks have found: for people, in colour on a terminal, or as one JSON object for programs."""

from collections.abc import Mapping, Sequence
from typing import Final

from idlib.errors import ExitStatus
from idlib.names import IdentityName
from idlib.output import counted, harmless, json_object
from messaging_maintenance.checks.result import Item, Status, exit_status

_COLOURS: Final = {Status.OK: "32", Status.WARN: "33", Status.FAIL: "31", Status.SKIP: "36"}
_RESULTS: Final = {
    ExitStatus.OK: "healthy",
    ExitStatus.CHECK_FAILED: "failed",
    ExitStatus.NOT_CHECKED: "not checked",
}
_MAX_CHARACTERS: Final = 1000


def is_coloured(environment: Mapping[str, str], *, is_terminal: bool) -> bool:
    """Return whether the text is coloured: on a terminal, unless NO_COLOR is set (https://no-color.org).

    Args:
        environment: Usually `os.environ`.
        is_terminal: Whether stdout is a terminal.
    """
    return is_terminal and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def as_text(name: IdentityName, items: Sequence[Item], *, coloured: bool) -> str:
    """Return the findings as lines for people.

    Args:
        name: The name that was checked.
        items: What was found.
        coloured: Whether the status of each is coloured.
    """
    width = max(len(item.id) for item in items)
    lines = [f"Checks of {name}:"]
    for item in items:
        status = f"{item.status:4}"
        if coloured:
            status = f"\x1b[{_COLOURS[item.status]}m{status}\x1b[0m"
        lines.append(f"{status}  {item.id:{width}}  {_shown(item.evidence)}")
        if item.hint:
            lines.append(f"      {'':{width}}  hint: {_shown(item.hint)}")
    numbers = {status: sum(item.status is status for item in items) for status in Status}
    lines.append(
        f"{_RESULTS[exit_status(items)]}: {numbers[Status.OK]} ok, {counted(numbers[Status.WARN], 'warning')},"
        f" {counted(numbers[Status.FAIL], 'failure')}, {numbers[Status.SKIP]} not checked"
    )
    return "\n".join(lines)


def as_json(name: IdentityName, items: Sequence[Item]) -> str:
    """Return the findings as one JSON object on one line.

    Args:
        name: The name that was checked.
        items: What was found.
    """
    status = exit_status(items)
    return json_object(
        {
            "name": str(name),
            "result": _RESULTS[status],
            "status": int(status),
            "items": [
                {
                    "id": item.id,
                    "status": str(item.status),
                    "evidence": item.evidence[:_MAX_CHARACTERS],
                    "hint": item.hint[:_MAX_CHARACTERS],
                }
                for item in items
            ],
        }
    )


def _shown(text: str) -> str:
    return harmless(text[:_MAX_CHARACTERS])
