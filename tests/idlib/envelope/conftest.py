from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib.algorithms import PrivateKey
from idlib.envelope import key_management
from idlib.names import IdentityName
from testbed.forge import Forge


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


@pytest.fixture
def private_key_operations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count, by algorithm, how often a private key is used to decrypt."""
    counter: Counter[str] = Counter()

    def counting(key: PrivateKey, *arguments: Any) -> bytes:
        counter[key.algorithms.key_management] += 1
        return unwrap(key, *arguments)

    unwrap = key_management.unwrap
    monkeypatch.setattr(key_management, "unwrap", counting)
    return counter
