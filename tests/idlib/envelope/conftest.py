from collections import Counter
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib.algorithms import PrivateKey
from idlib.envelope import jwe
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

    class Counting:
        def __init__(self, name: str, algorithm: Any) -> None:
            self.name, self.algorithm = name, algorithm

        def wrap(self, *arguments: Any) -> Any:
            return self.algorithm.wrap(*arguments)

        def unwrap(self, *arguments: Any) -> Any:
            counter[self.name] += 1
            return self.algorithm.unwrap(*arguments)

    counting = {name: Counting(name, algorithm) for name, algorithm in jwe._KEY_MANAGEMENT.items()}
    monkeypatch.setattr(jwe, "_KEY_MANAGEMENT", counting)
    return counter
