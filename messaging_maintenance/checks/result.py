"""What one check has found, and what the findings come to."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from idlib.errors import ExitStatus
from messaging_maintenance.checks.catalogue import IDS, OPTIONAL_IDS


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Item:
    """What one check has found.

    Args:
        id: One of `catalogue.IDS`.
        status: How it ended.
        evidence: What was seen, or why nothing could be; at least one character, and possibly a stranger's words.
        hint: What to do about it; empty if there is nothing to do.

    Raises:
        ValueError: There is no such id, or no evidence.
    """

    id: str
    status: Status
    evidence: str
    hint: str = ""

    def __post_init__(self) -> None:
        if self.id not in IDS or not self.evidence:
            raise ValueError(f"no item can have the id {self.id!r} and the evidence {self.evidence!r}")


def ok(identifier: str, evidence: str) -> Item:
    """Return what is as it should be.

    Args:
        identifier: The check's id.
        evidence: What was seen.
    """
    return Item(identifier, Status.OK, evidence)


def warn(identifier: str, evidence: str, hint: str) -> Item:
    """Return what works now, but deserves attention.

    Args:
        identifier: The check's id.
        evidence: What was seen.
        hint: What to do.
    """
    return Item(identifier, Status.WARN, evidence, hint)


def fail(identifier: str, evidence: str, hint: str) -> Item:
    """Return what does not work.

    Args:
        identifier: The check's id.
        evidence: What was seen.
        hint: What to do.
    """
    return Item(identifier, Status.FAIL, evidence, hint)


def skip(identifier: str, evidence: str, hint: str = "") -> Item:
    """Return what could not be checked.

    Args:
        identifier: The check's id.
        evidence: Why not.
        hint: What to do.
    """
    return Item(identifier, Status.SKIP, evidence, hint)


def exit_status(items: Iterable[Item]) -> ExitStatus:
    """Return the exit status that the findings come to: a failure counts more than what could not be checked.

    Args:
        items: What was found.
    """
    statuses = {item.status for item in items if item.status is not Status.SKIP or item.id not in OPTIONAL_IDS}
    if Status.FAIL in statuses:
        return ExitStatus.CHECK_FAILED
    return ExitStatus.NOT_CHECKED if Status.SKIP in statuses else ExitStatus.OK
