import errno
import os
import socket
from pathlib import Path

import pytest

from idlib.files import make_durable, read_regular, replace_durably, state_of


def test_a_file_is_read_completely_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    assert read_regular(tmp_path / "link", 5) == b"12345"


def test_a_file_above_the_limit_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with pytest.raises(OSError, match="it has more than 4 bytes"):
        read_regular(tmp_path / "file", 4)


def test_a_missing_file_and_a_loop_of_links_give_the_systems_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, code in (("missing", errno.ENOENT), ("loop", errno.ELOOP)):
        with pytest.raises(OSError, match=os.strerror(code)):
            read_regular(tmp_path / name, 1)


@pytest.mark.parametrize("kind", ["a named pipe", "a directory", "a device"])
def test_anything_but_a_regular_file_is_reported_without_blocking(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it"
    match kind:
        case "a named pipe":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case _:
            path.symlink_to("/dev/zero")
    with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
        read_regular(path, 100)


def test_a_socket_is_rejected(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "it"))
        with pytest.raises(OSError, match="it is a socket, not a regular file"):
            read_regular(tmp_path / "it", 100)


def test_the_state_of_a_file_changes_when_it_is_written_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    states = [state_of(path)]
    path.write_bytes(b"1")
    states.append(state_of(path))
    path.write_bytes(b"22")
    states.append(state_of(path))
    (tmp_path / "new").write_bytes(b"33")
    (tmp_path / "new").rename(path)
    states.append(state_of(path))
    assert states[0] is None
    assert len(set(states)) == 4
    assert states[-1] == state_of(path)
    assert state_of(tmp_path / ("x" * 300)) is None


def test_files_and_directories_can_be_flushed_and_missing_ones_are_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    make_durable(tmp_path / "file")
    make_durable(tmp_path)
    with pytest.raises(FileNotFoundError):
        make_durable(tmp_path / "missing")


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_replaced_whatever_a_killed_process_has_left(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "alice._device.example.com.epochs"
    (tmp_path / "alice._device.example.com.new").write_bytes(b"half of an ol")
    before = os.umask(0o077)
    try:
        for contents in (b"old", b"new"):
            replace_durably(path, contents, mode)
    finally:
        os.umask(before)

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failing", ["fsync", "fchmod"])
def test_a_file_that_cannot_be_replaced_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "file"
    replace_durably(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(OSError, match="No space left"):
        replace_durably(path, b"new")

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
