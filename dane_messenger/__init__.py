"""Send and receive signed and encrypted messages between devices known by their DNS names.

    from dane_messenger import Sender

    with Sender() as sender:
        sender.send("bob._device.example.com", "Good morning")

The names in `__all__` are the public API: see docs/python.md. `dane_messenger.command` is the command `dane-messenger`.
"""

# Type checkers recognize this name. Importing typing would take time before a program can handle Ctrl-C.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from dane_messenger.message import Message
    from dane_messenger.receiver import Receiver
    from dane_messenger.sender import QueuedMessage, Sender, SentMessage
    from idlib import __version__
    from idlib.errors import (
        BogusError,
        ClockError,
        ConfigurationError,
        DiscoveryError,
        IdlibError,
        KeyFileError,
        MalformedMediaTypeError,
        MalformedNameError,
        MessageError,
        NoRecordError,
        NoSubscriberError,
        NotForwardSecretError,
        NotSecureError,
        NoUsableRecordError,
        ReceiptError,
        ReceiverError,
        RefusedMessageError,
        StoreError,
        TemporaryDiscoveryError,
        TransportError,
    )

__all__ = [
    "BogusError",
    "ClockError",
    "ConfigurationError",
    "DiscoveryError",
    "IdlibError",
    "KeyFileError",
    "MalformedMediaTypeError",
    "MalformedNameError",
    "Message",
    "MessageError",
    "NoRecordError",
    "NoSubscriberError",
    "NoUsableRecordError",
    "NotForwardSecretError",
    "NotSecureError",
    "QueuedMessage",
    "ReceiptError",
    "Receiver",
    "ReceiverError",
    "RefusedMessageError",
    "Sender",
    "SentMessage",
    "StoreError",
    "TemporaryDiscoveryError",
    "TransportError",
    "__version__",
]

_MODULES = {
    "Message": "dane_messenger.message",
    "QueuedMessage": "dane_messenger.sender",
    "Receiver": "dane_messenger.receiver",
    "Sender": "dane_messenger.sender",
    "SentMessage": "dane_messenger.sender",
    "__version__": "idlib",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that the command starts fast and takes little memory."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES.get(name, "idlib.errors")), name)
