from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib import keys
from idlib.algorithms import PrivateKey
from idlib.names import IdentityName
from idlib.settings import KeyType
from testbed.forge import Forge
from tests.idlib.clocked_device import Device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def key_pem() -> bytes:
    return keys.encode_private_key(keys.generate_private_key(KeyType.RSA2048))


def rsa_key(bits: int = 2048) -> PrivateKey:
    return PrivateKey(rsa.generate_private_key(65537, bits))


def p256_key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="session")
def forge() -> Forge:
    return Forge(
        IdentityName("alice._device.example.test"),
        IdentityName("bob._device.example.test"),
        {"RSA": rsa_key(), "P-256": p256_key()},
        {"RSA": rsa_key(), "P-256": p256_key()},
    )


@pytest.fixture(scope="session")
def other_rsa_key() -> PrivateKey:
    return rsa_key()


@pytest.fixture(scope="session")
def rsa3072_key() -> PrivateKey:
    return rsa_key(3072)
