"""docs/networks.md: each URL in it is one that the programs accept."""

import re
from typing import Final

import pytest

from idlib.settings import HttpsResolver, TlsResolver, read_mqtt_url, read_proxy_url
from idlib.settings.resolvers import read_resolver
from tests import documents

TEXT: Final = (documents.ROOT / "docs/networks.md").read_text()
BROKERS: Final = re.findall(r"`((?:mqtts?|wss?)://[^`]+)`", TEXT.partition("## DNS over TLS and HTTPS")[0])
PROXIES: Final = re.findall(r"`((?:socks5|http)://[^`]+)`", TEXT)
RESOLVERS: Final = re.findall(r"`((?:tls|https)://[^`]+)`", TEXT.partition("## DNS over TLS and HTTPS")[2])


@pytest.mark.parametrize("text", RESOLVERS)
def test_a_resolver_in_the_document_is_accepted(text: str) -> None:
    assert isinstance(read_resolver(text), TlsResolver | HttpsResolver)


def test_both_paths_are_shown() -> None:
    assert {type(read_resolver(text)) for text in RESOLVERS} == {TlsResolver, HttpsResolver}


@pytest.mark.parametrize("text", [text for text in BROKERS if "," not in text])
def test_a_broker_in_the_document_is_accepted(text: str) -> None:
    assert read_mqtt_url(text).host


@pytest.mark.parametrize("text", PROXIES)
def test_a_proxy_in_the_document_is_accepted(text: str) -> None:
    assert read_proxy_url(text).port
