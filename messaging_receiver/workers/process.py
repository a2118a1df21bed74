"""What runs in a worker process: it opens batches of messages until the receiver closes the connection."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from idlib.algorithms import PublicKey
from idlib.errors import Refusal, UnknownEpochKey
from idlib.names import IdentityName
from messaging_receiver.opening import Outcome, open_message
from messaging_receiver.workers.epoch_ring import EpochRing
from messaging_receiver.workers.frames import Channel, LostPeer
from messaging_receiver.workers.key_ring import KeyRing
from messaging_receiver.workers.protocol import Batch, SenderKeys, read_batch, write_outcomes

# The receiver sends each sender's keys once, and assumes that the last ones are still here.
MAX_SENDERS: Final = 1024


class SenderBook:
    """The keys of the senders that were learned last."""

    def __init__(self) -> None:
        self._keys: OrderedDict[str, tuple[bytes, ...] | tuple[PublicKey, ...]] = OrderedDict()

    def learn(self, known: SenderKeys) -> None:
        """Replace the keys of a sender.

        Args:
            known: The sender and its keys.
        """
        self._keys.pop(known.sender, None)
        self._keys[known.sender] = known.keys
        if len(self._keys) > MAX_SENDERS:
            self._keys.popitem(last=False)

    def keys_of(self, sender: IdentityName) -> Sequence[PublicKey]:
        """Return the keys of a sender; none if they are not known.

        Args:
            sender: The sender's name.
        """
        keys = self._keys.get(sender.text, ())
        parsed = tuple(key if isinstance(key, PublicKey) else PublicKey.from_der(key) for key in keys)
        if keys and not isinstance(keys[0], PublicKey):
            self._keys[sender.text] = parsed
        return parsed


def work_for(crypto_path: Path, epoch_path: Path, recipient: IdentityName) -> Callable[[Channel], None]:
    """Return what a worker process does with its connection to the receiver.

    Args:
        crypto_path: The directory of the key files.
        epoch_path: The directory of the private halves of epoch keys.
        recipient: The device's name.
    """
    ring, epochs = KeyRing(crypto_path, recipient), EpochRing(epoch_path, recipient)
    return lambda channel: Worker(recipient, ring, epochs).serve(channel)


class Worker:
    """Opens batches of messages.

    Args:
        recipient: The device's name.
        ring: The device's private keys.
        epochs: The device's epoch keys.
    """

    def __init__(self, recipient: IdentityName, ring: KeyRing, epochs: EpochRing) -> None:
        self._recipient = recipient
        self._ring = ring
        self._epochs = epochs
        self._book = SenderBook()

    def serve(self, channel: Channel) -> None:
        """Answer each batch, until the receiver has closed the connection or has ended.

        Args:
            channel: The connection to the receiver.
        """
        while True:
            try:
                channel.send(write_outcomes(self.open(read_batch(channel.receive()))))
            except LostPeer:
                return

    def open(self, batch: Batch) -> list[Outcome]:
        """Return the outcome for each message of a batch.

        Args:
            batch: The batch.
        """
        self._ring.use(batch.fingerprints)
        self._epochs.use(batch.epochs)
        for known in batch.senders:
            self._book.learn(known)
        return [self._open(payload) for payload in batch.payloads]

    def _open(self, payload: bytes) -> Outcome:
        try:
            return open_message(payload, self._recipient, self._ring.keys, self._book.keys_of, self._epochs.keys)
        except UnknownEpochKey:
            # The receiver may have the key, and knows which ones it has destroyed.
            return None
        except Refusal as refusal:
            # The receiver may have a key in memory whose file can no longer be read.
            return refusal if self._ring.is_complete else None
        except Exception:  # noqa: BLE001  # the receiver tries the message itself, and logs the error
            return None
