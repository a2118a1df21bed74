"""Opens messages: decrypts and parses them, and looks for the key that signed them among those known already."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from idlib.algorithms import PrivateKey, PublicKey
from idlib.envelope import NO_EPOCH_KEYS, SealedTo, UnverifiedMessage, decrypt, parse_decrypted, signing_key_of
from idlib.errors import Refusal
from idlib.names import IdentityName

if TYPE_CHECKING:
    # Imported when a message needs it, because it takes memory.
    from idlib.epochs import EpochPrivateKey


@dataclass(frozen=True, slots=True)
class OpenedMessage:
    """A decrypted message.

    Args:
        signed: The JWS.
        digest: The SHA-256 digest of the outer layer.
        unverified: The parsed JWS. Its sender is only claimed: `idlib.verdict` decides whether to trust it.
        verified_with: The SubjectPublicKeyInfo of a key that verifies the signature; it may no longer be the sender's.
            None if no such key is known.
        sealed_to: The kind of key that it was encrypted to.
    """

    signed: str = field(repr=False)
    digest: bytes
    unverified: UnverifiedMessage
    verified_with: bytes | None = None
    sealed_to: SealedTo = SealedTo.IDENTITY


# Without either, the message is left to the caller.
Outcome = OpenedMessage | Refusal | None


def open_message(
    payload: bytes,
    recipient: IdentityName,
    keys: Sequence[PrivateKey],
    keys_of: Callable[[IdentityName], Sequence[PublicKey]] = lambda _: (),
    epoch_keys: "Mapping[str, EpochPrivateKey]" = NO_EPOCH_KEYS,
) -> OpenedMessage:
    """Return a message in a received payload.

    Args:
        payload: The payload; the transport has limited its length.
        recipient: The owner of the keys.
        keys: The device's private keys, most likely first.
        keys_of: Returns the keys of a sender that are known already.
        epoch_keys: The device's living epoch keys, by their ids.

    Raises:
        Refusal: The message is malformed, outside the profile or for another recipient, or no key decrypts it.
        UnknownEpochKey: It is encrypted to an epoch key that is not among them.
    """
    decrypted = decrypt(payload, recipient, keys, epoch_keys)
    unverified = parse_decrypted(decrypted)
    key = signing_key_of(unverified, keys_of(unverified.sender))
    verified_with = None if key is None else key.der
    return OpenedMessage(decrypted.signed, decrypted.digest, unverified, verified_with, decrypted.sealed_to)


class Opener(Protocol):
    """Opens batches of messages, one batch at a time; used by one thread."""

    @property
    def most(self) -> int:
        """How many messages a batch can have."""

    def refresh(self) -> None:
        """Follow a change of the device's keys; called at the start, and every 10 s while nothing arrives."""

    def begin(self, payloads: Sequence[bytes]) -> None:
        """Start to open a batch; call `finish` before the next one.

        Args:
            payloads: One or more payloads.
        """

    def finish(self) -> Sequence[Outcome] | None:
        """Return what became of each message, in order; None if the receiver stops."""


class LocalOpener:
    """Leaves the messages to the caller's `open_here`, one at a time: there are no worker processes."""

    most: Final = 1

    def __init__(self) -> None:
        self._number = 0

    def refresh(self) -> None:
        """Do nothing: the caller has the keys."""

    def begin(self, payloads: Sequence[bytes]) -> None:
        """Note the batch.

        Args:
            payloads: One payload.
        """
        self._number = len(payloads)

    def finish(self) -> Sequence[Outcome]:
        """Return None for each message."""
        return (None,) * self._number
