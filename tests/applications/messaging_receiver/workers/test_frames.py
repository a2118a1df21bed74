"""Frames delimit what the receiver and its worker processes send each other."""

import io
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_receiver.workers.frames import Channel, LostPeer, pack, read


@pytest.fixture
def channels() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = map(Channel, socket.socketpair())
    yield ours, theirs
    ours.close()
    theirs.close()


@given(st.lists(st.lists(st.binary())))
def test_frames_are_read_as_they_were_packed(frames: list[list[bytes]]) -> None:
    reader = io.BytesIO(b"".join(map(pack, frames)))
    assert [read(reader) for _ in frames] == frames
    assert read(reader) is None


@given(st.lists(st.binary()), st.data())
def test_a_frame_that_is_cut_off_is_not_read(fields: list[bytes], data: st.DataObject) -> None:
    frame = pack(fields)
    length = data.draw(st.integers(1, len(frame) - 1))
    with pytest.raises(EOFError):
        read(io.BytesIO(frame[:length]))


def test_lengths_that_contradict_their_sum_are_an_error() -> None:
    with pytest.raises(ValueError, match="contradict"):
        read(io.BytesIO(struct.pack("!IQ2I", 2, 3, 1, 1) + b"abc"))


def test_frames_pass_through_a_channel_in_both_directions(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    ours.send([b"a", b""])
    ours.send([])
    assert theirs.receive() == [b"a", b""]
    assert theirs.receive() == []
    theirs.send([b"b"])
    assert ours.receive(1) == [b"b"]


def test_the_other_end_is_open_until_it_is_closed(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    ours.send([b"a"], 20)
    assert theirs.receive(20) == [b"a"]
    assert ours.is_open
    theirs.close()
    assert not ours.is_open


def test_a_closed_end_is_lost(channels: tuple[Channel, Channel]) -> None:
    ours, theirs = channels
    theirs.close()
    with pytest.raises(LostPeer) as receiving:
        ours.receive(20)
    with pytest.raises(LostPeer) as sending:
        ours.send([bytes(10**6)], 20)
    assert not receiving.value.is_late
    assert not sending.value.is_late


def test_an_end_that_neither_answers_nor_reads_in_time_is_late(channels: tuple[Channel, Channel]) -> None:
    ours, _ = channels
    with pytest.raises(LostPeer) as receiving:
        ours.receive(0.01)
    with pytest.raises(LostPeer) as sending:
        ours.send([bytes(10**7)], 0.01)
    assert receiving.value.is_late
    assert sending.value.is_late
