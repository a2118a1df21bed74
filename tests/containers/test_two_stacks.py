"""Two stacks on one host, started as docs/images.md shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.containers.engine import REPOSITORY
from testbed.containers.stack import SERVICES, SUBSCRIBED, Stack
from tests import documents
from tests.containers.shell import Shell

# The variables that the commands are to set themselves.
SET_BY_THE_FILE = ("COMPOSE_PROJECT_NAME", "STACK_NETWORK", "IDENTITY_NAME")


@pytest.fixture
def second() -> Iterator[Stack]:
    with Stack(2) as second:
        yield second


def start(second: Stack, directory: Path) -> None:
    """Start a stack with the file and the command of the document, but with the names of the tests in the file."""
    environment = second.environment
    lines = documents.block("docs/images.md", "second.env").splitlines()
    assert [line.partition("=")[0] for line in lines] == list(SET_BY_THE_FILE)
    (directory / "second.env").write_text("".join(f"{name}={environment[name]}\n" for name in SET_BY_THE_FILE))
    files = ":".join(str(REPOSITORY / file) for file in environment["COMPOSE_FILE"].split(":"))
    left = {name: value for name, value in environment.items() if name not in SET_BY_THE_FILE}
    Shell({**left, "COMPOSE_FILE": files}, directory).run("docs/images.md", "a second stack")


def addresses(stack: Stack) -> dict[str, str]:
    """Return the address of each service in its network."""
    return {
        service: stack.inspect(service)["NetworkSettings"]["Networks"][f"{stack.project}_default"]["IPAddress"]
        for service in SERVICES
    }


def test_two_stacks_on_one_host_send_messages_at_the_same_time(stack: Stack, second: Stack, tmp_path: Path) -> None:
    subscriptions = stack.log("messaging_receiver").stderr.count(SUBSCRIBED)
    start(second, tmp_path)
    second.make_identity()
    for sending in (stack, second):
        sending.send(f"within {sending.project}")
    for one, other in ((stack, second), (second, stack)):
        assert not one.has_printed(f"within {other.project}")
        assert f"DNS_RESOLVER={addresses(one)['resolver']}" in one.inspect("messaging_receiver")["Config"]["Env"]
    assert set(addresses(stack).values()).isdisjoint(addresses(second).values())
    assert stack.log("messaging_receiver").stderr.count(SUBSCRIBED) == subscriptions, "the first stack was disturbed"
