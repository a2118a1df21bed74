"""Asks DNS beside the pipeline, so that one name's slow answer holds up no other name's messages."""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from idlib.errors import DiscoveryError
from idlib.names import IdentityName

_LOG = logging.getLogger(__name__)

WORKERS: Final = 8


class Lookups:
    """A bounded number of threads that look names up.

    Args:
        answered: Called by one of the threads with each name that has been asked for, and with why nothing was found.
    """

    def __init__(self, answered: Callable[[IdentityName, DiscoveryError | None], None]) -> None:
        self._answered = answered
        self._questions: queue.Queue[tuple[IdentityName, Callable[[IdentityName], object]]] = queue.Queue()
        for number in range(WORKERS):
            threading.Thread(target=self._work, name=f"Lookup-{number}", daemon=True).start()

    def start(self, name: IdentityName, ask: Callable[[IdentityName], object]) -> None:
        """Look a name up when a thread is free.

        Args:
            name: Whose records are needed.
            ask: Asks DNS and remembers the outcome.
        """
        self._questions.put((name, ask))

    def _work(self) -> None:
        while True:
            name, ask = self._questions.get()
            failure = None
            try:
                ask(name)
            except DiscoveryError as error:
                failure = error
            except Exception:  # noqa: BLE001  # the messages that need it are refused when it has answered nothing
                _LOG.exception("The look-up of %s met an error of this program", name)
            self._answered(name, failure)
