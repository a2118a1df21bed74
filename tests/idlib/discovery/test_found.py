import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from idlib import algorithms
from idlib.algorithms import PublicKey
from idlib.discovery.found import MAX_PARSED_KEYS, Found, ParsedKeys, PublishedKey
from idlib.marks import Mark
from idlib.names import IdentityName

ALICE = IdentityName("alice._device.example.test")


def new_key() -> PublicKey:
    return PublicKey(ec.generate_private_key(ec.SECP256R1()).public_key())


def test_a_key_is_prepared_once_while_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, der = ParsedKeys(), new_key().der
    first = keys.parse(der)
    assert first.der == der
    for _ in range(MAX_PARSED_KEYS - 1):
        keys.parse(new_key().der)
        keys.parse(der)
    monkeypatch.setattr(algorithms.PublicKey, "__post_init__", lambda _: pytest.fail("a key was prepared again"))
    assert keys.parse(der) is first


def test_keys_above_the_limit_are_prepared_again() -> None:
    keys, der = ParsedKeys(), new_key().der
    first = keys.parse(der)
    for _ in range(MAX_PARSED_KEYS):
        keys.parse(new_key().der)
    assert keys.parse(der) is not first


def test_the_result_of_a_look_up_needs_no_other_object() -> None:
    keys = [new_key() for _ in range(4)]
    found = Found(ALICE, tuple(PublishedKey("3 1 0", key.der) for key in keys), (), "made in a test")
    assert [usable.public_key.native for usable in found.records] == [key.native for key in keys]
    assert [key.native for key in found.public_keys] == [key.native for key in keys[:3]]
    assert found.zone == "example.test"
    assert found == Found(ALICE, found.published, (), "made in a test", None, ParsedKeys().parse)


@pytest.mark.parametrize(
    ("marks", "mark"),
    [
        ([Mark.UNMARKED], Mark.UNMARKED),
        ([Mark.UNMARKED, Mark.MARKED], Mark.MARKED),
        ([Mark.UNSUPPORTED, Mark.UNMARKED], Mark.UNSUPPORTED),
        ([Mark.UNSUPPORTED, Mark.MARKED], Mark.MARKED),
    ],
)
def test_a_name_is_marked_if_any_of_its_records_is(marks: list[Mark], mark: Mark) -> None:
    der = new_key().der
    found = Found(ALICE, tuple(PublishedKey("3 0 0", der, each) for each in marks), (), "made in a test")
    assert found.mark is mark
    assert [usable.mark for usable in found.records] == marks
