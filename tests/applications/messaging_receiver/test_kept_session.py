"""What the receiver remembers of its session: separately for each client id, and without the client id itself."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from idlib.storage.replay import ReplayMemory
from idlib.transport.session import LastSession
from messaging_receiver.state import KeptSession

BROKER = "broker.example:1883"


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[ReplayMemory]:
    with ReplayMemory(tmp_path) as opened:
        yield opened


def session(seconds_ago: int = 0, expiry: int | None = 600) -> str:
    return str(LastSession(BROKER, int(time.time()) - seconds_ago, expiry))


def test_each_client_id_has_a_session_of_its_own(memory: ReplayMemory) -> None:
    kept = {client_id: KeptSession(memory, client_id) for client_id in (None, "fleet-1", "fleet-2")}
    for client_id, each in kept.items():
        each.note(f"session of {client_id}")
    assert {client_id: each.recall() for client_id, each in kept.items()} == {
        client_id: f"session of {client_id}" for client_id in kept
    }


def test_a_fixed_client_id_is_not_stored(memory: ReplayMemory, tmp_path: Path) -> None:
    KeptSession(memory, "the-id-itself").note(session())
    memory.close()
    assert not any(b"the-id-itself" in path.read_bytes() for path in tmp_path.iterdir() if path.is_file())


@pytest.mark.parametrize(
    ("earlier", "is_told"),
    [(None, False), (session(), True), (session(expiry=None), True), (session(seconds_ago=3600), False)],
    ids=["none", "alive", "unlimited", "expired"],
)
def test_an_earlier_session_is_reported_while_it_should_exist(
    earlier: str | None,
    is_told: bool,  # noqa: FBT001
    memory: ReplayMemory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if earlier is not None:
        KeptSession(memory).note(earlier)
    fixed = KeptSession(memory, "fleet-1")
    assert fixed.recall() is None
    assert ("MQTT_CLIENT_ID begins a new session" in caplog.text) == is_told
    fixed.note(session())
    caplog.clear()
    assert KeptSession(memory, "fleet-1").recall() is not None
    assert caplog.messages == []
