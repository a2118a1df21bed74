"""What becomes of a message to one of several recipients if the broker does not acknowledge it."""

from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from idlib.errors import TransportError
from idlib.names import IdentityName
from messaging_sender import group
from messaging_sender.group import GroupSender

NAMES = tuple(IdentityName(f"member{number}._device.example.com") for number in range(2))


def test_a_message_that_is_no_longer_waited_for_is_withdrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    publisher = MagicMock(window=1)
    publisher.__enter__.return_value = publisher
    publisher.publish.side_effect = lambda topic, _payload, _lifetime: topic
    publisher.wait.side_effect = [TransportError("the broker did not acknowledge the message"), None]
    for name in ("Broker", "MarkMemory", "OwnRecord", "Sealer", "KeyLog"):
        monkeypatch.setattr(group, name, MagicMock())
    monkeypatch.setattr(group, "Publisher", MagicMock(return_value=publisher))
    arguments = SimpleNamespace(timeout=1, queue=False, verbose=False, json=False, expires=None, content_type=None)
    sender = GroupSender(MagicMock(), arguments, NAMES, "hello")  # type: ignore[arg-type]
    assert sender.send() == 3
    assert [call.args for call in publisher.withdraw.call_args_list] == [(str(NAMES[0]),)]
