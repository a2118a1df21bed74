"""What becomes of messages to several recipients if the broker or DNS does not answer."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from idlib.errors import NoRecordError, RefusedMessageError, TemporaryDiscoveryError, TransportError
from idlib.names import IdentityName
from messaging_sender import several_recipients
from messaging_sender.several_recipients import SenderToSeveral

NAMES = tuple(IdentityName(f"member{number}._device.example.com") for number in range(3))
SILENCE = TransportError("the broker did not acknowledge the message")


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> MagicMock:
    """Return a publisher that takes one message at a time, and makes of each a publication that is its topic."""
    created = MagicMock(window=1)
    created.__enter__.return_value = created
    created.publish.side_effect = lambda topic, _payload, _lifetime: topic
    for name in ("Broker", "MarkMemory", "OwnRecord", "Sealer", "KeyLog", "queue_message", "warn_if_nobody_sends"):
        monkeypatch.setattr(several_recipients, name, MagicMock())
    several_recipients.Broker.from_settings.return_value.topics.of = str  # type: ignore[attr-defined]
    monkeypatch.setattr(several_recipients, "has_waiting", lambda *_: False)
    monkeypatch.setattr(several_recipients, "explain_absence", lambda error, *_: error)
    monkeypatch.setattr(several_recipients, "Publisher", MagicMock(return_value=created))
    return created


def send(*names: IdentityName, queue: bool = False) -> int:
    arguments = SimpleNamespace(timeout=1, queue=queue, verbose=False, json=False, expires=None, content_type=None)
    return SenderToSeveral(MagicMock(), arguments, names, "hello").send()  # type: ignore[arg-type]


def test_a_message_that_is_no_longer_waited_for_is_withdrawn(publisher: MagicMock) -> None:
    publisher.wait.side_effect = [SILENCE, None]
    assert send(*NAMES[:2]) == 3
    assert [call.args for call in publisher.withdraw.call_args_list] == [(str(NAMES[0]),)]


def test_after_two_messages_without_an_answer_no_more_are_published(publisher: MagicMock) -> None:
    publisher.wait.side_effect = SILENCE
    assert send(*NAMES) == 3
    assert publisher.publish.call_count == 2


def test_two_messages_without_an_answer_do_not_count_if_one_between_them_has_one(publisher: MagicMock) -> None:
    publisher.wait.side_effect = [SILENCE, None, SILENCE, None]
    assert send(*NAMES, IdentityName("member3._device.example.com")) == 3
    assert publisher.publish.call_count == 4


def test_the_status_is_the_one_of_the_first_failed_recipient_as_they_were_given(
    publisher: MagicMock, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, delayed, refused = (IdentityName(name) for name in ("a.silent.test", "b.silent.test", "c.example.com"))
    failures = {str(silent): TemporaryDiscoveryError("no answer"), str(delayed): NoRecordError("none")}

    def seal(message: MagicMock) -> MagicMock:
        if message.recipient in failures:
            raise failures[message.recipient]
        return MagicMock()

    sealers = MagicMock()
    sealers.return_value.seal.side_effect = seal
    monkeypatch.setattr(several_recipients, "Sealer", sealers)
    publisher.wait.side_effect = RefusedMessageError("the broker refuses the message")
    # The first is queued.
    assert send(silent, delayed, refused, queue=True) == NoRecordError.exit_status != RefusedMessageError.exit_status
    # The second comes last, because it is in the domain that did not answer.
    sealed = [call.args[0].recipient for call in sealers.return_value.seal.call_args_list]
    assert sealed == [str(silent), str(refused), str(delayed)]
