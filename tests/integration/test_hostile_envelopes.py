"""Every envelope that an attacker could write, published to one receiver for each type of key, which survives them."""

from collections.abc import Iterator

import pytest

from idlib.errors import Reason
from testbed.forge import EPOCH, Make, flattened
from testbed.hostile import Attack, attack_on
from testbed.lab import Lab
from tests.idlib.envelope.test_hostile_epoch import EPOCH_OPENED
from tests.idlib.envelope.test_hostile_inner import INNER
from tests.idlib.envelope.test_hostile_outer import OUTER


@pytest.fixture(scope="module", params=["rsa2048", "p256"])
def attack(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Attack]:
    # Room for long parameters, which grow by three quarters on their way into an encrypted message.
    with attack_on(lab, KEY_TYPE=request.param, MAX_MESSAGE_SIZE="262144", EPOCH_KEYS="on") as attack:
        yield attack


@pytest.mark.parametrize(("name", "reason", "make"), [pytest.param(*case, id=case[0][:60]) for case in OUTER])
def test_an_outer_layer_is_refused_and_a_good_message_follows(
    attack: Attack, name: str, reason: str, make: Make
) -> None:
    # These are encrypted to an RSA key, and without a key that fits, the ciphertext is not read.
    if "ciphertext" in name and "missing" not in name and attack.kind == "P-256":
        reason = Reason.DECRYPTION_FAILED
    attack.expect_refusal(make(attack.forge), reason)


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0][:60]) for case in INNER])
def test_an_inner_layer_is_refused_and_a_good_message_follows(attack: Attack, reason: str, make: Make) -> None:
    attack.expect_refusal(flattened(attack.forge.outer(attack.kind, make(attack.forge))), reason)


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0][:60]) for case in EPOCH_OPENED])
def test_a_message_to_an_epoch_key_is_refused_and_a_good_message_follows(
    attack: Attack, reason: str, make: Make
) -> None:
    attack.expect_refusal(make(attack.forge), reason)


@pytest.mark.parametrize(("reason", "make"), [pytest.param(*case[1:], id=case[0][:60]) for case in INNER])
def test_an_inner_layer_is_refused_in_a_message_to_an_epoch_key(attack: Attack, reason: str, make: Make) -> None:
    attack.expect_refusal(flattened(attack.forge.outer(EPOCH, make(attack.forge))), reason)
