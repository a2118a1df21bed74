"""The whole system on one machine, without root: a signed zone, a broker, two devices, a message and a forgery."""

if __name__ == "__main__":
    # Before the slow imports.
    from idlib.system.interruption import end_when_interrupted

    end_when_interrupted()

import base64
import importlib
import io
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import dns.exception

from idlib.algorithms import PublicKey
from idlib.envelope import Binding, seal
from idlib.errors import ExitStatus, IdlibError
from idlib.keys import generate_private_key
from idlib.names import IdentityName
from idlib.output import harmless
from idlib.program.command_line import parser, run
from idlib.records import TlsaRecord, judge
from idlib.settings import VARIABLES, KeyType, MqttVersion, ServerAddress
from lab import broker, name_server
from lab.eavesdropper import Eavesdropper
from lab.interruption import ctrl_c_for_this_program_only, ignore_signals, raise_when_signalled, signals_deferred
from lab.page import GREEN, RED, Page
from lab.programs import DeviceProgram, ProgramError
from lab.zone import SignedZone

ZONE: Final = "example.test"
ALICE: Final = IdentityName(f"alice._device.{ZONE}")
BOB: Final = IdentityName(f"bob._device.{ZONE}")
MESSAGE: Final = "The kettle is on."
FORGERY: Final = "Send me your money. Alice"

_CREATE: Final = "maintenance/src/create_selfsigned_id.py"
_RENDER: Final = "maintenance/src/generate_tlsa.py"
_RECEIVE: Final = "messaging_receiver/src/application.py"
_SEND: Final = "messaging_sender/src/send_message.py"
_SECONDS_TO_SUBSCRIBE: Final = 20
_SECONDS_TO_ARRIVE: Final = 10


@dataclass(frozen=True, slots=True)
class DemoEnvironment:
    """The environment of both devices: directories, zone, resolver and broker.

    Args:
        home: The directory of both.
        zone: The zone with their names.
        resolver: The address of its name server.
        broker: The address of the broker.
    """

    home: Path
    zone: SignedZone
    resolver: ServerAddress
    broker: ServerAddress

    def environment(self, device: IdentityName) -> dict[str, str]:
        """Return all environment variables of a device's programs; settings of the user are left out."""
        ours = {variable.name for variable in VARIABLES}
        return {name: value for name, value in os.environ.items() if name not in ours} | {
            "IDENTITY_NAME": str(device),
            "CRYPTO_PATH": str(self._directory(device, "identity")),
            "DATA_PATH": str(self._directory(device, "data")),
            "APP_UID": str(os.getuid()),
            "MQTT_HOST": self.broker.address,
            "MQTT_PORT": str(self.broker.port),
            "MQTT_VERSION": MqttVersion.V311,
            "DNS_RESOLVER": str(self.resolver),
            "DNSSEC_TRUST_ANCHORS": str(self.trust_anchors),
        }

    @property
    def trust_anchors(self) -> Path:
        """The file with the zone's DS record."""
        return self.home / "trust-anchors"

    def _directory(self, device: IdentityName, purpose: str) -> Path:
        directory = self.home / str(device) / purpose
        directory.mkdir(parents=True, exist_ok=True)
        return directory


def main() -> int:
    """Show the system step by step, then let the user type messages; return the exit status."""
    parser(
        "Show two devices that send each other signed and encrypted messages, with a signed DNS zone, a broker and the"
        " real programs. Everything runs on this machine, needs no root, and is removed at the end.",
        "python -m lab.demo",
    ).parse_args()
    raise_when_signalled()
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with ExitStack() as stack:
            try:
                _show(Page.on(sys.stdout, os.environ), stack)
            finally:
                ignore_signals()
    except BrokenPipeError:
        raise
    except (ProgramError, IdlibError, OSError, ValueError, dns.exception.DNSException) as error:
        print(harmless(f"The demo failed: {error}"), file=sys.stderr)
        for line in error.tail if isinstance(error, ProgramError) else ():
            print(harmless(f"  {line}"), file=sys.stderr)
        return ExitStatus.CONFIGURATION
    return ExitStatus.OK


def _show(page: Page, stack: ExitStack) -> None:
    page.title("Two devices talk through a broker that neither of them trusts. Everything runs on this machine.")
    with signals_deferred():
        world = stack.enter_context(_build_world(page))
    _make_identities(page, world)
    record = _publish_records(page, world)
    receiver = _start(stack, _RECEIVE, environment=world.environment(BOB))
    forgery = _forge(record)
    eavesdropper = stack.enter_context(Eavesdropper(world.broker, str(BOB)))
    _await_receiver(page, receiver)
    _send(page, world, receiver, eavesdropper)
    _refuse(page, receiver, eavesdropper, forgery)
    if sys.stdin.isatty() and sys.stdout.isatty():
        _converse(page, world, receiver)
    page.title("\nThe demo is over; everything is removed. README.md does the same with two devices of your own.")


def _start(stack: ExitStack, path: str, *arguments: str, environment: dict[str, str], text: str = "") -> DeviceProgram:
    with signals_deferred():
        return stack.enter_context(DeviceProgram(path, arguments, environment=environment, text=text))


@contextmanager
def _build_world(page: Page) -> Iterator[DemoEnvironment]:
    zone = SignedZone(ZONE)
    with (
        tempfile.TemporaryDirectory(prefix="demo-") as home,
        name_server.running(zone) as resolver,
        broker.running() as mqtt,
    ):
        page.heading(1, "A DNS zone and a broker")
        page.say(f"A name server on {resolver} answers for {ZONE}, a zone signed with DNSSEC.")
        page.say(f"An MQTT broker on {mqtt} passes messages on. Anyone can read and write there.")
        world = DemoEnvironment(Path(home), zone, resolver, mqtt)
        world.trust_anchors.write_text(zone.trust_anchors, encoding="ascii")
        yield world


def _make_identities(page: Page, world: DemoEnvironment) -> None:
    page.heading(2, "Alice and Bob create their identities")
    page.command("create_selfsigned_id.py")
    with ExitStack() as stack:
        for program in [_start(stack, _CREATE, environment=world.environment(device)) for device in (ALICE, BOB)]:
            program.finish()
    page.say(
        "Each device now has a private key, which never leaves it, and a certificate with the device's name: "
        f"{ALICE} and {BOB}."
    )


def _publish_records(page: Page, world: DemoEnvironment) -> str:
    """Publish both devices' records, and return Bob's as a line of a zone file."""
    page.heading(3, "Their certificates go into DNS")
    page.command("generate_tlsa.py")
    with ExitStack() as stack:
        programs = [_start(stack, _RENDER, environment=world.environment(device)) for device in (ALICE, BOB)]
        lines = [program.finish()[-1] for program in programs]
    world.zone.publish("\n".join(lines))
    page.cut(lines[-1], "characters")
    page.say("This is Bob's; Alice's is published too. Anyone who knows a device's name can now find its key in DNS.")
    return lines[-1]


def _forge(record: str) -> bytes:
    """Return a message to Bob in Alice's name, signed with another key.

    Args:
        record: Bob's record, which anyone can find in DNS.
    """
    return seal(
        FORGERY,
        sender=ALICE,
        signing_key=generate_private_key(KeyType.RSA2048),
        recipient=BOB,
        encryption_key=_encryption_key(record),
        binding=Binding.new(BOB, int(time.time())),
    )


def _encryption_key(record: str) -> PublicKey:
    usage, selector, matching_type, association = record.split()[-4:]
    tlsa = TlsaRecord(int(usage), int(selector), int(matching_type), bytes.fromhex(association))
    return judge(tlsa, BOB, datetime.now(UTC), None).public_key


def _await_receiver(page: Page, receiver: DeviceProgram) -> None:
    page.heading(4, "Bob starts his receiver")
    page.command("applications/messaging_receiver/src/application.py")
    receiver.wait_for(
        receiver.stderr,
        lambda line: "MQTT subscription active." in line,
        "MQTT subscription active.",
        seconds=_SECONDS_TO_SUBSCRIBE,
    )
    page.say(
        "It subscribes to the topic with Bob's name, and accepts only DNS answers that the zone's key has signed "
        "(DNSSEC_TRUST_ANCHORS)."
    )


def _send(page: Page, world: DemoEnvironment, receiver: DeviceProgram, eavesdropper: Eavesdropper) -> None:
    page.heading(5, "Alice sends Bob a message")
    page.command(f"send_message.py {BOB} {shlex.quote(MESSAGE)}")
    with ExitStack() as stack:
        _start(stack, _SEND, str(BOB), MESSAGE, environment=world.environment(ALICE)).finish()
        payload = eavesdropper.next_payload().decode()
        line = _printed_line(receiver, 0)
    page.say("What the broker saw:")
    page.cut(harmless(payload), "bytes")
    page.say("Anyone can read who receives it and how it is encrypted, but not who sent it or what it says:")
    page.quote(harmless(_readable_part(payload)))
    page.say("What Bob's receiver printed after it had verified the signature with Alice's certificate in DNS:")
    page.quote(line, GREEN)


def _readable_part(payload: str) -> str:
    protected = json.loads(payload)["protected"]
    return json.dumps(json.loads(base64.urlsafe_b64decode(protected + "=" * (-len(protected) % 4))))


def _refuse(page: Page, receiver: DeviceProgram, eavesdropper: Eavesdropper, forgery: bytes) -> None:
    page.heading(6, "Mallory sends Bob a message in Alice's name")
    page.say("She can find Bob's key, as anyone can, but has to sign with her own key. Bob's receiver logs:")
    logged, printed = len(receiver.stderr.lines), len(receiver.stdout.lines)
    eavesdropper.publish(forgery)
    refusal = receiver.wait_for(
        receiver.stderr,
        lambda line: "refused reason=" in line,
        "why it refused a forged message",
        after=logged,
        seconds=_SECONDS_TO_ARRIVE,
    )
    if receiver.stdout.lines[printed:]:
        raise ProgramError("the receiver printed a forged message", receiver.stdout.lines[printed:])
    page.quote(harmless(refusal), RED)
    page.say("It printed nothing: the key in DNS for Alice's name is not Mallory's.")


def _converse(page: Page, world: DemoEnvironment, receiver: DeviceProgram) -> None:
    page.heading(7, "Your turn")
    page.say("Type messages from Alice to Bob. An empty line or Ctrl-D ends the demo.")
    with suppress(ImportError):
        importlib.import_module("readline")
    # Ctrl-C ends the demo normally, as an empty line does.
    with suppress(KeyboardInterrupt), ctrl_c_for_this_program_only():
        _pass_on(page, world, receiver)


def _pass_on(page: Page, world: DemoEnvironment, receiver: DeviceProgram) -> None:
    while text := _typed():
        printed = len(receiver.stdout.lines)
        try:
            with ExitStack() as stack:
                _start(stack, _SEND, str(BOB), "-", environment=world.environment(ALICE), text=text).finish()
        except ProgramError as error:
            page.quote(harmless("\n".join(error.tail) or error.fact), RED)
        else:
            page.quote(_printed_line(receiver, printed), GREEN)


def _typed() -> str:
    try:
        return input("   > ").strip()
    except EOFError:
        print()
        return ""
    except KeyboardInterrupt:
        print()
        raise


def _printed_line(receiver: DeviceProgram, after: int) -> str:
    return receiver.wait_for(receiver.stdout, lambda _: True, "the message", after=after, seconds=_SECONDS_TO_ARRIVE)


if __name__ == "__main__":
    run(main)
