"""Which kind of key a message was encrypted to: in the output, in the counters, and for REQUIRE_FORWARD_SECRECY."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from idlib.envelope import encrypt
from idlib.keys import encode_private_key, key_path
from messaging_receiver.workers.epoch_ring import EpochRing
from messaging_receiver.workers.key_ring import KeyRing
from messaging_receiver.workers.process import Worker
from testbed.forge import flattened, jws
from tests.applications.messaging_receiver.waiting import OUT
from tests.applications.messaging_receiver.workers.threads import ThreadStarter
from tests.applications.messaging_receiver.world import (
    ALICE,
    BOB,
    DAVE,
    EPOCHS,
    KEYS,
    World,
    open_world,
    sealed,
)

Start = Callable[..., World]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr("messaging_receiver.deferral.FIRST_RETRY_SECONDS", 0.2)
    with ExitStack() as stack:
        yield lambda *starter, **settings: stack.enter_context(open_world(tmp_path, *starter, **settings))


def shown(world: World) -> list[tuple[Any, ...]]:
    return [(line["message"], line["sealed"]) for line in world.printed]  # type: ignore[index]


def test_json_and_the_status_line_tell_the_kind_of_key(start: Start) -> None:
    world = start(OUTPUT_FORMAT="json")
    world.deliver(sealed("to the identity"))
    for text in ("to the epoch", "another"):
        world.deliver(sealed(text, to=EPOCHS.public))
    world.wait_for(lambda: len(world.printed) == 3)
    assert shown(world) == [("to the identity", "identity"), ("to the epoch", "epoch"), ("another", "epoch")]
    world.wait_for(lambda: "printed=3 refused=0 sealed_identity=1 sealed_epoch=2" in world.counters)


def test_a_refused_message_is_not_counted_by_its_kind_of_key(start: Start) -> None:
    world = start()
    world.deliver(sealed("forged", key=KEYS[DAVE], to=EPOCHS.public))
    world.wait_for(lambda: "refused=1" in world.counters)
    assert world.counters.endswith("sealed_identity=0 sealed_epoch=0")


def test_a_deferred_message_keeps_its_kind_of_key_over_a_restart(tmp_path: Path) -> None:
    with open_world(tmp_path, OUTPUT_FORMAT="json") as world:
        world.dns.answers[ALICE] = OUT
        world.deliver(sealed("to the epoch", to=EPOCHS.public))
        world.deliver(sealed("to the identity"))
        world.wait_for(lambda: len(world.stored()) == 2)
    with open_world(tmp_path, OUTPUT_FORMAT="json") as world:
        world.wait_for(lambda: len(world.printed) == 2)
    assert shown(world) == [("to the epoch", "epoch"), ("to the identity", "identity")]


def test_a_message_held_in_memory_keeps_its_kind_of_key(start: Start) -> None:
    world = start(OUTPUT_FORMAT="json")
    answered = threading.Event()
    world.dns.answers[ALICE] = answered
    world.deliver(sealed("to the epoch", to=EPOCHS.public))
    answered.set()
    world.wait_for(lambda: len(world.printed) == 1)
    assert shown(world) == [("to the epoch", "epoch")]


def test_workers_tell_the_kind_of_key(start: Start, tmp_path: Path) -> None:
    key_path(tmp_path, BOB).write_bytes(encode_private_key(KEYS[BOB]))
    world = start(
        ThreadStarter(lambda: Worker(BOB, KeyRing(tmp_path, BOB), EpochRing(tmp_path / "none", BOB))),
        OUTPUT_FORMAT="json",
    )
    world.deliver(sealed("to the identity"))
    world.deliver(sealed("to the epoch", to=EPOCHS.public))
    world.wait_for(lambda: len(world.printed) == 2)
    assert shown(world) == [("to the identity", "identity"), ("to the epoch", "epoch")]


def test_an_unbound_message_to_an_epoch_key_is_refused_whatever_the_settings_say(start: Start) -> None:
    world = start()
    header = {"alg": "ES256", "x5u": f"dns://{ALICE}?type=TLSA"}
    signed = flattened(jws(KEYS[ALICE], header, b"unbound")).decode()
    for key in (EPOCHS.public, KEYS[BOB].public):
        world.deliver(encrypt(signed, recipient=BOB, encryption_key=key))
    world.wait_for(lambda: len(world.settled) == 2)
    assert world.printed == ["alice.example says: unbound"]
    assert "refused=1 refused_unbound=1" in world.counters


@pytest.mark.parametrize("required", ["all", "alice.example", "*.example", "@file"])
def test_a_message_to_the_identity_key_is_refused_if_its_sender_must_use_epoch_keys(
    start: Start, tmp_path: Path, required: str
) -> None:
    file = tmp_path / "names"
    file.write_text("alice.example\n")
    world = start(REQUIRE_FORWARD_SECRECY=f"@{file}" if required == "@file" else required)
    world.deliver(sealed("to the identity"))
    world.deliver(sealed("to the epoch", to=EPOCHS.public))
    world.deliver(sealed("from Dave", DAVE))
    world.wait_for(lambda: len(world.settled) == 3)
    assert "alice.example says: to the identity" not in world.printed
    assert "alice.example says: to the epoch" in world.printed
    assert ("dave.test says: from Dave" in world.printed) == (required != "all")
    assert f"refused_not-forward-secret={2 if required == 'all' else 1}" in world.counters


def test_dns_is_not_asked_for_a_message_that_is_not_forward_secret(start: Start) -> None:
    world = start(REQUIRE_FORWARD_SECRECY="all")
    world.dns.answers[ALICE] = OUT
    world.deliver(sealed("to the identity"))
    world.wait_for(lambda: len(world.settled) == 1)
    assert "refused_not-forward-secret=1" in world.counters
    assert world.dns.asked == []


def test_a_message_that_was_deferred_is_judged_by_the_setting_of_now(tmp_path: Path) -> None:
    with open_world(tmp_path) as world:
        world.dns.answers[ALICE] = OUT
        world.deliver(sealed("to the identity"))
        world.deliver(sealed("to the epoch", to=EPOCHS.public))
        world.wait_for(lambda: len(world.stored()) == 2)
    with open_world(tmp_path, REQUIRE_FORWARD_SECRECY="all") as world:
        world.wait_for(lambda: len(world.printed) == 1 and world.stored() == [])
    assert world.printed == ["alice.example says: to the epoch"]
    assert "refused_not-forward-secret=1" in world.counters
