"""The Decryption stage: from ENCRYPTED_MESSAGES to DECRYPTED_MESSAGES."""

from collections.abc import Callable, Sequence

from messages import DecryptedMessage, Origin
from pipeline import Pipeline

from idlib.algorithms import PrivateKey
from idlib.envelope import decrypt
from idlib.errors import Reason, Refusal
from idlib.transport import Delivery


def message_decryption_thread(pipeline: Pipeline, keys: Callable[[], Sequence[PrivateKey]]) -> None:
    """Open the outer layer of each message until the receiver stops.

    Args:
        pipeline: Where messages come from and go to.
        keys: Returns our own private keys of the moment, the present one first.
    """
    for delivery in pipeline.each(pipeline.encrypted):
        if delivery is not None:
            _attempt(pipeline, keys(), delivery)


def _attempt(pipeline: Pipeline, keys: Sequence[PrivateKey], delivery: Delivery) -> None:
    origin = Origin(delivery)

    def step() -> None:
        if delivery.refusal is not None:
            raise delivery.refusal
        settings = pipeline.settings
        if len(delivery.payload) > settings.max_message_size:
            raise Refusal(Reason.OVERSIZED, f"{len(delivery.payload)} octets are more than {settings.max_message_size}")
        opened = decrypt(delivery.payload, settings.identity_name, keys)
        message = DecryptedMessage(opened.signed, opened.digest, delivery.received_at, origin)
        pipeline.hand_on(message, pipeline.decrypted)

    pipeline.attempt(origin, step)
