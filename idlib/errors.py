"""Every error of this library: the fact, a hint for the user, and its exit status or reason code.

IdlibError
 ├── ConfigurationError        1  an environment variable is missing or has a bad value
 ├── StoreError                1  the file under DATA_PATH cannot be read or written
 │    └── DatabaseError           the database in STORE cannot be used
 ├── ServiceError              1  the services of systemd cannot be installed, removed or shown
 ├── DiscoveryError            2  no certificate was found in DNS; also a dane_discovery TLSAError
 │    ├── ProvenAbsenceError      a name or its records are proven not to exist
 │    │    ├── NoRecordError           the device's name, or its TLSA records
 │    │    └── NoEpochRecordError      its epoch records
 │    ├── NoUsableRecordError     the name has TLSA records, but none can be used
 │    ├── NotSecureError          the answer is not protected by DNSSEC
 │    ├── BogusError              DNSSEC says that the answer was altered or is broken
 │    └── TemporaryDiscoveryError DNS could not be asked, or did not answer
 │         ├── EpochKeyUnavailableError    the name has epoch keys, but none that may be used now
 │         └── UnprovenAbsenceError    DNS shows no record, and nothing proves that there is none
 ├── ClockError                1  the clock of this device is not set
 ├── TransportError            3  the broker was not reached, or did not acknowledge
 │    ├── RefusedMessageError     the broker rejects this message
 │    └── NoSubscriberError    7  the broker has no subscriber for the message, and dropped it
 ├── KeyFileError              4  a key or certificate file is missing, unusable, or in the way
 │    └── UnknownAssetError       Bootstrap keeps no such file; also a ValueError
 ├── MessageError              5  the message cannot be sent as it is
 ├── ReceiptError              6  the recipient did not confirm in time that it has printed the message
 ├── PublishingError          10  the device's records could not be put into DNS
 │    ├── CredentialError         the credential for DNS is rejected, or its file is unusable
 │    ├── ConcurrentChangeError   someone else changed the records at the same time
 │    └── NotServedError          a name server of the zone does not serve the new records
 ├── TooEarlyError            11  a step of a key rotation is not safe yet
 ├── OutputError              70  stdout cannot be written
 ├── ConfirmationError        64  the program that confirms messages has written something else
 ├── ReceiverError            70  the process that receives messages for a program has ended
 ├── MalformedNameError       64  a text is not an identity name, or not the DNS URI of one
 ├── MalformedMediaTypeError  64  a text is not a media type
 ├── MalformedListError        1  a file of names cannot be read or has other content
 ├── MalformedRecordError         bytes are not a TLSA record, or not an epoch record
 ├── UnusableRecordError          a TLSA record has no key that we may use
 ├── MalformedPacketError         bytes from the broker are not an MQTT packet
 ├── UnsuitableKeyError           a key has a type or size that the profile does not allow
 └── Refusal                      a verdict on a received message, with its reason code
      └── UnknownEpochKey         it is encrypted to an epoch key that is not there
"""

import os
import shlex
import stat
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import ClassVar, Self

try:
    from dane_discovery.exceptions import TLSAError
except ModuleNotFoundError:

    class TLSAError(Exception):  # type: ignore[no-redef]
        """Replaces the class of dane_discovery if that library is not installed."""


class ExitStatus(IntEnum):
    """The exit statuses of the programs."""

    OK = 0
    CONFIGURATION = 1
    DISCOVERY = 2
    BROKER = 3
    KEY = 4
    MESSAGE = 5
    RECEIPT = 6
    NO_SUBSCRIBER = 7
    CHECK_FAILED = 8
    NOT_CHECKED = 9
    PUBLISHING = 10
    TOO_EARLY = 11
    TOO_FEW_MESSAGES = 12
    USAGE = 64
    THREAD_DIED = 70
    INTERRUPTED = 130
    TERMINATED = 143


class Reason(StrEnum):
    """Why a received message was refused: stable codes for operators to count and search for."""

    TRANSPORT_MALFORMED = "transport-malformed"
    OVERSIZED = "oversized"
    OUTER_MALFORMED = "outer-malformed"
    OUTER_UNSUPPORTED = "outer-unsupported"
    NOT_FOR_US = "not-for-us"
    DECRYPTION_FAILED = "decryption-failed"
    EPOCH_GONE = "epoch-gone"
    INNER_MALFORMED = "inner-malformed"
    INNER_UNSUPPORTED = "inner-unsupported"
    SENDER_MALFORMED = "sender-malformed"
    BINDING_MALFORMED = "binding-malformed"
    WRONG_AUDIENCE = "wrong-audience"
    SENDER_NOT_ALLOWED = "sender-not-allowed"
    UNBOUND = "unbound"
    NOT_FORWARD_SECRET = "not-forward-secret"  # noqa: S105  # it is not a password
    EXPIRED = "expired"
    TOO_OLD = "too-old"
    FROM_THE_FUTURE = "from-the-future"
    SENDER_WITHOUT_RECORD = "sender-without-record"
    SENDER_NOT_SECURE = "sender-not-secure"
    SENDER_WITHOUT_USABLE_KEY = "sender-without-usable-key"
    SIGNATURE_INVALID = "signature-invalid"
    REPLAY = "replay"
    WAITING_FULL = "waiting-full"
    WAITED_TOO_LONG = "waited-too-long"
    STORE_DAMAGED = "store-damaged"
    RECEIPT = "receipt"
    INTERNAL_ERROR = "internal-error"


class IdlibError(Exception):
    """The base class of all errors of this library.

    Args:
        fact: What is wrong, in one line without a full stop.
        hint: What the user can do about it, in one line without a full stop; empty if there is no hint.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.CONFIGURATION

    def __init__(self, fact: str, hint: str = "") -> None:
        super().__init__(fact, hint)
        self.fact = fact
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.fact}; {self.hint}" if self.hint else self.fact


class ConfigurationError(IdlibError):
    """Environment variables are missing or have bad values.

    Args:
        problems: One line for each, ready to print.
    """

    exit_status = ExitStatus.CONFIGURATION

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class StoreError(IdlibError):
    """The store under DATA_PATH cannot be opened, read or written."""

    exit_status = ExitStatus.CONFIGURATION


class DatabaseError(StoreError):
    """The database in STORE cannot be used now."""


class ServiceError(IdlibError):
    """The services of systemd cannot be installed, removed or shown."""

    exit_status = ExitStatus.CONFIGURATION


class DiscoveryError(IdlibError, TLSAError):  # type: ignore[misc]  # dane_discovery has no type hints
    """No usable certificate was found in DNS.

    It is a `dane_discovery.exceptions.TLSAError`, so that programs written for that library catch it.

    Args:
        fact: What is wrong.
        hint: What the user can do about it.
        zone: The zone that signed the answer, in lower case without a trailing dot; None if that is not known.
    """

    exit_status = ExitStatus.DISCOVERY

    def __init__(self, fact: str, hint: str = "", zone: str | None = None) -> None:
        super().__init__(fact, hint)
        self.zone = zone

    def copy(self) -> Self:
        """Return the same error without a traceback."""
        return self.with_fact(self.fact)

    def with_fact(self, fact: str) -> Self:
        """Return the same error with another text.

        Args:
            fact: What is wrong.
        """
        return type(self)(fact, self.hint, self.zone)


class ProvenAbsenceError(DiscoveryError):
    """DNSSEC proves that a name does not exist or has no record of the requested type: a verdict.

    Args:
        fact: What is wrong.
        hint: What the user can do about it.
        zone: As in `DiscoveryError`.
        kept_seconds: For how many more seconds the resolver may repeat the answer (RFC 2308, section 5).
    """

    def __init__(self, fact: str, hint: str = "", zone: str | None = None, kept_seconds: int = 0) -> None:
        super().__init__(fact, hint, zone)
        self.kept_seconds = kept_seconds

    def with_fact(self, fact: str) -> Self:
        """Return the same error with another text; see `DiscoveryError`."""
        return type(self)(fact, self.hint, self.zone, self.kept_seconds)


class NoRecordError(ProvenAbsenceError):
    """DNSSEC proves that the name does not exist or has no TLSA record: a verdict."""


class NoEpochRecordError(ProvenAbsenceError):
    """DNSSEC proves that a name that is marked as having epoch keys has no TXT record for them: a verdict."""


class NoUsableRecordError(DiscoveryError):
    """The name has authenticated TLSA records, but none has a key that we may use: a verdict."""


class NotSecureError(DiscoveryError):
    """The answer is not protected by DNSSEC: a verdict."""


class BogusError(DiscoveryError):
    """DNSSEC validation failed: no verdict, so that disrupting DNS for a while causes no message to be lost."""


class TemporaryDiscoveryError(DiscoveryError):
    """DNS could not be asked or did not answer: no verdict."""


class EpochKeyUnavailableError(TemporaryDiscoveryError):
    """The name has epoch keys, or may have them, and none that may be used now: the message waits for one."""


class UnprovenAbsenceError(TemporaryDiscoveryError):
    """DNS shows no record of the requested type, and nothing proves that there is none: no verdict."""


class NotForwardSecretError(IdlibError):
    """The recipient has only an identity key, and the message must not be encrypted to one."""

    exit_status = ExitStatus.DISCOVERY


class ClockError(IdlibError):
    """The clock of this device is not set, so recipients would refuse its messages."""


class TransportError(IdlibError):
    """The broker was not reached, refused, or did not acknowledge in time."""

    exit_status = ExitStatus.BROKER


class RefusedMessageError(TransportError):
    """The broker was reached, but rejects this message."""


class NoSubscriberError(TransportError):
    """The broker has acknowledged the message and dropped it, because no client has subscribed to its topic."""

    exit_status = ExitStatus.NO_SUBSCRIBER


class KeyFileError(IdlibError):
    """A private key, certificate or request file is missing, unusable, does not match, or is in the way."""

    exit_status = ExitStatus.KEY


class UnknownAssetError(KeyFileError, ValueError):
    """`Bootstrap` was asked for a file other than key, cert or csr."""


class MessageError(IdlibError):
    """A message cannot be sent as it is: empty, too large, not UTF-8."""

    exit_status = ExitStatus.MESSAGE


class ReceiptError(IdlibError):
    """The broker has the message, but no receipt from its recipient came in time."""

    exit_status = ExitStatus.RECEIPT


class PublishingError(IdlibError):
    """The device's records could not be put into DNS, or read back from every name server of the zone."""

    exit_status = ExitStatus.PUBLISHING


class CredentialError(PublishingError):
    """The DNS server or provider rejects the credential, or the file that holds it is unusable."""


class ConcurrentChangeError(PublishingError):
    """The records at the name changed between being read and being written."""


class NotServedError(PublishingError):
    """A name server of the zone does not serve the records that were published."""


class TooEarlyError(IdlibError):
    """A step of a key rotation would lose messages if it were taken now."""

    exit_status = ExitStatus.TOO_EARLY


class OutputError(IdlibError):
    """Stdout is closed or cannot be written, so the output would be lost."""

    exit_status = ExitStatus.THREAD_DIED


class ConfirmationError(IdlibError):
    """The program that confirms received messages has written something else than the number of the last one."""

    exit_status = ExitStatus.USAGE


class ReceiverError(IdlibError):
    """The process that receives messages for a program could not be started, or has ended."""

    exit_status = ExitStatus.THREAD_DIED


class MalformedNameError(IdlibError):
    """A text is not an identity name, or not the DNS URI of one."""

    exit_status = ExitStatus.USAGE


class MalformedMediaTypeError(IdlibError):
    """A text is not a media type."""

    exit_status = ExitStatus.USAGE


class MalformedListError(IdlibError):
    """A file of names and patterns cannot be read or has other content."""


class MalformedRecordError(IdlibError):
    """Bytes are not a record of the expected kind: a TLSA record, or an epoch record."""


class UnusableRecordError(IdlibError):
    """A TLSA record has no key that we may use."""


class MalformedPacketError(IdlibError):
    """Bytes from the broker are not an MQTT packet."""


class UnsuitableKeyError(IdlibError):
    """A key has a type or size that the profile does not allow."""


class Refusal(IdlibError):
    """A verdict on a received message: it is not printed, and its reason is counted.

    Args:
        reason: The stable code.
        fact: What is wrong with the message; never key material.
    """

    def __init__(self, reason: Reason, fact: str) -> None:
        super().__init__(fact)
        self.reason = reason


class UnknownEpochKey(Refusal):
    """The verdict on a message that is encrypted to an epoch key that is not there.

    Args:
        key_id: The key's id, as the message states it.
    """

    def __init__(self, key_id: str) -> None:
        super().__init__(Reason.EPOCH_GONE, f"none of our epoch keys has the id {key_id}")
        self.key_id = key_id


def quoted(path: Path | str) -> str:
    """Return a path in quotation marks, so that white space at its ends and a literal ~ are visible.

    Args:
        path: The path; unprintable characters are escaped.
    """
    return repr(str(path))


def chmod_hint(directory: Path) -> str | None:
    """Return a hint that gives this user access to its own directory; None if the mode is not the cause.

    Args:
        directory: The directory; one above it may be the one without access.
    """
    needed = stat.S_IRWXU
    for path in (directory, *directory.parents):
        try:
            status = path.stat()
        except OSError:
            # Missing, or hidden by a directory above it.
            needed = stat.S_IXUSR
            continue
        is_closed = status.st_uid == os.geteuid() and status.st_mode & needed != needed
        return f"run chmod 700 {shlex.quote(str(path))}" if is_closed else None
    return None


def permission_hint(directory: Path, service: str) -> str:
    """Return a hint that gives this user access to a directory, by chmod or by chown.

    Args:
        directory: The directory.
        service: A service of docker-compose.yml that may write there.
    """
    command = f"chown -R {os.geteuid()} {shlex.quote(str(directory))}"
    return chmod_hint(directory) or (
        f"as root run {command} (with Compose:"
        f" docker compose run --rm --user root --cap-add CHOWN --cap-add DAC_OVERRIDE {service} {command})"
    )
