"""Target: names, DNS URIs and patterns of names, as headers and settings hold them. An input is a text in UTF-8."""

import re
from random import Random
from typing import Final

from fuzz.target import MutateOctets, Target, check_harmless, mutate_octets_alone
from idlib.errors import MalformedNameError
from idlib.names import IdentityName, NamePatterns, parse_dns_uri

_LABEL: Final = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})+")
_ESCAPED: Final = re.compile(r"(2D|5F|3[0-9]|[46][1-9A-F]|[57][0-9A]).*", re.IGNORECASE)
_ALICE: Final = IdentityName("alice._device.example.test")
_SEEDS: Final = (
    *("alice._device.example.test", "ALICE.example.", "xn--bcher-kva.example", "a.b", "_a-b.c", "*", "*.example.test"),
    *("dns://alice.example?type=TLSA", "dns:alice.example?type=TLSA", "dns:///alice.example?type=TLSA"),
    *("dns://192.0.2.1/alice.example?class=IN;type=TLSA", "DNS:%61lice.exampl%65.?CLASS=in;TYPE=tlsa"),
    *("dns://ns.example:53/a.b?type=TLSA", "dns://u@ns/a.b?type=TLSA", "dns:a.b?type=TLSA;type=TLSA", "dns:a%2eb?"),
    "*._device.example.test,alice.example.test",
)
_MARKS: Final = (
    *(
        "%",
        "%41",
        "%7a",
        "%2d",
        "%2E",
        "%00",
        "%0a",
        "%80",
        ".",
        "-",
        "_",
        "*",
        "*.",
        ",",
        "/",
        "//",
        ":",
        "@",
        "?",
        "#",
    ),
    *(";", "class=in", "CLASS=ch", "type=tlsa", "dns:", "dns://", "a" * 63, "é", "\u202e", "\u212a", "\n", "\0", " "),
)


def _seeds() -> list[bytes]:
    return [seed.encode() for seed in _SEEDS]


def _check(octets: bytes) -> str:
    text = octets.decode(errors="surrogateescape")
    outcomes = [_of_uri(text), _of_name(text), _of_patterns(text)]
    return " ".join(outcome for outcome in outcomes if outcome) or "malformed"


def _of_uri(text: str) -> str:
    try:
        name = parse_dns_uri(text)
    except MalformedNameError as error:
        check_harmless(str(error))
        return ""
    _check_name(name)
    assert text.isascii(), "a URI is ASCII"
    assert text.lower().startswith("dns:"), "a URI with another scheme is not a DNS URI"
    assert all(_ESCAPED.fullmatch(escaped) for escaped in text.split("%")[1:]), "no other character is escaped"
    assert "type=tlsa" in text.lower(), "what does not ask for TLSA is refused"
    return "uri"


def _of_name(text: str) -> str:
    try:
        name = IdentityName(text)
    except MalformedNameError as error:
        check_harmless(str(error))
        return ""
    _check_name(name)
    assert name.text == text.lower().removesuffix("."), "a name says nothing that its text does not"
    return "name"


def _of_patterns(text: str) -> str:
    words = tuple(text.split(","))
    try:
        patterns = NamePatterns(words)
    except MalformedNameError as error:
        check_harmless(str(error))
        return ""
    assert patterns.match(_ALICE) == any(_means_alice(word.lower().removesuffix(".")) for word in words)
    return "patterns"


def _means_alice(word: str) -> bool:
    return word in ("*", _ALICE.text) or (word.startswith("*.") and _ALICE.text.endswith(word[1:]))


def _check_name(name: IdentityName) -> None:
    assert _NAME.fullmatch(name.text), "a name has its form"
    assert len(name.text) <= 253, "a name has its length"
    assert parse_dns_uri(name.uri) == name, "a name survives its URI"
    assert IdentityName(name.text.upper() + ".") == name, "a name is equal in any case"


def _mutate(octets: bytes, generator: Random, mutate_octets: MutateOctets) -> bytes:
    if generator.random() < 0.6:
        return mutate_octets_alone(octets, generator, mutate_octets)
    place, skipped = generator.randrange(len(octets) + 1), generator.choice((0, 0, 1, 2))
    return octets[:place] + generator.choice(_MARKS).encode() + octets[place + skipped :]


TARGET: Final = Target(_seeds, _check, _mutate)
