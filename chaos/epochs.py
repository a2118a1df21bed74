"""What `make chaos` runs at the end: devices whose epoch keys live for seconds exchange messages while programs die.

Time passes 600 times as fast for the devices. Each creates an epoch key every four hours (24 s), and destroys it eight
hours after its successor was published. Receivers, senders and maintenance services are killed and restarted at random.
At the end, one receiver is away for longer than a key lives: what the broker has kept for it meanwhile is lost by the
rule that a destroyed key opens nothing, and is reported as such. The status is 1 if a message was lost in another way,
refused for another reason, or encrypted to an identity key, or if a private half has outlived its time.
"""

import argparse
import contextlib
import random
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab.interruption import raise_when_signalled
from testbed.epoch_devices import epoch_device, living_halves, maintained, turn_on
from testbed.rotation import Conversation, Party, kill_check, open_rotation_lab, start_maintenance
from testbed.shifted_clock import ShiftedClock

_SPEED: Final = 600
# Less than the 5 minutes by which the clock and the time since the system's start may differ.
_STEP_SECONDS: Final = 0.1
_HOUR: Final = 3600 / _SPEED
_LENGTH_HOURS: Final = 4
_RETENTION_HOURS: Final = 8
_SETTINGS: Final = {
    "EPOCH_LENGTH": f"{_LENGTH_HOURS}h",
    "EPOCH_RETENTION": f"{_RETENTION_HOURS}h",
    "REQUIRE_FORWARD_SECRECY": "all",
    "ROTATE_TEST_SPEED": str(_SPEED),
}
_TTL_SECONDS: Final = 6
_LIFE_SECONDS: Final = (_LENGTH_HOURS + _RETENTION_HOURS) * _HOUR
# The receiver destroys what is overdue every 10 seconds.
_DESTRUCTION_SECONDS: Final = 15.0
_AWAY_SECONDS: Final = _LIFE_SECONDS + _DESTRUCTION_SECONDS
_LONGEST_PAUSE_SECONDS: Final = 4.0
_GONE: Final = "epoch-gone"


class FastTime:
    """Lets time pass faster for the programs that use a clock, until the `with` statement ends.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: ShiftedClock) -> None:
        self._clock = clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "FastTime":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    def now(self) -> float:
        """Return what the clock shows, in seconds since the epoch."""
        return time.time() + self._clock.passed

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.wait(_STEP_SECONDS):
            now = time.monotonic()
            self._clock.let_pass((now - last) * (_SPEED - 1))
            last = now


class EpochDevice:
    """A device with epoch keys and its maintenance service, and what happens to them.

    Args:
        party: Receiver and sender of the device, which run.
        seed: Decides what happens.
    """

    def __init__(self, party: Party, seed: str) -> None:
        self.party = party
        self.events: Counter[str] = Counter()
        self._generator = random.Random(seed)
        self._maintained = maintained(party.device, _TTL_SECONDS)
        self._service = start_maintenance(self._maintained)

    def turn_on(self, clock: ShiftedClock) -> None:
        """Publish an epoch record and a marked certificate.

        Args:
            clock: The clock of the device.
        """
        turn_on(self._maintained, clock)

    def strike(self) -> None:
        """End one of the programs, and start it again."""
        ending = self._generator.choice([signal.SIGTERM, signal.SIGKILL])
        match self._generator.randrange(4):
            case 0:
                self.party.end_receiver(ending)
                self.party.start_receiver()
                self.events[f"receiver ended by {ending.name}"] += 1
            case 1:
                self.party.end_sender(ending)
                self.party.start_sender()
                self.events[f"sender ended by {ending.name}"] += 1
            case 2:
                self.close()
                self._service = start_maintenance(self._maintained)
                self.events["maintenance restarted"] += 1
            case _ if kill_check(self._service):
                self.events["publication killed"] += 1

    def stay_away(self) -> None:
        """End the receiver, and start it again once every key that senders know is destroyed."""
        self.party.end_receiver(signal.SIGTERM)
        time.sleep(_AWAY_SECONDS)
        self.party.start_receiver()
        self.events["receiver away for longer than a key lives"] += 1

    def overdue_halves(self, now: float) -> list[str]:
        """Return the ids of the private halves that should have been destroyed.

        Args:
            now: The time, in seconds since the epoch.
        """
        latest = now - _DESTRUCTION_SECONDS * _SPEED
        return [kept.half.key_id for kept in living_halves(self.party.device) if kept.half.until < latest]

    def close(self) -> None:
        """End the maintenance service."""
        self._service.stop()
        self._service.close()


def main() -> int:
    """Exchange messages for the given time, report, and return the exit status."""
    arguments = _read_arguments()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"epochs: seed {seed}, {arguments.seconds:g} s", file=sys.stderr, flush=True)
    raise_when_signalled()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="epochs-")))
        lab = stack.enter_context(open_rotation_lab(directory))
        place = directory / "clock"
        place.mkdir()
        clock = ShiftedClock(place)
        fast_time = stack.enter_context(FastTime(clock))
        one, other = (
            stack.enter_context(Party(epoch_device(lab, label, clock, **_SETTINGS))) for label in ("one", "other")
        )
        parties = [one, other]
        devices = [EpochDevice(party, f"{seed} {number}") for number, party in enumerate(parties)]
        for device in devices:
            stack.callback(device.close)
            device.turn_on(clock)
        conversation = stack.enter_context(Conversation(one, other, pause=1 / arguments.rate))
        end = time.monotonic() + arguments.seconds
        for device in _alternating(devices, end):
            device.strike()
        devices[0].stay_away()
        # Its retries have become rare meanwhile.
        other.end_sender(signal.SIGTERM)
        other.start_sender()
        conversation.finish()
        return _report(devices, conversation, fast_time.now(), f"epochs: seed {seed}: {arguments.seconds:g} s")


def _alternating(devices: list[EpochDevice], end: float) -> Iterator[EpochDevice]:
    """Yield the devices in turn, with pauses, until the time is over."""
    generator = random.Random(end)
    while True:
        for device in devices:
            time.sleep(generator.uniform(0, _LONGEST_PAUSE_SECONDS))
            if time.monotonic() >= end:
                return
            yield device


def _report(devices: list[EpochDevice], conversation: Conversation, now: float, title: str) -> int:
    parties = [device.party for device in devices]
    print(title)
    for name, number in sorted(sum((device.events for device in devices), Counter[str]()).items()):
        print(f"{number:6}  {name}")
    refused = sum((party.refusals() for party in parties), Counter[str]())
    sent = sum(len(conversation.sent(party)) for party in parties)
    lost = [text for party in parties for text in conversation.lost(party)]
    overdue = [key_id for device in devices for key_id in device.overdue_halves(now)]
    print(f"{sent:6}  messages sent")
    print(f"{refused.pop('replay', 0):6}  copies of printed messages, sent again by senders that were killed")
    by_rule = refused.pop(_GONE, 0)
    print(f"{by_rule:6}  refused, because their key was destroyed while the receiver was away")
    for reason, number in sorted(refused.items()):
        print(f"{number:6}  refused, {reason}")
    print(f"{len(lost):6}  lost, of which at most {by_rule} by that rule")
    print(f"{len(overdue):6}  private halves that have outlived their time")
    return 0 if len(lost) <= by_rule and by_rule and not refused and not overdue else 1


def _read_arguments() -> argparse.Namespace:
    command_line = argparse.ArgumentParser(prog="python -m chaos.epochs", description=__doc__)
    command_line.add_argument("--seconds", type=float, default=60, help="how long to kill programs (default: 60)")
    command_line.add_argument("--rate", type=float, default=5, help="messages a second each way (default: 5)")
    command_line.add_argument("--seed", type=int, help="of an earlier run, to let the same happen again")
    return command_line.parse_args()


if __name__ == "__main__":
    sys.exit(main())
