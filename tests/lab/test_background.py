import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.background import in_background


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("service-under-test")]


@asynccontextmanager
async def _service(events: list[str]) -> AsyncIterator[str]:
    events.append("started")
    await asyncio.sleep(0)
    yield "an address"
    events.append("stopped")


@asynccontextmanager
async def _service_that_does_not_start() -> AsyncIterator[str]:
    async with asyncio.timeout(-1):
        await asyncio.sleep(60)
    yield ""


@asynccontextmanager
async def _service_that_does_not_stop_well() -> AsyncIterator[str]:
    yield ""
    raise OSError("stopping failed")


def test_the_service_runs_as_long_as_the_context() -> None:
    events: list[str] = []
    with in_background(_service(events), "service-under-test") as address:
        assert address == "an address"
        assert events == ["started"]
        assert _threads()
    assert events == ["started", "stopped"]
    assert not _threads()


def test_a_service_is_stopped_if_the_body_fails() -> None:
    events: list[str] = []
    with pytest.raises(KeyError), in_background(_service(events), "service-under-test"):
        raise KeyError
    assert events == ["started", "stopped"]
    assert not _threads()


def test_the_error_of_a_service_that_does_not_start_is_raised() -> None:
    with (
        pytest.raises(TimeoutError),
        in_background(_service_that_does_not_start(), "service-under-test"),
    ):
        pass
    assert not _threads()


def test_the_error_of_a_service_that_does_not_stop_is_raised() -> None:
    with (
        pytest.raises(OSError, match="stopping failed"),
        in_background(_service_that_does_not_stop_well(), "service-under-test"),
    ):
        pass
    assert not _threads()
