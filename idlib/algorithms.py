"""The keys and algorithms that the profile allows."""

from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from idlib.errors import UnsuitableKeyError

NativePublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey
NativePrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_RSA_BITS: Final = range(2048, 4096 + 1)
_MAX_PUBLIC_EXPONENT: Final = 65537


@dataclass(frozen=True, slots=True, eq=False)
class Algorithms:
    """The algorithms of one type of key.

    Args:
        signature: The JWS `alg` (RFC 7518, section 3).
        key_management: The JWE `alg` (RFC 7518, section 4).
        key_kind: The type of key, for people to read.
    """

    signature: str
    key_management: str
    key_kind: str


RSA_ALGORITHMS: Final = Algorithms("RS256", "RSA-OAEP-256", "RSA")
P256_ALGORITHMS: Final = Algorithms("ES256", "ECDH-ES+A256KW", "EC P-256")
# The JWE `alg` for epoch keys, which sign nothing.
EPOCH_KEY_MANAGEMENT: Final = "HPKE-9-KE"


@dataclass(frozen=True, slots=True, eq=False)
class PublicKey:
    """Another device's public key, of a type and size that the profile allows: RSA of 2048 to 4096 bits, or EC P-256.

    Args:
        native: The key as an object of the `cryptography` package.
        der: The key as a SubjectPublicKeyInfo in DER (RFC 5280, section 4.1); equal keys have equal bytes.

    Raises:
        UnsuitableKeyError: The key has another type or size.
    """

    native: NativePublicKey
    algorithms: Algorithms = field(init=False)
    der: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithms", _algorithms_of(self.native))
        # Encoding an EC key takes longer than reading a message's headers.
        der = self.native.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        object.__setattr__(self, "der", der)

    @classmethod
    def from_der(cls, octets: bytes) -> Self:
        """Return the key in a SubjectPublicKeyInfo that `der` has returned.

        Args:
            octets: Only trusted bytes: other forms of keys are accepted too.

        Raises:
            ValueError: The bytes are not a key.
            UnsuitableKeyError: The key has another type or size.
        """
        return cls(load_der_public_key(octets))  # type: ignore[arg-type]  # __post_init__ checks the type


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKey:
    """The device's own private key, of the same types and sizes; its repr shows none of its numbers.

    Args:
        native: The key as an object of the `cryptography` package.

    Raises:
        UnsuitableKeyError: The key has another type or size.
    """

    native: NativePrivateKey = field(repr=False)
    public: PublicKey = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.native, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            raise UnsuitableKeyError(
                f"private keys of type {type(self.native).__name__} are not supported", "use RSA or EC P-256"
            )
        object.__setattr__(self, "public", PublicKey(self.native.public_key()))

    @property
    def algorithms(self) -> Algorithms:
        """The algorithms that the key is used with."""
        return self.public.algorithms


def _algorithms_of(key: NativePublicKey) -> Algorithms:
    if isinstance(key, rsa.RSAPublicKey):
        exponent, modulus = key.public_numbers().e, key.public_numbers().n
        if key.key_size not in _RSA_BITS:
            raise UnsuitableKeyError(f"RSA keys of {key.key_size} bits are not supported", "use 2048 to 4096 bits")
        if not 3 <= exponent <= _MAX_PUBLIC_EXPONENT or exponent % 2 == 0:
            raise UnsuitableKeyError("the RSA key's public exponent is even, below 3 or above 65537", "use 65537")
        if modulus % 2 == 0:
            raise UnsuitableKeyError("the RSA key's modulus is even", "create a new key")
        return RSA_ALGORITHMS
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise UnsuitableKeyError(f"EC keys on the curve {key.curve.name} are not supported", "use P-256")
        return P256_ALGORITHMS
    raise UnsuitableKeyError(f"keys of type {type(key).__name__} are not supported", "use RSA or EC P-256")
