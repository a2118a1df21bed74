import subprocess
import sys
from pathlib import Path

import pytest

from idlib import key_places, keys
from idlib.key_places import destroy_previous_key, promote_next_key, retire_next_key, write_next_key
from idlib.settings import KeyType
from tests.idlib.identity_files import NAME, OWN_UID, files_in, put_keys


def put(directory: Path, previous: tuple[bytes, ...] = (b"P1", b"P2", b"P3")) -> None:
    put_keys(directory, current=b"C", previous=previous)
    keys.certificate_path(directory, NAME).write_bytes(b"crt of C")
    keys.next_key_path(directory, NAME).write_bytes(b"N")
    keys.next_certificate_path(directory, NAME).write_bytes(b"crt of N")


def content(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def places(directory: Path) -> tuple[bytes | None, bytes | None, list[bytes | None]]:
    previous = [content(path) for path in keys.previous_key_paths(directory, NAME)]
    return (
        content(keys.next_key_path(directory, NAME)),
        content(keys.key_path(directory, NAME)),
        [key for key in previous if key is not None],
    )


def test_the_next_key_replaces_an_earlier_one_and_its_certificate(tmp_path: Path) -> None:
    put(tmp_path, ())
    write_next_key(tmp_path, NAME, b"M", OWN_UID)
    assert places(tmp_path) == (b"M", b"C", [])
    assert content(keys.next_certificate_path(tmp_path, NAME)) is None


def test_the_next_key_becomes_the_current_one_and_the_fourth_previous_key_is_deleted(tmp_path: Path) -> None:
    put(tmp_path)
    for _ in range(2):
        promote_next_key(tmp_path, NAME, OWN_UID)
        assert places(tmp_path) == (None, b"N", [b"C", b"P1", b"P2"])
        assert content(keys.certificate_path(tmp_path, NAME)) == b"crt of N"
        assert len(files_in(tmp_path)) == 5


def test_a_lost_current_key_is_replaced(tmp_path: Path) -> None:
    put(tmp_path, (b"P1",))
    keys.key_path(tmp_path, NAME).unlink()
    promote_next_key(tmp_path, NAME, OWN_UID)
    assert places(tmp_path) == (None, b"N", [b"P1"])


def test_the_next_key_is_retired(tmp_path: Path) -> None:
    put(tmp_path)
    for _ in range(2):
        retire_next_key(tmp_path, NAME, OWN_UID)
        assert places(tmp_path) == (None, b"C", [b"N", b"P1", b"P2"])
    assert content(keys.certificate_path(tmp_path, NAME)) == b"crt of C"


def test_only_the_named_previous_key_is_destroyed_beside_a_damaged_one(tmp_path: Path) -> None:
    first, second = (keys.generate_private_key(KeyType.P256) for _ in range(2))
    put(tmp_path, (keys.encode_private_key(first), b"damaged", keys.encode_private_key(second)))
    for _ in range(2):
        destroy_previous_key(tmp_path, NAME, second.public.der)
        assert places(tmp_path)[2] == [keys.encode_private_key(first), b"damaged"]


def run_killed(directory: Path, move: str, calls: int) -> bool:
    """Run a move in a process that is killed before one of its calls that change the directory; return if it was."""
    script = f"""
import os, signal
from pathlib import Path
from idlib import key_places, keys
from idlib.names import IdentityName
directory, name = Path({str(directory)!r}), IdentityName({NAME.text!r})
left = {calls}
def killing(function):
    def call(*arguments, **named):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return function(*arguments, **named)
    return call
Path.replace, Path.unlink = killing(Path.replace), killing(Path.unlink)
os.link, opened = killing(os.link), os.open
creating = killing(opened)
os.open = lambda path, flags, *more, **named: (creating if flags & os.O_CREAT else opened)(path, flags, *more, **named)
with keys.locked(directory):
    key_places.{move}(directory, name, {OWN_UID})
"""
    ended = subprocess.run([sys.executable, "-c", script], check=False)
    assert ended.returncode in {0, -9}
    return ended.returncode == -9


@pytest.mark.parametrize("move", ["promote_next_key", "retire_next_key"])
def test_no_key_is_lost_if_the_process_is_killed_at_any_call(tmp_path: Path, move: str) -> None:
    ends = {
        "promote_next_key": (None, b"N", [b"C", b"P1", b"P2"]),
        "retire_next_key": (None, b"C", [b"N", b"P1", b"P2"]),
    }
    calls, was_killed = 0, True
    while was_killed:
        directory = tmp_path / str(calls)
        directory.mkdir()
        put(directory)
        was_killed = run_killed(directory, move, calls)
        following, current, previous = places(directory)
        assert {b"N", b"C", b"P1", b"P2"} <= {following, current, *previous}
        assert content(keys.certificate_path(directory, NAME)) in {b"crt of C", b"crt of N"}
        with keys.locked(directory):
            getattr(key_places, move)(directory, NAME, OWN_UID)
        assert places(directory) == ends[move]
        assert len(files_in(directory)) == 5
        calls += 1
    assert calls > 10


@pytest.mark.parametrize("move", [promote_next_key, retire_next_key])
def test_a_reader_finds_both_keys_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, move: object
) -> None:
    """A reader that reads the places in order, with any part of the move between any two of them."""
    # The state of the directory after each change.
    moments = []
    for owner, name in ((Path, "replace"), (Path, "unlink")):
        original = getattr(owner, name)

        def record(path: Path, *arguments: object, _original: object = original, **named: object) -> object:
            result = _original(path, *arguments, **named)  # type: ignore[operator]
            moments.append(places(tmp_path))
            return result

        monkeypatch.setattr(owner, name, record)
    put(tmp_path)
    moments.append(places(tmp_path))
    move(tmp_path, NAME, OWN_UID)  # type: ignore[operator]
    assert len(moments) > 5
    for first in range(len(moments)):
        for second in range(first, len(moments)):
            for third in range(second, len(moments)):
                found = {moments[first][0], moments[second][1], *moments[third][2]}
                assert {b"N", b"C"} <= found
