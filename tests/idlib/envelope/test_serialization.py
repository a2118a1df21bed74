import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import serialization
from idlib.envelope.serialization import JWE, JWS, Layer
from idlib.errors import Refusal
from testbed.forge import b64

LAYERS = st.sampled_from([JWE, JWS])
MEMBERS = st.sampled_from(sorted({*JWE.members, *JWS.members, "header", "recipients", "zip", "x"}))


def refusal_is_of(layer: Layer, refusal: Refusal) -> bool:
    shown = str(refusal)
    return refusal.reason in (layer.malformed, layer.unsupported) and shown.isascii() and len(shown) < 200


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
