"""What the tests of publishing share: DNS servers that end with the test."""

from collections.abc import Callable, Iterator

import pytest

from testbed.name_server import Server


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*arguments: object, **named: object) -> Server:
        servers.append(Server(*arguments, **named))  # type: ignore[arg-type]
        return servers[-1]

    yield start
    for server in servers:
        server.close()
