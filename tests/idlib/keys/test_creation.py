from pathlib import Path

from idlib import keys
from tests.idlib.identity_files import OWN_UID


def test_a_new_key_is_written_as_pkcs1_and_read_back(tmp_path: Path, key_pem: bytes) -> None:
    path = tmp_path / "key.pem"
    keys.write_new(path, key_pem, OWN_UID)
    assert key_pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n")
    key = keys.read_private_key(path)
    assert key.native.key_size == 2048
    assert keys.encode_private_key(key) == key_pem
