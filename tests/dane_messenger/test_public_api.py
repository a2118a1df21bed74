"""The public Python API: a change of what this lists breaks programs, and belongs in CHANGELOG.md."""

import inspect
import subprocess
import sys
from dataclasses import fields, is_dataclass
from typing import Final

import pytest

import dane_messenger
import idlib
from dane_messenger import IdlibError, Message, Receiver, Sender
from tests.documents import ROOT, block

DOCUMENT: Final = (ROOT / "docs" / "python.md").read_text()
CLASSES: Final = {
    "Message": {
        "sender": "str",
        "content": "bytes",
        "content_type": "str | None",
        "id": "str | None",
        "sent_at": "datetime | None",
        "received_at": "datetime",
        "bound": "bool",
        "sealed": "Literal['identity', 'epoch']",
        "text": "str | None",
        "is_acknowledged": "bool",
        "acknowledge": "(self) -> None",
    },
    "QueuedMessage": {"id": "str", "recipient": "str", "queued_at": "datetime"},
    "Receiver": {
        "Receiver": "(settings: Mapping[str, str | int | os.PathLike[str]] | None = None) -> None",
        "identity_name": "str",
        "get": "(self, timeout: float | None = None) -> Message",
        "close": "(self) -> None",
    },
    "Sender": {
        "Sender": (
            "(settings: Mapping[str, str | int | os.PathLike[str]] | None = None, *, timeout: float = 30.0) -> None"
        ),
        "identity_name": "str",
        "send": (
            "(self, recipient: str, content: str | bytes, *, content_type: str | None = None,"
            " expires: int | None = None, receipt: bool = False, timeout: float | None = None) -> SentMessage"
        ),
        "queue": (
            "(self, recipient: str, content: str | bytes, *, content_type: str | None = None,"
            " expires: int | None = None) -> QueuedMessage"
        ),
        "close": "(self) -> None",
    },
    "SentMessage": {
        "id": "str",
        "recipient": "str",
        "sent_at": "datetime",
        "sealed": "Literal['identity', 'epoch']",
        "readable_until": "datetime | None",
        "is_confirmed": "bool",
        "warning": "str | None",
    },
}
# Each error with its direct base.
ERRORS: Final = {
    "IdlibError": "Exception",
    "BogusError": "DiscoveryError",
    "ClockError": "IdlibError",
    "ConfigurationError": "IdlibError",
    "DiscoveryError": "IdlibError",
    "KeyFileError": "IdlibError",
    "MalformedMediaTypeError": "IdlibError",
    "MalformedNameError": "IdlibError",
    "MessageError": "IdlibError",
    "NoRecordError": "DiscoveryError",
    "NoSubscriberError": "TransportError",
    "NoUsableRecordError": "DiscoveryError",
    "NotForwardSecretError": "IdlibError",
    "NotSecureError": "DiscoveryError",
    "ReceiptError": "IdlibError",
    "ReceiverError": "IdlibError",
    "RefusedMessageError": "TransportError",
    "StoreError": "IdlibError",
    "TemporaryDiscoveryError": "DiscoveryError",
    "TransportError": "IdlibError",
}


def shown(annotation: object) -> str:
    """Return a type or a signature without the modules of its names."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    for module in ("collections.abc.", "dane_messenger.message.", "dane_messenger.sender.", "datetime.", "typing."):
        text = text.replace(module, "")
    return text


def members(cls: type) -> dict[str, str]:
    """Return the public fields, properties and methods of a class, and the signature of its constructor."""
    found = {}
    if is_dataclass(cls):
        found = {field.name: shown(field.type) for field in fields(cls) if not field.name.startswith("_")}
    else:
        found[cls.__name__] = shown(inspect.signature(cls))
    for name, member in vars(cls).items():
        if name.startswith("_") or name in found:
            continue
        if isinstance(member, property):
            found[name] = shown(inspect.signature(member.fget).return_annotation) if member.fget else ""
        else:
            found[name] = shown(inspect.signature(member))
    return found


def test_the_public_names_are_these() -> None:
    assert sorted(dane_messenger.__all__) == sorted([*CLASSES, *ERRORS, "__version__"])
    assert dane_messenger.__version__ == idlib.__version__


@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_has_these_members(name: str) -> None:
    assert members(getattr(dane_messenger, name)) == CLASSES[name]


@pytest.mark.parametrize("name", ERRORS)
def test_a_public_error_has_this_place_in_the_tree(name: str) -> None:
    error = getattr(dane_messenger, name)
    assert issubclass(error, IdlibError)
    bases = [base.__name__ for base in error.__mro__[1:]]
    assert next(base for base in bases if base in ERRORS or base == "Exception") == ERRORS[name]


def test_the_document_shows_the_tree_of_errors() -> None:
    parents: dict[int, str] = {}
    tree = {}
    for line in block("docs/python.md", "the errors").splitlines():
        start = len(line) - len(line.lstrip(" │├└─"))
        name = line[start:].split()[0]
        tree[name] = next((parents[depth] for depth in sorted(parents, reverse=True) if depth < start), "Exception")
        parents = {depth: parent for depth, parent in parents.items() if depth < start} | {start: name}
    assert tree == ERRORS


@pytest.mark.parametrize("name", [name for cls in CLASSES.values() for name in cls])
def test_the_document_describes_each_member(name: str) -> None:
    assert name in DOCUMENT


@pytest.mark.parametrize("member", [Sender.send, Sender.queue, Receiver.get, Message.acknowledge, Sender, Receiver])
def test_each_public_function_describes_its_errors(member: object) -> None:
    assert "Raises:" in (inspect.getdoc(member) or "")


def test_a_name_that_is_not_public_is_not_an_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'dane_messenger' has no attribute 'Subscriber'"):
        dane_messenger.Subscriber  # noqa: B018  # the access is what is tested


def test_importing_the_package_imports_nothing_that_the_command_does_not_need() -> None:
    program = "import sys; before = set(sys.modules); import dane_messenger; print(*sorted(set(sys.modules) - before))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert ended.stdout.split() == ["dane_messenger"]
