"""What the resident sender reports, read while the outbox is open in the same process."""

import threading
import time
from pathlib import Path

import pytest

from idlib.errors import StoreError
from idlib.metrics import Reading
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from messaging_sender.bounds import PATIENCE_SECONDS
from messaging_sender.delivery_counters import DeliveryCounters
from messaging_sender.metrics import readings

BOB = "bob._device.example.com"


@pytest.fixture
def counters() -> DeliveryCounters:
    return DeliveryCounters()


def read(counters: DeliveryCounters) -> dict[str, object]:
    def value_of(reading: Reading) -> object:
        return reading.values.get((), "a histogram")

    return {reading.metric.name.removeprefix("dane_messenger_"): value_of(reading) for reading in readings(counters)}


def put(outbox: Outbox, identifier: str, queued_at: float) -> None:
    outbox.put(NewOutgoingMessage(BOB, identifier, "text", int(queued_at), None))


def test_before_the_outbox_was_read_the_sender_is_unhealthy_and_its_content_unknown(counters: DeliveryCounters) -> None:
    found = read(counters)
    assert found["healthy"] == 0
    assert not [name for name in found if name.startswith("outbox")]


def test_an_empty_outbox_is_healthy(counters: DeliveryCounters) -> None:
    counters.note_empty()
    found = read(counters)
    assert (found["healthy"], found["outbox_messages"], found["outbox_bytes"]) == (1, 0, 0)
    assert "outbox_oldest_timestamp_seconds" not in found


def test_messages_that_wait_for_too_long_make_it_unhealthy(counters: DeliveryCounters, tmp_path: Path) -> None:
    now = int(time.time())
    with Outbox(tmp_path) as outbox, counters.reading(outbox):
        put(outbox, "new", now)
        assert read(counters)["healthy"] == 1
        put(outbox, "old", now - PATIENCE_SECONDS - 10)
        found = read(counters)
        assert (found["healthy"], found["outbox_messages"]) == (0, 2)
        assert found["outbox_oldest_timestamp_seconds"] == now - PATIENCE_SECONDS - 10
        assert found["outbox_bytes"] == outbox.size() == 2 * (len("text") + 200)
    assert read(counters)["healthy"] == 0


def test_an_outbox_that_cannot_be_read_is_unknown(counters: DeliveryCounters, tmp_path: Path) -> None:
    with Outbox(tmp_path) as outbox:
        pass
    with counters.reading(outbox):
        with pytest.raises(StoreError):
            counters.content()
        found = read(counters)
    assert (found["healthy"], "outbox_messages" in found) == (0, False)


def test_what_is_done_is_counted(counters: DeliveryCounters) -> None:
    counters.count_delivered()
    counters.count_delivered()
    counters.count_dropped()
    counters.note_connection(is_connected=True)
    found = read(counters)
    assert (found["messages_delivered_total"], found["messages_dropped_total"], found["connected"]) == (2, 1, 1)
    counters.note_connection(is_connected=False)
    assert read(counters)["connected"] == 0


def test_it_is_read_while_messages_are_queued_and_removed(counters: DeliveryCounters, tmp_path: Path) -> None:
    is_done = threading.Event()
    numbers: list[object] = []

    def watch() -> None:
        while not is_done.is_set():
            numbers.append(read(counters)["outbox_messages"])

    with Outbox(tmp_path) as outbox, counters.reading(outbox):
        watching = threading.Thread(target=watch)
        watching.start()
        for number in range(20):
            put(outbox, str(number), time.time())
            message = outbox.next_to(BOB, 0)
            assert message is not None
            outbox.remove(message.number)
        is_done.set()
        watching.join(10)
    assert set(numbers) <= {0, 1}
