from pathlib import Path

from idlib import keys
from idlib.names import IdentityName
from tests.idlib.identity_files import NAME, OWN_UID, files_in


def test_files_are_named_after_the_identity(tmp_path: Path) -> None:
    assert keys.key_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.key.pem"
    assert keys.certificate_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.crt.pem"
    assert keys.request_path(tmp_path, NAME) == tmp_path / "alice._device.example.test.csr.pem"
    assert [path.name for path in keys.previous_key_paths(tmp_path, NAME)] == [
        "alice._device.example.test.key.previous.pem",
        "alice._device.example.test.key.previous2.pem",
        "alice._device.example.test.key.previous3.pem",
    ]


def test_the_longest_names_have_distinct_files(tmp_path: Path) -> None:
    start = ".".join(["a" * 63] * 3)
    one, other = IdentityName(f"{start}.{'b' * 61}"), IdentityName(f"{start}.{'b' * 60}c")
    for name in (one, other):
        for path in (keys.key_path(tmp_path, name), *keys.previous_key_paths(tmp_path, name)):
            keys.write_new(path, name.text.encode(), OWN_UID)
    assert keys.key_path(tmp_path, one).read_bytes() == one.text.encode()
    assert len(files_in(tmp_path)) == 8
