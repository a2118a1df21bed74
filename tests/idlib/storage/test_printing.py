"""A receiver that is alone may print every message, and finishes messages in both stores."""

from pathlib import Path

from idlib.storage import Claim, Printed, WaitingMessage
from idlib.storage.printing import SolePrinting
from idlib.storage.replay import ReplayMemory
from idlib.storage.waiting import WaitingMessages
from tests.idlib.storage.replaying import ALICE, NOW, PRINTED, entry


def test_every_message_is_claimed_and_a_finished_one_is_remembered_and_no_longer_waits(tmp_path: Path) -> None:
    one, other = entry("one"), entry("other")
    with ReplayMemory(tmp_path) as memory, WaitingMessages(tmp_path) as waiting:
        printing = SolePrinting(memory, waiting)
        waiting.change([waiting_message(number) for number in (1, 2)], ())
        assert printing.claim([one, other]) == (Claim.CLAIMED, Claim.CLAIMED)
        assert printing.may_print(one)
        printing.finish([Printed(one, "example", b"key")], [1], NOW)
        assert memory.verdict(one) is PRINTED
        assert memory.verdict(other) is not PRINTED
        assert [waits.number for waits in waiting.index()] == [2]


def waiting_message(number: int) -> WaitingMessage:
    return WaitingMessage(
        number=number,
        sender=ALICE,
        digest=number.to_bytes(32),
        identifier=number.to_bytes(16),
        issued_at=NOW,
        received_at=NOW,
        deferred_at=0.0,
        is_asked_again=False,
        is_reserved=False,
        signed="a.b.c",
    )
