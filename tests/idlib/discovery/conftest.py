"""Fixtures of the tests of discovery: a zone, and servers that end with the test."""

from collections.abc import Callable, Iterator

import dns.name
import pytest

from testbed.name_server import Server, Zone


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: object, **named: object) -> Server:
        servers.append(Server(*arguments, **named))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def zone() -> Zone:
    return Zone(dns.name.from_text("example.test."))
