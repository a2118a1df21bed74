from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import VARIABLES, DnssecPolicy, MqttVersion, OutputFormat, load
from tests.idlib.settings.loading import NAME, TEXTS


def test_only_the_identity_name_has_no_default() -> None:
    settings = load(NAME)
    assert str(settings.identity_name) == "alice._device.example.com"
    assert settings.crypto_path == Path("/identity")
    assert settings.data_path == Path("/data")
    assert settings.app_uid == 1001
    assert (settings.mqtt_host, settings.mqtt_port) == ("broker.hivemq.com", 1883)
    assert settings.mqtt_version is MqttVersion.V5
    assert settings.max_message_size == 65536
    assert settings.dnssec is DnssecPolicy.ON
    assert settings.dns_resolver is None
    assert settings.dnssec_trust_anchors is None
    assert settings.output_format is OutputFormat.TEXT


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("IDENTITY_NAME", "alice"),
        ("IDENTITY_NAME", "alice.example\x1b[2J"),
        ("APP_UID", "root"),
        ("APP_UID", "-1"),
        ("APP_UID", "4294967295"),
        ("APP_UID", "١"),
        ("MQTT_HOST", "mqtt://broker.example"),
        ("MQTT_HOST", "[::1]"),
        ("MQTT_HOST", "::1::"),
        ("MQTT_HOST", "broker..example"),
        ("MQTT_HOST", ".broker.example"),
        ("MQTT_HOST", "broker.example.."),
        ("MQTT_HOST", "x" * 64 + ".example"),
        ("MQTT_HOST", "x." * 126 + "xx"),
        ("MQTT_USERNAME", "a\udcffb"),
        ("MQTT_PORT", "0"),
        ("MQTT_PORT", "65536"),
        ("MQTT_PORT", "1883 "),
        ("MQTT_VERSION", "4"),
        ("MAX_MESSAGE_SIZE", "0"),
        ("MAX_MESSAGE_SIZE", "1e5"),
        ("MAX_MESSAGE_SIZE", "99999999999999999999"),
        ("DNS_RESOLVER", "resolver.example"),
        ("DNS_RESOLVER", "127.0.0.1:"),
        ("DNS_RESOLVER", "127.0.0.1:0"),
        ("DNS_RESOLVER", "127.0.0.1:99999"),
        ("DNS_RESOLVER", "[127.0.0.1]:53"),
        ("DNS_RESOLVER", "[::1"),
        ("DNS_RESOLVER", "::1]:53"),
        ("DNS_RESOLVER", "127.1"),
        ("DNSSEC", "never"),
        ("DNSSEC", "00"),
        ("DNSSEC", " off"),
        ("OUTPUT_FORMAT", "xml"),
        ("KEY_TYPE", "rsa1024"),
        ("COUNTRY", "USA"),
        ("ORGANIZATION", "x" * 65),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_reported_with_the_valid_values(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, name: text})
    (problem,) = caught.value.problems
    assert problem.startswith(f"Bad value of env var {name}: ")
    assert "; set it to " in problem
    assert problem.isascii()
    assert problem.isprintable()


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), TEXTS))
def test_any_environment_is_read_or_reported_as_wrong(environment: dict[str, str]) -> None:
    try:
        load(environment)
    except ConfigurationError as error:
        assert error.problems
