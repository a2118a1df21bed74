"""Devices that change their keys while they exchange messages: a zone that accepts updates, and parties that talk."""

import contextlib
import itertools
import json
import os
import re
import secrets
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from idlib.errors import ExitStatus
from idlib.keys import read_private_key
from idlib.names import IdentityName
from idlib.publishing.change import PublishedSet
from idlib.publishing.name_servers import read_from
from idlib.publishing.record_types import tlsa_place
from idlib.settings import ServerAddress
from idlib.storage.outbox import NewOutgoingMessage, Outbox
from messaging_maintenance.rotation.schedule import Instant, Waits
from messaging_maintenance.rotation.state import RotationState, Stage
from testbed.daemons.knot import Knot, Zone
from testbed.daemons.mosquitto import Mosquitto
from testbed.daemons.process import run_tool
from testbed.daemons.unbound import Unbound
from testbed.lab import Lab
from testbed.programs import (
    CREATE_SELFSIGNED_ID,
    MAINTENANCE,
    RECEIVER,
    ROTATE_ID,
    SENDER,
    SUBSCRIBED,
    Device,
    Program,
    Result,
)

ZONE: Final = "rotation.test"
# Of a zone whose server a test may cut off.
SECOND_ZONE: Final = "second.test"
TTL_SECONDS: Final = 2
# Two weeks take 15 seconds, and seven days and two hours 7.7. That is more than a sender remembers a record for (5
# seconds beyond its TTL, whatever the scale) and a receiver takes to read a new key (3 seconds), so that nothing but an
# error of the programs can lose a message.
SPEED: Final = 80_000
_KEY_NAME: Final = "update-key"
_ACL: Final = """\
acl:
  - id: update
    key: update-key
    action: update
    update-type: [TLSA, TXT]
"""
# A line can stand for others that were held back.
_REFUSAL: Final = re.compile(r" refused reason=([a-z-]+) .*?(?: \(and (\d+) more in the last \d+ s\))?$")
_DELIVERY_SECONDS: Final = 40.0
_KINDS_OF_KEY: Final = {"rsa2048": rsa.RSAPrivateKey, "p256": ec.EllipticCurvePrivateKey}


@dataclass(frozen=True, slots=True)
class RotationLab:
    """A broker, a resolver, and name servers whose zones accept updates.

    Args:
        lab: Makes devices; its name server is the one of `ZONE`.
        second: The name server of `SECOND_ZONE`.
        key_file: The TSIG key of both.
    """

    lab: Lab
    second: Knot
    key_file: Path

    def device(self, label: str, zone: str = ZONE, **settings: str) -> Device:
        """Return a new device that can change its records by dynamic update; it has no key yet.

        Args:
            label: The first part of its name.
            zone: Its zone.
            settings: Environment variables that differ from the usual.
        """
        knot = self.second if zone == SECOND_ZONE else self.lab.knot
        usual = {
            "DNS_PUBLISH": "rfc2136",
            "DNS_UPDATE_KEY_FILE": str(self.key_file),
            "DNS_SERVER_PORT": str(knot.port),
            "TLSA_TTL": str(TTL_SECONDS),
            "ROTATE_TEST_SPEED": str(SPEED),
            "KEY_TYPE": "rsa2048",
        }
        return self.lab.device(label, zone).with_settings(**{**usual, **settings})

    def published(self, label: str, zone: str = ZONE, **settings: str) -> Device:
        """Return a new device with a key, whose record is in DNS; arguments as those of `device`."""
        device = self.device(label, zone, **settings)
        result = device.run(CREATE_SELFSIGNED_ID)
        assert result.status == 0, result
        # Before a resolver is asked, which would remember that there is no record.
        self._knot_of(device).add_tlsa(device.name, device.tlsa_record(), int(device.settings["TLSA_TTL"]))
        return device

    def _knot_of(self, device: Device) -> Knot:
        return self.second if device.name.endswith(f".{SECOND_ZONE}") else self.lab.knot

    def records(self, device: Device) -> PublishedSet:
        """Return the records that a device's name server has."""
        knot = self._knot_of(device)
        return read_from(ServerAddress(knot.host, knot.port), tlsa_place(IdentityName(device.name)))


@contextlib.contextmanager
def open_rotation_lab(directory: Path) -> Iterator[RotationLab]:
    """Start the daemons.

    Args:
        directory: For the files of daemons and devices.
    """
    places = {name: directory / name for name in ("knot", "second", "unbound", "mosquitto", "devices")}
    for place in places.values():
        place.mkdir()
    key = run_tool("keymgr", "-t", _KEY_NAME, "hmac-sha256")
    key_file = directory / "update.key"
    key_file.touch(0o600)
    key_file.write_text(key)
    with (
        Knot(places["knot"], [Zone(ZONE, acls=["update"])], extra=key + _ACL) as knot,
        Knot(places["second"], [Zone(SECOND_ZONE, acls=["update"])], extra=key + _ACL) as second,
        Unbound(
            places["unbound"], {ZONE: knot.port, SECOND_ZONE: second.port}, [knot.ds(ZONE), second.ds(SECOND_ZONE)]
        ) as unbound,
        Mosquitto(places["mosquitto"]) as mosquitto,
    ):
        yield RotationLab(Lab(places["devices"], mosquitto, knot, unbound), second, key_file)


class Party:
    """A device whose receiver and resident sender run, and can be ended and started again.

    Args:
        device: The device.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self.refused: Counter[str] = Counter()
        self._printed: set[str] = set()
        self._receiver: Program | None = None
        self._sender: Program | None = None

    def __enter__(self) -> "Party":
        self.start_sender()
        self.start_receiver()
        return self

    def __exit__(self, *_: object) -> None:
        if self._sender is not None:
            self._sender.close()
        if self._receiver is not None:
            self.end_receiver(signal.SIGKILL)

    @property
    def receiver(self) -> Program:
        """The running receiver."""
        assert self._receiver is not None
        return self._receiver

    @property
    def printed(self) -> set[str]:
        """The texts that the receiver has printed, in all its lives."""
        return self._printed | _texts(self._receiver)

    def last_log_lines(self) -> list[str]:
        """Return the ends of the logs of the running programs."""
        programs = (self._receiver, self._sender)
        return [line for program in programs if program is not None for line in program.stderr[-10:]]

    def refusals(self) -> Counter[str]:
        """Return how many messages the receiver has refused, in all its lives, by reason."""
        return self.refused + _refusals(self._receiver)

    def start_receiver(self) -> None:
        """Start the receiver, and wait until it has subscribed."""
        self._receiver = self.device.start(RECEIVER)
        self._receiver.wait_for_log(SUBSCRIBED, timeout=60)

    def end_receiver(self, ending: signal.Signals) -> None:
        """End the receiver by a signal."""
        program, self._receiver = self._receiver, None
        assert program is not None
        _end(program, ending)
        self._printed |= _texts(program)
        self.refused += _refusals(program)

    def start_sender(self) -> None:
        """Start the resident sender."""
        self._sender = self.device.start(SENDER)

    def end_sender(self, ending: signal.Signals) -> None:
        """End the resident sender by a signal."""
        program, self._sender = self._sender, None
        assert program is not None
        _end(program, ending)


class Conversation:
    """Messages in both directions, all the time.

    Args:
        one: A party.
        other: Another one; it may take part in several conversations.
        pause: Seconds between two messages in one direction.
    """

    def __init__(self, one: Party, other: Party, pause: float = 0.25) -> None:
        self._pairs = ((one, other), (other, one))
        self._pause = pause
        self._stopping = threading.Event()
        self._sent: dict[Party, dict[str, float]] = {one: {}, other: {}}
        self._threads = [threading.Thread(target=self._talk, args=pair, daemon=True) for pair in self._pairs]

    def __enter__(self) -> "Conversation":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def sent(self, sender: Party) -> dict[str, float]:
        """Return what a party has put into its outbox so far, and when, in seconds since the epoch."""
        return dict(self._sent[sender])

    def finish(self) -> None:
        """Send nothing more, and wait until everything has arrived, or for as long as it can take."""
        self._stop()
        deadline = time.monotonic() + _DELIVERY_SECONDS
        while time.monotonic() < deadline and any(self.lost(sender) for sender, _ in self._pairs):
            time.sleep(0.2)

    def lost(self, sender: Party) -> list[str]:
        """Return what a party has sent and the other one has not printed."""
        recipient = dict(self._pairs)[sender]
        return sorted(self._sent[sender].keys() - recipient.printed)

    def _stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(_DELIVERY_SECONDS)

    def _talk(self, sender: Party, recipient: Party) -> None:
        sent = self._sent[sender]
        prefix = secrets.token_hex(4)
        with Outbox(Path(sender.device.settings["DATA_PATH"])) as outbox:
            start = time.monotonic()
            for number in itertools.count(1):
                # Not the pause after each message: the time that writing takes would lower the rate.
                if self._stopping.wait(max(0.0, start + number * self._pause - time.monotonic())):
                    return
                text = f"{prefix}-{number}"
                now = time.time()
                outbox.put(NewOutgoingMessage(recipient.device.name, text, text, int(now), None))
                sent[text] = now


class Rotator:
    """A device whose key is changed.

    Args:
        party: The device, whose settings may change meanwhile.
        lab: Where it is.
    """

    def __init__(self, party: Party, lab: RotationLab) -> None:
        self.party = party
        self.lab = lab
        self.begin()

    def begin(self) -> None:
        """Note the records that the device has before its next rotation, and their TTL."""
        records = self.lab.records(self.party.device)
        self.first_records, self.first_ttl = records.rdatas, records.ttl

    @property
    def device(self) -> Device:
        """The device."""
        return self.party.device

    @property
    def state(self) -> RotationState | None:
        """The state of its rotation."""
        path = self.device.crypto_path / f"{self.device.name}.rotation.json"
        try:
            return RotationState.from_json(path.read_bytes(), path)
        except FileNotFoundError:
            return None

    @property
    def stage(self) -> Stage | None:
        """The stage of its rotation."""
        state = self.state
        return None if state is None else state.stage

    def rotate(self, *arguments: str) -> Result:
        """Run rotate_id.py."""
        return self.device.run(ROTATE_ID, *arguments)

    def take(self, step: str) -> Result:
        """Take a step as soon as it is safe; before that it must be refused.

        Args:
            step: The word on the command line.
        """
        if self.seconds_until_safe() > 2:
            early = self.rotate(step)
            assert early.status == ExitStatus.TOO_EARLY, early
            assert "too early" in early.stderr
        self.wait_until_safe()
        result = self.rotate(step)
        assert result.status == 0, result
        return result

    def wait_until_safe(self) -> None:
        """Wait until the next step is safe."""
        while (seconds := self.seconds_until_safe()) > 0:
            time.sleep(seconds)

    def seconds_until_safe(self) -> float:
        """Return how long the next step has to wait; 0 if it is safe."""
        state = self.state
        assert state is not None
        waits = Waits(int(self.device.settings["ROTATE_TEST_SPEED"]))
        wait = {
            Stage.PUBLISHED: waits.until_switch(state.ttl),
            Stage.LOWERED: waits.until_known(state.ttl),
            Stage.SWITCHED: waits.until_withdrawal(),
            Stage.WITHDRAWN: waits.until_destruction(state.ttl),
        }.get(state.stage, 0.0)
        return max(0.0, wait - Instant.now().seconds_since(state.since))

    def assert_ttl_is_of_the_zone(self) -> None:
        """Assert that the rotation waits for the TTL that the zone had, which differs from the setting at first."""
        state = self.state
        assert state is None or state.ttl == self.first_ttl, f"{state.ttl} s instead of {self.first_ttl}"

    def assert_only_the_new_key_is_left(self) -> None:
        """Assert that the rotation is finished: the old record and the old private key are gone."""
        name = self.device.name
        files = {path.name for path in self.device.crypto_path.glob(f"{name}*.*") if path.suffix != ".lock"}
        assert files == {f"{name}.key.pem", f"{name}.crt.pem"}
        (only,) = self.lab.records(self.device).rdatas
        assert only == bytes((3, 0, 0)) + bytes.fromhex(self.device.tlsa_record().removeprefix("3 0 0 "))
        assert only not in self.first_records
        key = read_private_key(self.device.key_path)
        assert isinstance(key.native, _KINDS_OF_KEY[self.device.settings["KEY_TYPE"]])


def start_maintenance(device: Device) -> Program:
    """Start the resident maintenance service."""
    return device.start(MAINTENANCE)


def kill_check(service: Program) -> bool:
    """End the check that the maintenance service is running by SIGKILL; return whether there was one.

    Args:
        service: The service.
    """
    try:
        children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return bool(children)


def _end(program: Program, ending: signal.Signals) -> None:
    program.signal(ending)
    program.wait_for_end()
    program.close()


def _texts(program: Program | None) -> set[str]:
    if program is None:
        return set()
    return {json.loads(line).partition(" says: ")[2] for line in list(program.stdout)}


def _refusals(program: Program | None) -> Counter[str]:
    counter: Counter[str] = Counter()
    for line in [] if program is None else list(program.stderr):
        if found := _REFUSAL.search(line):
            counter[found[1]] += 1 + int(found[2] or 0)
    return counter
