"""Each kind of junk is what its name says, according to the product's own functions that need no DNS."""

import random
import time
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from hostile.tricks import BLOWS, CHEAP_NAMES, TRICKS, Trick, cheap_messages
from idlib.algorithms import PrivateKey
from idlib.envelope import UnverifiedMessage, decrypt, parse, verify
from idlib.errors import Reason, Refusal
from idlib.names import IdentityName
from idlib.trust import Policy
from testbed.paced_client import Publication
from testbed.strangers import BYTE_ORDER_MARK, Strangers

RECIPIENT = IdentityName("recipient._device.example.test")
KNOWN = tuple(f"known-{number}._device.example.test" for number in range(3))
MAX_PAYLOAD = 65536
GENUINE = "genuine"
FORGED = "forged"
# The outcome before a look-up, or whether the strangers' own key verifies the signature.
EXPECTED = {
    "random bytes": {Reason.OUTER_MALFORMED},
    "odd outer header": {Reason.OUTER_UNSUPPORTED, Reason.NOT_FOR_US},
    "encrypted to another key": {Reason.DECRYPTION_FAILED},
    "deeply nested inside": {Reason.INNER_MALFORMED},
    "genuine, issued far ahead": {Reason.FROM_THE_FUTURE},
    "genuine, issued long ago": {Reason.TOO_OLD, GENUINE},
    "odd properties": {Reason.OUTER_MALFORMED},
    "of the largest size allowed": {Reason.OUTER_MALFORMED},
    "a little too large": {"oversized"},
    "large messages, dead domains": {GENUINE},
    "unbound replays": {GENUINE},
    "replays of known senders": {FORGED},
}


@pytest.fixture(scope="module")
def recipient_key() -> PrivateKey:
    return PrivateKey(rsa.generate_private_key(65537, 2048))


@pytest.fixture(scope="module")
def own_key() -> PrivateKey:
    return PrivateKey(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def strangers(recipient_key: PrivateKey, own_key: PrivateKey) -> Strangers:
    strangers = Strangers(RECIPIENT.text, recipient_key.public, own_key, KNOWN, random.Random(1))
    strangers.overheard.append(strangers.badly_signed(KNOWN[0]))
    return strangers


def opened(payload: bytes, key: PrivateKey) -> UnverifiedMessage:
    message = parse(decrypt(payload, RECIPIENT, [key]).signed)
    Policy(RECIPIENT).check_message(message, time.time())
    return message


def fate(publication: Publication, recipient_key: PrivateKey, own_key: PrivateKey) -> str:
    if len(publication.payload) > MAX_PAYLOAD:
        return "oversized"
    try:
        message = opened(publication.payload, recipient_key)
    except Refusal as refusal:
        return refusal.reason
    try:
        verify(message, [own_key.public])
    except Refusal:
        return FORGED
    return GENUINE


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.name)
def test_each_kind_of_junk_has_the_outcome_that_its_name_suggests(
    trick: Trick, strangers: Strangers, recipient_key: PrivateKey, own_key: PrivateKey
) -> None:
    publications = trick.write(strangers, 40)
    assert len(publications) == 40
    fates = Counter(fate(one, recipient_key, own_key) for one in publications)
    expected = EXPECTED.get(trick.name, {GENUINE if trick.name.startswith("genuine") else FORGED})

    assert set(fates) == expected


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("absent names, one domain", 40),
        ("names in many dead domains", 40),
        ("genuine, new domains", 40),
        ("bad signature, one stranger's name", 1),
    ],
)
def test_junk_has_the_expected_number_of_senders(
    name: str, number: int, strangers: Strangers, recipient_key: PrivateKey
) -> None:
    trick = next(trick for trick in TRICKS if trick.name == name)
    senders = {opened(one.payload, recipient_key).sender for one in trick.write(strangers, 40)}
    assert len(senders) == number


def test_only_overheard_messages_are_replayed(strangers: Strangers) -> None:
    trick = next(trick for trick in TRICKS if trick.name == "replays of known senders")
    assert {one.payload for one in trick.write(strangers, 5)} == set(strangers.overheard)
    strangers.overheard.clear()
    assert trick.write(strangers, 5) == []


def test_messages_of_proven_names_of_a_cheap_zone_are_genuine(
    strangers: Strangers, recipient_key: PrivateKey, own_key: PrivateKey
) -> None:
    messages = cheap_messages(strangers, 2)
    assert len(messages) == 2 * len(CHEAP_NAMES)
    for text, publication in messages.items():
        message = opened(publication.payload, recipient_key)
        assert message.sender.text in CHEAP_NAMES
        assert verify(message, [own_key.public]).decode() == text


def test_each_large_packet_has_the_size_in_its_name() -> None:
    sizes = {blow.name: len(blow.publication().payload) for blow in BLOWS if blow.name.endswith(" MB")}
    assert {name: round(size / 2**20) for name, size in sizes.items()} == {"20 MB": 19, "60 MB": 57, "256 MB": 256}
    assert sum(BYTE_ORDER_MARK in blow.publication().properties for blow in BLOWS) == 2
    assert [blow.name for blow in BLOWS if blow.publication().is_retained] == ["the same, retained"]
