"""Runs an asynchronous service in its own thread, for a program without an event loop."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

Value = TypeVar("Value")


@contextmanager
def in_background(service: AbstractAsyncContextManager[Value], thread_name: str) -> Iterator[Value]:
    """Run a service in a thread, and yield its value, for example the address where it listens.

    Args:
        service: Entered and left in the event loop of the thread.
        thread_name: The beginning of the thread's name.

    Raises:
        Exception: Any exception that the service raises when it starts or stops.
    """
    started: Future[tuple[Value, Callable[[], object]]] = Future()

    async def serve() -> None:
        async with service as value:
            stopping = asyncio.Event()
            started.set_result((value, partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)))
            await stopping.wait()

    with ThreadPoolExecutor(1, thread_name) as executor:
        finished = executor.submit(asyncio.run, serve())
        either: tuple[Future[Any], ...] = (started, finished)
        try:
            if started in wait(either, return_when=FIRST_COMPLETED).done:
                yield started.result()[0]
        finally:
            # If the wait above was interrupted, the thread still has to be stopped.
            if started in wait(either, return_when=FIRST_COMPLETED).done:
                started.result()[1]()
            finished.result()
