"""The check that the MQTT library still is what our client builds on."""

import pytest
from paho.mqtt.client import Client

from idlib.errors import ConfigurationError
from idlib.transport.library import check_library


def test_the_library_that_is_installed_is_the_right_one() -> None:
    check_library()


def test_a_part_that_is_gone_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Client, "_packet_read")
    with pytest.raises(ConfigurationError, match=r"paho-mqtt 2\.\S+ cannot be used: Client\._packet_read ") as caught:
        check_library()
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


def test_a_part_that_is_called_differently_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_sock_recv", lambda self: b"")
    with pytest.raises(ConfigurationError, match="_sock_recv"):
        check_library()


def test_a_state_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Client.__init__

    def without(self: Client, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)  # type: ignore[arg-type]
        del self._msgtime_mutex

    monkeypatch.setattr(Client, "__init__", without)
    with pytest.raises(ConfigurationError, match="_msgtime_mutex"):
        check_library()
