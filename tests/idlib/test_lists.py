import logging
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from idlib.errors import MalformedListError, Reason, Refusal
from idlib.lists import MAX_BYTES, SenderLists, WatchedLists, WatchedPatterns, read_filled_list, read_list
from idlib.names import IdentityName, NamePatterns

ALICE = IdentityName("alice.example.com")
BOB = IdentityName("bob.example.com")
NAME = st.from_regex(r"[a-z]{1,8}(\.[a-z]{1,8}){1,3}", fullmatch=True)
SEPARATOR = st.sampled_from([",", " ", "\n", "\r\n", ", ", " # Küche, *.x\n", "\t", ",,\n\n"])


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "senders"


def write(path: Path, text: str, age: float = 60) -> None:
    path.write_text(text)
    written_at = time.time() - age
    os.utime(path, (written_at, written_at))


def replace_by_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    os.utime(path, (0, 0))


def watched(path: Path, clock: Clock) -> WatchedPatterns:
    return WatchedPatterns(read_filled_list(path), clock=clock)


@given(st.lists(st.tuples(NAME | NAME.map("*.{}".format), SEPARATOR)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(path: Path, entries: list[tuple[str, str]]) -> None:
    path.write_bytes("".join(text + separator for text, separator in entries).encode())
    patterns = read_list(path)
    assert patterns.texts == tuple(text for text, _ in entries)
    assert patterns.source == path


@given(octets=st.binary() | st.text("ab*._-,# \n\r\u2028").map(str.encode))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_file_is_a_list_or_malformed(path: Path, octets: bytes) -> None:
    path.write_bytes(octets)
    try:
        read_list(path)
    except MalformedListError as error:
        assert str(path) in error.fact
        assert f"{path}' line " in error.fact
        assert error.fact.isascii()
        assert error.fact.isprintable()


@pytest.mark.parametrize(
    ("octets", "why"),
    [
        (b"alice.example.com\n# x\nbob", "line 3: 'bob' is not a device name"),
        (b"alice.example.com\r\n\r\nb_b.example, *x.example", "line 3: '*x.example' is not a name pattern"),
        (b"alice.example.com\n\xff", "line 2: it is not UTF-8"),
        ("# Küche\nk\u00fcche.example".encode(), "line 2: 'k\\xfcche.example' is not a device name"),
        (b"x" * (MAX_BYTES + 1), f"it has more than {MAX_BYTES} bytes"),
        (b"# nobody yet\n", "contains no names"),
    ],
)
def test_an_error_is_reported_with_its_line(path: Path, octets: bytes, why: str) -> None:
    path.write_bytes(octets)
    with pytest.raises(MalformedListError) as caught:
        read_filled_list(path)
    assert why in caught.value.fact
    assert str(path) in caught.value.fact


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "it is a directory"), (Path("a\0b"), "null")):
        with pytest.raises(MalformedListError, match=why):
            read_list(path)


def test_a_list_may_start_with_a_byte_order_mark(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfalice.example.com")
    assert read_list(path).texts == ("alice.example.com",)


def test_a_change_is_noticed_after_a_second(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    assert patterns.current().texts == ("alice.example.com",)
    write(path, "bob.example.com", age=30)
    assert patterns.current().match(ALICE)
    clock.seconds += 1
    assert patterns.current().match(BOB)
    assert not patterns.current().match(ALICE)


def test_a_replaced_file_is_noticed(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    patterns.current()
    other = path.with_name("other")
    write(other, "bobby.example.com")
    os.utime(other, ns=(0, path.stat().st_mtime_ns))
    assert other.stat().st_size == path.stat().st_size
    other.replace(path)
    clock.seconds += 1
    assert patterns.current().texts == ("bobby.example.com",)


def test_a_change_between_the_settings_and_the_first_check_is_noticed(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    write(path, "bob.example.com")
    assert patterns.current().match(BOB)


def test_a_list_that_is_read_again_unchanged_is_in_memory_once(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com")
    first = read_list(path)
    assert WatchedPatterns(first, read_list, clock).current() is first


def test_an_unchanged_file_is_read_once_and_checked_once_a_second(
    path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    patterns.current()
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("the file was read again"))
    clock.seconds += 10
    patterns.current()
    monkeypatch.setattr(Path, "stat", lambda *_: pytest.fail("the file was looked at again"))
    clock.seconds += 0.9
    for _ in range(1000):
        assert patterns.current().match(ALICE)


def test_a_file_that_is_being_written_is_not_read_yet(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com\nbob.example.com")
    patterns = watched(path, clock)
    patterns.current()
    write(path, "alice.example.com", age=0.3)
    clock.seconds += 1
    assert patterns.current().match(BOB)
    write(path, "alice.example.com", age=1.1)
    clock.seconds += 1
    assert not patterns.current().match(BOB)


def test_a_file_with_a_time_in_the_future_is_read(path: Path, clock: Clock) -> None:
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    patterns.current()
    write(path, "bob.example.com", age=-1000)
    clock.seconds += 1
    assert patterns.current().match(BOB)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: write(path, "bob.example.com\nbob\n"), "line 2: 'bob' is not a device name"),
        (lambda path: write(path, ""), "contains no names"),
        (Path.unlink, "No such file"),
        (replace_by_directory, "it is a directory"),
    ],
)
def test_a_bad_file_leaves_the_last_list_in_use_and_logs_one_line(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture, spoil: object, why: str
) -> None:
    caplog.set_level(logging.INFO)
    write(path, "alice.example.com")
    patterns = watched(path, clock)
    patterns.current()
    assert caplog.messages == []
    spoil(path)  # type: ignore[operator]
    for _ in range(10):
        clock.seconds += 10
        assert patterns.current().texts == ("alice.example.com",)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert str(path) in record.getMessage()
    assert why in record.getMessage()
    if path.is_dir():
        path.rmdir()
    write(path, "alice.example.com", age=50)
    clock.seconds += 1
    assert patterns.current().match(ALICE)
    assert caplog.messages[1:] == [f"Reading '{path}'"]


def test_patterns_without_a_file_never_change(clock: Clock) -> None:
    patterns = NamePatterns(("alice.example.com",))
    assert WatchedPatterns(patterns, clock=clock).current() is patterns


def test_denied_senders_are_checked_first() -> None:
    lists = SenderLists(NamePatterns(("*.example.com",)), NamePatterns(("alice.example.com", "carol.example")))
    for name, why in (
        ("alice.example.com", "alice.example.com is in DENIED_SENDERS"),
        ("dave.example", "dave.example is not in ALLOWED_SENDERS"),
    ):
        with pytest.raises(Refusal) as caught:
            lists.check(IdentityName(name))
        assert caught.value.reason is Reason.SENDER_NOT_ALLOWED
        assert caught.value.fact == why
    lists.check(IdentityName("carol.example"))
    assert lists.names_exactly(IdentityName("carol.example"))
    assert not lists.names_exactly(ALICE)
    SenderLists().check(ALICE)
    assert not SenderLists().names_exactly(ALICE)


def test_a_pattern_is_not_an_exact_entry() -> None:
    assert not SenderLists(allowed=NamePatterns(("*.example.com", "*"))).names_exactly(ALICE)


def test_binding_is_required_of_listed_senders() -> None:
    lists = SenderLists(binding_required=NamePatterns(("*.example.com",)))
    assert lists.requires_binding(ALICE)
    assert not lists.requires_binding(IdentityName("carol.example"))
    assert not SenderLists().requires_binding(ALICE)


def test_forward_secrecy_is_required_of_listed_names() -> None:
    lists = SenderLists(secrecy_required=NamePatterns(("*.example.com",)))
    assert lists.requires_forward_secrecy(ALICE)
    assert not lists.requires_forward_secrecy(IdentityName("carol.example"))
    assert not SenderLists().requires_forward_secrecy(ALICE)


def test_each_list_follows_its_own_file(tmp_path: Path) -> None:
    denied, allowed, bound, secret = (tmp_path / name for name in ("denied", "allowed", "bound", "secret"))
    write(denied, "# nobody yet")
    write(allowed, "alice.example.com")
    write(bound, "bob.example.com")
    write(secret, "bob.example.com")
    lists = WatchedLists(
        read_list(denied), read_filled_list(allowed), read_filled_list(bound), read_filled_list(secret)
    )
    assert not lists.current().requires_forward_secrecy(ALICE)
    write(denied, "bob.example.com")
    write(bound, "alice.example.com")
    write(secret, "alice.example.com")
    time.sleep(1.1)
    current = lists.current()
    assert current.requires_forward_secrecy(ALICE)
    assert current.denied is not None
    assert current.denied.texts == ("bob.example.com",)
    assert current.requires_binding(ALICE)
    assert current.names_exactly(ALICE)
    assert WatchedLists().current() == SenderLists()
    write(denied, "")
    time.sleep(1.1)
    assert lists.current().denied == NamePatterns(())
