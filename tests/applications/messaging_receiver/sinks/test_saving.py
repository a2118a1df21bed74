"""Content with a type is saved in files whose names no sender can choose."""

import re
import stat
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import StoreError
from messaging_receiver.durable_writes import DurableWrites
from messaging_receiver.message_files import MessageDirectory, suffix_of
from messaging_receiver.queue_items import ReceivedMessage
from messaging_receiver.sinks import Fate
from messaging_receiver.sinks.saving import Saving
from tests.applications.messaging_receiver.sinks.delivering import message

NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{32}(-[0-9]+)?\.[a-z0-9]{2,4}")
PICTURE = b"\x89PNG\xff"


class Collecting:
    """A sink that remembers what it was given."""

    problem = None

    def __init__(self) -> None:
        self.delivered: list[ReceivedMessage] = []

    def check(self) -> None:
        """Do nothing."""

    def deliver(self, received: ReceivedMessage) -> Fate:
        self.delivered.append(received)
        return Fate.DELIVERED


def test_content_with_a_type_is_in_a_file_when_the_message_is_delivered(tmp_path: Path) -> None:
    inner = Collecting()
    saving = Saving(MessageDirectory(tmp_path / "new"), inner, lambda operation: operation())
    assert saving.deliver(message(PICTURE, "image/png")) is Fate.DELIVERED
    assert saving.deliver(message("text")) is Fate.DELIVERED
    saved, text = inner.delivered
    assert saved.file is not None
    assert saved.file.read_bytes() == PICTURE
    assert saved.file.name.startswith("20270115T080000Z-")
    assert saved.file.suffix == ".png"
    assert stat.S_IMODE(saved.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(saved.file.parent.stat().st_mode) == 0o700
    assert text.file is None
    assert list((tmp_path / "new").iterdir()) == [saved.file]


def test_a_message_that_comes_again_has_one_file(tmp_path: Path) -> None:
    directory = MessageDirectory(tmp_path)
    first = directory.save(message(PICTURE, "image/png"), PICTURE, ".png")
    again = replace(message(PICTURE, "image/png"), received_at=1_900_000_000.0)
    assert MessageDirectory(tmp_path).save(again, PICTURE, ".png") == first
    assert len(directory) == 1


@pytest.mark.parametrize("kind", ["changed", "directory", "link"])
def test_what_is_there_is_never_changed(kind: str, tmp_path: Path) -> None:
    directory = MessageDirectory(tmp_path / "files")
    other = tmp_path / "other"
    other.write_bytes(PICTURE)
    there = directory.save(message(PICTURE, "image/png"), PICTURE, ".png")
    match kind:
        case "changed":
            there.write_bytes(b"mine!")
        case "directory":
            there.unlink()
            there.mkdir()
        case "link":
            there.unlink()
            there.symlink_to(other)
    second = directory.save(message(PICTURE, "image/png"), PICTURE, ".png")
    assert second.name == there.name.replace(".png", "-2.png")
    assert second.read_bytes() == PICTURE
    assert other.read_bytes() == PICTURE
    if kind == "changed":
        assert there.read_bytes() == b"mine!"


@given(
    st.text(max_size=300)
    | st.sampled_from(["../../x", "text/html\n", "image/png/../../x", "image/svg+xml", "a/.bashrc"]),
    st.text(min_size=1, max_size=128),
    st.integers(-(10**18), 10**18) | st.integers(-62_135_596_800, 253_402_300_799),
)
def test_a_sender_cannot_choose_the_name(content_type: str, identifier: str, sent_at: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        received = replace(message(PICTURE, content_type), identifier=identifier, sent_at=sent_at)
        file = MessageDirectory(Path(directory)).save(received, PICTURE, suffix_of(content_type))
        assert file.parent == Path(directory).absolute()
        assert NAME.fullmatch(file.name), file.name
        assert file.suffix not in {".html", ".svg", ".desktop", ".sh"}
        assert list(Path(directory).iterdir()) == [file]


@pytest.mark.parametrize(
    ("content_type", "suffix"),
    [("text/csv; charset=utf-8", ".csv"), ("image/jpeg", ".jpg"), ("text/html", ".bin"), ("application/x-sh", ".bin")],
)
def test_the_end_of_the_name_is_from_a_fixed_list(content_type: str, suffix: str) -> None:
    assert suffix_of(content_type) == suffix


def test_a_directory_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "missing" / "directory"):
        with pytest.raises(StoreError, match="cannot be created"):
            MessageDirectory(wrong)


def test_a_disk_that_fails_keeps_the_message(tmp_path: Path) -> None:
    stopping, inner = threading.Event(), Collecting()
    directory = MessageDirectory(tmp_path / "files")
    (tmp_path / "files").rmdir()
    saving = Saving(directory, inner, DurableWrites(stopping, lambda: None).retry)
    stopping.set()
    assert saving.deliver(message(PICTURE, "image/png")) is Fate.KEPT
    assert inner.delivered == []
    (tmp_path / "files").mkdir()
    assert saving.deliver(message(PICTURE, "image/png")) is Fate.DELIVERED
