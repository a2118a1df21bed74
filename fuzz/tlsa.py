"""Target: the data of a TLSA record, and its key in use. An input is the record's bytes in DNS."""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import Store

from fuzz.mutation import mutate_in_place
from fuzz.target import Target, check_harmless
from fuzz.world import ALICE, BOB, KINDS, forge, keys
from idlib.algorithms import PublicKey
from idlib.envelope import encrypt, parse, verify
from idlib.errors import MalformedRecordError, Refusal, UnsuitableKeyError, UnusableRecordError
from idlib.records import TlsaRecord, judge, rank
from testbed.certificate_maker import NOW, Authority, der
from testbed.forge import flattened

_AUTHORITY: Final = Authority()
_AUTHORITIES: Final = Store([_AUTHORITY.certificate])
_MESSAGES: Final = [parse(flattened(forge().inner(kind)).decode()) for kind in KINDS]


def _seeds() -> list[bytes]:
    seeds = [b"\3\1\1" + bytes(32), b"\3\1\2" + bytes(64), b"\2\0\0" + der(_AUTHORITY.certificate)]
    for key in keys(BOB).values():
        octets = key.public.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        certificate = der(_AUTHORITY.issue(key=key.native, alternatives=(ALICE.text,)))
        seeds += [b"\3\1\0" + octets, *(bytes([usage, 0, 0]) + certificate for usage in (1, 3, 4))]
    return seeds


def _check(octets: bytes) -> str:
    try:
        record = TlsaRecord.from_rdata(octets)
        assert record.to_rdata() == octets, "a record is its octets"
        usable = judge(record, ALICE, NOW, _AUTHORITIES)
    except MalformedRecordError:
        return "malformed"
    except UnusableRecordError as error:
        check_harmless(str(error))
        return "unusable"
    assert rank([octets, b"\3\1\1"]) == [octets, b"\3\1\1"], "a usable record comes before others"
    assert PublicKey.from_der(usable.public_key.der).native == usable.public_key.native, "a key is its bytes"
    _check_key(usable.public_key)
    return f"{record.parameters} {usable.public_key.algorithms.key_kind}"


def _check_key(key: PublicKey) -> None:
    if isinstance(key.native, rsa.RSAPublicKey):
        numbers = key.native.public_numbers()
        assert 2048 <= numbers.n.bit_length() <= 4096, "an RSA key has its size"
        assert numbers.n % 2, "a modulus is odd"
        assert numbers.e % 2, "a public exponent is odd"
        assert 3 <= numbers.e <= 65537, "a public exponent has its size"
    else:
        assert isinstance(key.native.curve, ec.SECP256R1), "an EC key has its curve"
    try:
        encrypt("{}", recipient=ALICE, encryption_key=key)
    except UnsuitableKeyError as error:
        check_harmless(str(error))
    for message in _MESSAGES:
        try:
            verify(message, [key])
        except Refusal:
            continue
        assert key.native in [sender.public.native for sender in keys(ALICE).values()], "another's key verifies nothing"


TARGET: Final = Target(_seeds, _check, mutate_in_place)
