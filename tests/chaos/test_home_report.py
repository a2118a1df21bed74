"""The comparison at the end of `make chaos`: what was reported as sent, and what the local broker passed on."""

import json

import pytest

from chaos.delivery_report import GROUP_SIZE, DeliveryReport, ReceiverRun
from chaos.home_listener import Arrival
from chaos.home_report import HomeReport
from chaos.reports import Promise

SENDER = "alice._device.example.test"


def inward(text: str, sender: str = SENDER) -> Arrival:
    return Arrival(f"messenger/in/{SENDER}", json.dumps({"sender": sender, "message": text}).encode())


def outward(text: str) -> Arrival:
    return Arrival("messenger/out/bob._device.example.test", text.encode())


def report(*arrivals: Arrival, promised: str = "", published: str = "", faults: int = 0) -> HomeReport:
    promises = frozenset(Promise(text, "--lines", "acknowledged") for text in promised)
    return HomeReport(promises, arrivals, frozenset(published), "messenger", faults)


def test_a_message_that_never_arrived_at_home_is_lost() -> None:
    found = report(inward("a"), promised="ab")
    assert [promise.text for promise in found.lost] == ["b"]
    assert not found.is_good


def test_what_is_on_other_topics_has_not_arrived() -> None:
    found = report(outward("a"), Arrival("messenger/status", b"online"), promised="a", published="a")
    assert [promise.text for promise in found.lost] == ["a"]
    assert not found.circling


def test_copies_without_a_fault_are_not_good() -> None:
    found = report(inward("a"), inward("a"), promised="a")
    assert (found.arrived, found.repeated) == (1, 1)
    assert not found.is_good


def test_a_fault_explains_a_group_of_copies() -> None:
    texts = [chr(ord("a") + number) for number in range(GROUP_SIZE)]
    arrivals = [inward(text) for text in texts] * 2
    assert report(*arrivals, faults=1).is_good
    assert not report(*arrivals, inward("a"), faults=1).is_good


def test_more_copies_of_one_message_than_faults_explain_show_a_loop() -> None:
    assert report(*[inward("a")] * 4, faults=1).circling == ("a",)
    assert not report(*[inward("a")] * 3, faults=1).circling


def test_what_nobody_has_published_on_out_shows_a_loop() -> None:
    found = report(inward("a"), outward("a"), promised="a", published="b")
    assert found.circling == ("messenger/out/bob._device.example.test",)
    assert not found.is_good


def test_a_message_on_the_topic_of_another_sender_is_an_error() -> None:
    with pytest.raises(ValueError, match="a message of carol"):
        report(inward("a", "carol._device.example.test")).arrived  # noqa: B018  # the property raises


def test_a_message_that_the_bridge_sends_again_is_not_a_replay() -> None:
    runs = (ReceiverRun(("a", "a", "b", "b"), was_killed=False),)
    found = DeliveryReport(frozenset(), runs, frozenset({"a"}))
    assert (found.sent_again, found.replayed, found.repeated) == (1, 1, 0)
