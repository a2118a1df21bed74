import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib import base64url
from idlib.envelope import serialization
from idlib.envelope.serialization import JWE, JWS, Layer
from idlib.errors import Refusal
from testbed.forge import b64

LAYERS = st.sampled_from([JWE, JWS])
MEMBERS = st.sampled_from(sorted({*JWE.members, *JWS.members, "header", "recipients", "zip", "x"}))


def refusal_is_of(layer: Layer, refusal: Refusal) -> bool:
    shown = str(refusal)
    return refusal.reason in (layer.malformed, layer.unsupported) and shown.isascii() and len(shown) < 200


def is_base64url(text: str) -> bool:
    try:
        base64url.decode(text)
    except ValueError:
        return False
    return True


@given(LAYERS, st.text() | st.lists(st.text("Aa-_=. {"), max_size=6).map(".".join))
def test_any_text_has_a_layers_parts_or_is_refused(layer: Layer, text: str) -> None:
    try:
        parts = serialization.read(layer, text)
    except Refusal as refusal:
        assert refusal_is_of(layer, refusal)
        return
    assert ".".join(parts) == text
    assert len(parts) == len(layer.members)


@given(LAYERS, st.dictionaries(MEMBERS, st.text(max_size=3) | st.integers() | st.none()))
def test_any_object_has_a_layers_parts_or_is_refused(layer: Layer, members: dict[str, Any]) -> None:
    try:
        parts = serialization.read(layer, json.dumps(members))
    except Refusal as refusal:
        assert refusal_is_of(layer, refusal)
        return
    assert parts == tuple(members[name] for name in layer.members)


@given(LAYERS, st.data())
def test_an_object_is_read_alike_with_and_without_the_json_parser(layer: Layer, data: st.DataObject) -> None:
    """What only the faster reader accepts is not base64url, so that it is refused when it is decoded."""
    names = data.draw(st.permutations(layer.members))
    whole = json.dumps(dict.fromkeys(names, "Zm9v"), separators=(",", ":"))
    begin, end = sorted(data.draw(st.integers(0, len(whole))) for _ in range(2))
    text = whole[:begin] + data.draw(st.text() | st.text('{}[]":,\\u0 Z\n\t', max_size=8)) + whole[end:]
    plain = serialization._read_plain(layer, text)
    try:
        parts = serialization._read_object(layer, text)
    except Refusal:
        assert plain is None or not all(map(is_base64url, plain))
        return
    assert plain in {None, parts}


@pytest.mark.parametrize("layer", [JWE, JWS])
def test_what_is_written_needs_no_json_parser(layer: Layer) -> None:
    parts = tuple(b64(member.encode()) for member in layer.members)
    assert serialization._read_plain(layer, serialization.write(layer, parts)) == parts


@given(LAYERS, st.binary() | st.text().map(str.encode) | st.text('{}[]":,\\0e ').map(str.encode))
def test_any_bytes_are_a_header_or_refused(layer: Layer, octets: bytes) -> None:
    try:
        header = serialization.read_header(layer, b64(octets))
    except Refusal as refusal:
        assert refusal_is_of(layer, refusal)
        return
    assert header == json.loads(octets)


@pytest.mark.parametrize("layer", [JWE, JWS])
def test_what_is_written_is_read(layer: Layer) -> None:
    parts = tuple(b64(member.encode()) for member in layer.members)
    assert serialization.read(layer, serialization.write(layer, parts)) == parts
    assert serialization.read(layer, ".".join(parts)) == parts
