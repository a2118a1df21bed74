"""The Decryption stage: from ENCRYPTED_MESSAGES to DECRYPTED_MESSAGES."""

import queue
from collections.abc import Callable, Sequence

from idlib.algorithms import PrivateKey
from idlib.envelope import decrypt
from idlib.transport import Delivery
from messaging_receiver.queue_items import DecryptedMessage, LookupResult, Origin
from messaging_receiver.stage import Stage


def message_decryption_thread(
    stage: Stage[Delivery],
    decrypted: "queue.Queue[DecryptedMessage | LookupResult]",
    keys: Callable[[], Sequence[PrivateKey]],
) -> None:
    """Decrypt the outer layer of each message until the receiver stops.

    Args:
        stage: Takes the messages from their queue.
        decrypted: The queue for decrypted messages.
        keys: Returns the device's private keys, the current one first.
    """
    for delivery in stage.each():
        _attempt(stage, decrypted, keys(), delivery)


def _attempt(
    stage: Stage[Delivery],
    decrypted: "queue.Queue[DecryptedMessage | LookupResult]",
    keys: Sequence[PrivateKey],
    delivery: Delivery,
) -> None:
    origin = Origin(delivery)

    def step() -> None:
        if delivery.refusal is not None:
            raise delivery.refusal
        opened = decrypt(delivery.payload, stage.context.settings.identity_name, keys)
        stage.hand_on(DecryptedMessage(opened.signed, opened.digest, delivery.received_at, origin), decrypted)

    stage.attempt(origin, step)
