"""docs/networks.md: each value of DNS_RESOLVER in it is one that the programs accept."""

import re
from typing import Final

import pytest

from idlib.settings import HttpsResolver, TlsResolver
from idlib.settings.resolvers import read_resolver
from tests import documents

TEXT: Final = (documents.ROOT / "docs/networks.md").read_text()
RESOLVERS: Final = re.findall(r"`((?:tls|https)://[^`]+)`", TEXT.partition("## DNS over TLS and HTTPS")[2])


@pytest.mark.parametrize("text", RESOLVERS)
def test_a_resolver_in_the_document_is_accepted(text: str) -> None:
    assert isinstance(read_resolver(text), TlsResolver | HttpsResolver)


def test_both_paths_are_shown() -> None:
    assert {type(read_resolver(text)) for text in RESOLVERS} == {TlsResolver, HttpsResolver}
