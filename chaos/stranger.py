"""A stranger that constantly publishes junk to the recipient, a little of each cheap kind."""

import contextlib
import random
import threading
from collections.abc import Sequence
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from idlib.algorithms import PrivateKey
from idlib.keys import read_private_key
from testbed.lab import BOGUS, SECURE
from testbed.paced_client import PacedClient, Publication
from testbed.programs import Device
from testbed.strangers import Strangers

_PAUSE_SECONDS: Final = 1.0
_AT_ONCE: Final = 20


class Stranger:
    """Publishes in a separate thread, without the proxy, and ignores the results.

    Args:
        port: The port of the broker.
        recipient: The recipient.
        names: Names of devices whose messages the recipient prints.
        generator: Decides what it publishes.
    """

    def __init__(self, port: int, recipient: Device, names: Sequence[str], generator: random.Random) -> None:
        self._port = port
        self._topic = recipient.name
        key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
        recipient_key = read_private_key(recipient.key_path).public
        self._strangers = Strangers(recipient.name, recipient_key, key, names, generator)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish nothing more."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            publications = [self._publication() for _ in range(_AT_ONCE)]
            # The broker may be stopped.
            with contextlib.suppress(OSError), PacedClient(self._port) as client:
                client.publish_all(self._topic, publications, _AT_ONCE / _PAUSE_SECONDS)

    def _publication(self) -> Publication:
        strangers = self._strangers
        match strangers.generator.randrange(6):
            case 0:
                return strangers.with_odd_properties()
            case 1:
                return Publication(strangers.generator.randbytes(100))
            case 2:
                return Publication(strangers.for_nobody())
            case 3:
                return Publication(strangers.without_signature(strangers.generator.choice(strangers.known_names)))
            case 4:
                return Publication(strangers.badly_signed(f"{strangers.new_label()}.{SECURE}"))
            case _:
                return Publication(strangers.badly_signed(f"{strangers.new_label()}.{BOGUS}"))
