from pathlib import Path

import pytest

from idlib import keys
from idlib.settings import KeyType
from tests.idlib.clocked_device import Device


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def key_pem() -> bytes:
    return keys.encode_private_key(keys.generate_private_key(KeyType.RSA2048))
