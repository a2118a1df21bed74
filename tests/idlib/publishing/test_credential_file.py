import os
import struct
from pathlib import Path

import pytest

from idlib.errors import CredentialError
from idlib.publishing.credential_file import read_credential, read_secret

SECRET = "c2VjcmV0IQ"


def private(path: Path, content: bytes = SECRET.encode(), mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def why_not(path: Path) -> CredentialError:
    with pytest.raises(CredentialError) as caught:
        read_credential(path)
    assert SECRET not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_alone_is_read(mode: int, tmp_path: Path) -> None:
    assert read_credential(private(tmp_path / "key", mode=mode)) == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_a_file_that_others_can_use_is_rejected_with_the_command_that_closes_it(mode: int, tmp_path: Path) -> None:
    error = why_not(private(tmp_path / "my key", mode=mode))
    assert f"(mode {mode:04o})" in error.fact
    assert f"chmod 600 '{tmp_path}/my key'" in error.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert why_not(tmp_path / "key").fact == f"there is no '{tmp_path}/key'"


def test_what_is_not_a_regular_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "it is a named pipe" in why_not(tmp_path / "pipe").fact
    assert "it is a directory" in why_not(tmp_path).fact
    assert why_not(tmp_path).hint == "put the right file there"


def test_a_link_is_judged_by_the_file_behind_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(private(tmp_path / "key"))
    assert read_credential(tmp_path / "link") == SECRET
    (tmp_path / "key").chmod(0o644)
    assert "(mode 0644)" in why_not(tmp_path / "link").fact


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    assert read_credential(private(tmp_path / "key", b"x" * 16_384)) == "x" * 16_384
    assert "too large" in why_not(private(tmp_path / "key", b"x" * 16_385)).fact


def test_bytes_that_are_not_text_are_not_shown(tmp_path: Path) -> None:
    assert "is not text" in why_not(private(tmp_path / "key", SECRET.encode() + b"\xff")).fact


def test_a_token_is_the_only_word(tmp_path: Path) -> None:
    assert read_secret(private(tmp_path / "token", f"  {SECRET}\n".encode())) == SECRET
    for content in ("", "\n", f"Token {SECRET}", f'"{SECRET}"\n', f"'{SECRET}'", f"DESEC_TOKEN={SECRET}", f"{SECRET};"):
        with pytest.raises(CredentialError, match="does not hold exactly one token") as caught:
            read_secret(private(tmp_path / "token", content.encode()))
        assert SECRET not in str(caught.value)


ME = os.geteuid()
STRANGER = 54321
NOT_A_NUMBER = 0xFFFFFFFF
OWNER, NAMED_USER, GROUP, NAMED_GROUP, MASK, OTHERS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20


def set_access_list(path: Path, *entries: tuple[int, int, int]) -> None:
    """Give a file an access list of tag, permissions and number, as systemd does on a tmpfs (acl(5))."""
    packed = b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", struct.pack("<I", 2) + packed)
    except OSError as error:
        pytest.fail(f"set TMPDIR to a directory on a file system with access lists, such as ext4: {error.strerror}")


def test_a_credential_that_systemd_gives_to_this_user_by_an_access_list_is_read(tmp_path: Path) -> None:
    path = private(tmp_path / "key", mode=0o400)
    set_access_list(
        path, (OWNER, 4, NOT_A_NUMBER), (NAMED_USER, 4, ME), (GROUP, 0, NOT_A_NUMBER), (MASK, 4, 0), (OTHERS, 0, 0)
    )
    assert path.stat().st_mode & 0o777 == 0o440
    assert read_credential(path) == SECRET


@pytest.mark.parametrize(
    "entry",
    [
        [(NAMED_USER, 4, ME), (NAMED_USER, 4, STRANGER), (GROUP, 0, NOT_A_NUMBER)],
        [(NAMED_USER, 4, ME), (GROUP, 4, NOT_A_NUMBER)],
        [(NAMED_USER, 4, ME), (GROUP, 0, NOT_A_NUMBER), (NAMED_GROUP, 4, STRANGER)],
    ],
    ids=["another user", "the group", "another group"],
)
def test_an_access_list_that_lets_others_read_is_rejected(entry: list[tuple[int, int, int]], tmp_path: Path) -> None:
    path = private(tmp_path / "key", mode=0o400)
    set_access_list(path, (OWNER, 4, NOT_A_NUMBER), *entry, (MASK, 4, NOT_A_NUMBER), (OTHERS, 0, NOT_A_NUMBER))
    assert "(mode 0440)" in why_not(path).fact


def test_an_access_list_does_not_hide_that_everyone_can_read(tmp_path: Path) -> None:
    path = private(tmp_path / "key", mode=0o400)
    no = NOT_A_NUMBER
    set_access_list(path, (OWNER, 4, no), (NAMED_USER, 4, ME), (GROUP, 0, no), (MASK, 4, no), (OTHERS, 4, no))
    assert "(mode 0444)" in why_not(path).fact
