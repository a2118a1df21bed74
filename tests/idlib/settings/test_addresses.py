import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import ConfigurationError
from idlib.settings import ServerAddress, load, suspected_port
from tests.idlib.settings.loading import NAME, TEXTS, problem


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
    ("text", "address"),
    [
        ("9400", ServerAddress("127.0.0.1", 9400)),
        (":9400", ServerAddress("127.0.0.1", 9400)),
        ("0.0.0.0:9400", ServerAddress("0.0.0.0", 9400)),
        ("192.0.2.1:65535", ServerAddress("192.0.2.1", 65535)),
        ("[::]:9400", ServerAddress("::", 9400)),
        ("[2001:DB8::1]:1", ServerAddress("2001:db8::1", 1)),
    ],
)
def test_metrics_are_served_on_loopback_if_there_is_only_a_port(text: str, address: ServerAddress) -> None:
    assert load({**NAME, "METRICS_ADDRESS": text}).metrics_address == address


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "65536",
        "on",
        "localhost:9400",
        "127.0.0.1",
        "127.0.0.1:",
        "127.1:9400",
        "::1:9400",
        "::1",
        "[::1]",
        "[::1]:0",
        "[127.0.0.1]:9400",
        "9400 ",
        "http://127.0.0.1:9400",
        "\u0669400",
    ],
)
def test_anything_else_is_no_address_for_metrics(text: str) -> None:
    assert problem(METRICS_ADDRESS=text).startswith("Bad value of env var METRICS_ADDRESS: ")


@given(TEXTS | st.from_regex(r"[\[0-9a-f.:\]%]{1,24}"))
def test_any_text_is_an_address_for_metrics_or_reported(text: str) -> None:
    try:
        address = load({**NAME, "METRICS_ADDRESS": text}).metrics_address
    except ConfigurationError:
        return
    assert address is not None
    assert load({**NAME, "METRICS_ADDRESS": str(address)}).metrics_address == address


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
