"""Fixtures of the tests of discovery: a zone, and servers that end with the test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import dns.name
import pytest

from testbed.name_server import Server, Zone
from testbed.server_certificates import ServerAuthority


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


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> ServerAuthority:
    return ServerAuthority(tmp_path_factory.mktemp("server-authority"))


@pytest.fixture(scope="session")
def certified(authority: ServerAuthority) -> tuple[Path, Path]:
    """Return the files of a certificate for this machine's loopback and a name, and of its key."""
    return authority.issue("127.0.0.1", "dns.example.test")
