"""The zones of the world: those of strangers, those that strangers can name, and those of known senders."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from idlib.algorithms import PublicKey
from testbed.daemons.knot import Zone
from testbed.lab import BOGUS, SECURE

SECOND: Final = "second.test"
# Below these any name has the strangers' key, so that new names cost them nothing.
STRANGERS: Final = "strangers.test"
MANY: Final = "many"
CHEAP: Final = "cheap.test"
# Nothing exists below this one: every second label looks like a separate domain.
VOID: Final = "void"
# The server of this one never answers; here too, every second label looks like a separate domain.
DEAD: Final = "dead"
HEAVY_NAME: Final = f"heavy.{STRANGERS}"

_HEAVY_RECORDS: Final = 64
_HEAVY_MODULUS: Final = 2**4095 + 1
_HEAVY_EXPONENT: Final = 2**32 - 1
# Cached for a short time, so that they are looked up again once their server is silent.
_SHORT_SECONDS: Final = 1
# The minimum of the SOA record is what many zones have: an absent name is remembered for an hour.
_ZONE_FILE: Final = """\
$ORIGIN {zone}.
$TTL 3600
@ SOA ns hostmaster 1 3600 600 86400 3600
@ NS ns
ns A 127.0.0.1
"""


def zones(strangers_key: PublicKey) -> tuple[Zone, ...]:
    """Return the zones that a name server answers for.

    Args:
        strangers_key: The key at each name of the strangers' zones.
    """
    octets = strangers_key.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    record = f"* TLSA 3 1 0 {octets.hex()}\n"
    return (
        *(_zone(name) for name in (SECURE, SECOND, BOGUS, VOID)),
        _zone(STRANGERS, record + "".join(f"heavy TLSA 3 1 0 {key}\n" for key in _heavy_keys())),
        _zone(MANY, record),
        _zone(CHEAP, record.replace("*", f"* {_SHORT_SECONDS}")),
    )


def _zone(name: str, records: str = "") -> Zone:
    return Zone(name, text=_ZONE_FILE.format(zone=name) + records)


def _heavy_keys() -> list[str]:
    """Return public keys without private ones, with which verifying takes long."""
    keys = (
        rsa.RSAPublicNumbers(_HEAVY_EXPONENT, _HEAVY_MODULUS + 2 * number).public_key()
        for number in range(_HEAVY_RECORDS)
    )
    return [key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo).hex() for key in keys]
