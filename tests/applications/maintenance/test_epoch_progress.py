"""The file that remembers since when a step waits."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import KeyFileError
from idlib.settings import load
from messaging_maintenance.epoch_progress import EpochProgress, ProgressFile, Step
from messaging_maintenance.rotation.schedule import Instant

PLACE = Path("alice.epochs.json")
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
PROGRESS = st.builds(
    EpochProgress,
    st.sampled_from(Step),
    st.builds(Instant, NUMBERS, st.text(), NUMBERS, st.booleans()),
    st.integers(0, 2**31 - 1),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(PROGRESS)
def test_what_is_written_is_read_again(progress: EpochProgress) -> None:
    assert EpochProgress.from_json(progress.to_json(), PLACE) == progress


@given(st.binary())
def test_any_other_content_is_one_line(contents: bytes) -> None:
    with pytest.raises(KeyFileError, match="it is damaged"):
        EpochProgress.from_json(contents, PLACE)


@given(PROGRESS, st.sampled_from(["format", "step", "since", "ttl"]), JSON)
def test_a_changed_field_is_an_error_or_progress(progress: EpochProgress, field: str, value: object) -> None:
    contents = json.dumps({**json.loads(progress.to_json()), field: value}).encode()
    try:
        assert isinstance(EpochProgress.from_json(contents, PLACE), EpochProgress)
    except KeyFileError as error:
        assert "it is damaged" in error.fact  # most values are refused, not all


def test_the_file_is_private_and_goes_away(tmp_path: Path) -> None:
    settings = load(
        {"IDENTITY_NAME": "alice._device.example.test", "CRYPTO_PATH": str(tmp_path), "APP_UID": str(os.getuid())}
    )
    file = ProgressFile(settings)
    assert file.read() is None
    progress = EpochProgress(Step.PUBLISHED, Instant(1.0, "boot", 2.0), 60)
    for written in (progress, replace(progress, step=Step.UNMARKED)):
        file.write(written)
        assert file.read() == written
    (path,) = tmp_path.glob("*.epochs.json")
    assert path.stat().st_mode & 0o077 == 0
    file.write(None)
    assert file.read() is None
