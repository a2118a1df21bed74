"""Which threads of the receiver count as stuck."""

import threading
import time
from dataclasses import replace
from typing import Any

from idlib.transport import Delivery
from messaging_receiver.application import AUTHENTICATED_MESSAGES, ENCRYPTED_MESSAGES, _ingest
from messaging_receiver.context import Movements
from messaging_receiver.stage import Stage
from tests.applications.messaging_receiver.world import World


def test_the_thread_that_was_inactive_for_longest_is_found() -> None:
    movements = Movements()
    assert movements.stillest() is None
    for name in ("first", "second"):
        thread = threading.Thread(target=movements.note, name=name)
        thread.start()
        thread.join()
        time.sleep(0.01)
    stillest = movements.stillest()
    assert stillest is not None
    assert stillest[0] == "first"


def test_a_thread_that_rests_is_not_inactive() -> None:
    movements = Movements()
    movements.note()
    movements.rest()
    movements.rest()
    assert movements.stillest() is None


def test_the_thread_that_waits_for_messages_is_not_stuck_while_none_arrives(world: World) -> None:
    # Without the threads of the other stages.
    context = replace(world.context, movements=Movements())
    reception: Stage[Any] = Stage(context, ENCRYPTED_MESSAGES, AUTHENTICATED_MESSAGES)
    thread = threading.Thread(target=_ingest, args=(reception, Delivery(b"a message", time.time())), name="MQTT-Ingest")
    thread.start()
    thread.join()
    assert ENCRYPTED_MESSAGES.get_nowait().payload == b"a message"
    assert context.movements.stillest() is None
