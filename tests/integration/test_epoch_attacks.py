"""Attacks on epoch keys by the network, the broker, and thieves of keys and credentials: at worst a message waits."""

import dataclasses
import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from dns.rdataclass import RdataClass
from dns.rdatatype import RdataType
from dns.rdtypes.txtbase import TXTBase

from idlib import marks
from idlib.algorithms import PrivateKey
from idlib.envelope import decrypt, encrypt
from idlib.epochs import EpochPrivateKey, IdentifiedEpochKey
from idlib.epochs.record import EpochRecord, SignedEpochRecord
from idlib.keys import read_private_key
from idlib.names import IdentityName
from testbed.daemons.process import LOOPBACK
from testbed.dns_lab.conditions import TEMPORARY
from testbed.dns_lab.liars import Liar, lying
from testbed.forge import EPOCH, b64, flattened, jwe
from testbed.hostile import Attack, attack_on, new_key
from testbed.lab import SECURE, Lab
from testbed.name_server import over_udp_or_tcp
from testbed.programs import Device, Result
from testbed.shifted_clock import ShiftedClock
from tests.integration.test_epoch_sending import DAY, HOUR, TTL, EpochDevice, Listener, marked_device

WAYS: Final = ("trusted", "pinned")
# Of a message that is not sent, and could be later.
WAITING: Final = "is marked as having epoch keys"
THIEFS_HALF: Final = EpochPrivateKey(secrets.token_bytes(32))
THIEFS_KEY: Final = new_key("P-256")

# Returns what reaches the sender; None for nothing.
Change = Callable[[dns.message.Message], dns.message.Message | None]


class Network:
    """What is between senders and their resolver, and changes answers about epoch records, or about others."""

    def __init__(self) -> None:
        self.change: Change | None = None
        self.record_type = RdataType.TXT
        self.port = 0

    def carry(self, answer: dns.message.Message, *, over_tcp: bool) -> Sequence[bytes]:
        carried: dns.message.Message | None = answer
        if self.change is not None and answer.question[0].rdtype == self.record_type:
            carried = self.change(answer)
        return [] if carried is None else over_udp_or_tcp(carried, over_tcp)

    def attack(self, change: Change, record_type: RdataType = RdataType.TXT) -> None:
        self.change, self.record_type = change, record_type

    def end_attack(self) -> None:
        self.change = None


@pytest.fixture(scope="module")
def whole_network(lab: Lab) -> Iterator[Network]:
    network = Network()
    liar = Liar(
        "the network",
        TEMPORARY,
        TEMPORARY,
        over_udp=lambda _, truth: network.carry(truth, over_tcp=False),
        over_tcp=lambda _, truth: network.carry(truth, over_tcp=True),
    )
    with lying(liar, lab.unbound.port) as network.port:
        yield network


@pytest.fixture
def network(whole_network: Network) -> Iterator[Network]:
    yield whole_network
    whole_network.end_attack()


@pytest.fixture(scope="module")
def listener(lab: Lab) -> Iterator[Listener]:
    client = Listener(lab)
    yield client
    client.close()


@pytest.fixture(scope="module")
def bob(lab: Lab, listener: Listener) -> EpochDevice:
    """Return a device with a living epoch key in DNS, whose messages an eavesdropper hears."""
    device = marked_device(lab)
    device.publish()
    listener.listen(device.device)
    return device


@pytest.fixture(scope="module")
def carol(lab: Lab) -> Device:
    return lab.published_device("carol")


def behind(network: Network, lab: Lab, device: Device, way: str) -> Device:
    """Return a device whose look-ups all pass the attacker; the AD bit counts only if its resolver is trusted."""
    device = device.with_settings(DNS_RESOLVER=f"{LOOPBACK}:{network.port}")
    return lab.pinned(device, lab.knot.ds(SECURE)) if way == "pinned" else device


def assert_waits(sent: Result, listener: Listener, why: str = WAITING) -> None:
    assert sent.status == 2, sent.stderr
    assert why in sent.stderr
    assert "Traceback" not in sent.stderr
    assert listener.payloads_so_far() == []


def assert_sent(sent: Result, listener: Listener, recipient: EpochDevice, text: str) -> None:
    assert sent.status == 0, sent.stderr
    assert recipient.opened(listener.next_payload()) == text


def thiefs_text(name: str, key: PrivateKey = THIEFS_KEY, until: int = 9 * DAY) -> bytes:
    """Return an epoch record of the thief's own half, signed by a key."""
    now = int(time.time())
    record = EpochRecord(now - HOUR, now + until, THIEFS_HALF.public)
    return SignedEpochRecord.create(record, IdentityName(name), key).to_text()


def publish(lab: Lab, name: str, *texts: bytes) -> None:
    for text in texts:
        lab.knot.add_txt(f"_epoch.{name}", text, TTL)
    lab.wait_for_name(f"_epoch.{name}")


def stripped(answer: dns.message.Message) -> dns.message.Message:
    answer.answer = []
    return answer


def without_signatures(answer: dns.message.Message) -> dns.message.Message:
    answer.answer = [rrset for rrset in answer.answer if rrset.rdtype != RdataType.RRSIG]
    answer.flags &= ~dns.flags.AD
    return answer


def denied(answer: dns.message.Message) -> dns.message.Message:
    answer.set_rcode(dns.rcode.NXDOMAIN)
    return stripped(answer)


def failed(answer: dns.message.Message) -> dns.message.Message:
    answer.set_rcode(dns.rcode.SERVFAIL)
    return stripped(answer)


def silenced(_: dns.message.Message) -> None:
    return None


def forged(*texts: bytes) -> Change:
    """Put other records into the answer, in front of the signature of the true ones."""

    def change(answer: dns.message.Message) -> dns.message.Message:
        true, *signatures = answer.answer
        records = [
            TXTBase(RdataClass.IN, RdataType.TXT, [text[start : start + 255] for start in range(0, len(text), 255)])
            for text in texts
        ]
        answer.answer = [dns.rrset.from_rdata_list(true.name, true.ttl, records), *signatures]
        return answer

    return change


def replayed(old: dns.message.Message) -> Change:
    """Give an answer of earlier."""

    def change(answer: dns.message.Message) -> dns.message.Message:
        if old.question[0] == answer.question[0]:
            answer.answer, answer.authority = old.answer, old.authority
        return answer

    return change


def recorded(network: Network, sender: Device, recipient: EpochDevice, record_type: RdataType) -> dns.message.Message:
    """Return an answer that the attacker overhears while a message is sent."""
    heard: list[dns.message.Message] = []

    def hear(answer: dns.message.Message) -> dns.message.Message:
        if recipient.name in str(answer.question[0].name):
            heard.append(dns.message.from_wire(answer.to_wire(max_size=65535)))
        return answer

    network.attack(hear, record_type)
    assert sender.send(recipient.name, "overheard").status == 0
    network.end_attack()
    return heard[-1]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "change", [stripped, without_signatures, denied, failed, silenced], ids=lambda one: one.__name__
)
def test_an_attacker_who_withholds_epoch_records_only_delays_a_message(
    lab: Lab, network: Network, bob: EpochDevice, carol: Device, listener: Listener, change: Change, way: str
) -> None:
    sender = behind(network, lab, carol, way)
    network.attack(change)
    assert_waits(sender.send(bob.name, "a secret"), listener, bob.name)
    network.end_attack()
    assert_sent(sender.send(bob.name, "later"), listener, bob, "later")


@pytest.mark.parametrize("way", WAYS)
def test_a_forged_epoch_record_is_not_used(
    lab: Lab, network: Network, bob: EpochDevice, carol: Device, listener: Listener, way: str
) -> None:
    network.attack(forged(thiefs_text(bob.name)))
    assert_waits(behind(network, lab, carol, way).send(bob.name, "a secret"), listener, bob.name)


def test_a_stolen_identity_key_is_worth_nothing_without_power_over_dns(
    lab: Lab, network: Network, bob: EpochDevice, carol: Device, listener: Listener
) -> None:
    network.attack(forged(thiefs_text(bob.name, read_private_key(bob.device.key_path))))
    assert_waits(behind(network, lab, carol, "pinned").send(bob.name, "a secret"), listener, bob.name)


def test_the_identity_key_together_with_power_over_dns_reads_only_what_is_sent_from_then_on(
    lab: Lab, carol: Device, listener: Listener
) -> None:
    victim = marked_device(lab)
    victim.publish()
    listener.listen(victim.device)
    sent = carol.send(victim.name, "before")
    before = listener.next_payload()
    assert sent.status == 0
    victim.withdraw()
    stolen = read_private_key(victim.device.key_path)
    text = thiefs_text(victim.name, stolen)
    publish(lab, victim.name, text)
    assert carol.send(victim.name, "after").status == 0
    name = IdentityName(victim.name)
    key_id = SignedEpochRecord.from_text(text).record.key_id(name)
    assert decrypt(listener.next_payload(), name, [stolen], {key_id: THIEFS_HALF})
    assert victim.opened(before) == "before"


def test_an_epoch_record_that_only_the_credential_for_dns_has_published_is_skipped(
    lab: Lab, carol: Device, listener: Listener
) -> None:
    victim = marked_device(lab)
    listener.listen(victim.device)
    publish(lab, victim.name, thiefs_text(victim.name))
    assert_waits(carol.send(victim.name, "a secret"), listener, "it is not signed by a key in the name's TLSA records")
    # Beside the true record.
    victim.publish()
    time.sleep(TTL + 1)
    assert_sent(carol.send(victim.name, "a secret"), listener, victim, "a secret")


def test_an_epoch_record_of_the_owner_of_an_alias_target_is_skipped(
    lab: Lab, carol: Device, listener: Listener
) -> None:
    victim = marked_device(lab)
    listener.listen(victim.device)
    target = f"keys-of-{victim.name}"
    lab.knot.add_txt(target, thiefs_text(victim.name), TTL)
    lab.knot.add_alias(f"_epoch.{victim.name}", target, TTL)
    lab.wait_for_name(f"_epoch.{victim.name}")
    assert_waits(carol.send(victim.name, "a secret"), listener, "it is not signed by a key in the name's TLSA records")


def test_the_epoch_record_of_another_device_is_not_used(
    lab: Lab, bob: EpochDevice, carol: Device, listener: Listener
) -> None:
    victim = marked_device(lab)
    listener.listen(victim.device)
    publish(
        lab,
        victim.name,
        SignedEpochRecord.create(bob.record, IdentityName(bob.name), read_private_key(bob.device.key_path)).to_text(),
    )
    assert_waits(carol.send(victim.name, "a secret"), listener)


def test_a_replayed_epoch_record_is_used_until_it_dies_and_cuts_a_messages_time(
    lab: Lab, network: Network, carol: Device, listener: Listener
) -> None:
    victim = marked_device(lab, 2 * HOUR, 8 * DAY)
    victim.publish()
    listener.listen(victim.device)
    sender = behind(network, lab, carol, "pinned")
    old = recorded(network, sender, victim, RdataType.TXT)
    assert victim.opened(listener.next_payload()) == "overheard"
    fresh = dataclasses.replace(victim, half=EpochPrivateKey(secrets.token_bytes(32)))
    now = int(time.time())
    fresh = dataclasses.replace(fresh, record=EpochRecord(now - HOUR, now + 9 * DAY, fresh.half.public))
    victim.withdraw()
    fresh.publish()
    assert_sent(sender.send(victim.name, "new"), listener, fresh, "new")
    network.attack(replayed(old))
    sent = sender.send(victim.name, "to the old key")
    assert_sent(sent, listener, victim, "to the old key")
    assert f"can be read only until {victim.until}" in sent.stderr
    assert listener.expiries[-1] <= 2 * HOUR


def test_a_replayed_epoch_record_that_dies_within_the_hour_makes_the_message_wait(
    lab: Lab, network: Network, carol: Device, listener: Listener, tmp_path: Path
) -> None:
    victim = marked_device(lab, 2 * HOUR, 8 * DAY)
    victim.publish()
    listener.listen(victim.device)
    sender = behind(network, lab, carol, "pinned")
    old = recorded(network, sender, victim, RdataType.TXT)
    assert victim.opened(listener.next_payload()) == "overheard"
    clock = ShiftedClock(tmp_path)
    clock.shift(HOUR + 60)
    network.attack(replayed(old))
    assert_waits(sender.with_settings(**clock.settings).send(victim.name, "late"), listener, "in less than an hour")


def test_a_replayed_answer_from_before_the_mark_deceives_only_senders_that_have_not_seen_it(
    lab: Lab, network: Network, listener: Listener
) -> None:
    victim = marked_device(lab)
    victim.mark()
    victim.publish()
    listener.listen(victim.device)
    newcomer = behind(network, lab, lab.published_device("newcomer"), "pinned")
    old = recorded(network, newcomer, victim, RdataType.TLSA)
    listener.next_payload()
    victim.mark(marks.EXTENSION)
    witness = behind(network, lab, lab.published_device("witness"), "pinned")
    assert_sent(witness.send(victim.name, "seen", "--queue"), listener, victim, "seen")
    network.attack(replayed(old), RdataType.TLSA)
    # Until the signature of the old answer expires (docs/protocol.md, "What a sender remembers").
    told = newcomer.send(victim.name, "deceived", "--json")
    assert (told.status, json.loads(told.stdout)["sealed"]) == (0, "identity")
    listener.next_payload()
    demanding = newcomer.with_settings(REQUIRE_FORWARD_SECRECY=victim.name)
    assert_waits(demanding.send(victim.name, "a secret"), listener, "REQUIRE_FORWARD_SECRECY names it")
    queued = witness.send(victim.name, "a secret", "--queue")
    assert queued.status == 0
    assert "is not marked as having epoch keys any more" in queued.stderr
    assert listener.payloads_so_far() == []


def test_a_thousand_foreign_txt_records_hide_no_epoch_record(
    lab: Lab, network: Network, bob: EpochDevice, carol: Device, listener: Listener
) -> None:
    true = SignedEpochRecord.create(bob.record, IdentityName(bob.name), read_private_key(bob.device.key_path)).to_text()
    network.attack(forged(*(f"site-verification={number}".encode() for number in range(1000)), true))
    assert_sent(behind(network, lab, carol, "trusted").send(bob.name, "found"), listener, bob, "found")


@pytest.mark.parametrize("size", [20, 1986])
def test_a_flood_of_epoch_records_is_read_in_part_and_quickly(
    lab: Lab, network: Network, bob: EpochDevice, carol: Device, listener: Listener, size: int
) -> None:
    # As many as fit into an answer.
    number = min(1000, 60_000 // size)
    network.attack(forged(*(f"epoch1:{index:04}".encode().ljust(size, b"x") for index in range(number))))
    start = time.monotonic()
    sent = behind(network, lab, carol, "trusted").send(bob.name, "a secret")
    assert_waits(sent, listener, "none of its 8 epoch records can be used")
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("days", "why"), [(-2, "its next epoch key starts at"), (20, "its last epoch key was destroyed at")]
)
def test_a_sender_whose_clock_is_wrong_by_days_sends_nothing_and_says_why(
    bob: EpochDevice, carol: Device, listener: Listener, tmp_path: Path, days: int, why: str
) -> None:
    clock = ShiftedClock(tmp_path)
    clock.shift(days * DAY)
    sent = carol.with_settings(**clock.settings).send(bob.name, "a secret")
    assert_waits(sent, listener, why)
    assert "unless the clock of this device is wrong" in sent.stderr


@pytest.fixture(scope="module")
def attack(lab: Lab) -> Iterator[Attack]:
    with attack_on(lab, EPOCH_KEYS="on") as attack:
        yield attack


def test_a_recipient_cannot_pass_on_a_message_as_if_it_were_for_another(
    bob: EpochDevice, carol: Device, listener: Listener, attack: Attack
) -> None:
    assert carol.send(bob.name, "for bob alone").status == 0
    signed = decrypt(listener.next_payload(), IdentityName(bob.name), [], {bob.key_id: bob.half}).signed
    key = IdentifiedEpochKey(attack.forge.epoch_key_id, attack.forge.epoch_key)
    attack.expect_refusal(encrypt(signed, recipient=attack.forge.bob, encryption_key=key), "wrong-audience")


def test_a_thief_of_the_recipients_keys_cannot_write_as_another(attack: Attack) -> None:
    keys = {attack.kind: read_private_key(attack.reader.key_path)}
    forge = dataclasses.replace(attack.forge, sender_keys=keys)
    attack.expect_refusal(flattened(forge.message(sender=attack.kind, reader=EPOCH)), "signature-invalid")


def test_a_replayed_epoch_message_is_printed_once(attack: Attack) -> None:
    payload = flattened(attack.forge.message("once", reader=EPOCH))
    attack.expect_text(payload, "once")
    attack.expect_refusal(payload, "replay")


def test_junk_for_a_living_epoch_key_leaves_nothing_behind(attack: Attack) -> None:
    attack.expect_good()
    header = attack.forge.outer_header(EPOCH, ek=b64(secrets.token_bytes(1120)))
    junk = flattened(jwe(attack.forge.epoch_key, header, b"junk"))
    logged, number = len(attack.receiver.stderr), 300
    before = settled_contents_of(attack)
    attack.client.flood(attack.reader, junk, number)

    def refusals() -> int:
        return sum("refused reason=decryption-failed" in line for line in attack.receiver.stderr[logged:])

    attack.receiver.wait_for("refusals", lambda: refusals() == number)
    assert settled_contents_of(attack) == before
    attack.refused += number
    attack.expect_good()


def settled_contents_of(attack: Attack) -> dict[str, int]:
    """Return the sizes of the receiver's files, once what was printed last is recorded."""
    while True:
        before = contents_of(attack)
        time.sleep(1)
        if contents_of(attack) == before:
            return before


def contents_of(attack: Attack) -> dict[str, int]:
    """Return the sizes of the receiver's files."""
    directory = Path(attack.reader.settings["DATA_PATH"])
    return {str(path): path.stat().st_size for path in sorted(directory.rglob("*")) if path.is_file()}
