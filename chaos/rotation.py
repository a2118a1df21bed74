"""What `make rotation-soak` runs: devices that change their keys by themselves, months in minutes, under fire.

Two devices send each other messages all the time. The maintenance service of each changes its key, to another key type
each time. Meanwhile services, checks, receivers and senders are killed and restarted at random, and a receiver is away
for six days across the removal of its old record. The status is 1 if a message was lost, or refused for another reason
than that it arrived twice, or if an old key or an old record is left.
"""

import argparse
import contextlib
import os
import random
import secrets
import signal
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Final

from lab.interruption import raise_when_signalled
from messaging_maintenance.rotation.state import Stage
from testbed.programs import Program
from testbed.rotation import (
    TTL_SECONDS,
    Conversation,
    Party,
    RotationLab,
    Rotator,
    kill_check,
    open_rotation_lab,
    start_maintenance,
)

_DAY_SECONDS: Final = 24 * 3600
# A day takes 2.2 s, so that starting a program takes less of it than the two hours and a day that a rotation has to
# spare.
_SPEED: Final = 40_000
_ROTATE_EVERY_DAYS: Final = 45
_AWAY_SECONDS: Final = 6 * _DAY_SECONDS / _SPEED
_BEFORE_REMOVAL_SECONDS: Final = _DAY_SECONDS / _SPEED
_KEY_TYPES: Final = ("rsa2048", "p256")
_AWAY: Final = "receiver away for six days"
# With the wait for the next check, and while programs are killed and started.
_LONGEST_ROTATION_DAYS: Final = 90
# Of the records that the devices begin with; rotations have to wait for it, and use the setting afterwards.
_FIRST_TTL_SECONDS: Final = 4
_LONGEST_PAUSE_SECONDS: Final = 4.0
# Of a rotation that is under way when the time is over.
_PATIENCE_SECONDS: Final = 180.0


class Device:
    """A device with its maintenance service, and what happens to them.

    Args:
        party: Receiver and sender of the device.
        lab: Where it is.
        seconds: For how long keys are changed.
        seed: Decides what happens.
    """

    def __init__(self, party: Party, lab: RotationLab, seconds: float, seed: str) -> None:
        self.rotator = Rotator(party, lab)
        self.events: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.errors: list[str] = []
        self._party = party
        self._generator = random.Random(seed)
        self._end = time.monotonic() + seconds
        self._days = seconds * _SPEED / _DAY_SECONDS
        self._service: Program | None = None
        self._has_been_away = False

    @property
    def has_finished(self) -> bool:
        """Whether each rotation came to its end, to both types of key if there was time, with the receiver away."""
        number = self.events["rotations"]
        types = sum(self.events[f"rotations to {key_type}"] > 0 for key_type in _KEY_TYPES)
        return (
            self.failure is None
            and self.rotator.state is None
            and number >= max(1, int(self._days / _LONGEST_ROTATION_DAYS))
            and types == min(number, len(_KEY_TYPES))
            and self.events[_AWAY] == number
        )

    def run(self) -> None:
        """Let the key be changed, and disturb the programs, until the time is over and no rotation is under way."""
        try:
            self._change_to_the_other_type()
            deadline = self._end + _PATIENCE_SECONDS
            while time.monotonic() < self._end or (self.rotator.state is not None and time.monotonic() < deadline):
                self._follow()
            self._stop_service()
            self._count_rotation()
        except BaseException as error:  # noqa: BLE001  # reported by the main thread
            self.failure = error

    def _follow(self) -> None:
        """Follow one rotation for a moment."""
        state = self.rotator.state
        if state is None:
            if self._count_rotation():
                self._has_been_away = False
                self._change_to_the_other_type()
            time.sleep(0.5)
        elif state.stage is Stage.SWITCHED and not self._has_been_away:
            self.rotator.assert_ttl_is_of_the_zone()
            self._has_been_away = True
            time.sleep(max(0.0, self.rotator.seconds_until_safe() - _BEFORE_REMOVAL_SECONDS))
            self._party.end_receiver(signal.SIGTERM)
            time.sleep(_AWAY_SECONDS)
            self._party.start_receiver()
            self.events[_AWAY] += 1
        else:
            time.sleep(self._generator.uniform(0, _LONGEST_PAUSE_SECONDS))
            # Nothing else disturbs a receiver that has to catch up before the old key is destroyed.
            self._strike(may_end_receiver=state.stage is not Stage.WITHDRAWN)

    def _count_rotation(self) -> bool:
        """Count a rotation if one has ended, and check what it has left; return whether one has."""
        rotator = self.rotator
        has_ended = rotator.state is None and rotator.lab.records(rotator.device).rdatas != rotator.first_records
        if has_ended:
            rotator.assert_only_the_new_key_is_left()
            self.events["rotations"] += 1
            self.events[f"rotations to {rotator.device.settings['KEY_TYPE']}"] += 1
        return has_ended

    def _strike(self, *, may_end_receiver: bool) -> None:
        ending = self._generator.choice([signal.SIGTERM, signal.SIGKILL])
        match self._generator.randrange(6):
            case 0 if may_end_receiver:
                self._party.end_receiver(ending)
                self._party.start_receiver()
                self.events[f"receiver ended by {ending.name}"] += 1
            case 1:
                self._party.end_sender(ending)
                self._party.start_sender()
                self.events[f"sender ended by {ending.name}"] += 1
            case 2:
                self._stop_service()
                self._service = start_maintenance(self.rotator.device)
                self.events["maintenance restarted"] += 1
            case _ if self._service is not None and kill_check(self._service):
                stage = self.rotator.stage
                self.events[f"check killed at the stage {stage}"] += 1

    def _change_to_the_other_type(self) -> None:
        """Restart the service so that it changes the key to the other type, at once."""
        self._stop_service()
        self.rotator.begin()
        device = self.rotator.device
        is_first = device.settings["KEY_TYPE"] == _KEY_TYPES[0]
        self._party.device = device.with_settings(
            KEY_TYPE=_KEY_TYPES[is_first],
            ROTATE_EVERY=f"{_ROTATE_EVERY_DAYS}d",
            ROTATE_TEST_SPEED=str(_SPEED),
            TLSA_TTL=str(TTL_SECONDS),
        )
        if not self.events["rotations"]:
            old = time.time() - _ROTATE_EVERY_DAYS * _DAY_SECONDS
            os.utime(device.key_path, (old, old))
        self._service = start_maintenance(self.rotator.device)

    def _stop_service(self) -> None:
        service, self._service = self._service, None
        if service is not None:
            service.stop()
            self.errors += [line for line in service.stderr if "Identity check failed" in line]
            service.close()


def main() -> int:
    """Change keys for the given time, report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    days = arguments.minutes * 60 * _SPEED / _DAY_SECONDS
    print(f"seed {seed}, {arguments.minutes:g} minutes, {days:.0f} days", file=sys.stderr, flush=True)
    raise_when_signalled()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rotation-")))
        lab = stack.enter_context(open_rotation_lab(directory))
        one, other = (
            stack.enter_context(Party(lab.published(label, KEY_TYPE=key_type, TLSA_TTL=str(_FIRST_TTL_SECONDS))))
            for label, key_type in zip(("one", "other"), _KEY_TYPES, strict=True)
        )
        parties = [one, other]
        conversation = stack.enter_context(Conversation(one, other, pause=1 / arguments.rate))
        devices = [
            Device(party, lab, arguments.minutes * 60, f"{seed} {number}") for number, party in enumerate(parties)
        ]
        # Its threads live on until the end: a program ends with the thread that has started it.
        pool = stack.enter_context(ThreadPoolExecutor(len(devices)))
        wait([pool.submit(device.run) for device in devices])
        conversation.finish()
        return _report(devices, parties, conversation, f"seed {seed}: {arguments.minutes:g} minutes, {days:.0f} days")


def _report(devices: list[Device], parties: list[Party], conversation: Conversation, title: str) -> int:
    print(f"{title}, TTL first {_FIRST_TTL_SECONDS} s, then {TTL_SECONDS} s")
    events = sum((device.events for device in devices), Counter[str]())
    refused = sum((party.refusals() for party in parties), Counter[str]())
    for name, number in sorted(events.items()):
        print(f"{number:6}  {name}")
    for device in devices:
        for line in device.errors:
            print(f"        {line}")
        if device.failure is not None:
            print(f"        {device.rotator.device.name}: {device.failure!r}")
    sent = sum(len(conversation.sent(party)) for party in parties)
    lost = [text for party in parties for text in conversation.lost(party)]
    print(f"{sent:6}  messages sent")
    # If nothing is lost, a message that was refused as a replay was printed before or afterwards.
    print(f"{refused.pop('replay', 0):6}  copies of printed messages, sent again by senders that were killed")
    for reason, number in sorted(refused.items()):
        print(f"{number:6}  refused, {reason}")
    print(f"{len(lost):6}  lost{': ' if lost else ''}{' '.join(lost[:20])}")
    if lost:
        for party in parties:
            print(*party.last_log_lines(), sep="\n")
    return 0 if all(device.has_finished for device in devices) and not lost and not refused else 1


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos.rotation", description=__doc__)
    command_line.add_argument("--minutes", type=float, default=13, help="13 (the default) are a year")
    command_line.add_argument("--rate", type=float, default=20, help="messages a second each way (default: 20)")
    command_line.add_argument("--seed", type=int, help="of an earlier run, to let the same happen again")
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
