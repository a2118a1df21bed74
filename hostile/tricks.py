"""Everything that strangers do, as named tricks."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hostile.zones import CHEAP, DEAD, HEAVY_NAME, MANY, STRANGERS, VOID
from testbed.lab import BOGUS, SECURE
from testbed.paced_client import Publication
from testbed.raw_mqtt import user_property
from testbed.strangers import BYTE_ORDER_MARK, Strangers

CHEAP_NAMES: Final = tuple(f"c{number}.{CHEAP}" for number in range(48))
_YEAR_SECONDS: Final = 365 * 24 * 3600
_AHEAD_SECONDS: Final = 20 * _YEAR_SECONDS
_MOST_AHEAD: Final = 2**53 - 1
_RECEIPT_NAMES: Final = 794
_FEW_NAMES: Final = 20
_LARGE_BYTES: Final = 30_000
_ALLOWED_BYTES: Final = 65_536
_OVERSIZED_BYTES: Final = 70_000
# A little less than the largest packet of MQTT, 256 MiB.
_LARGEST_PAYLOAD_BYTES: Final = 268_000_000
_EMPTY_USER_PROPERTIES: Final = 60_000


@dataclass(frozen=True, slots=True)
class Trick:
    """A kind of junk that is sent at a rate.

    Args:
        name: What the report calls it.
        write: Returns the given number of it.
    """

    name: str
    write: Callable[[Strangers, int], Sequence[Publication]]


@dataclass(frozen=True, slots=True)
class Blow:
    """A packet that is published once.

    Args:
        name: What the report calls it.
        publication: Returns the packet.
    """

    name: str
    publication: Callable[[], Publication]


def _each(write: Callable[[Strangers], bytes]) -> Callable[[Strangers, int], Sequence[Publication]]:
    return lambda strangers, number: [Publication(write(strangers)) for _ in range(number)]


def _random_bytes(strangers: Strangers) -> bytes:
    return strangers.generator.randbytes(strangers.generator.randrange(1, 2000))


def _nested(strangers: Strangers) -> bytes:
    depth = strangers.generator.randrange(10, 3500)
    return strangers.sealed(b'{"payload":' * depth + b"1" + b"}" * depth)


def _odd_header(strangers: Strangers) -> bytes:
    """Return an outer layer that is cheap to refuse only if no key is used for it."""
    changes = strangers.generator.choice(
        (
            {"enc": "A128GCM"},
            {"zip": "DEF"},
            {"crit": ["x"]},
            {"x5u": "dns://another.example?type=TLSA"},
            {"alg": "RSA1_5"},
        )
    )
    return strangers.sealed(b"x" * 200, **changes)


def _known(
    write: Callable[[Strangers, str], bytes],
) -> Callable[[Strangers, int], Sequence[Publication]]:
    return lambda strangers, number: [
        Publication(write(strangers, strangers.generator.choice(strangers.known_names))) for _ in range(number)
    ]


def _overheard(strangers: Strangers, number: int) -> Sequence[Publication]:
    overheard = tuple(strangers.overheard)
    return [Publication(payload) for payload in strangers.generator.choices(overheard, k=number)] if overheard else []


def _unbound_replays(strangers: Strangers, number: int) -> Sequence[Publication]:
    first = strangers.unbound(f"unbound.{STRANGERS}")
    # A message in another serialization is still the same message.
    second = json.dumps(dict(reversed(json.loads(first).items()))).encode()
    return [Publication(strangers.generator.choice((first, second))) for _ in range(number)]


def _receipts(strangers: Strangers) -> bytes:
    name = f"r{strangers.generator.randrange(_RECEIPT_NAMES)}.{STRANGERS}"
    return strangers.genuine(name, rcpt=True)


def _ahead(strangers: Strangers) -> bytes:
    name = f"a{strangers.generator.randrange(_FEW_NAMES)}.{STRANGERS}"
    ahead = strangers.generator.choice((_AHEAD_SECONDS, 400, _MOST_AHEAD - int(time.time())))
    return strangers.genuine(name, iat=int(time.time()) + ahead)


def _old(strangers: Strangers) -> bytes:
    return strangers.genuine(f"o.{STRANGERS}", iat=int(time.time()) - strangers.generator.randrange(2 * _YEAR_SECONDS))


def _below_known(strangers: Strangers, known: str) -> bytes:
    return strangers.badly_signed(f"{strangers.new_label()}.{known}")


def _odd_properties(strangers: Strangers, number: int) -> Sequence[Publication]:
    return [strangers.with_odd_properties() for _ in range(number)]


TRICKS: Final = (
    Trick("random bytes", _each(_random_bytes)),
    Trick("odd outer header", _each(_odd_header)),
    Trick("encrypted to another key", _each(lambda strangers: strangers.for_nobody())),
    Trick("deeply nested inside", _each(_nested)),
    Trick(
        "bad signature, strangers' names",
        _each(lambda strangers: strangers.badly_signed(f"b{strangers.generator.randrange(_FEW_NAMES)}.{STRANGERS}")),
    ),
    Trick("bad signature, one stranger's name", _each(lambda strangers: strangers.badly_signed(f"b.{STRANGERS}"))),
    Trick("bad signature, known names", _known(lambda strangers, known: strangers.without_signature(known))),
    Trick("bad signature, 64 heavy keys", _each(lambda strangers: strangers.heavily_signed(HEAVY_NAME))),
    Trick(
        "absent names, one domain",
        _each(lambda strangers: strangers.badly_signed(f"{strangers.new_label()}.one.{VOID}")),
    ),
    Trick(
        "absent names, many domains",
        _each(lambda strangers: strangers.badly_signed(f"d.{strangers.new_label()}.{VOID}")),
    ),
    Trick(
        "absent names, the known senders' zone",
        _each(lambda strangers: strangers.badly_signed(f"{strangers.new_label()}._device.{SECURE}")),
    ),
    Trick("absent names, below known ones", _known(_below_known)),
    Trick("bogus names", _each(lambda strangers: strangers.badly_signed(f"{strangers.new_label()}.{BOGUS}"))),
    Trick(
        "names in one dead domain",
        _each(lambda strangers: strangers.badly_signed(f"{strangers.new_label()}.one.{DEAD}")),
    ),
    Trick(
        "names in many dead domains",
        _each(lambda strangers: strangers.badly_signed(f"d.{strangers.new_label()}.{DEAD}")),
    ),
    Trick(
        "large messages, dead domains",
        _each(lambda strangers: strangers.genuine(f"d.{strangers.new_label()}.{DEAD}", "x" * _LARGE_BYTES)),
    ),
    Trick(
        "genuine, new names of one zone",
        _each(lambda strangers: strangers.genuine(f"{strangers.new_label()}.{STRANGERS}")),
    ),
    Trick("genuine, new domains", _each(lambda strangers: strangers.genuine(f"d.{strangers.new_label()}.{MANY}"))),
    Trick("genuine, receipts asked for", _each(_receipts)),
    Trick("genuine, issued far ahead", _each(_ahead)),
    Trick("genuine, issued long ago", _each(_old)),
    Trick("unbound replays", _unbound_replays),
    Trick("replays of known senders", _overheard),
    Trick("odd properties", _odd_properties),
    Trick("of the largest size allowed", _each(lambda strangers: strangers.generator.randbytes(_ALLOWED_BYTES))),
    Trick("a little too large", _each(lambda strangers: strangers.generator.randbytes(_OVERSIZED_BYTES))),
)

BLOWS: Final = (
    Blow("a byte order mark in a property", lambda: Publication(b"x", user_property(b"a", BYTE_ORDER_MARK))),
    Blow("60000 empty properties", lambda: Publication(b"x", user_property(b"", b"") * _EMPTY_USER_PROPERTIES)),
    Blow(
        "the same, retained",
        lambda: Publication(b"x", user_property(b"a", BYTE_ORDER_MARK), is_retained=True),
    ),
    Blow("20 MB", lambda: Publication(bytes(20_000_000))),
    Blow("60 MB", lambda: Publication(bytes(60_000_000))),
    Blow("256 MB", lambda: Publication(bytes(_LARGEST_PAYLOAD_BYTES))),
)


def cheap_messages(strangers: Strangers, number: int, **changes: int) -> Mapping[str, Publication]:
    """Return genuine messages, by their texts, of proven names that cost their owner almost nothing.

    Args:
        strangers: The owners.
        number: How many of each name.
        changes: Members of the inner header that differ from the usual.
    """
    texts = ((f"cheap {strangers.new_label()}", name) for _ in range(number) for name in CHEAP_NAMES)
    return {text: Publication(strangers.genuine(name, text, **changes)) for text, name in texts}
