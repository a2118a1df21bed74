"""The settings that a program gives to a `Sender` or `Receiver`."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dane_messenger import Receiver
from dane_messenger.configuration import environment_with
from idlib.errors import ConfigurationError
from idlib.settings import VARIABLES, load


def test_without_settings_it_is_the_environment_of_this_process() -> None:
    assert environment_with(None) == environment_with({}) == dict(os.environ)


def test_settings_replace_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_HOST", "one.example.com")
    monkeypatch.setenv("MQTT_PORT", "1")
    before = dict(os.environ)
    environment = environment_with({"MQTT_PORT": 1884, "CRYPTO_PATH": Path("/identity"), "DNSSEC": "on"})
    assert environment == before | {"MQTT_PORT": "1884", "CRYPTO_PATH": "/identity", "DNSSEC": "on"}
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("MQTT_HSOT", "'MQTT_HSOT' is not a setting; did you mean MQTT_HOST?"),
        ("mqtt_host", "'mqtt_host' is not a setting; did you mean MQTT_HOST?"),
        ("LD_PRELOAD", "'LD_PRELOAD' is not a setting; docs/settings.md lists them"),
        ("\u2028", "'\\u2028' is not a setting; docs/settings.md lists them"),
    ],
)
def test_a_name_that_is_not_a_setting_is_an_error(name: str, problem: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        environment_with({name: "value"})
    assert raised.value.problems == (problem,)


def test_a_url_replaces_the_broker_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_HOST", "one.example.com")
    monkeypatch.setenv("MQTT_TLS", "on")
    given = {"IDENTITY_NAME": "alice._device.example.com", "MQTT_URL": "mqtt://two.example.com"}
    assert load(environment_with(given)).mqtt_host == "two.example.com"


def test_a_host_replaces_the_url_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_URL", "mqtts://one.example.com")
    given = {"IDENTITY_NAME": "alice._device.example.com", "MQTT_HOST": "two.example.com"}
    assert load(environment_with(given)).mqtt_host == "two.example.com"


def test_a_url_beside_a_host_of_the_same_program_is_an_error() -> None:
    given = {"IDENTITY_NAME": "alice._device.example.com", "MQTT_HOST": "a.example", "MQTT_URL": "mqtt://a.example"}
    with pytest.raises(ConfigurationError, match="unset one of them"):
        load(environment_with(given))


def test_a_receiver_that_would_get_no_message_is_an_error() -> None:
    settings = {
        "IDENTITY_NAME": "alice._device.example.com",
        "LOCAL_MQTT_URL": "mqtt://127.0.0.1",
        "LOCAL_MQTT_ONLY": "on",
    }
    with pytest.raises(ConfigurationError, match=r"^LOCAL_MQTT_ONLY is on: .*; unset it$"):
        Receiver(settings)


@pytest.mark.parametrize("value", [None, True, 1.5, b"bytes", "a\0b", "\ud800", ["list"]])
def test_a_value_that_no_environment_variable_can_have_is_an_error(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"^Bad value of MQTT_HOST: .*; give a string, an integer or a path$"):
        environment_with({"MQTT_HOST": value})  # type: ignore[dict-item]  # as a program without a type checker may


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as raised:
        environment_with({"MQTT_HSOT": "host", "MQTT_PORT": False, "CRYPTO_PATH": "/identity"})
    assert len(raised.value.problems) == 2


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), st.text() | st.integers()))
def test_any_setting_is_passed_on_unchanged_or_is_an_error(settings: "dict[str, str | int]") -> None:
    try:
        environment = environment_with(settings)
    except ConfigurationError:
        assert any(isinstance(value, str) for value in settings.values())
    else:
        assert {name: environment[name] for name in settings} == {name: str(value) for name, value in settings.items()}
        assert all(b"\0" not in os.fsencode(value) for value in environment.values())
