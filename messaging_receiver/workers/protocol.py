"""What the receiver and a worker process send each other, as the fields of frames.

The receiver sends batches of encrypted messages with the fingerprints of the private keys and the ids of the epoch keys
to use, and the public keys that verified earlier messages. A worker reads the private keys from their files; they are
never sent. It answers with the outcome for each message.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from idlib import base64url, media_types
from idlib.envelope import Binding, SealedTo, UnverifiedMessage
from idlib.errors import IdlibError, Reason, Refusal
from idlib.names import IdentityName, name_of
from messaging_receiver.opening import OpenedMessage, Outcome

_NUMBERS: Final = struct.Struct("!BQQ")
_LENGTHS: Final = struct.Struct("!II")
_IS_BOUND: Final = 1
_EXPIRES: Final = 2
_ASKS_FOR_RECEIPT: Final = 4
_SEALED_TO_EPOCH: Final = 8
_OPENED, _REFUSED, _LEFT = b"orl"


@dataclass(frozen=True, slots=True)
class SenderKeys:
    """The keys of a sender, as far as the receiver knows them.

    Args:
        sender: The sender's name.
        keys: Each key as a SubjectPublicKeyInfo; at most 255.
    """

    sender: str
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages to open.

    Args:
        fingerprints: The fingerprints of the device's private keys to try, in this order; all others are dropped.
        senders: Keys of senders that the worker has not got yet.
        payloads: The encrypted messages.
        epochs: The ids of the device's living epoch keys; all others are dropped.
    """

    fingerprints: tuple[bytes, ...]
    senders: tuple[SenderKeys, ...]
    payloads: tuple[bytes, ...]
    epochs: tuple[str, ...] = ()


def write_batch(batch: Batch) -> list[bytes]:
    """Return the fields for a batch.

    Args:
        batch: The batch.
    """
    fields = [
        _LENGTHS.pack(len(batch.fingerprints), len(batch.epochs)),
        bytes(len(known.keys) for known in batch.senders),
        *batch.fingerprints,
        *(key_id.encode("ascii") for key_id in batch.epochs),
    ]
    for known in batch.senders:
        fields.append(known.sender.encode("ascii"))
        fields += known.keys
    fields += batch.payloads
    return fields


def read_batch(fields: Sequence[bytes]) -> Batch:
    """Return the batch in fields that `write_batch` has returned.

    Args:
        fields: The fields.

    Raises:
        ValueError: They are not such fields.
    """
    rest = iter(fields)
    number, number_of_epochs = _LENGTHS.unpack(_next(rest))
    counts = _next(rest)
    fingerprints = _take(rest, number)
    epochs = tuple(key_id.decode("ascii") for key_id in _take(rest, number_of_epochs))
    senders = tuple(SenderKeys(_next(rest).decode("ascii"), _take(rest, count)) for count in counts)
    return Batch(fingerprints, senders, tuple(rest), epochs)


def write_outcomes(outcomes: Sequence[Outcome]) -> list[bytes]:
    """Return the fields for the outcomes of a batch.

    Args:
        outcomes: One for each message.
    """
    fields = [b""]
    kinds = bytearray()
    for outcome in outcomes:
        match outcome:
            case OpenedMessage():
                kinds.append(_OPENED)
                fields += _write_opened(outcome)
            case Refusal():
                kinds.append(_REFUSED)
                fields += (outcome.reason.encode(), outcome.fact.encode(errors="surrogatepass"))
            case None:
                kinds.append(_LEFT)
    fields[0] = bytes(kinds)
    return fields


def read_outcomes(fields: Sequence[bytes]) -> list[Outcome]:
    """Return the outcomes in fields that `write_outcomes` has returned.

    Args:
        fields: The fields.

    Raises:
        ValueError: They are not such fields.
    """
    if not fields:
        raise ValueError("no fields")
    rest = iter(fields[1:])
    try:
        outcomes = [_read_outcome(kind, rest) for kind in fields[0]]
    except (IdlibError, struct.error) as error:
        raise ValueError("a field has a wrong value") from error
    if next(rest, None) is not None:
        raise ValueError("too many fields")
    return outcomes


def _read_outcome(kind: int, rest: Iterator[bytes]) -> Outcome:
    if kind == _OPENED:
        return _read_opened(rest)
    if kind == _REFUSED:
        return Refusal(Reason(_next(rest).decode("ascii")), _next(rest).decode(errors="surrogatepass"))
    if kind == _LEFT:
        return None
    raise ValueError("an unknown kind of outcome")


def _write_opened(opened: OpenedMessage) -> tuple[bytes, ...]:
    message = opened.unverified
    flags, issued_at, expires_at, audience, identifier = 0, 0, 0, "", ""
    if message.binding is not None:
        flags |= _IS_BOUND
        issued_at, audience = message.binding.issued_at, message.binding.audience.text
        identifier = message.binding.identifier
        if message.binding.expires_at is not None:
            flags |= _EXPIRES
            expires_at = message.binding.expires_at
    if message.asks_for_receipt:
        flags |= _ASKS_FOR_RECEIPT
    if opened.sealed_to is SealedTo.EPOCH:
        flags |= _SEALED_TO_EPOCH
    return (
        _NUMBERS.pack(flags, issued_at, expires_at),
        opened.digest,
        message.sender.text.encode("ascii"),
        message.algorithm.encode("ascii"),
        audience.encode("ascii"),
        identifier.encode(errors="surrogatepass"),
        message.signing_input,
        message.signature,
        message.unverified_content,
        (message.content_type or "").encode("ascii"),
        opened.verified_with or b"",
    )


def _read_opened(rest: Iterator[bytes]) -> OpenedMessage:
    fields = _take(rest, 11)
    numbers, digest, sender, algorithm, audience, identifier, signing_input, signature, content, cty, key = fields
    flags, issued_at, expires_at = _NUMBERS.unpack(numbers)
    binding = None
    if flags & _IS_BOUND:
        binding = Binding(
            _name(audience),
            issued_at,
            identifier.decode(errors="surrogatepass"),
            expires_at if flags & _EXPIRES else None,
        )
    content_type = media_types.media_type(cty.decode("ascii")) if cty else None
    if content_type is None:
        # Only content with a type may be other than a text.
        content.decode()
    unverified = UnverifiedMessage(
        _name(sender),
        algorithm.decode("ascii"),
        binding,
        signing_input,
        signature,
        content,
        bool(flags & _ASKS_FOR_RECEIPT),
        content_type,
    )
    # The compact serialization of the same JWS: equally valid, and cheaper to send than the form that was received.
    signed = f"{signing_input.decode('ascii')}.{base64url.encode(signature)}"
    sealed_to = SealedTo.EPOCH if flags & _SEALED_TO_EPOCH else SealedTo.IDENTITY
    return OpenedMessage(signed, digest, unverified, key or None, sealed_to)


def _name(text: bytes) -> IdentityName:
    return name_of(text.decode("ascii"))


def _next(rest: Iterator[bytes]) -> bytes:
    return _take(rest, 1)[0]


def _take(rest: Iterator[bytes], number: int) -> tuple[bytes, ...]:
    taken = tuple(islice(rest, number))
    if len(taken) != number:
        raise ValueError("too few fields")
    return taken
