import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import certificates, keys
from idlib.errors import KeyFileError, MalformedRecordError
from idlib.names import IdentityName
from idlib.records import key_of, render
from idlib.settings import KeyType
from messaging_maintenance.rotation.schedule import Instant, RunningTime
from messaging_maintenance.rotation.state import RotationState, Stage, StateFile, Way

NAME = IdentityName("alice._device.example.test")
SOURCE = Path("alice.rotation.json")
SINCE = Instant(1_900_000_000.5, "boot", 12.25)


def make_record(selector: int) -> bytes:
    key = keys.generate_private_key(KeyType.P256)
    subject = certificates.build_subject(NAME, country="US", state="CA", locality="SF", organization="example")
    alternative_name = certificates.build_subject_alternative_name(NAME)
    certificate = certificates.build_self_signed_certificate(key, subject, alternative_name, datetime.now(UTC))
    return render(certificate, selector).to_rdata()


OLD, NEW = make_record(0), make_record(1)
STATE = RotationState(Stage.PUBLISHED, Way.OVERLAP, SINCE, 300, OLD, NEW)

numbers = st.floats(allow_nan=False, allow_infinity=False)
instants = st.builds(Instant, numbers, st.text(), numbers)
states = st.builds(
    RotationState,
    st.sampled_from([stage for stage in Stage if stage is not Stage.REQUESTED]),
    st.sampled_from(Way),
    instants,
    st.integers(0, 2**31 - 1),
    st.just(OLD),
    st.just(NEW),
    st.lists(st.binary(max_size=40)).map(tuple),
    st.none() | st.builds(RunningTime, st.floats(0, allow_infinity=False), instants),
)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([OLD.hex(), "ff"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(states)
def test_what_is_written_is_read(state: RotationState) -> None:
    assert RotationState.from_json(state.to_json(), SOURCE) == state


def test_a_running_time_that_is_not_noted_is_not_in_the_file() -> None:
    assert b"running" not in STATE.to_json()


@pytest.mark.parametrize("running", [None, 1, {}, {"seconds": -1, "until": {}}, {"seconds": 1, "until": {"wall": 1}}])
def test_a_running_time_that_makes_no_sense_is_reported(running: object) -> None:
    fields = {**json.loads(STATE.to_json()), "running": running}
    with pytest.raises(KeyFileError, match="it is damaged"):
        RotationState.from_json(json.dumps(fields).encode(), SOURCE)


def test_a_lost_key_and_a_missing_certificate_are_read_back() -> None:
    for state in (
        RotationState(Stage.REQUESTED, Way.OVERLAP, SINCE, 0, OLD, None),
        RotationState(Stage.REPLACING, Way.COMPROMISED, SINCE, 0, None, NEW),
    ):
        assert RotationState.from_json(state.to_json(), SOURCE) == state


def test_the_keys_are_those_of_the_records() -> None:
    assert (STATE.old_key, STATE.new_key) == (key_of(OLD), key_of(NEW))
    assert STATE.old_record is not None
    assert STATE.old_record.to_rdata() == OLD
    lost = RotationState(Stage.REPLACING, Way.COMPROMISED, SINCE, 0, None, NEW)
    assert (lost.old_record, lost.old_key) == (None, None)


@given(st.binary(max_size=200))
def test_other_contents_are_reported_with_a_hint(contents: bytes) -> None:
    with pytest.raises(KeyFileError, match="is damaged; restore it from a backup"):
        RotationState.from_json(contents, SOURCE)


@given(field=st.sampled_from(sorted(json.loads(STATE.to_json()))), value=values)
def test_any_value_of_a_field_is_read_or_reported(field: str, value: object) -> None:
    contents = json.dumps({**json.loads(STATE.to_json()), field: value}).encode()
    try:
        state = RotationState.from_json(contents, SOURCE)
    except KeyFileError as error:
        assert error.hint
    else:
        assert RotationState.from_json(state.to_json(), SOURCE) == state


@given(field=st.sampled_from(sorted(json.loads(STATE.to_json()))))
def test_a_field_that_is_missing_is_reported(field: str) -> None:
    fields = json.loads(STATE.to_json())
    del fields[field]
    with pytest.raises(KeyFileError, match="is damaged"):
        RotationState.from_json(json.dumps(fields).encode(), SOURCE)


@pytest.mark.parametrize(
    "contents",
    [
        b"[" * 100_000,
        b"\xff\xfe",
        STATE.to_json()[:-20],
        STATE.to_json().replace(b"1900000000.5", b"NaN"),
        STATE.to_json().replace(b"1900000000.5", b"1" + b"0" * 400),
        STATE.to_json().replace(b"1900000000.5", b"1" * 5000),
        STATE.to_json().replace(b'"ttl": 300', b'"ttl": Infinity'),
        STATE.to_json().replace(b'"ttl": 300', b'"ttl": -1'),
        STATE.to_json().replace(OLD.hex().encode(), b"030000ff"),
        STATE.to_json().replace(b'"format": 1', b'"format": 0'),
        STATE.to_json().replace(b'"format": 1', b'"format": 1, "more": 2'),
    ],
)
def test_damaged_and_hostile_contents_are_reported(contents: bytes) -> None:
    with pytest.raises(KeyFileError, match="is damaged"):
        RotationState.from_json(contents, SOURCE)


def test_a_file_of_a_newer_release_is_told_from_a_damaged_one() -> None:
    contents = STATE.to_json().replace(b'"format": 1', b'"format": 2')
    with pytest.raises(KeyFileError, match="is from a newer release; use that release"):
        RotationState.from_json(contents, SOURCE)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"ttl": -1}, ValueError),
        ({"ttl": 2**31}, ValueError),
        ({"since": Instant(float("inf"), "", 0)}, ValueError),
        ({"new": None}, ValueError),
        ({"old": None}, ValueError),
        ({"old": b"\3\1\1" + bytes(32)}, MalformedRecordError),
    ],
)
def test_a_state_that_makes_no_sense_cannot_be_created(changes: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        STATE.at(changes.pop("stage", Stage.PUBLISHED), changes.pop("since", SINCE), **changes)


def test_the_file_is_written_read_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    file = StateFile(path, os.getuid())
    assert file.read() is None
    file.write(STATE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert file.read() == STATE
    file.write(None)
    file.write(None)
    assert file.read() is None


def test_a_file_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with pytest.raises(KeyFileError, match="it is a directory"):
        StateFile(tmp_path / "state", os.getuid()).read()
    (tmp_path / "other").write_bytes(b"")
    with pytest.raises(KeyFileError, match="is damaged"):
        StateFile(tmp_path / "other", os.getuid()).read()
