import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.errors import PublishingError
from idlib.output import harmless
from idlib.publishing.change import PublishedSet, present
from idlib.publishing.desec_answer import accepts_first_part, describe, read_minimum_ttl, read_pause, read_records
from idlib.publishing.record_types import TLSA, TXT, RecordType
from idlib.publishing.web_api import Answer

TOKEN = "4pnk7uNHvrEkFzrhFDRTjGFyX"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([TOKEN, "3 0 0 00", "TLSA"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["ttl", "type", "records"]), inner),
    max_leaves=10,
)
RDATA = st.builds(
    lambda parameters, data: bytes(parameters) + data,
    st.tuples(*[st.integers(0, 255)] * 3),
    st.binary(min_size=1, max_size=3000),
)


def answer(document: object) -> Answer:
    return Answer(200, json.dumps(document).encode())


@given(st.integers(0, 2**31 - 1), st.lists(RDATA, min_size=1, max_size=5))
def test_what_is_written_is_read(ttl: int, rdatas: list[bytes]) -> None:
    shown = {"type": "TLSA", "ttl": ttl, "records": [present(rdata) for rdata in rdatas]}
    assert read_records(answer([shown]), TLSA) == PublishedSet.of(ttl, rdatas)


@pytest.mark.parametrize("text", ["3 0 1 AAbb", "3 000 1  aa bb", "03 0 01 aabb", r"\# 5 03 0001 aabb"])
def test_a_record_is_read_in_each_form(text: str) -> None:
    shown = {"type": "TLSA", "ttl": 60, "records": [text]}
    assert read_records(answer([shown]), TLSA) == PublishedSet.of(60, [bytes.fromhex("030001aabb")])


@pytest.mark.parametrize("start", ["3 0 0 ", r"\# 3 ", "3 0 "])
def test_a_long_answer_is_rejected_at_once(start: str) -> None:
    shown = {"type": "TLSA", "ttl": 60, "records": [f"{start}{' ' * 500_000}!"]}
    started = time.process_time()
    with pytest.raises(PublishingError, match="cannot be read"):
        read_records(answer([shown]), TLSA)
    assert time.process_time() - started < 5


@given(st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_any_answer_is_read_or_an_error(body: bytes) -> None:
    for read in (lambda given: read_records(given, TLSA), lambda given: read_records(given, TXT), read_minimum_ttl):
        try:
            read(Answer(200, body))
        except PublishingError as error:
            assert "cannot be read" in error.fact
    accepts_first_part(Answer(400, body))


@pytest.mark.parametrize("record_type", [TLSA, TXT], ids=str)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["TLSA", "TXT"]), "ttl": JSON, "records": JSON | st.lists(st.text())}
        )
    )
)
def test_any_record_set_is_read_or_an_error(record_type: RecordType, document: object) -> None:
    try:
        assert isinstance(read_records(answer(document), record_type), PublishedSet)
    except PublishingError as error:
        assert "cannot be read" in error.fact


@given(st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_the_servers_words_are_short_and_harmless(body: bytes) -> None:
    words = describe(Answer(400, body), TOKEN)
    assert len(words) <= 300
    assert harmless(words) == words
    assert TOKEN not in words


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"detail": "Not found."}, "Not found."),
        ([{}, {"ttl": ["Too low.", "Odd."]}], "ttl: Too low.; ttl: Odd."),
        ({"non_field_errors": ["One.", "Two."]}, "One.; Two."),
        ({"a": {"b": "C."}}, "b: C."),
        ("line\nbreak", "line\\u000abreak"),
        ([1, None], ""),
        ("x" * 1000, "x" * 299 + "…"),
    ],
)
def test_the_words_are_those_of_the_fields(document: object, words: str) -> None:
    assert describe(answer(document), TOKEN) == words


@given(st.none() | st.text())
def test_a_pause_is_at_least_a_second(retry_after: str | None) -> None:
    assert read_pause(Answer(429, b"", retry_after)) >= 1


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("7", 7), ("0", 1), (None, 1), ("", 1), ("-5", 1), ("1e9", 1), ("٣", 1), ("86399", 86399)],
)
def test_a_pause_is_a_number_of_seconds(retry_after: str | None, pause: int) -> None:
    assert read_pause(Answer(429, b"", retry_after)) == pause


@pytest.mark.parametrize(
    ("document", "accepts"),
    [
        ([{}, {"non_field_errors": "Expected a dictionary, but got str."}], True),
        ([{"type": ["x"]}, {"non_field_errors": "x"}], False),
        ([{}, {}], False),
        ([{}], False),
        ([[], {"x": "y"}], False),
        ({"detail": "x"}, False),
    ],
)
def test_only_the_second_part_has_errors(document: object, accepts: bool) -> None:  # noqa: FBT001  # a parameter
    assert accepts_first_part(answer(document)) is accepts
