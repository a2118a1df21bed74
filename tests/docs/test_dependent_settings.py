"""Settings that depend on others: rejected, warned about or accepted, as docs/settings.md documents it."""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from idlib.discovery import Discovery
from idlib.errors import ConfigurationError
from idlib.local_broker.place import LocalBroker
from idlib.publishing import publisher_from
from idlib.publishing.record_types import tlsa_place
from idlib.publishing.zone import NameServer, Zone
from idlib.settings import ServerAddress, load
from idlib.settings.local_settings import check_unused
from idlib.transport import Broker
from testbed.certificate_maker import Authority, rsa_key
from tests import documents

AUTHORITY: Final = Authority()
ALICE_TOPIC: Final = "alice._device.example.com"
TO: Final = "SUBSCRIPTION is a shared subscription to '{}', and messages to this device have the topic '{}'"
FILES: Final = {
    "ca": AUTHORITY.certificate.public_bytes(Encoding.PEM),
    "cert": AUTHORITY.issue(key=rsa_key()).public_bytes(Encoding.PEM),
    "key": rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "both": AUTHORITY.issue(key=rsa_key()).public_bytes(Encoding.PEM)
    + rsa_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    "password": b"secret\n",
    "anchors": b"example.com. IN DS 12345 8 2 " + b"00" * 32 + b"\n",
}
ZONE: Final = Zone("example.com", "ns.example.com", 3600, (NameServer("ns", ServerAddress("192.0.2.1")),), ())
ELSEWHERE: Final = {"MQTT_HOST": "broker.example"}
HERE: Final = {"MQTT_HOST": "127.0.0.1"}
TLS: Final = {**ELSEWHERE, "MQTT_TLS": "on"}
ALICE: Final = {"MQTT_USERNAME": "alice"}
PASSWORD: Final = {**ALICE, "MQTT_PASSWORD_FILE": "password"}
ALLOWED: Final = {"MQTT_PLAINTEXT_LOGIN": "on"}
LOCAL: Final = {"LOCAL_MQTT_URL": "mqtt://192.168.1.5"}
LOCAL_LOGIN: Final = {"LOCAL_MQTT_URL": "mqtt://alice@192.168.1.5", "LOCAL_MQTT_PASSWORD_FILE": "password"}
LOCAL_TLS: Final = {"LOCAL_MQTT_URL": "mqtts://alice@192.168.1.5", "LOCAL_MQTT_PASSWORD_FILE": "password"}
LOCAL_ALLOWED: Final = {"LOCAL_MQTT_PLAINTEXT_LOGIN": "on"}
SECTION: Final = (
    (documents.ROOT / "docs/settings.md")
    .read_text()
    .partition("## Settings that depend on others\n")[2]
    .partition("\n## ")[0]
)
ROWS: Final = re.findall(r"^\| (.+?) \| (.+?) \| (rejected|warning): .+ \|$", SECTION, re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """Settings, the resulting problem or warning, and its row in the document.

    Args:
        environment: In addition to IDENTITY_NAME; a name of FILES is replaced by its path.
        row: The first two cells of the table in docs/settings.md.
        said: How the problem or warning begins.
    """

    environment: Mapping[str, str]
    row: tuple[str, str]
    said: str = field(repr=False)


FILES_OF_TLS: Final = (
    "MQTT_CA_FILE, MQTT_CERT_FILE, MQTT_KEY_FILE, MQTT_ALPN",
    "MQTT_TLS=off, or MQTT_URL without TLS",
)
PLAIN_LOGIN: Final = (
    "MQTT_USERNAME",
    "MQTT_TLS=off, MQTT_PLAINTEXT_LOGIN=off, and a broker on another machine, or behind a proxy",
)
REPLACED: Final = ("MQTT_URL", "MQTT_HOST, MQTT_PORT or MQTT_TLS")
PROXY: Final = {"MQTT_PROXY": "socks5://proxy.example:1080"}
HALF_A_PROXY_LOGIN: Final = ("MQTT_PROXY with a user name", "no MQTT_PROXY_PASSWORD_FILE, or the reverse")
NO_LOCAL_BROKER: Final = (
    (
        "LOCAL_MQTT_PASSWORD_FILE, LOCAL_MQTT_CA_FILE, LOCAL_MQTT_PLAINTEXT_LOGIN=on, another LOCAL_MQTT_PREFIX than"
        " `messenger`, LOCAL_MQTT_ONLY=on, HOME_ASSISTANT=on, another HOME_ASSISTANT_PREFIX than `homeassistant`"
    ),
    "no LOCAL_MQTT_URL",
)
SAME_BROKER: Final = ("LOCAL_MQTT_URL", "the same broker in MQTT_URL or MQTT_HOST, or a public test broker")
NEEDLESS_LOCAL_LOGIN: Final = (
    "LOCAL_MQTT_PLAINTEXT_LOGIN=on",
    "no user name in LOCAL_MQTT_URL, TLS, or a broker on this machine",
)
STORE: Final = {"STORE": "postgresql://receiver@db.example/messages"}
GROUP: Final = {"RECEIVER_GROUP": "on"}
CA_OF_RESOLVER: Final = ("DNS_CA_FILE", "DNS_RESOLVER without `tls://` and `https://`, or none")
REFUSED: Final = [
    Case({**ELSEWHERE, "MQTT_URL": "mqtts://b.example"}, REPLACED, "MQTT_URL is set, and MQTT_HOST is set"),
    Case({"MQTT_PORT": "1883", "MQTT_URL": "mqtts://b.example"}, REPLACED, "MQTT_URL is set, and MQTT_PORT is set"),
    Case({"MQTT_TLS": "on", "MQTT_URL": "mqtts://b.example"}, REPLACED, "MQTT_URL is set, and MQTT_TLS is set"),
    Case(
        {**ALICE, "MQTT_URL": "mqtts://alice@b.example"},
        ("MQTT_URL with a user name", "MQTT_USERNAME"),
        "MQTT_URL contains a user name, and MQTT_USERNAME is set",
    ),
    Case({"MQTT_URL": "ws://alice@b.example"}, PLAIN_LOGIN, "there is a user name, and MQTT_URL has ws://"),
    Case({**HERE, **ALICE, **PROXY}, PLAIN_LOGIN, "MQTT_USERNAME is set, and MQTT_TLS is off"),
    Case({"MQTT_URL": "ws://b.example", "MQTT_ALPN": "mqtt"}, FILES_OF_TLS, "MQTT_ALPN is set, and MQTT_URL has ws://"),
    Case({"MQTT_ALPN": "mqtt"}, FILES_OF_TLS, "MQTT_ALPN is set, and MQTT_TLS is off"),
    Case(
        {"MQTT_PROXY_PASSWORD_FILE": "password"},
        ("MQTT_PROXY_PASSWORD_FILE", "no MQTT_PROXY"),
        "MQTT_PROXY_PASSWORD_FILE is set, and MQTT_PROXY is not",
    ),
    Case({**PROXY, "MQTT_PROXY_PASSWORD_FILE": "password"}, HALF_A_PROXY_LOGIN, "MQTT_PROXY has a user name, and"),
    Case({"MQTT_PROXY": "http://alice@p.example:3128"}, HALF_A_PROXY_LOGIN, "MQTT_PROXY has a user name, and"),
    *(
        Case({name: value}, NO_LOCAL_BROKER, f"{name} is set, and LOCAL_MQTT_URL is not")
        for name, value in {
            "LOCAL_MQTT_PASSWORD_FILE": "password",
            "LOCAL_MQTT_CA_FILE": "ca",
            "LOCAL_MQTT_PLAINTEXT_LOGIN": "on",
            "LOCAL_MQTT_PREFIX": "home",
            "LOCAL_MQTT_ONLY": "on",
            "HOME_ASSISTANT": "on",
            "HOME_ASSISTANT_PREFIX": "ha",
        }.items()
    ),
    *(
        Case(
            {**LOCAL, "HOME_ASSISTANT": "on", "HOME_ASSISTANT_PREFIX": theirs, "LOCAL_MQTT_PREFIX": ours},
            (
                "HOME_ASSISTANT=on",
                (
                    "HOME_ASSISTANT_PREFIX and LOCAL_MQTT_PREFIX that are equal, or of which one starts with the words"
                    " of the other"
                ),
            ),
            f"HOME_ASSISTANT_PREFIX {theirs} and LOCAL_MQTT_PREFIX {ours} overlap",
        )
        for theirs, ours in (("home", "home"), ("home", "home/alice"), ("home/alice", "home"))
    ),
    Case(
        {**LOCAL, "LOCAL_MQTT_CA_FILE": "ca"},
        ("LOCAL_MQTT_CA_FILE", "LOCAL_MQTT_URL with mqtt:// or ws://"),
        "LOCAL_MQTT_CA_FILE is set, and LOCAL_MQTT_URL is without TLS",
    ),
    Case(
        {**LOCAL, "LOCAL_MQTT_PASSWORD_FILE": "password"},
        ("LOCAL_MQTT_PASSWORD_FILE", "no user name in LOCAL_MQTT_URL"),
        "LOCAL_MQTT_PASSWORD_FILE is set, and LOCAL_MQTT_URL has no user name",
    ),
    Case(
        LOCAL_LOGIN,
        (
            "a user name in LOCAL_MQTT_URL",
            "mqtt:// or ws://, LOCAL_MQTT_PLAINTEXT_LOGIN=off, and a broker on another machine",
        ),
        "LOCAL_MQTT_URL has a user name and is without TLS",
    ),
    Case({**HERE, "LOCAL_MQTT_URL": "mqtt://localhost"}, SAME_BROKER, "LOCAL_MQTT_URL names the broker 127.0.0.1:1883"),
    Case(
        {"MQTT_URL": "mqtt://a.example", "LOCAL_MQTT_URL": "ws://A.example.:1883"}, SAME_BROKER, "LOCAL_MQTT_URL names"
    ),
    Case({"LOCAL_MQTT_URL": "mqtts://test.mosquitto.org"}, SAME_BROKER, "LOCAL_MQTT_URL names test.mosquitto.org"),
    Case({"MQTT_CA_FILE": "ca"}, FILES_OF_TLS, "MQTT_CA_FILE is set, and MQTT_TLS is off"),
    Case({"MQTT_CERT_FILE": "both"}, FILES_OF_TLS, "MQTT_CERT_FILE is set, and MQTT_TLS is off"),
    Case({**HERE, "MQTT_CA_FILE": "ca"}, FILES_OF_TLS, "MQTT_CA_FILE is set, and MQTT_TLS is off"),
    Case({**TLS, "MQTT_KEY_FILE": "key"}, ("MQTT_KEY_FILE", "no MQTT_CERT_FILE"), "MQTT_KEY_FILE is set, and MQTT_C"),
    Case(
        {**TLS, "MQTT_PASSWORD_FILE": "password"},
        ("MQTT_PASSWORD_FILE", "no MQTT_USERNAME"),
        "MQTT_PASSWORD_FILE is set, and MQTT_USERNAME is not",
    ),
    Case(
        {**ELSEWHERE, "MQTT_CLIENT_ID": "alice"},
        ("MQTT_CLIENT_ID", "no MQTT_USERNAME and no MQTT_CERT_FILE"),
        "MQTT_CLIENT_ID is set, and neither MQTT_USERNAME nor MQTT_CERT_FILE is",
    ),
    Case({**ELSEWHERE, **ALICE}, PLAIN_LOGIN, "MQTT_USERNAME is set, and MQTT_TLS is off"),
    Case({**ELSEWHERE, **PASSWORD}, PLAIN_LOGIN, "MQTT_USERNAME is set, and MQTT_TLS is off"),
    Case({"DNS_CA_FILE": "ca"}, CA_OF_RESOLVER, "DNS_CA_FILE is set, and DNS_RESOLVER has neither tls:// nor https://"),
    Case(
        {"DNS_CA_FILE": "ca", "DNS_RESOLVER": "192.0.2.1"},
        CA_OF_RESOLVER,
        "DNS_CA_FILE is set, and DNS_RESOLVER has neither tls:// nor https://",
    ),
    Case(
        {"DNSSEC": "off", "DNSSEC_TRUST_ANCHORS": "anchors"},
        ("DNSSEC_TRUST_ANCHORS", "DNSSEC=off"),
        "DNSSEC=off and DNSSEC_TRUST_ANCHORS exclude each other",
    ),
    Case(
        {"DNS_PUBLISH": "rfc2136"},
        ("DNS_PUBLISH=rfc2136", "no DNS_UPDATE_KEY_FILE"),
        "Error: DNS_PUBLISH=rfc2136 needs DNS_UPDATE_KEY_FILE",
    ),
    Case(
        {"DNS_PUBLISH": "desec"},
        ("DNS_PUBLISH=desec", "no DESEC_TOKEN_FILE"),
        "Error: DNS_PUBLISH=desec needs DESEC_TOKEN_FILE",
    ),
    Case({"STORE_PASSWORD_FILE": "password"}, ("STORE_PASSWORD_FILE", "no STORE"), "STORE_PASSWORD_FILE is set, and S"),
    Case(GROUP, ("RECEIVER_GROUP=on", "no STORE"), "RECEIVER_GROUP is on, and STORE is not set"),
    Case(
        {**STORE, **GROUP, **ELSEWHERE, "MQTT_VERSION": "3.1.1"},
        ("RECEIVER_GROUP=on", "MQTT_VERSION=3.1.1"),
        "RECEIVER_GROUP is on, and MQTT_VERSION is 3.1.1",
    ),
    Case(
        {**STORE, **GROUP, **LOCAL}, ("RECEIVER_GROUP=on", "LOCAL_MQTT_URL"), "RECEIVER_GROUP is on, and LOCAL_MQTT_U"
    ),
    Case(
        {**STORE, "SUBSCRIPTION": "$queue/alice"},
        ("SUBSCRIPTION", "RECEIVER_GROUP=off"),
        "SUBSCRIPTION is set, and RECEIVER_GROUP is off",
    ),
    *(
        Case(
            {**STORE, **GROUP, "SUBSCRIPTION": subscription, **format_},
            ("SUBSCRIPTION=$share/GROUP/TOPIC", "another TOPIC than the device's"),
            f"{fact}: set it to $share/GROUP/{topic}, or unset it",
        )
        for subscription, format_, topic, fact in (
            (
                "$share/g/alice._device.example.org",
                {},
                ALICE_TOPIC,
                TO.format("alice._device.example.org", ALICE_TOPIC),
            ),
            (
                "$share/g/Alice._device.example.com",
                {},
                ALICE_TOPIC,
                TO.format("Alice._device.example.com", ALICE_TOPIC),
            ),
            (f"$share/g//{ALICE_TOPIC}", {}, ALICE_TOPIC, TO.format(f"/{ALICE_TOPIC}", ALICE_TOPIC)),
            (f"$share/a/b/{ALICE_TOPIC}", {}, ALICE_TOPIC, TO.format(f"b/{ALICE_TOPIC}", ALICE_TOPIC)),
            (f"$share/{ALICE_TOPIC}", {}, ALICE_TOPIC, "SUBSCRIPTION has no group, or no topic"),
            (f"$share//{ALICE_TOPIC}", {}, ALICE_TOPIC, "SUBSCRIPTION has no group, or no topic"),
            ("$share/", {}, ALICE_TOPIC, "SUBSCRIPTION has no group, or no topic"),
            (
                f"$share/g/{ALICE_TOPIC}",
                {"MQTT_TOPIC_PREFIX": "fleet/"},
                f"fleet/{ALICE_TOPIC}",
                TO.format(ALICE_TOPIC, f"fleet/{ALICE_TOPIC}"),
            ),
            (
                f"$share/g/{ALICE_TOPIC}",
                {"MQTT_TOPIC_FORMAT": "slashes"},
                "alice/_device/example/com",
                TO.format(ALICE_TOPIC, "alice/_device/example/com"),
            ),
        )
    ),
    Case(
        {"DNS_PUBLISH": "command"},
        ("DNS_PUBLISH=command", "no DNS_PUBLISH_COMMAND"),
        "Error: DNS_PUBLISH=command needs DNS_PUBLISH_COMMAND",
    ),
]
WARNED: Final = [
    *(
        Case({**place, **LOCAL_ALLOWED}, NEEDLESS_LOCAL_LOGIN, "LOCAL_MQTT_PLAINTEXT_LOGIN=on is ignored")
        for place in (LOCAL, LOCAL_TLS, {"LOCAL_MQTT_URL": "mqtt://alice@localhost"})
    ),
    Case({"MQTT_TLS": "on", **PASSWORD}, ("MQTT_USERNAME", "no MQTT_HOST"), "The public broker broker.hivemq.com rec"),
    Case({**ALLOWED, **PASSWORD}, ("MQTT_USERNAME", "no MQTT_HOST"), "The public broker broker.hivemq.com receives"),
    Case(
        {**ELSEWHERE, **ALLOWED},
        ("MQTT_PLAINTEXT_LOGIN=on", "no MQTT_USERNAME"),
        "MQTT_PLAINTEXT_LOGIN=on is ignored: there is no login",
    ),
    Case(
        {**TLS, **ALLOWED},
        ("MQTT_PLAINTEXT_LOGIN=on", "no MQTT_USERNAME"),
        "MQTT_PLAINTEXT_LOGIN=on is ignored: there is no login",
    ),
    Case(
        {**TLS, **ALLOWED, **PASSWORD},
        ("MQTT_PLAINTEXT_LOGIN=on", "MQTT_TLS=on"),
        "MQTT_PLAINTEXT_LOGIN=on is ignored: MQTT_TLS=on protects the login",
    ),
    Case(
        {**HERE, **ALLOWED, **PASSWORD},
        ("MQTT_PLAINTEXT_LOGIN=on", "a broker on this machine"),
        "MQTT_PLAINTEXT_LOGIN=on is ignored: a login at a broker on this machine",
    ),
    Case(
        {**ELSEWHERE, "MQTT_VERSION": "3.1.1", "MQTT_SESSION_EXPIRY": "3600"},
        ("MQTT_SESSION_EXPIRY", "MQTT_VERSION=3.1.1"),
        "MQTT_SESSION_EXPIRY is ignored",
    ),
]
OF_USE: Final[list[dict[str, str]]] = [
    {},
    {"MQTT_TLS": "on"},
    {**TLS, "MQTT_CA_FILE": "ca"},
    {**TLS, "MQTT_CERT_FILE": "both"},
    {**TLS, "MQTT_CERT_FILE": "cert", "MQTT_KEY_FILE": "key"},
    {**TLS, **ALICE},
    {**TLS, **PASSWORD, "MQTT_CERT_FILE": "both", "MQTT_CA_FILE": "ca"},
    {**HERE, **PASSWORD},
    {**HERE, **PASSWORD, "MQTT_TLS": "on"},
    {**ELSEWHERE, **PASSWORD, **ALLOWED},
    {**ELSEWHERE, "MQTT_PLAINTEXT_LOGIN": "off"},
    LOCAL,
    {**LOCAL, "LOCAL_MQTT_PREFIX": "home/alice", "LOCAL_MQTT_ONLY": "on"},
    {**LOCAL, "HOME_ASSISTANT": "on"},
    {**LOCAL, "HOME_ASSISTANT": "on", "HOME_ASSISTANT_PREFIX": "homeassist"},
    {**LOCAL_TLS, "LOCAL_MQTT_CA_FILE": "ca"},
    {**LOCAL_LOGIN, **LOCAL_ALLOWED},
    {"LOCAL_MQTT_URL": "mqtt://alice@localhost", "LOCAL_MQTT_PASSWORD_FILE": "password"},
    {**HERE, "LOCAL_MQTT_URL": "mqtt://localhost:1884"},
    {"LOCAL_MQTT_PREFIX": "messenger"},
    {**ELSEWHERE, "MQTT_VERSION": "3.1.1"},
    {**ELSEWHERE, "MQTT_VERSION": "3.1.1", "MQTT_SESSION_EXPIRY": "604800"},
    {**ELSEWHERE, "MQTT_SESSION_EXPIRY": "3600"},
    {"DNSSEC_TRUST_ANCHORS": "anchors"},
    {"DNSSEC_TRUST_ANCHORS": "anchors", "DNS_RESOLVER": "192.0.2.1", "PKIX_CA_FILE": "ca"},
    {"DNSSEC": "on", "DNS_RESOLVER": "192.0.2.1", "PKIX_CA_FILE": "ca"},
    {"DNS_RESOLVER": "tls://192.0.2.1", "DNS_CA_FILE": "ca"},
    {"DNS_RESOLVER": "https://dns.example.test/dns-query", "DNSSEC_TRUST_ANCHORS": "anchors"},
    {"DNS_PUBLISH": "command", "DNS_PUBLISH_COMMAND": "true"},
    {**STORE, "STORE_PASSWORD_FILE": "password"},
    {**STORE, **GROUP},
    {**STORE, **GROUP, "SUBSCRIPTION": "$queue/alice"},
    {**STORE, **GROUP, "SUBSCRIPTION": f"$share/g/{ALICE_TOPIC}"},
    {**STORE, **GROUP, "SUBSCRIPTION": f"$share/g/fleet/{ALICE_TOPIC}", "MQTT_TOPIC_PREFIX": "fleet/"},
    {**STORE, **LOCAL},
    {"DENIED_SENDERS": "a.example", "ALLOWED_SENDERS": "*.example", "REQUIRE_BINDING": "all"},
]


@pytest.fixture
def begin(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> "Begin":
    for name, contents in FILES.items():
        (tmp_path / name).write_bytes(contents)
    return Begin(tmp_path, caplog)


@dataclass(frozen=True)
class Begin:
    """Reads the settings like a messaging program."""

    directory: Path
    caplog: pytest.LogCaptureFixture

    def __call__(self, environment: Mapping[str, str]) -> list[str]:
        """Return the warnings.

        Raises:
            ConfigurationError: The settings do not go together.
        """
        paths = {name: str(self.directory / text) if text in FILES else text for name, text in environment.items()}
        settings = load({"IDENTITY_NAME": "alice._device.example.com", **paths})
        broker = Broker.from_settings(settings)
        if settings.local_mqtt_url is None:
            check_unused(settings)
        else:
            LocalBroker.from_settings(settings, broker)
        Discovery.from_settings(settings)
        if settings.dns_publish is not None:
            publisher_from(settings, tlsa_place(settings.identity_name), ZONE)
        assert all(record.levelno == logging.WARNING for record in self.caplog.records)
        return self.caplog.messages


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_settings_that_would_weaken_protection_are_rejected(case: Case, begin: Begin) -> None:
    with pytest.raises(ConfigurationError) as caught:
        begin(case.environment)
    (problem,) = caught.value.problems
    assert problem.startswith(case.said)
    assert (*case.row, "rejected") in ROWS


@pytest.mark.parametrize("case", WARNED, ids=str)
def test_ignored_or_unwise_settings_cause_a_warning(case: Case, begin: Begin) -> None:
    (warning,) = begin(case.environment)
    assert warning.startswith(case.said)
    assert (*case.row, "warning") in ROWS


@pytest.mark.parametrize("environment", OF_USE, ids=str)
def test_useful_combinations_cause_no_warning(environment: dict[str, str], begin: Begin) -> None:
    assert begin(environment) == []


def test_each_row_of_the_document_has_a_case() -> None:
    assert {(*case.row, "rejected") for case in REFUSED} | {(*case.row, "warning") for case in WARNED} == set(ROWS)
    assert len(ROWS) == len(re.findall(r"^\| ", SECTION, re.MULTILINE)) - 1
