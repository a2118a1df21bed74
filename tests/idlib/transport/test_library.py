"""The check that the MQTT library has the parts that our client uses."""

import pytest
from paho.mqtt.client import Client

from idlib.errors import ConfigurationError
from idlib.transport.library import check_library


def test_the_installed_library_is_compatible() -> None:
    check_library()


def test_a_missing_part_is_reported_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(Client, "_packet_read")
    with pytest.raises(ConfigurationError, match=r"paho-mqtt 2\.\S+ cannot be used: Client\._packet_read ") as caught:
        check_library()
    assert len(caught.value.problems) == 1
    assert "\n" not in caught.value.problems[0]


def test_a_part_with_other_parameters_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Client, "_sock_recv", lambda self: b"")
    with pytest.raises(ConfigurationError, match="_sock_recv"):
        check_library()


def test_a_missing_state_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Client.__init__

    def without(self: Client, *arguments: object, **options: object) -> None:
        begin(self, *arguments, **options)  # type: ignore[arg-type]
        del self._msgtime_mutex

    monkeypatch.setattr(Client, "__init__", without)
    with pytest.raises(ConfigurationError, match="_msgtime_mutex"):
        check_library()
