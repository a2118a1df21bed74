"""Devices change their keys while messages travel in both directions, through the faults that a rotation must survive.

Most of a rotation is waiting, so all of them run side by side, in threads; each test takes the outcome of one.
"""

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from idlib.errors import ExitStatus
from idlib.keys import read_private_key
from idlib.publishing.change import present
from messaging_maintenance.rotation.state import Stage
from testbed.lab import wait_until
from testbed.programs import MAINTENANCE, PUBLISH_TLSA, ROOT, ROTATE_ID, Device
from testbed.rotation import (
    SECOND_ZONE,
    SPEED,
    TTL_SECONDS,
    ZONE,
    Conversation,
    Party,
    RotationLab,
    Rotator,
    kill_check,
    open_rotation_lab,
    start_maintenance,
)

# On a busy machine, starting all programs takes long.
pytestmark = pytest.mark.timeout(300)

# Beyond its TTL, a record stays in the memory of a program for 5 seconds; a message may wait in a queue besides.
CACHED_SECONDS: Final = TTL_SECONDS + 5 + 2
KILLED_AT: Final = ROOT / "testbed/killed_at.py"
DAY_SECONDS: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Shared:
    """What all scenarios share.

    Args:
        lab: The daemons.
        friend: A device that every rotating device talks to; it is never disturbed.
    """

    lab: RotationLab
    friend: Party


class Scenario:
    """A rotating device that talks with the friend.

    Args:
        shared: What it shares with others.
        label: The first part of the device's name.
        zone: The zone of its name.
        settings: Environment variables of its programs that differ from the usual.
    """

    def __init__(self, shared: Shared, label: str, zone: str = ZONE, **settings: str) -> None:
        self._stack = ExitStack()
        self.lab = shared.lab
        self.friend = shared.friend
        self.party = self._stack.enter_context(Party(shared.lab.published(label, zone, **settings)))
        self.rotator = Rotator(self.party, shared.lab)
        self.conversation = self._stack.enter_context(Conversation(self.party, shared.friend, pause=0.4))

    def __enter__(self) -> "Scenario":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def device(self) -> Device:
        return self.party.device

    @property
    def key_type(self) -> str:
        return read_private_key(self.device.key_path).public.algorithms.key_kind

    def set(self, **settings: str) -> None:
        """Give programs that are started from now on other settings."""
        self.party.device = self.party.device.with_settings(**settings)

    def unset(self, name: str) -> None:
        self.party.device = self.party.device.without_setting(name)

    def assert_nothing_was_lost(self, *excused: str) -> None:
        """Assert that every message was printed, and none was refused except for the given reasons."""
        self.conversation.finish()
        for sender, recipient in ((self.party, self.friend), (self.friend, self.party)):
            assert len(self.conversation.sent(sender)) > 20
            assert self.conversation.lost(sender) == [], f"lost on the way to {recipient.device.name}"
        assert set(self.party.refusals()) <= set(excused), self.party.refusals()
        assert self.refused_by_friend(excused) == []

    def refused_by_friend(self, excused: tuple[str, ...] = ()) -> list[str]:
        """Return the friend's log lines on refused messages of this device."""
        receiver = self.friend.receiver
        lines = [line for line in list(receiver.stderr) if "refused reason=" in line and self.device.name in line]
        return [line for line in lines if not any(f"reason={reason} " in line for reason in excused)]

    def assert_only_stated_loss(self, since: float, until: float) -> None:
        """Assert that only messages of the device were refused, and only those that recipients could not verify.

        Args:
            since: Messages sent before, in seconds since the epoch, must have arrived.
            until: Messages sent after must have arrived.
        """
        self.conversation.finish()
        assert self.conversation.lost(self.friend) == []
        assert self.party.refusals() == Counter()
        sent = self.conversation.sent(self.party)
        lost = self.conversation.lost(self.party)
        assert [text for text in lost if not since <= sent[text] <= until] == []
        assert self.refused_by_friend(("signature-invalid",)) == []
        assert any(at > until for at in sent.values()), "nothing was sent afterwards"


def step_by_step(shared: Shared) -> None:
    """Take each step by the command line, to another key type; the receiver is away for six days across one."""
    with Scenario(shared, "steps", TLSA_TTL="5") as scenario:
        rotator = scenario.rotator
        scenario.set(KEY_TYPE="p256", TLSA_TTL=str(TTL_SECONDS))
        started = rotator.rotate("start")
        assert started.status == 0, started
        state = rotator.state
        assert state is not None
        # Caches may hold the old set for as long as the zone said, whatever the setting says now.
        assert (state.stage, state.ttl) == (Stage.PUBLISHED, 5)
        assert scenario.lab.records(scenario.device).ttl == TTL_SECONDS
        shown = rotator.rotate("status")
        (line,) = re.findall(rf"^ns\.rotation\.test \(.*\): .*; TTL {TTL_SECONDS} s$", shown.stdout, re.MULTILINE)
        assert sorted(re.findall(r"(\w+) \(3 0 0 ", line)) == ["current", "next"]
        # On a slow machine, the time has passed.
        expected = r"Stage: published \(overlap\)\.\nNext: switch, to sign with the new key(; safe from 20.* UTC)?\.\n"
        assert re.match(expected, shown.stdout)
        assert rotator.rotate("finish").status not in (0, ExitStatus.TOO_EARLY)
        rotator.take("switch")
        assert scenario.key_type == "EC P-256"
        rotator.wait_until_safe()
        scenario.party.end_receiver(signal.SIGTERM)
        rotator.take("finish")
        time.sleep(6 * DAY_SECONDS / SPEED)
        scenario.party.start_receiver()
        time.sleep(2)
        rotator.take("finish")
        shown = rotator.rotate("status")
        assert "No rotation is under way." in shown.stdout
        assert "current (3 0 0 " in shown.stdout
        scenario.assert_nothing_was_lost()
        rotator.assert_only_the_new_key_is_left()


def unattended(shared: Shared) -> None:
    """Let the maintenance service do it, while it, its checks, the receiver and the sender are ended at random."""
    generator = random.Random("unattended")
    with Scenario(shared, "unattended", KEY_TYPE="p256") as scenario:
        hooks = scenario.device.crypto_path.parent / "hooks"
        scenario.set(
            KEY_TYPE="rsa2048",
            ROTATE_EVERY="20d",
            ROTATE_HOOK=f'echo "$ROTATE_STEP" >> {hooks}',
        )
        # The key is old enough to be changed.
        old = time.time() - 30 * DAY_SECONDS
        os.utime(scenario.device.key_path, (old, old))

        def steps() -> list[str]:
            return hooks.read_text().split() if hooks.exists() else []

        def restart_receiver() -> None:
            scenario.party.end_receiver(generator.choice([signal.SIGTERM, signal.SIGKILL]))
            scenario.party.start_receiver()

        def restart_sender() -> None:
            scenario.party.end_sender(generator.choice([signal.SIGTERM, signal.SIGKILL]))
            scenario.party.start_sender()

        service = start_maintenance(scenario.device)
        deadline = time.monotonic() + 200
        kills = 0
        try:
            while (
                scenario.rotator.state is not None
                or scenario.rotator.first_records == scenario.lab.records(scenario.device).rdatas
            ):
                assert time.monotonic() < deadline, (steps(), service.stderr[-10:])
                time.sleep(generator.uniform(0.3, 2.5))
                match generator.randrange(5):
                    case 0:
                        restart_receiver()
                    case 1:
                        restart_sender()
                    case 2:
                        service.close()
                        service = start_maintenance(scenario.device)
                    case _:
                        kills += kill_check(service)
            service.stop()
        finally:
            service.close()
        assert kills
        assert scenario.key_type == "RSA"
        # A hook is not run if its check was killed after the step; no step is taken twice.
        assert list(dict.fromkeys(steps())) == sorted(set(steps()), key=["start", "switch", "finish"].index)
        scenario.assert_nothing_was_lost("replay")
        scenario.rotator.assert_only_the_new_key_is_left()


def killed(shared: Shared) -> None:
    """Kill the program just before each of its changes to the disk and to DNS, at every stage."""
    with Scenario(shared, "killed") as scenario, scenario.device.start(KILLED_AT, str(ROTATE_ID)) as killer:
        rotator = scenario.rotator
        tried: Counter[tuple[object, ...]] = Counter()

        def outcome(step: str) -> int:
            """Run a step; it is killed one change later each time that it is in the same situation."""
            files = sorted(path.name for path in scenario.device.crypto_path.iterdir() if path.name[0] != ".")
            situation = (rotator.stage, *files)
            tried[situation] += 1
            ended = len(killer.stdout)
            killer.write(f"{tried[situation]} {step}\n")
            killer.wait_for("end", lambda: len(killer.stdout) > ended, timeout=60)
            status = int(killer.stdout[-1])
            assert status in (0, -signal.SIGKILL), (situation, step, status, killer.stderr[-5:])
            return status

        kills = 0
        for step in ("start", "switch", "finish", "finish"):
            if step != "start":
                rotator.wait_until_safe()
            while outcome(step):
                kills += 1
        assert rotator.state is None
        assert kills > 20
        scenario.assert_nothing_was_lost()
        rotator.assert_only_the_new_key_is_left()


def single(shared: Shared) -> None:
    """Replace the only record, for peers that cannot read two."""
    with Scenario(shared, "single") as scenario:
        rotator = scenario.rotator
        numbers = set()

        def look() -> None:
            numbers.add(len(scenario.lab.records(scenario.device).rdatas))

        started = rotator.rotate("start", "--single")
        assert started.status == 0, started
        assert "messages that were sent before the switch and are read after it are refused" in started.stderr
        look()
        rotator.wait_until_safe()
        before = time.time()
        command = scenario.device.command(ROTATE_ID, "switch")
        with subprocess.Popen(command, env=scenario.device.environment(), stderr=subprocess.PIPE) as switching:
            while switching.poll() is None:
                look()
            assert switching.stderr is not None
            assert switching.returncode == 0, switching.stderr.read()
        after = time.time()
        look()
        # Never none, and never two.
        assert numbers == {1}
        rotator.take("finish")
        scenario.assert_only_stated_loss(before - 2, after + CACHED_SECONDS)
        rotator.assert_only_the_new_key_is_left()


def compromised(shared: Shared) -> None:
    """Replace a stolen key at once; a record that the thief may have added goes, too."""
    with Scenario(shared, "compromised") as scenario:
        rotator = scenario.rotator
        scenario.lab.lab.knot.add_tlsa(scenario.device.name, f"3 1 1 {'00' * 32}", TTL_SECONDS)
        time.sleep(CACHED_SECONDS)
        before = time.time()
        started = rotator.rotate("start", "--compromised")
        after = time.time()
        assert started.status == 0, started
        assert "recipients that still have it refuse what this device sends (signature-invalid)" in started.stderr
        (only,) = scenario.lab.records(scenario.device).rdatas
        assert only not in rotator.first_records
        assert rotator.stage is Stage.WITHDRAWN
        time.sleep(CACHED_SECONDS)
        rotator.take("finish")
        scenario.assert_only_stated_loss(before - 2, after + CACHED_SECONDS)
        rotator.assert_only_the_new_key_is_left()


def vanished_record(shared: Shared) -> None:
    """Let someone remove the record: it is reported, and restored only if that is wanted."""
    device = shared.lab.published("vanished")
    knot = shared.lab.lab.knot
    knot.remove_tlsa(device.name)
    with start_maintenance(device) as service:
        service.wait_for_log("Identity check failed: a record of the device's key is not in DNS", timeout=60)
        service.wait_for_log(f"publish it with {PUBLISH_TLSA}, or set RESTORE_RECORD=on")
        assert shared.lab.records(device).rdatas == ()
        health = device.run(MAINTENANCE, "--health")
        assert health.status != 0
        assert health.stdout.startswith("a record of the device's key is not in DNS")
        service.stop()
    with start_maintenance(device.with_settings(RESTORE_RECORD="on")) as service:
        service.wait_for_log(f"Record restored: DNS did not have every record of {device.name}", timeout=60)
        service.wait_for_log("Identity check succeeded again", timeout=60)
        assert [present(rdata) for rdata in shared.lab.records(device).rdatas] == [device.tlsa_record()]
        assert device.run(MAINTENANCE, "--health").stdout.startswith("ok: ")
        service.stop()


def vanished_next_record(shared: Shared) -> None:
    """Let someone remove the next key's record between two steps: the switch has to wait for it once more."""
    with Scenario(shared, "next") as scenario:
        rotator, knot = scenario.rotator, scenario.lab.lab.knot
        assert rotator.rotate("start").status == 0
        state = rotator.state
        assert state is not None
        assert state.new is not None
        rotator.wait_until_safe()
        knot.remove_tlsa(scenario.device.name, present(state.new))
        # Without leave to restore it, the service only reports it.
        scenario.set(ROTATE_EVERY="1d")
        with start_maintenance(scenario.device) as service:
            service.wait_for_log("Identity check failed: a record of the device's key is not in DNS", timeout=60)
            service.stop()
        assert rotator.stage is Stage.PUBLISHED
        assert scenario.lab.records(scenario.device).rdatas == rotator.first_records
        early = rotator.rotate("switch")
        assert early.status == ExitStatus.TOO_EARLY, early
        assert "the record of the next key had vanished from DNS; it was published again" in early.stderr
        assert len(scenario.lab.records(scenario.device).rdatas) == 2
        for step in ("switch", "finish", "finish"):
            rotator.take(step)
        scenario.assert_nothing_was_lost()
        rotator.assert_only_the_new_key_is_left()


def outage(shared: Shared) -> None:
    """Cut the zone's only server off while a step is taken; the step is completed when it is back."""
    with Scenario(shared, "outage", SECOND_ZONE) as scenario:
        rotator, second = scenario.rotator, scenario.lab.second
        with scenario.device.start(ROTATE_ID, "start") as starting:
            starting.wait_for_log("until the receiver has read the next key", timeout=60)
            second.cut_off()
            assert starting.wait_for_end(60) == ExitStatus.PUBLISHING, starting.stderr
        _complete(scenario, "start", Stage.PREPARED)
        rotator.take("switch")
        rotator.wait_until_safe()
        second.cut_off()
        failed = rotator.rotate("finish")
        assert failed.status == ExitStatus.PUBLISHING, failed
        _complete(scenario, "finish", Stage.SWITCHED)
        rotator.take("finish")
        scenario.assert_nothing_was_lost()
        rotator.assert_only_the_new_key_is_left()


def _complete(scenario: Scenario, step: str, stage: Stage) -> None:
    """Complete a step during which the name server was cut off, once it is back and the resolver knows that."""
    assert scenario.rotator.stage is stage
    scenario.lab.second.reconnect()
    wait_until(lambda: scenario.rotator.rotate(step).status == 0, f"success of {step}", timeout=60)


def by_hand(shared: Shared) -> None:
    """Enter each change at the name server by hand, as the program asks for it."""
    with Scenario(shared, "hand") as scenario:
        rotator, knot = scenario.rotator, scenario.lab.lab.knot
        scenario.unset("DNS_PUBLISH")

        def enter(step: str) -> None:
            asked = rotator.rotate(step)
            assert asked.status == ExitStatus.PUBLISHING, asked
            assert "must be changed by hand, because DNS_PUBLISH is not set" in asked.stderr
            changes = asked.stdout.splitlines()
            assert changes
            for line in changes:
                change = re.fullmatch(rf"(add|remove) +{re.escape(scenario.device.name)}\. (\d+ )?IN TLSA (.*)", line)
                assert change, line
                if change[1] == "add":
                    knot.add_tlsa(scenario.device.name, change[3], int(change[2]))
                else:
                    knot.remove_tlsa(scenario.device.name, change[3])
            done = rotator.rotate(step)
            assert done.status == 0, done

        enter("start")
        rotator.take("switch")
        rotator.wait_until_safe()
        enter("finish")
        rotator.take("finish")
        scenario.assert_nothing_was_lost()
        rotator.assert_only_the_new_key_is_left()


SCENARIOS: Final[tuple[Callable[[Shared], None], ...]] = (
    killed,
    outage,
    unattended,
    step_by_step,
    compromised,
    vanished_next_record,
    by_hand,
    single,
    vanished_record,
)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[None]"]]:
    """Run the scenarios of the selected tests side by side, and yield the outcome of each."""
    names = " ".join(item.name for item in request.session.items)
    wanted = [scenario for scenario in SCENARIOS if f"[{scenario.__name__}]" in names]
    with ExitStack() as stack:
        lab = stack.enter_context(open_rotation_lab(tmp_path_factory.mktemp("rotation", numbered=False)))
        friend = stack.enter_context(Party(lab.published("friend")))
        pool = stack.enter_context(ThreadPoolExecutor(len(wanted)))
        yield {scenario.__name__: pool.submit(scenario, Shared(lab, friend)) for scenario in wanted}


@pytest.mark.parametrize("scenario", [scenario.__name__ for scenario in SCENARIOS])
def test_a_key_is_changed_without_loss_beyond_what_was_stated(
    scenario: str, outcomes: dict[str, "Future[None]"]
) -> None:
    outcomes[scenario].result()
