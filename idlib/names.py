"""The identity name and its DNS URI: immutable values, checked when created."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from idlib.errors import MalformedNameError

_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
MAX_NAME_BYTES: Final = 253
_MAX_SHOWN: Final = 300
_KNOWN_NAMES: Final = 1024
_GIVE_A_NAME: Final = "give a DNS name such as alice._device.example.com"
_ESCAPE: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED_IN_A_NAME: Final = re.compile(r"[A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True, order=True)
class IdentityName:
    """A device's DNS name, in lower case and without the trailing dot, so that equal identities are equal values.

    Args:
        text: At least two labels of letters, digits, hyphens and underscores, no hyphen at either end of a label, 1 to
            63 bytes each, at most 253 in all; in any case; one trailing dot is dropped.

    Raises:
        MalformedNameError: The text is not such a name.
    """

    text: str

    def __post_init__(self) -> None:
        normalized = self.text.removesuffix(".").lower() if self.text.isascii() else self.text
        labels = normalized.split(".")
        if len(normalized) > MAX_NAME_BYTES:
            raise MalformedNameError(
                f"a device name cannot have {len(normalized)} characters", f"use at most {MAX_NAME_BYTES}"
            )
        if len(labels) < 2 or not all(_LABEL.fullmatch(label) for label in labels):
            raise MalformedNameError(f"{self.text!a} is not a device name", _how_to_name(normalized))
        if normalized != self.text:
            # Equal texts stay one object: a list of a fleet's names and its senders then share their memory.
            object.__setattr__(self, "text", normalized)

    def __str__(self) -> str:
        return self.text

    @property
    def uri(self) -> str:
        """The DNS URI of the name's TLSA records, in the form that dane-jwe-jws uses."""
        return f"dns://{self.text}?type=TLSA"


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """A set of names: single names, all names below a name, or all names.

    Args:
        texts: Names, patterns such as `*._device.example.com` for all names below that, and `*` for all names.
        source: The file that they were read from; None if they were given directly.

    Raises:
        MalformedNameError: One of them is neither a name nor a pattern.
    """

    texts: tuple[str, ...]
    source: Path | None = field(default=None, compare=False)
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    _parents: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [text for text in self.texts if not text.startswith("*")]
        parents = [text for text in self.texts if text.startswith("*")]
        object.__setattr__(self, "_names", frozenset(IdentityName(name).text for name in names))
        object.__setattr__(self, "_parents", frozenset(map(_parent, parents)))

    @classmethod
    def all(cls) -> Self:
        """Return the patterns that match every name."""
        return cls(("*",))

    def match(self, name: IdentityName) -> bool:
        """Return whether a name is in the set."""
        if name.text in self._names or "" in self._parents:
            return True
        labels = name.text.split(".")
        return any(".".join(labels[number:]) in self._parents for number in range(1, len(labels)))

    def lists(self, name: IdentityName) -> bool:
        """Return whether exactly this name is listed; a pattern that matches it does not count."""
        return name.text in self._names


def _how_to_name(text: str) -> str:
    if text.isascii():
        return _GIVE_A_NAME
    try:
        encoded = IdentityName(text.encode("idna").decode()).text
    except (UnicodeError, MalformedNameError):
        return "give an internationalized name in its xn-- form"
    return f"the xn-- form of this name is {encoded}"


def _parent(pattern: str) -> str:
    """Return the suffix of a pattern's names; unlike an identity name, it may be a single label or empty."""
    if pattern == "*":
        return ""
    if not pattern.startswith("*."):
        raise MalformedNameError(
            f"{_shown(pattern)} is not a name pattern", "write *.example.com for all names below example.com"
        )
    return IdentityName(pattern.replace("*", "_", 1)).text.removeprefix("_.")


def name_of(text: str) -> IdentityName:
    """Return `IdentityName(text)`; for names that recur, because checking one takes longer than finding it again.

    Args:
        text: As for `IdentityName`.

    Raises:
        MalformedNameError: The text is not such a name.
    """
    return _known_name(text) if len(text) <= MAX_NAME_BYTES else IdentityName(text)


@functools.lru_cache(_KNOWN_NAMES)
def _known_name(text: str) -> IdentityName:
    return IdentityName(text)


def parse_dns_uri(uri: str) -> IdentityName:
    """Return the name in a DNS URI of TLSA records.

    Args:
        uri: `dns://NAME?type=TLSA`, `dns:NAME?type=TLSA`, `dns:///NAME?type=TLSA` or `dns://AUTHORITY/NAME?type=TLSA`
            (RFC 4501, and the form of dane-jwe-jws). The authority is ignored: a sender must not choose our resolver.

    Raises:
        MalformedNameError: The text is not such a URI.
    """
    # A longer one has an authority, of any length, and must not be kept.
    is_short = len(uri) <= len("dns://?type=TLSA") + MAX_NAME_BYTES
    return _known_uri(uri) if is_short else _parse_dns_uri(uri)


@functools.lru_cache(_KNOWN_NAMES)
def _known_uri(uri: str) -> IdentityName:
    return _parse_dns_uri(uri)


def _parse_dns_uri(uri: str) -> IdentityName:
    scheme, colon, rest = uri.partition(":")
    path, question_mark, query = rest.partition("?")
    if not uri.isascii() or scheme.lower() != "dns" or not colon or not question_mark or not _asks_for_tlsa(query):
        raise _malformed(uri)
    if path.startswith("//"):
        authority, slash, name = path[2:].partition("/")
        if not slash:
            authority, name = "", authority
        if "@" in authority or ":" in authority or not _is_plain(authority):
            raise _malformed(uri)
    else:
        name = path
    try:
        return IdentityName(_ESCAPE.sub(lambda escape: _unescape(escape, uri), name))
    except MalformedNameError as error:
        raise _malformed(uri) from error


def _asks_for_tlsa(query: str) -> bool:
    parameters = [parameter.lower().partition("=")[::2] for parameter in query.split(";")]
    keys = [key for key, _ in parameters]
    return (
        keys.count("type") == 1 and keys.count("class") <= 1 and set(parameters) <= {("type", "tlsa"), ("class", "in")}
    )


def _is_plain(authority: str) -> bool:
    return all(character.isalnum() or character in "._-" for character in authority)


def _unescape(escape: re.Match[str], uri: str) -> str:
    character = chr(int(escape[1], 16))
    if not _UNRESERVED_IN_A_NAME.fullmatch(character):
        raise _malformed(uri)
    return character


def _malformed(uri: str) -> MalformedNameError:
    return MalformedNameError(f"{_shown(uri)} is not a DNS URI of TLSA records", "write dns://NAME?type=TLSA")


def _shown(text: str) -> str:
    return ascii(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")
