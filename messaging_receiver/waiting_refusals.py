"""Reason and fact of each refusal of a deferred message that was not decided about."""

from idlib.errors import Reason
from messaging_receiver.waiting_index import Rank


def without_room(sender: object, rank: Rank | None) -> tuple[Reason, str]:
    """Return why a message is refused if the store has no room for it.

    Args:
        sender: The sender's name.
        rank: The rank of the message; None if it has none.
    """
    if rank is Rank.ABSENT:
        return (
            Reason.SENDER_WITHOUT_RECORD,
            f"{sender} has no TLSA record, and too many messages from such names are deferred",
        )
    return Reason.WAITING_FULL, f"too many messages are deferred; there is no room for one from {sender}"


def overdue(sender: object, waited: float) -> tuple[Reason, str]:
    """Return why a message is refused that has waited for too long.

    Args:
        sender: The sender's name.
        waited: For how many seconds it has waited.
    """
    return Reason.WAITED_TOO_LONG, f"a message from {sender} has waited for {waited / 3600:.0f} h"
