import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import (
    MAINTENANCE_READS,
    RECEIVER_READS,
    MqttScheme,
    MqttUrl,
    SecretValueError,
    Switch,
    load,
    read_mqtt_url,
)
from tests.idlib.settings.loading import NAME, TEXTS, problem

MQTT, MQTTS, WS, WSS = MqttScheme


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mqtt://broker.example", MqttUrl(MQTT, "broker.example", 1883)),
        ("mqtts://broker.example.", MqttUrl(MQTTS, "broker.example", 8883)),
        ("ws://broker.example", MqttUrl(WS, "broker.example", 80, "/mqtt")),
        ("wss://broker.example", MqttUrl(WSS, "broker.example", 443, "/mqtt")),
        ("wss://broker.example/", MqttUrl(WSS, "broker.example", 443, "/")),
        ("wss://broker.example:8443/a/b%20c", MqttUrl(WSS, "broker.example", 8443, "/a/b%20c")),
        ("ws://broker.example/a:b@c", MqttUrl(WS, "broker.example", 80, "/a:b@c")),
        ("mqtt://broker.example/", MqttUrl(MQTT, "broker.example", 1883)),
        ("MQTTS://Broker.example:443", MqttUrl(MQTTS, "Broker.example", 443)),
        ("mqtt://192.0.2.1:1", MqttUrl(MQTT, "192.0.2.1", 1)),
        ("mqtt://[2001:DB8::1]", MqttUrl(MQTT, "2001:db8::1", 1883)),
        ("mqtt://[fe80::1%25eth0]:65535", MqttUrl(MQTT, "fe80::1%eth0", 65535)),
        ("mqtts://alice@broker.example", MqttUrl(MQTTS, "broker.example", 8883, user="alice")),
        ("mqtts://a%40b%3Ac%2F%C3%BC@broker.example", MqttUrl(MQTTS, "broker.example", 8883, user="a@b:c/\u00fc")),
    ],
)
def test_a_url_is_read(text: str, url: MqttUrl) -> None:
    assert read_mqtt_url(text) == url
    assert read_mqtt_url(str(url)) == url


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("broker.example", "does not start with mqtt://, mqtts://, ws:// or wss://"),
        ("alice:secret@broker.example", "does not start with mqtt://, mqtts://, ws:// or wss://"),
        ("mqtt:broker.example", "does not start with mqtt://, mqtts://, ws:// or wss://"),
        ("http://broker.example", "has another scheme than mqtt://, mqtts://, ws:// and wss://"),
        ("tcp://broker.example:1883", "has another scheme than mqtt://, mqtts://, ws:// and wss://"),
        ("://broker.example", "has another scheme than mqtt://, mqtts://, ws:// and wss://"),
        ("mqtts://alice:secret@broker.example", "contains a password, which belongs in a file"),
        ("mqtts://alice:se@cret@broker.example", "contains a password, which belongs in a file"),
        ("mqtts://alice:@broker.example", "contains a password, which belongs in a file"),
        ("mqtt://", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt:///mqtt", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt://:1883", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt://broker..example", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt://broker.example\r\n", "ends with white space, which is not part of a URL"),
        (" mqtt://broker.example", "begins with white space, which is not part of a URL"),
        ('"mqtt://broker.example"', "begins with a quotation mark, which is not part of a URL"),
        ("'wss://broker.example/mqtt'", "begins with a quotation mark, which is not part of a URL"),
        ('wss://broker.example/mqtt"', "ends with a quotation mark, which is not part of a URL"),
        ("mqtt://broker.example\u201d", "ends with a quotation mark, which is not part of a URL"),
        ("mqtt://b\u00fccher.example", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt://[192.0.2.1]", "has no host, or one that is neither a name nor an IP address"),
        ("mqtt://[::1", "has an IPv6 address without brackets, or more than one port"),
        ("mqtt://2001:db8::1", "has an IPv6 address without brackets, or more than one port"),
        ("mqtt://broker.example:", "has a port that is not a number from 1 to 65535"),
        ("mqtt://broker.example:0", "has a port that is not a number from 1 to 65535"),
        ("mqtt://broker.example:65536", "has a port that is not a number from 1 to 65535"),
        ("mqtt://broker.example:mqtt", "has a port that is not a number from 1 to 65535"),
        ("mqtt://[::1]:", "has a port that is not a number from 1 to 65535"),
        ("mqtt://[::1]:\u0661", "has a port that is not a number from 1 to 65535"),
        ("mqtt://broker.example/mqtt", "has a path, which only ws:// and wss:// have"),
        ("mqtts://broker.example//", "has a path, which only ws:// and wss:// have"),
        ("wss://broker.example/mqtt?token=secret", "contains a query"),
        ("wss://broker.example?", "contains a query"),
        ("wss://broker.example/#mqtt", "contains a fragment, after #"),
        ("wss://broker.example/a b", "has a path that is not percent-encoded, or has more than 1024 characters"),
        ("wss://broker.example/%2", "has a path that is not percent-encoded, or has more than 1024 characters"),
        ("wss://broker.example/\u00fc", "has a path that is not percent-encoded, or has more than 1024 characters"),
        ("wss://broker.example/\r\nX:", "has a path that is not percent-encoded, or has more than 1024 characters"),
        ("wss://broker.example/" + 1024 * "a", "has a path that is not percent-encoded, or has more than 1024 charac"),
        ("mqtt://@broker.example", "has a user name that is empty or not percent-encoded"),
        ("mqtt://a b@broker.example", "has a user name that is empty or not percent-encoded"),
        ("mqtt://a@b@broker.example", "has a user name that is empty or not percent-encoded"),
        ("mqtt://%zz@broker.example", "has a user name that is empty or not percent-encoded"),
        ("mqtt://%FF@broker.example", "has a user name that MQTT cannot transmit"),
        ("mqtt://%00@broker.example", "has a user name that MQTT cannot transmit"),
    ],
)
def test_the_error_says_what_is_wrong_and_shows_no_secret(text: str, fault: str) -> None:
    with pytest.raises(SecretValueError) as caught:
        read_mqtt_url(text)
    assert caught.value.fault.startswith(fault)
    said = problem(MQTT_URL=text)
    assert said.startswith(f"Bad value of env var MQTT_URL: it {fault}")
    assert said.endswith(
        "; set it to a URL such as mqtts://broker.example.com, or wss://USER@broker.example.com:8443/mqtt"
    )
    assert "secret" not in said


_USERS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
_HOSTS = st.from_regex(r"[A-Za-z0-9_-]{1,20}(\.[A-Za-z0-9_-]{1,20}){0,3}", fullmatch=True)
_ADDRESSES = st.ip_addresses().map(str) | st.sampled_from(["fe80::1%eth0", "fe80::1%wlan0.1"])
_PATHS = st.from_regex(r"(/([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2}){0,9}){1,4}", fullmatch=True)


@given(st.data(), st.sampled_from(MqttScheme), _HOSTS | _ADDRESSES, st.integers(1, 65535), st.none() | _USERS)
def test_each_url_is_read_as_it_was_written(
    data: st.DataObject, scheme: MqttScheme, host: str, port: int, user: str | None
) -> None:
    url = MqttUrl(scheme, host, port, data.draw(_PATHS) if scheme.is_websocket else "", user)
    assert read_mqtt_url(str(url)) == url


@given(TEXTS | st.from_regex(r"(mqtts?|wss?)://[a-z0-9:@\[\]%/?#. -]{0,40}", fullmatch=True))
def test_any_text_is_a_url_or_reported(text: str) -> None:
    try:
        url = read_mqtt_url(text)
    except SecretValueError:
        return
    assert read_mqtt_url(str(url)) == url


@pytest.mark.parametrize(("scheme", "path"), [(MQTT, "/mqtt"), (MQTTS, "/"), (WS, ""), (WSS, "")])
def test_only_a_url_of_websockets_has_a_path(scheme: MqttScheme, path: str) -> None:
    with pytest.raises(ValueError, match="path"):
        MqttUrl(scheme, "broker.example", 1, path)


def test_the_url_gives_the_settings_that_it_replaces() -> None:
    settings = load({**NAME, "MQTT_URL": "wss://alice@broker.example/ws"})
    assert settings.mqtt_url == MqttUrl(WSS, "broker.example", 443, "/ws", "alice")
    assert (settings.mqtt_host, settings.mqtt_port, settings.mqtt_tls) == ("broker.example", 443, Switch.ON)
    assert settings.mqtt_username == "alice"


def test_a_user_name_beside_a_url_without_one_is_used() -> None:
    settings = load({**NAME, "MQTT_URL": "mqtt://broker.example", "MQTT_USERNAME": "bob"})
    assert (settings.mqtt_port, settings.mqtt_tls, settings.mqtt_username) == (1883, Switch.OFF, "bob")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MQTT_HOST", "broker.hivemq.com"),
        ("MQTT_HOST", "broker.example"),
        ("MQTT_PORT", "1883"),
        ("MQTT_TLS", "off"),
        ("MQTT_TLS", "on"),
    ],
)
def test_a_setting_that_the_url_replaces_must_not_be_set_even_to_its_default(name: str, value: str) -> None:
    said = problem(MQTT_URL="mqtts://broker.example", **{name: value})
    assert said == f"MQTT_URL is set, and {name} is set: unset one of them"


def test_there_is_one_user_name() -> None:
    said = problem(MQTT_URL="mqtts://alice@broker.example", MQTT_USERNAME="alice")
    assert said == "MQTT_URL contains a user name, and MQTT_USERNAME is set: unset one of them"


def test_each_problem_is_reported_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, "MQTT_URL": "ws://a", "MQTT_HOST": "b", "MQTT_PORT": "x", "MQTT_TLS": "on"}, RECEIVER_READS)
    assert [said.partition(":")[0] for said in caught.value.problems] == [
        "Bad value of env var MQTT_PORT",
        "MQTT_URL is set, and MQTT_HOST is set",
        "MQTT_URL is set, and MQTT_PORT is set",
        "MQTT_URL is set, and MQTT_TLS is set",
    ]


def test_a_program_that_does_not_connect_to_a_broker_does_not_read_the_url() -> None:
    settings = load({**NAME, "MQTT_URL": "nonsense", "MQTT_HOST": "b"}, MAINTENANCE_READS)
    assert settings.mqtt_url is None
    assert settings.mqtt_host == "broker.hivemq.com"


@pytest.mark.parametrize("text", ["mqtts://broker.example", "https://broker.example/", "mqtt://alice:secret@192.0.2.1"])
def test_the_error_for_a_url_in_the_host_names_the_setting_for_it_and_hides_a_password(text: str) -> None:
    assert problem(MQTT_HOST=text) == (
        "Bad value of env var MQTT_HOST: it is a URL, which belongs in MQTT_URL; set it to a host name or an IP address"
    )
