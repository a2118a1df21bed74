"""The zones of the lab, who signs them, and how parents delegate to children."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

GOOD: Final = "good.test"
DENIAL3: Final = "nsec3.test"
OPT_OUT: Final = "opt-out.test"
RSA: Final = "rsa.test"
P384: Final = "p384.test"
ED25519: Final = "ed25519.test"
NOT_PINNED: Final = "not-pinned.test"
APEX: Final = "apex.test"
UNSIGNED: Final = "unsigned.test"
BROKEN: Final = "broken.test"
NO_DENIAL: Final = "no-denial.test"
NO_KEYS: Final = "no-keys.test"
KEYS_NOT_SIGNED: Final = "keys-not-signed.test"
KEYS_EXPIRED: Final = "keys-expired.test"
ANOTHER_ANCHOR: Final = "another-anchor.test"
TWINS: Final = "twins.test"
COLLISION: Final = "collision.test"
CHILD: Final = "child.good.test"
PINNED_CHILD: Final = "pinned-child.good.test"
WRONG_DS: Final = "wrong-ds.good.test"
UNKNOWN_ALGORITHM: Final = "unknown-algorithm.good.test"
UNKNOWN_DIGEST: Final = "unknown-digest.good.test"
STRIPPED_CHILD: Final = "stripped.good.test"
UNSIGNED_CHILD: Final = "unsigned.good.test"
UNSIGNED_CHILD3: Final = "unsigned.nsec3.test"
UNSIGNED_CHILD_OPT_OUT: Final = "unsigned.opt-out.test"
LAME: Final = "lame.test"


class Signer(Enum):
    """Who signs a zone."""

    KNOT = "the name server, as it serves"
    HAND = "the lab, so that it can be spoilt"
    NOBODY = "nobody"


class Delegation(Enum):
    """The DS record that a parent zone has for its child."""

    RIGHT = "the DS record of its key"
    WRONG = "the DS record of another key"
    UNKNOWN_DIGEST = "a DS record with an unknown digest"
    NONE = "nothing: it is unsigned"


@dataclass(frozen=True)
class Zone:
    """A zone that Knot serves.

    Args:
        name: Without the trailing dot.
        signer: Who signs it.
        algorithm: Knot's name of its keys' algorithm.
        nsec3: Whether absence is shown by NSEC3.
        opt_out: Whether that leaves unsigned children out.
        anchored: Whether the validating resolver has its key as a trust anchor.
        pinned: Whether its key is in DNSSEC_TRUST_ANCHORS.
        parent: The zone that it is delegated from; empty if there is none in the lab.
        delegation: The parent's DS record for it.
    """

    name: str
    signer: Signer = Signer.KNOT
    algorithm: str = "ecdsap256sha256"
    nsec3: bool = False
    opt_out: bool = False
    anchored: bool = True
    pinned: bool = True
    parent: str = ""
    delegation: Delegation = Delegation.RIGHT


def _hand_signed(name: str) -> Zone:
    return Zone(name, Signer.HAND)


def _child(name: str, delegation: Delegation, signer: Signer = Signer.HAND, *, pinned: bool = False) -> Zone:
    parent = name.partition(".")[2]
    return Zone(name, signer, anchored=False, pinned=pinned, parent=parent, delegation=delegation)


ZONES: Final = (
    Zone(GOOD),
    Zone(DENIAL3, nsec3=True),
    Zone(OPT_OUT, nsec3=True, opt_out=True),
    Zone(RSA, algorithm="rsasha256"),
    Zone(P384, algorithm="ecdsap384sha384"),
    Zone(ED25519, algorithm="ed25519"),
    Zone(NOT_PINNED, pinned=False),
    Zone(APEX),
    Zone(UNSIGNED, Signer.NOBODY, anchored=False, pinned=False),
    *map(
        _hand_signed,
        (BROKEN, NO_DENIAL, NO_KEYS, KEYS_NOT_SIGNED, KEYS_EXPIRED, ANOTHER_ANCHOR, TWINS, COLLISION),
    ),
    _child(CHILD, Delegation.RIGHT),
    _child(PINNED_CHILD, Delegation.RIGHT, pinned=True),
    _child(WRONG_DS, Delegation.WRONG),
    _child(UNKNOWN_ALGORITHM, Delegation.RIGHT),
    _child(UNKNOWN_DIGEST, Delegation.UNKNOWN_DIGEST),
    _child(STRIPPED_CHILD, Delegation.WRONG, Signer.NOBODY),
    _child(UNSIGNED_CHILD, Delegation.NONE, Signer.NOBODY),
    _child(UNSIGNED_CHILD3, Delegation.NONE, Signer.NOBODY),
    _child(UNSIGNED_CHILD_OPT_OUT, Delegation.NONE, Signer.NOBODY),
)
