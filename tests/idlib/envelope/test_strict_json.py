import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import strict_json

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_objects_survive(members: dict[str, Any]) -> None:
    assert strict_json.read_object(strict_json.write_object(members)) == members


@given(st.text() | st.text(st.sampled_from('{}[]":,\\u0eE+-19 dDtrufalsn\n\ud800')))
def test_any_text_is_an_object_or_a_value_error(text: str) -> None:
    try:
        members = strict_json.read_object(text)
    except ValueError:
        return
    assert members == json.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "1",
        '"{}"',
        "{",
        "{}{}",
        "{} x",
        "\ufeff{}",
        "\u00a0{}",
        "{'a':1}",
        '{"a":1,}',
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":0x1}',
        '{"a":NaN}',
        '{"a":Infinity}',
        '{"a":-Infinity}',
        '{"a":"\t"}',
        '{"a":"\\x"}',
        '{"a":1 /* one */}',
        '{"a":1,"a":1}',
        '{"a":1,"\\u0061":1}',
        '{"b":{"a":1,"a":2}}',
        '{"b":[{"a":1,"a":2}]}',
        '{"a":"\\ud800"}',
        '{"\\uDFFF":1}',
        '{"a":["\\ud83d x"]}',
        '{"a":' + "9" * 5000 + "}",
    ],
)
def test_ambiguous_texts_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json.read_object(text)


def test_a_surrogate_pair_is_one_character() -> None:
    assert strict_json.read_object('{"a":"\\ud83d\\ude00"}') == {"a": "😀"}


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited(opening: str, closing: str) -> None:
    def nested(depth: int) -> str:
        return '{"b":' + opening * (depth - 1) + "1" + closing * (depth - 1) + "}"

    assert strict_json.read_object(nested(strict_json.MAX_DEPTH))
    for depth in (strict_json.MAX_DEPTH + 1, 100_000):
        with pytest.raises(ValueError, match="deeper than 16"):
            strict_json.read_object(nested(depth))


def test_brackets_in_strings_and_side_by_side_are_not_nesting() -> None:
    members = {"a": '[{"\\' * 1000, "b": [[], {}] * 1000}
    assert strict_json.read_object(json.dumps(members)) == members


@pytest.mark.parametrize(
    "text", ["[" * 20 + '"' + '\\"' * 200_000, "[" * 20 + '"' * 200_001, "{" * 20 + "\\" * 200_001]
)
def test_an_unfinished_string_takes_linear_time(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        strict_json.read_object(text)


def test_numbers_keep_their_type() -> None:
    members = strict_json.read_object('{"a":1,"b":1.0,"c":1e0,"d":true}')
    assert [type(value) for value in members.values()] == [int, float, float, bool]
