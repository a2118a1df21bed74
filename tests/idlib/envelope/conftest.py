from collections import Counter
from typing import Any

import pytest

from idlib.algorithms import PrivateKey
from idlib.envelope import key_management


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
