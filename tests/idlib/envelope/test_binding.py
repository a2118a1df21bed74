from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idlib.envelope import Binding
from idlib.envelope.binding import read_binding
from idlib.errors import MessageError, Reason, Refusal
from idlib.names import IdentityName

BOB = IdentityName("bob._device.example.test")
BOUND = {"aud": BOB.text, "iat": 1000, "jti": "a"}
MOST = 2**53 - 1


@given(st.integers(0, MOST), st.none() | st.integers(1, MOST))
def test_what_is_written_is_read(issued_at: int, lifetime: int | None) -> None:
    try:
        binding = Binding.new(BOB, issued_at, lifetime)
    except MessageError:
        assert lifetime is not None
        assert issued_at + lifetime > MOST
        return
    assert read_binding(binding.parameters()) == binding


def test_identifiers_are_128_new_random_bits() -> None:
    identifiers = {Binding.new(BOB, 0).identifier for _ in range(100)}
    assert len(identifiers) == 100
    assert {len(identifier) for identifier in identifiers} == {22}


def test_without_any_parameter_a_message_is_unbound() -> None:
    assert read_binding({"alg": "RS256"}) is None


@pytest.mark.parametrize(
    "header",
    [
        BOUND,
        BOUND | {"exp": 1001},
        BOUND | {"iat": 0},
        BOUND | {"iat": MOST},
        BOUND | {"iat": 0, "exp": MOST},
        BOUND | {"aud": "BOB._Device.example.test."},
        BOUND | {"jti": "x" * 128},
        BOUND | {"jti": "é" * 64},
    ],
)
def test_complete_bindings_are_read(header: dict[str, Any]) -> None:
    binding = read_binding(header)
    assert binding == Binding(BOB, header["iat"], header["jti"], header.get("exp"))


@pytest.mark.parametrize(
    "header",
    [
        *({name: value for name, value in BOUND.items() if name != absent} for absent in BOUND),
        *({name: BOUND[name]} for name in BOUND),
        {"exp": 2000},
        BOUND | {"aud": [BOB.text]},
        BOUND | {"aud": None},
        BOUND | {"aud": "bob"},
        BOUND | {"aud": ""},
        BOUND | {"aud": "bob.example.test/x"},
        BOUND | {"aud": BOB.uri},
        BOUND | {"iat": "1000"},
        BOUND | {"iat": 1000.0},
        BOUND | {"iat": True},
        BOUND | {"iat": -1},
        BOUND | {"iat": MOST + 1},
        BOUND | {"iat": None},
        BOUND | {"exp": 1000},
        BOUND | {"exp": 999},
        BOUND | {"exp": 2000.5},
        BOUND | {"exp": MOST + 1},
        BOUND | {"exp": None},
        BOUND | {"exp": False},
        BOUND | {"jti": ""},
        BOUND | {"jti": 7},
        BOUND | {"jti": None},
        BOUND | {"jti": "x" * 129},
        BOUND | {"jti": "é" * 65},
    ],
)
def test_other_bindings_are_malformed(header: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refusal:
        read_binding(header)
    assert refusal.value.reason is Reason.BINDING_MALFORMED


@pytest.mark.parametrize("lifetime", [0, -1, MOST])
def test_a_lifetime_that_no_recipient_would_accept_is_rejected(lifetime: int) -> None:
    with pytest.raises(MessageError):
        Binding.new(BOB, 1000, lifetime)


JSON_VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["bob.example.test", 0, MOST, MOST + 1, 1e3, "x" * 129])
    | st.lists(st.text(), max_size=2)
)


@given(st.dictionaries(st.sampled_from(["aud", "iat", "jti", "exp", "alg"]), JSON_VALUES))
def test_any_header_is_bound_unbound_or_malformed(header: dict[str, Any]) -> None:
    try:
        binding = read_binding(header)
    except Refusal as refusal:
        assert refusal.reason is Reason.BINDING_MALFORMED
        assert str(refusal).isascii()
        assert len(str(refusal)) < 200
        return
    assert (binding is None) == header.keys().isdisjoint({"aud", "iat", "jti", "exp"})
