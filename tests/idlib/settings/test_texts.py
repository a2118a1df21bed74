from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given

from idlib.settings import Settings, load
from idlib.settings.texts import read_topic_filter
from tests.idlib.settings.loading import NAME, TEXTS, problem

PATHS = [
    "CRYPTO_PATH",
    "DATA_PATH",
    "MQTT_CA_FILE",
    "MQTT_CERT_FILE",
    "MQTT_KEY_FILE",
    "MQTT_PASSWORD_FILE",
    "MQTT_PROXY_PASSWORD_FILE",
    "LOCAL_MQTT_CA_FILE",
    "LOCAL_MQTT_PASSWORD_FILE",
    "DNSSEC_TRUST_ANCHORS",
    "DNS_CA_FILE",
    "DNS_UPDATE_KEY_FILE",
    "DESEC_TOKEN_FILE",
    "EPOCH_PATH",
    "EPOCH_SPOOL",
    "PKIX_CA_FILE",
    "STORE_PASSWORD_FILE",
]


def test_every_setting_with_a_path_is_checked_as_a_path() -> None:
    assert {name.upper() for name, hint in get_type_hints(Settings).items() if hint in {Path, Path | None}} == set(
        PATHS
    )


@pytest.mark.parametrize("name", PATHS)
def test_a_tilde_is_the_home_directory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    settings = load({**NAME, name: "~/messenger/it"})
    assert getattr(settings, name.lower()) == Path("/home/alice/messenger/it")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("text", ["identity", "./identity", "../identity", "~alice/identity"])
def test_a_relative_path_is_rejected(name: str, text: str) -> None:
    assert problem(**{name: text}).startswith(
        f"Bad value of env var {name}: '{text}' is a relative path; set it to the"
    )


def test_a_relative_home_directory_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "home")
    assert "is a relative path" in problem(DATA_PATH="~/data")


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("text", ["/data ", "/data\n", " /data", "/data\t", " "])
def test_white_space_around_a_path_is_rejected_and_shown(name: str, text: str) -> None:
    said = problem(**{name: text})
    assert said.startswith(f"Bad value of env var {name}: {text!r} starts or ends with white space; ")
    assert said.isprintable()


def test_white_space_within_a_path_is_part_of_it() -> None:
    assert load({**NAME, "DATA_PATH": "/srv/my data"}).data_path == Path("/srv/my data")


@pytest.mark.parametrize("text", ["a b", "ü", "a\n", "a" * 129, "\0"])
def test_a_client_id_that_cannot_be_used_is_rejected_and_not_shown(text: str) -> None:
    said = problem(MQTT_CLIENT_ID=text)
    assert said == (
        "Bad value of env var MQTT_CLIENT_ID: it has more than 128 characters, or white space or another character that"
        " is not visible; set it to 1 to 128 visible characters of ASCII"
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("fleet/+/", "contains a wildcard, + or #"),
        ("#", "contains a wildcard, + or #"),
        ("$SYS/", "starts with $, which is for the broker's own topics"),
        ("a\tb", "contains a control character, or another one that cannot be shown"),
        ("a\u2028b", "contains a control character, or another one that cannot be shown"),
        ("\udcff", "contains a control character, or another one that cannot be shown"),
        ("ü" * 513, "has 1026 bytes, and a prefix at most 1024"),
    ],
)
def test_a_prefix_that_no_topic_can_have_is_rejected(text: str, fault: str) -> None:
    said = problem(MQTT_TOPIC_PREFIX=text)
    assert f" {fault}; set it to a text without +, # and control characters" in said
    assert said.isprintable()


def test_a_prefix_is_used_as_it_is() -> None:
    assert load({**NAME, "MQTT_TOPIC_PREFIX": "fleet $1/ü "}).mqtt_topic_prefix == "fleet $1/ü "
    assert load(NAME).mqtt_topic_prefix is None


@pytest.mark.parametrize(
    "text", ["$queue/alice", "messages/alice._device.example.com", "$share/g/a/b", "ü/a", "/", "a" * 1024]
)
def test_a_subscription_is_used_as_it_is(text: str) -> None:
    assert load({**NAME, "SUBSCRIPTION": text}).subscription == text
    assert load(NAME).subscription is None


@pytest.mark.parametrize(
    "text", ["a/+", "#", "$share/g/#", "a b", "a\n", "a\tb", "\x85", "a\u2028b", "\0", "\udcff", "a" * 1025]
)
def test_a_subscription_with_wildcards_or_white_space_is_rejected(text: str) -> None:
    said = problem(SUBSCRIPTION=text)
    assert said.startswith("Bad value of env var SUBSCRIPTION: ")
    assert said.endswith("; set it to a topic filter such as $queue/NAME, without + and #")
    assert said.isprintable()


@given(TEXTS)
def test_what_is_accepted_as_a_subscription_can_be_subscribed_to_and_logged(text: str) -> None:
    try:
        accepted = read_topic_filter(text)
    except ValueError:
        return
    assert accepted == text
    assert not set("+# \0") & set(text)
    assert text.isprintable()
    assert 1 <= len(text.encode()) <= 65535


@pytest.mark.parametrize("name", ["LOCAL_MQTT_PREFIX", "HOME_ASSISTANT_PREFIX"])
@pytest.mark.parametrize("text", ["messenger/", "/messenger", "home/alice/"])
def test_the_error_for_a_slash_at_an_end_says_that_it_is_added(name: str, text: str) -> None:
    assert problem(**{name: text}).startswith(
        f"Bad value of env var {name}: '{text}' has a / at its beginning or end, which is added where it is needed;"
    )
