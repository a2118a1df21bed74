"""The table of conditions: what is in DNS at a name, and the result that discovery must have in each DNSSEC mode."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from testbed.dns_lab import servers, signing, zones
from testbed.dns_lab.signing import Damage


class Verdict(Enum):
    """The result of a look-up that finds no usable record."""

    NONE = "none"
    UNUSABLE = "none is usable"
    NOT_SECURE = "not secure"
    BOGUS = "bogus"
    TEMPORARY = "temporary"


# The usable records in order of preference, or why there are none.
Outcome = Verdict | tuple[str, ...]

NONE, UNUSABLE, NOT_SECURE = Verdict.NONE, Verdict.UNUSABLE, Verdict.NOT_SECURE
BOGUS, TEMPORARY = Verdict.BOGUS, Verdict.TEMPORARY


@dataclass(frozen=True, eq=False)
class Condition:
    """One name of the lab.

    Args:
        title: A description; the name's first label is derived from it.
        zone: The zone of the name.
        trusted: The outcome if a validating resolver's AD bit is trusted.
        pinned: The outcome with pinned anchors, whichever server is queried.
        pinned_at_authority: The outcome with pinned anchors at the zone's own server; None if it is the same.
        records: The TLSA records at the name, as `material.rdata` reads them.
        elsewhere: Records at other names of the zone, as zone-file lines; `{name}` is the name with its dot.
        holders: TLSA records at other names of the zone, by their names.
        damage: How the records at the name are signed, in a zone that is signed by hand.
        owner: The name itself if it is not the usual one; `{zone}` is its zone.
        ttl: Seconds.
    """

    title: str
    zone: str
    trusted: Outcome
    pinned: Outcome
    pinned_at_authority: Outcome | None = None
    records: Sequence[str] = ()
    elsewhere: Sequence[str] = ()
    holders: Sequence[tuple[str, str]] = ()
    damage: Damage = signing.intact
    owner: str = ""
    ttl: int = 60

    @property
    def name(self) -> str:
        """The device's name, in lower case."""
        label = re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")
        return (self.owner or f"{label}._device.{{zone}}").format(zone=self.zone).lower()


def _found(title: str, *records: str, of: Sequence[str] | None = None, zone: str = zones.GOOD) -> Condition:
    """Return a condition in which some of the records, or all of them, are found in both ways."""
    return Condition(title, zone, records, records, records=records if of is None else of)


def _unusable(title: str, *records: str) -> Condition:
    return Condition(title, zones.GOOD, UNUSABLE, UNUSABLE, records=records)


def _alias(
    title: str, target: str, trusted: Outcome, pinned: Outcome, at_authority: Outcome | None = None
) -> Condition:
    return Condition(title, zones.GOOD, trusted, pinned, at_authority, elsewhere=[f"{{name}} 60 CNAME {target}"])


def _signed(title: str, damage: Damage, outcome: Outcome = BOGUS) -> Condition:
    return Condition(title, zones.BROKEN, outcome, outcome, records=_ONE, damage=damage)


def _present(title: str, zone: str, trusted: Outcome, pinned: Outcome) -> Condition:
    return Condition(title, zone, trusted, pinned, records=_ONE)


def _absent(title: str, zone: str, trusted: Outcome, pinned: Outcome = TEMPORARY) -> Condition:
    return Condition(title, zone, trusted, pinned)


def _served(title: str, server: str) -> Condition:
    return Condition(title, server, TEMPORARY, TEMPORARY)


def _chain(prefix: str, length: int, end: str) -> list[str]:
    """Return aliases: the name, and one less than `length` in a row behind it."""
    names = ["{name}", *(f"{prefix}{number}" for number in range(1, length)), end]
    return [f"{names[number]} 60 CNAME {names[number + 1]}" for number in range(length)]


_ONE: Final = ("3 0 0 p256",)
_TARGET: Final = "target._device"
_LONGEST_LABEL: Final = "a" * 63
_LARGE: Final = tuple(f"3 0 0 large {number}" for number in range(40))
_LONG_NAME: Final = ".".join(["b" * 63] * 3 + ["c" * (253 - 3 * 64 - len(zones.GOOD) - 1)]) + ".{zone}"

_RECORDS: Final = (
    _found("one record", "3 0 0 p256"),
    _found("one RSA record", "3 0 0 rsa"),
    _found("RSA 4096", "3 0 0 rsa4096"),
    _found("two records of a rollover", "3 0 0 p256", "3 0 0 rsa", of=["3 0 0 rsa", "3 0 0 p256"]),
    _found("a bare key", "3 1 0 rsa"),
    _found("a bare key that changes its form", "3 1 0 p256", "3 0 0 p256", of=["3 0 0 p256", "3 1 0 p256"]),
    _found(
        "all kinds in order of preference",
        *("3 1 0 rsa", "3 0 0 p256", "3 0 0 rsa", "4 0 0 issued", "1 0 0 issued to rsa"),
        of=["1 0 0 issued to rsa", "4 0 0 issued", "3 0 0 rsa", "3 0 0 p256", "3 1 0 rsa"],
    ),
    _found("dates mean nothing for DANE-EE", "3 0 0 long expired"),
    _found("TTL 0", "3 0 0 p256"),
    _found("PKIX-CD", "4 0 0 issued"),
    _found("PKIX-CD needs no authority", "4 0 0 issued by a stranger"),
    _found("PKIX-CD with two names", "4 0 0 issued for two"),
    _found("PKIX-CD in capitals", "4 0 0 issued in capitals"),
    _found("PKIX-CD for servers", "4 0 0 issued for servers"),
    _unusable("PKIX-CD expired", "4 0 0 issued, expired"),
    _unusable("PKIX-CD not yet valid", "4 0 0 issued, not yet valid"),
    _unusable("PKIX-CD for another", "4 0 0 issued for another"),
    _unusable("PKIX-CD with a wildcard", "4 0 0 issued with a wildcard"),
    _unusable("PKIX-CD with a common name alone", "4 0 0 issued with a common name alone"),
    _unusable("PKIX-CD with a bare key", "4 1 0 issued"),
    _found("PKIX-EE", "1 0 0 issued"),
    _found("PKIX-EE RSA", "1 0 0 issued to rsa"),
    _found("PKIX-EE for clients", "1 0 0 issued for clients"),
    _found("PKIX-EE for any use", "1 0 0 issued for any use"),
    _unusable("PKIX-EE by a stranger", "1 0 0 issued by a stranger"),
    _unusable("PKIX-EE expired", "1 0 0 issued, expired"),
    _unusable("PKIX-EE not yet valid", "1 0 0 issued, not yet valid"),
    _unusable("PKIX-EE for servers", "1 0 0 issued for servers"),
    _unusable("PKIX-EE for another", "1 0 0 issued for another"),
    _unusable("PKIX-EE with a wildcard", "1 0 0 issued with a wildcard"),
    _unusable("PKIX-EE with a common name alone", "1 0 0 issued with a common name alone"),
    _unusable("PKIX-EE with a bare key", "1 1 0 issued"),
    _unusable("digest of a certificate", "3 0 1 p256"),
    _unusable("digest of a key", "3 1 1 p256"),
    _unusable("long digest of a certificate", "3 0 2 p256"),
    _found("digests beside a key", "3 0 0 p256", of=["3 0 1 p256", "3 1 1 p256", "3 0 2 rsa", "3 0 0 p256"]),
    _unusable("authorities", "0 0 0 issued", "2 0 0 issued", "2 0 1 issued"),
    _found("an authority beside a key", "3 0 0 p256", of=["2 0 0 issued", "3 0 0 p256"]),
    _unusable("unknown usages", "5 0 0 p256", "255 0 0 p256"),
    _unusable("unknown selector", "3 2 0 p256", "3 255 0 p256"),
    _unusable("unknown matching type", "3 0 3 p256", "3 0 255 p256"),
    _found("unknown parameters beside a key", "3 0 0 p256", of=["5 0 0 rsa", "3 2 0 rsa", "3 0 3 rsa", "3 0 0 p256"]),
    _unusable("short octets", "octets 03", "octets 0300", "octets 030000"),
    _found("short octets beside a key", "3 0 0 p256", of=["octets 03", "octets 0300", "octets 030000", "3 0 0 p256"]),
    _unusable("octets left over", "3 0 0 p256+junk", "3 1 0 rsa+junk", "3 1 0 p256+junk"),
    _found("octets left over beside a key", "3 0 0 p256", of=["3 0 0 rsa+junk", "3 0 0 p256"]),
    _found("nonsense beside a key", "3 0 0 p256", of=["3 0 0 nonsense", "3 1 0 nonsense", "3 0 0 p256"]),
    _unusable("RSA 1024", "3 0 0 rsa1024"),
    _unusable("RSA 8192", "3 0 0 rsa8192"),
    _found("RSA with exponent 3", "3 1 0 exponent 3"),
    _unusable("RSA with exponent 1", "3 1 0 exponent 1"),
    _unusable("RSA with an even exponent", "3 1 0 exponent 4"),
    _unusable("P-384", "3 0 0 p384"),
    _unusable("Ed25519", "3 0 0 ed25519"),
    _found("weak keys beside a good one", "3 0 0 p256", of=["3 0 0 rsa1024", "3 0 0 p384", "3 0 0 p256"]),
    _found("too large for UDP", *_LARGE[:8], of=_LARGE),
    _found(
        "more keys than are used",
        *(f"3 0 0 small {number}" for number in range(8)),
        of=[f"3 0 0 small {number}" for number in range(70)],
    ),
    _found(
        "a thousand that are useless", "3 1 0 p256", of=[f"octets 0300{n:04x}" for n in range(1000)] + ["3 1 0 p256"]
    ),
)

_NAMES: Final = (
    Condition("mixed case", zones.GOOD, _ONE, _ONE, records=_ONE, owner="Mixed-CASE._Device.{zone}"),
    Condition("the longest label", zones.GOOD, _ONE, _ONE, records=_ONE, owner=f"{_LONGEST_LABEL}._device.{{zone}}"),
    Condition("the longest name", zones.GOOD, _ONE, _ONE, records=_ONE, owner=_LONG_NAME),
    Condition("at the apex", zones.APEX, _ONE, _ONE, records=_ONE, owner="{zone}"),
    _alias("alias", _TARGET, _ONE, _ONE),
    _alias("alias in capitals", "TARGET._DEVICE.GOOD.TEST.", _ONE, _ONE),
    _alias("alias in another secure zone", f"{_TARGET}.{zones.DENIAL3}.", _ONE, _ONE, TEMPORARY),
    _alias("alias in a zone that is not pinned", f"{_TARGET}.{zones.NOT_PINNED}.", _ONE, NOT_SECURE),
    _alias("alias in an unsigned zone", f"{_TARGET}.{zones.UNSIGNED}.", NOT_SECURE, NOT_SECURE),
    _alias("alias in a broken zone", f"alias-target._device.{zones.BROKEN}.", BOGUS, BOGUS, TEMPORARY),
    _alias("alias of nothing", "nobody._device", NONE, TEMPORARY),
    _alias("alias of itself", "{name}", TEMPORARY, TEMPORARY),
    Condition(
        "alias of an alias of itself",
        *(zones.GOOD, TEMPORARY, TEMPORARY),
        elsewhere=["{name} 60 CNAME round._device", "round._device 60 CNAME {name}"],
    ),
    # Knot follows fewer aliases in one answer, and only a resolver continues from there.
    Condition("eight aliases", zones.GOOD, _ONE, _ONE, TEMPORARY, elsewhere=_chain("eight", 8, _TARGET)),
    Condition("nine aliases", zones.GOOD, TEMPORARY, TEMPORARY, elsewhere=_chain("nine", 9, _TARGET)),
    Condition("forty aliases", zones.GOOD, TEMPORARY, TEMPORARY, elsewhere=_chain("forty", 40, _TARGET)),
    Condition(
        "alias of the holder of a certificate for itself",
        *(zones.GOOD, UNUSABLE, UNUSABLE),
        elsewhere=["{name} 60 CNAME holder._device"],
        holders=[("holder._device", "1 0 0 issued for the target"), ("holder._device", "4 0 0 issued for the target")],
    ),
    Condition(
        "alias of the holder of its certificate",
        *(zones.GOOD, ("4 0 0 issued", "1 0 0 issued"), ("4 0 0 issued", "1 0 0 issued")),
        elsewhere=["{name} 60 CNAME keeper._device"],
        holders=[("keeper._device", "1 0 0 issued"), ("keeper._device", "4 0 0 issued")],
    ),
    Condition(
        "below a DNAME",
        *(zones.GOOD, _ONE, _ONE),
        owner="target.moved.{zone}",
        elsewhere=["moved 60 DNAME _device.good.test."],
    ),
    Condition(
        "from a wildcard",
        *(zones.GOOD, _ONE, BOGUS),
        owner="anybody.wild.{zone}",
        holders=[("*.wild", "3 0 0 p256")],
    ),
    Condition(
        "alias from a wildcard",
        *(zones.GOOD, _ONE, BOGUS),
        owner="anybody.wild-alias.{zone}",
        elsewhere=["*.wild-alias 60 CNAME target._device"],
    ),
)

_ABSENCE: Final = (
    _absent("no such name, NSEC", zones.GOOD, NONE),
    _absent("no such name, NSEC3", zones.DENIAL3, NONE),
    # RFC 5155, section 9.2: what an opted-out span covers is not proven, and so has no AD bit.
    _absent("no such name, opt-out", zones.OPT_OUT, NOT_SECURE),
    _absent("no such name, unsigned", zones.UNSIGNED, NOT_SECURE, NOT_SECURE),
    _absent("no such name, no proof", zones.NO_DENIAL, BOGUS),
    Condition("no record, NSEC", zones.GOOD, NONE, TEMPORARY, elsewhere=["{name} 60 TXT hello"]),
    Condition("no record, NSEC3", zones.DENIAL3, NONE, TEMPORARY, elsewhere=["{name} 60 TXT hello"]),
    Condition("no record, opt-out", zones.OPT_OUT, NONE, TEMPORARY, elsewhere=["{name} 60 TXT hello"]),
    Condition("between names, NSEC", zones.GOOD, NONE, TEMPORARY, elsewhere=["below.{name} 60 TXT hello"]),
    Condition("between names, NSEC3", zones.DENIAL3, NONE, TEMPORARY, elsewhere=["below.{name} 60 TXT hello"]),
)

_SIGNATURES: Final = (
    _signed("intact", signing.intact, _ONE),
    _signed("stripped", signing.stripped),
    _signed("expired", signing.expired),
    _signed("not yet valid", signing.not_yet_valid),
    _signed("flipped", signing.flipped),
    _signed("over other records", signing.over_other_records),
    _signed("by a foreign key", signing.by_a_foreign_key),
    _signed("by a foreign key of equal tag", signing.by_a_foreign_key_of_equal_tag),
    _signed("by another zone", signing.by_another_zone),
    _signed("of an unknown algorithm", signing.of_unknown_algorithm),
    _signed("twice, first broken", signing.twice_first_broken, _ONE),
    _signed("twice, first expired", signing.twice_first_expired, _ONE),
    _signed("forty times", signing.many),
    _signed("alias target", signing.expired),
)

_ZONES: Final = (
    _present("NSEC3", zones.DENIAL3, _ONE, _ONE),
    _present("opt-out", zones.OPT_OUT, _ONE, _ONE),
    _present("RSASHA256", zones.RSA, _ONE, _ONE),
    _present("ECDSAP384SHA384", zones.P384, _ONE, _ONE),
    _present("ED25519", zones.ED25519, _ONE, _ONE),
    _present("unsigned", zones.UNSIGNED, NOT_SECURE, NOT_SECURE),
    _present("not pinned", zones.NOT_PINNED, _ONE, NOT_SECURE),
    _present("keys missing", zones.NO_KEYS, BOGUS, TEMPORARY),
    _present("keys not signed", zones.KEYS_NOT_SIGNED, BOGUS, BOGUS),
    _present("keys expired", zones.KEYS_EXPIRED, BOGUS, BOGUS),
    _present("another anchor", zones.ANOTHER_ANCHOR, BOGUS, BOGUS),
    _present("two keys of one tag", zones.TWINS, _ONE, _ONE),
    Condition("many keys of one tag", zones.COLLISION, BOGUS, BOGUS, records=_ONE, damage=signing.many),
    _present("child", zones.CHILD, _ONE, NOT_SECURE),
    _present("child that is pinned", zones.PINNED_CHILD, _ONE, _ONE),
    _present("child with a wrong DS", zones.WRONG_DS, BOGUS, NOT_SECURE),
    _present("child with an unknown algorithm", zones.UNKNOWN_ALGORITHM, NOT_SECURE, NOT_SECURE),
    _present("child with an unknown digest", zones.UNKNOWN_DIGEST, NOT_SECURE, NOT_SECURE),
    _present("unsigned child of a zone with NSEC", zones.UNSIGNED_CHILD, NOT_SECURE, BOGUS),
    _present("unsigned child of a zone with NSEC3", zones.UNSIGNED_CHILD3, NOT_SECURE, BOGUS),
    _present("unsigned child of a zone with opt-out", zones.UNSIGNED_CHILD_OPT_OUT, NOT_SECURE, BOGUS),
    # The parent claims that it is signed, and the child is not: as if an attacker had stripped its signatures.
    _present("child that ought to be signed", zones.STRIPPED_CHILD, BOGUS, BOGUS),
    _absent("no such name in an unsigned child", zones.UNSIGNED_CHILD, NOT_SECURE),
    Condition(
        "alias out of an unsigned zone",
        *(zones.UNSIGNED, NOT_SECURE, NOT_SECURE),
        elsewhere=["{name} 60 CNAME target._device.good.test."],
    ),
)

_SERVERS: Final = (
    _served("no server listens", servers.CLOSED),
    _served("no server answers", "silent.test"),
    _served("lame", zones.LAME),
    _served("refused", "refused.test"),
    _served("not understood", "formerr.test"),
    _served("failed", "servfail.test"),
    _served("refused in a signed zone", servers.REFUSED_SIGNED),
    _served("always truncated", "truncating.test"),
    _served("garbage", "garbage.test"),
    _served("half an answer", "half.test"),
    Condition("an empty record beside a key", servers.OCTETS, _ONE, _ONE, owner=servers.OCTETS_OWNER),
)

CONDITIONS: Final = (*_RECORDS, *_NAMES, *_ABSENCE, *_SIGNATURES, *_ZONES, *_SERVERS)
