import ast
import os
import re
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.names import IdentityName
from idlib.settings import (
    CHECK_READS,
    DISCOVERY_READS,
    MAINTENANCE_READS,
    PUBLISHING_READS,
    RECEIVER_READS,
    ROTATION_READS,
    SENDER_READS,
    VARIABLES,
    DnssecPolicy,
    KeyType,
    MqttVersion,
    OutputFormat,
    ServerAddress,
    Settings,
    load,
    suspected_port,
)

NAME = {"IDENTITY_NAME": "alice._device.example.com"}
ROOT = Path(__file__).parents[2]
# A wrong value for each variable.
WRONG = {
    variable.name: "@/nonexistent" if variable.name.endswith(("SENDERS", "BINDING")) else "\0" for variable in VARIABLES
}
READ_BY_EVERY_PROGRAM = {"IDENTITY_NAME", "LOG_LEVEL"}
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


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
    ("words", "state"),
    [(("on", "ON", "true", "True", "yes", "1"), "on"), (("off", "Off", "false", "no", "NO", "0"), "off")],
)
def test_a_switch_accepts_the_usual_words_for_on_and_off(words: tuple[str, ...], state: str) -> None:
    for word in words:
        settings = load({**NAME, "DNSSEC": word, "MQTT_TLS": word, "MQTT_PLAINTEXT_LOGIN": word})
        assert {settings.dnssec.value, settings.mqtt_tls.value, settings.mqtt_plaintext_login.value} == {state}


def test_all_missing_or_empty_variables_are_reported() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"MQTT_HOST": "", "CRYPTO_PATH": ""})
    assert caught.value.problems == (
        "Missing essential configuration env var: IDENTITY_NAME",
        "Bad value of env var CRYPTO_PATH: it is set but empty; unset it or give it a value",
        "Bad value of env var MQTT_HOST: it is set but empty; unset it or give it a value",
    )


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_an_empty_variable_never_falls_back_to_its_default(variable: object) -> None:
    name = variable.name  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, name: ""})
    remedy = "give it a value" if name == "IDENTITY_NAME" else "unset it or give it a value"
    assert caught.value.problems == (f"Bad value of env var {name}: it is set but empty; {remedy}",)


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


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", ServerAddress("192.0.2.1", 53)),
        ("192.0.2.1:5353", ServerAddress("192.0.2.1", 5353)),
        ("::1", ServerAddress("::1", 53)),
        ("2001:db8::1:53", ServerAddress("2001:db8::1:53", 53)),
        ("[2001:db8::1]", ServerAddress("2001:db8::1", 53)),
        ("[2001:DB8::1]:5353", ServerAddress("2001:db8::1", 5353)),
    ],
)
def test_a_resolver_is_an_address_with_or_without_a_port(text: str, address: ServerAddress) -> None:
    assert load({**NAME, "DNS_RESOLVER": text}).dns_resolver == address


@pytest.mark.parametrize(
    ("address", "split"),
    [
        ("::1:53", ("::1", "53")),
        ("2001:db8::1:8883", ("2001:db8::1", "8883")),
        ("::1", None),
        ("::53", None),
        ("2001:db8::53", None),
        ("2001:db8::1:5a", None),
        ("2001:db8::1:2", None),
        ("2001:db8:1:2:3:4:5:1883", None),
        ("192.0.2.1", None),
        ("broker.example", None),
    ],
)
def test_the_hint_mentions_a_possible_port_after_an_ipv6_address(address: str, split: tuple[str, str] | None) -> None:
    assert suspected_port(address) == split


@given(st.dictionaries(st.sampled_from([variable.name for variable in VARIABLES]), TEXTS))
def test_any_environment_is_read_or_reported_as_wrong(environment: dict[str, str]) -> None:
    try:
        load(environment)
    except ConfigurationError as error:
        assert error.problems


def test_senders_can_be_listed_in_a_file(tmp_path: Path) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com  # the kettle\n\n*._device.example.com, bob.example\n")
    patterns = load({**NAME, "ALLOWED_SENDERS": f"@{listed}"}).allowed_senders
    assert patterns is not None
    assert patterns.texts == ("alice.example.com", "*._device.example.com", "bob.example")


@given(octets=st.binary() | st.text("ab*._-,# \n").map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_of_senders_is_read_or_reported_as_wrong(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "senders").write_bytes(octets)
    try:
        patterns = load({**NAME, "ALLOWED_SENDERS": f"@{tmp_path / 'senders'}"}).allowed_senders
    except ConfigurationError as error:
        assert "ALLOWED_SENDERS" in str(error)
        return
    assert patterns is not None
    assert patterns.texts


@pytest.mark.parametrize("name", ["ALLOWED_SENDERS", "DENIED_SENDERS", "REQUIRE_BINDING"])
def test_a_bad_file_of_senders_is_reported_with_the_line_and_the_reason(tmp_path: Path, name: str) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com\nbob\n")
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, name: f"@{listed}"})
    (problem,) = caught.value.problems
    assert problem.startswith(f"Bad value of env var {name}: '{listed}' line 2: 'bob' is not a device name")
    with pytest.raises(ConfigurationError, match="No such file or directory"):
        load({**NAME, name: "@/no/such/file"})


def test_a_list_from_a_file_has_its_path(tmp_path: Path) -> None:
    listed = tmp_path / "senders"
    listed.write_text("alice.example.com")
    allowed = load({**NAME, "ALLOWED_SENDERS": f"@{listed}", "DENIED_SENDERS": "bob.example"})
    assert allowed.allowed_senders is not None
    assert allowed.allowed_senders.source == listed
    assert allowed.denied_senders is not None
    assert allowed.denied_senders.source is None
    assert allowed.denied_senders.texts == ("bob.example",)


def test_a_file_of_denied_senders_may_be_empty_at_first(tmp_path: Path) -> None:
    (tmp_path / "senders").write_text("# nobody yet\n")
    denied = load({**NAME, "DENIED_SENDERS": f"@{tmp_path / 'senders'}"}).denied_senders
    assert denied is not None
    assert not denied.match(IdentityName("alice.example.com"))


@pytest.mark.parametrize("text", [",", "@/no/such/file", "alice", "alice.example;bob.example", "all"])
def test_a_list_of_senders_that_cannot_be_read_is_reported(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ALLOWED_SENDERS"):
        load({**NAME, "ALLOWED_SENDERS": text})


def test_an_empty_list_of_senders_does_not_mean_everyone(tmp_path: Path) -> None:
    (tmp_path / "senders").write_text("# nobody yet\n")
    with pytest.raises(ConfigurationError, match="ALLOWED_SENDERS"):
        load({**NAME, "ALLOWED_SENDERS": f"@{tmp_path / 'senders'}"})


def test_binding_can_be_required_of_all_or_of_some() -> None:
    everybody = load({**NAME, "REQUIRE_BINDING": "all"}).require_binding
    some = load({**NAME, "REQUIRE_BINDING": "*.example.com"}).require_binding
    assert everybody is not None
    assert some is not None
    assert everybody.match(IdentityName("alice.example"))
    assert not some.match(IdentityName("alice.example"))


PATHS = [
    "CRYPTO_PATH",
    "DATA_PATH",
    "MQTT_CA_FILE",
    "MQTT_CERT_FILE",
    "MQTT_KEY_FILE",
    "MQTT_PASSWORD_FILE",
    "DNSSEC_TRUST_ANCHORS",
    "DNS_UPDATE_KEY_FILE",
    "DESEC_TOKEN_FILE",
    "PKIX_CA_FILE",
]


def problem(**environment: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load({**NAME, **environment})
    (only,) = caught.value.problems
    return only


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


@pytest.mark.parametrize("text", ["broker.example:8883", "192.0.2.1:1883", "[2001:db8::1]:8883", "localhost:1"])
def test_the_error_for_a_port_in_the_host_names_the_setting_for_the_port(text: str) -> None:
    assert problem(MQTT_HOST=text) == (
        f"Bad value of env var MQTT_HOST: '{text}' contains a port, which belongs in MQTT_PORT;"
        " set it to a host name or an IP address"
    )


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("broker.example.", "broker.example"),
        ("localhost", "localhost"),
        ("my_broker", "my_broker"),
        ("2001:DB8::1", "2001:db8::1"),
        ("192.0.2.1", "192.0.2.1"),
    ],
)
def test_a_host_is_a_name_or_an_address_without_a_trailing_dot(text: str, host: str) -> None:
    assert load({**NAME, "MQTT_HOST": text}).mqtt_host == host


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://desec.io/api/v1/", "https://desec.io/api/v1/"),
        ("https://desec.example:8443/api/v1", "https://desec.example:8443/api/v1/"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]/"),
        ("http://127.0.0.1:8000/api/v1", "http://127.0.0.1:8000/api/v1/"),
        ("http://[::1]:8000/", "http://[::1]:8000/"),
        ("http://localhost", "http://localhost/"),
    ],
)
def test_the_address_of_an_api_ends_with_a_slash(text: str, url: str) -> None:
    assert load({**NAME, "DESEC_URL": text}).desec_url == url


@pytest.mark.parametrize(
    "text", ["http://desec.io/api/v1/", "http://127.0.0.2/", "http://localhost.example/", "http://[2001:db8::1]/"]
)
def test_a_token_is_sent_unencrypted_only_on_this_machine(text: str) -> None:
    assert problem(DESEC_URL=text).startswith(
        f"Bad value of env var DESEC_URL: '{text}' would send the token without encryption; "
    )


@pytest.mark.parametrize(
    "text",
    [
        "desec.io",
        "desec.io/api/v1/",
        "ftp://desec.io/",
        "file:///etc/passwd",
        "https://",
        "https:///api",
        "https://user@desec.io/",
        "https://desec.io:0/",
        "https://desec.io:99999/",
        "https://desec.io:x/",
        "https://desec.io/?a=b",
        "https://desec.io/#a",
        "https://desec.io/ x",
        "https://desec.io/\r\nX: y",
        "http://localhost\\@desec.io/",
        "https://d\u00e9sec.io/",
        "https://[::1/",
        "https://a..b/",
    ],
)
def test_anything_but_the_address_of_an_api_is_rejected(text: str) -> None:
    assert "DESEC_URL" in problem(DESEC_URL=text)


@given(st.text(st.characters(max_codepoint=0x17F, exclude_characters="\0")).map("http{}".format) | TEXTS)
def test_any_address_of_an_api_is_read_or_refused(text: str) -> None:
    try:
        url = load({**NAME, "DESEC_URL": text}).desec_url
    except ConfigurationError:
        return
    assert re.match(r"https://.*/$|http://(127\.0\.0\.1|\[::1\]|localhost)(:[0-9]+)?/", url, re.IGNORECASE)


def test_the_path_of_a_file_of_names_is_checked_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "senders").write_bytes("\ufeffalice.example.com\r\n".encode())
    patterns = load({**NAME, "ALLOWED_SENDERS": "@~/senders"}).allowed_senders
    assert patterns is not None
    assert patterns.texts == ("alice.example.com",)
    assert "is a relative path" in problem(ALLOWED_SENDERS="@senders")
    os.mkfifo(tmp_path / "pipe")
    for name, fault in (
        ("nope", "cannot be read: No such file or directory"),
        ("pipe", "cannot be read: it is a named pipe"),
    ):
        assert fault in problem(ALLOWED_SENDERS=f"@{tmp_path / name}")


def complaints(names: frozenset[str] | None, environment: dict[str, str]) -> set[str]:
    """Return the variables that are reported as wrong if a program reads those names."""
    try:
        load(environment) if names is None else load(environment, names)
    except ConfigurationError as error:
        return {word for line in error.problems for word in re.findall(r"env var:? (\w+)", line)}
    return set()


@pytest.mark.parametrize(
    "names", [MAINTENANCE_READS, PUBLISHING_READS, CHECK_READS, SENDER_READS, RECEIVER_READS, DISCOVERY_READS, None]
)
def test_a_program_checks_only_the_settings_that_it_uses(names: frozenset[str] | None) -> None:
    every = {variable.name for variable in VARIABLES}
    # Every program needs a name.
    judged = every if names is None else names | {"IDENTITY_NAME"}
    assert complaints(names, WRONG) == judged
    assert complaints(names, {**NAME, **{name: WRONG[name] for name in every - judged}}) == set()
    assert complaints(names, dict.fromkeys(every, "")) == judged


def test_a_setting_that_a_program_does_not_use_has_its_default() -> None:
    read = load({**NAME, "KEY_TYPE": "p256", "MQTT_HOST": "broker.example"}, MAINTENANCE_READS)
    assert read.key_type is KeyType.P256
    assert read.mqtt_host == "broker.hivemq.com"


def test_every_variable_is_used_by_a_program() -> None:
    assert {variable.name for variable in VARIABLES} == (
        MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | SENDER_READS | RECEIVER_READS | CHECK_READS
    )


def fields_used_in(*files: Path) -> set[str]:
    """Return the settings that the code in those files uses."""
    found = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Attribute(
                    value=ast.Name(id="settings" | "read") | ast.Attribute(attr="settings" | "_settings"), attr=field
                ) if field in get_type_hints(Settings):
                    found.add(field.upper())
                case ast.Attribute(attr="certificate_subject"):
                    found |= {"STATE", "COUNTRY", "LOCALITY", "ORGANIZATION"}
    return found


@pytest.mark.parametrize(
    ("names", "package", "parts"),
    [
        (
            # The check only looks whether the value of MAX_MESSAGE_SIZE is valid.
            MAINTENANCE_READS | PUBLISHING_READS | ROTATION_READS | CHECK_READS - {"MAX_MESSAGE_SIZE"},
            "messaging_maintenance",
            [
                "bootstrap.py",
                "discovery/__init__.py",
                "publishing/__init__.py",
                "publishing/zone.py",
                "transport/broker.py",
            ],
        ),
        # The name that balena gives the container is only used in texts about the container.
        (SENDER_READS - {"BALENA_SERVICE_NAME"}, "messaging_sender", ["discovery/__init__.py", "transport/broker.py"]),
        (RECEIVER_READS, "messaging_receiver", ["discovery/__init__.py", "transport/broker.py", "trust.py"]),
    ],
)
def test_the_documented_settings_of_a_program_are_those_its_code_uses(
    names: frozenset[str], package: str, parts: list[str]
) -> None:
    own = (ROOT / package).rglob("*.py")
    used = fields_used_in(*own, *(ROOT / "idlib" / part for part in parts))
    assert used | READ_BY_EVERY_PROGRAM == names


def test_the_listed_settings_of_discovery_are_those_its_code_uses() -> None:
    assert fields_used_in(ROOT / "idlib/discovery/__init__.py") == DISCOVERY_READS
