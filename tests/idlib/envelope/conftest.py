from collections import Counter
from typing import Any

import pytest

from idlib.algorithms import PrivateKey
from idlib.envelope import hpke, key_management
from idlib.epochs import EpochPrivateKey


@pytest.fixture
def private_key_operations(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count, by algorithm, how often a private key is used to decrypt."""
    counter: Counter[str] = Counter()

    def counting(key: PrivateKey, *arguments: Any) -> bytes:
        counter[key.algorithms.key_management] += 1
        return unwrap(key, *arguments)

    def counting_epoch(key: EpochPrivateKey, *arguments: Any) -> bytes:
        counter["HPKE-9-KE"] += 1
        return unwrap_epoch(key, *arguments)

    unwrap, unwrap_epoch = key_management.unwrap, hpke.unwrap
    monkeypatch.setattr(key_management, "unwrap", counting)
    monkeypatch.setattr(hpke, "unwrap", counting_epoch)
    return counter
