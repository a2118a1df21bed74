"""Fixtures of the container tests: the images and the stack."""

from collections.abc import Iterator

import pytest

from testbed.containers.engine import is_there
from testbed.containers.stack import Stack


def pytest_collection_modifyitems() -> None:
    if not is_there():
        pytest.exit("the container tests need a Docker engine that answers, and Compose 2.24 or newer", 1)


@pytest.fixture(scope="session")
def built_stack() -> Iterator[Stack]:
    """Yield the stack with its images built; nothing runs yet."""
    with Stack() as stack:
        yield stack


@pytest.fixture(scope="session")
def stack(built_stack: Stack) -> Stack:
    """Return the stack as it runs, with an identity whose record is in DNS."""
    built_stack.up()
    built_stack.make_identity()
    return built_stack
