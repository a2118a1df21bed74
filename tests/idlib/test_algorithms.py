import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwcrypto.jwk import JWK

from idlib.algorithms import P256_ALGORITHMS, RSA_ALGORITHMS, PrivateKey, PublicKey
from idlib.errors import UnsuitableKeyError


def rsa_public_key(bits: int, exponent: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(exponent, 2 ** (bits - 1) + 1).public_key()


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_rsa_keys_of_2048_to_4096_bits_use_rs256_and_oaep(bits: int) -> None:
    assert PublicKey(rsa_public_key(bits, 65537)).algorithms is RSA_ALGORITHMS


@pytest.mark.parametrize("exponent", [3, 17, 257, 65537])
def test_odd_public_exponents_from_3_to_65537_are_accepted(exponent: int) -> None:
    assert PublicKey(rsa_public_key(2048, exponent)).algorithms is RSA_ALGORITHMS


@pytest.mark.parametrize(
    "key", [rsa_public_key(2048, 3), rsa_public_key(4096, 65537), ec.generate_private_key(ec.SECP256R1()).public_key()]
)
def test_a_key_survives_its_der_form(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> None:
    der = PublicKey(key).der
    assert PublicKey.from_der(der).native == key
    assert PublicKey.from_der(der).der == der


def test_p256_keys_use_es256_and_ecdh_es() -> None:
    assert PrivateKey(ec.generate_private_key(ec.SECP256R1())).algorithms is P256_ALGORITHMS


@pytest.mark.parametrize(
    ("bits", "exponent"), [(1024, 65537), (2047, 65537), (4097, 65537), (2048, 65539), (2048, 2**32 + 1)]
)
def test_rsa_keys_of_other_sizes_and_exponents_are_rejected(bits: int, exponent: int) -> None:
    with pytest.raises(UnsuitableKeyError):
        PublicKey(rsa_public_key(bits, exponent))


def test_an_rsa_key_with_an_even_modulus_is_rejected() -> None:
    with pytest.raises(UnsuitableKeyError, match="even"):
        PublicKey(rsa.RSAPublicNumbers(65537, 2**2047 + 2).public_key())


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP256K1()])
def test_other_curves_are_rejected(curve: ec.EllipticCurve) -> None:
    with pytest.raises(UnsuitableKeyError, match=curve.name):
        PrivateKey(ec.generate_private_key(curve))


def test_other_types_of_key_are_rejected() -> None:
    key = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(UnsuitableKeyError):
        PrivateKey(key)  # type: ignore[arg-type]
    with pytest.raises(UnsuitableKeyError):
        PublicKey(key.public_key())  # type: ignore[arg-type]


def test_the_repr_of_a_private_key_shows_none_of_its_numbers() -> None:
    key = PrivateKey(ec.generate_private_key(ec.SECP256R1()))
    secret = key.native.private_numbers()
    assert isinstance(secret, ec.EllipticCurvePrivateNumbers)
    assert str(secret.private_value) not in repr(key)
    assert JWK.from_pyca(key.native).export_private(as_dict=True)["d"] not in repr(key)
