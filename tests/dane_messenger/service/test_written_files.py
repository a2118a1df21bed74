"""Files that are replaced only if they are as they were written."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dane_messenger.service.written_files import check_replaceable, is_replaceable, write
from idlib.errors import ServiceError

TEXT = "[Service]\nExecStart=/bin/true\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "system" / "messenger-receiver@.service"


def test_a_file_is_written_once_and_replaced_by_a_new_text(file: Path) -> None:
    assert is_replaceable(file)
    assert write(file, TEXT)
    assert file.read_text().endswith(f"\n{TEXT}")
    assert file.stat().st_mode & 0o777 == 0o644
    assert not write(file, TEXT)
    assert is_replaceable(file)
    assert write(file, TEXT + "Nice=5\n")
    assert is_replaceable(file)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def change_the_end(text: str) -> str:
    return text + "Nice=5\n"


def change_the_middle(text: str) -> str:
    return text.replace("true", "false")


def remove_the_first_line(text: str) -> str:
    return text.partition("\n")[2]


def change_the_checksum(text: str) -> str:
    return text.replace("SHA-256: ", "SHA-256: 0", 1)


def empty(_text: str) -> str:
    return ""


@pytest.mark.parametrize(
    "change", [change_the_end, change_the_middle, remove_the_first_line, change_the_checksum, empty]
)
def test_a_file_that_someone_has_changed_is_not_replaced(change: Callable[[str], str], file: Path) -> None:
    write(file, TEXT)
    file.write_text(change(file.read_text()))
    assert not is_replaceable(file)
    with pytest.raises(
        ServiceError, match=r"was changed, or was not written by this program; .* systemctl edit messeng"
    ):
        check_replaceable([file])


def test_a_link_to_nothing_is_not_replaced(file: Path) -> None:
    file.parent.mkdir()
    file.symlink_to("/dev/null-that-is-not-there")
    assert not is_replaceable(file)


def test_a_masked_unit_is_not_replaced(file: Path) -> None:
    file.parent.mkdir()
    file.symlink_to("/dev/null")
    with pytest.raises(ServiceError, match=r"messenger-receiver@.service' was changed"):
        check_replaceable([file])


def test_a_directory_in_the_way_is_named(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(ServiceError, match=r"messenger-receiver@.service' was changed"):
        check_replaceable([file])


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "system").touch()
    with pytest.raises(ServiceError, match=r"'.*/system/unit' cannot be written: File exists; check the disk"):
        write(tmp_path / "system" / "unit", TEXT)


@given(st.binary(max_size=300))
def test_no_other_file_counts_as_ours(tmp_path_factory: pytest.TempPathFactory, contents: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(contents)
    assert not is_replaceable(path)
