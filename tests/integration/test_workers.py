"""The receiver's worker processes: killed, stopped, given another key, and left without a parent."""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from idlib.envelope import Binding, seal
from idlib.errors import ExitStatus
from idlib.keys import previous_key_paths, read_private_key
from idlib.names import IdentityName
from testbed.lab import Lab, wait_until
from testbed.messages import BrokerClient
from testbed.programs import CREATE_SELFSIGNED_ID, RECEIVER, ROOT, SUBSCRIBED, Device, Program, descendants

FRAGILE: Final = ROOT / "tests/integration/fragile_receiver.py"
# The receiver checks its key files every 3 s; a worker without work follows within 10 s.
KEY_SECONDS: Final = 20
GROUP: Final = 32
CHOICES = random.Random(7)


def is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_workers(receiver: Program, number: int) -> list[int]:
    """Return the receiver's processes once it has so many workers: the one that starts them, and then the workers."""
    wait_until(lambda: len(descendants(receiver.pid)) == number + (number > 0), f"{number} workers")
    return descendants(receiver.pid)


def lines_of(program: Program) -> list[str]:
    """Return the lines that it has printed."""
    return [json.loads(line) for line in program.stdout]


class Crowd:
    """Publishes sealed messages of one sender, faster than it could start."""

    def __init__(self, sender: Device, recipient: Device, client: BrokerClient) -> None:
        self._client = client
        self._recipient = recipient
        self._sender = IdentityName(sender.name)
        self._name = IdentityName(recipient.name)
        self._signing_key = read_private_key(sender.key_path)
        self._encryption_key = read_private_key(recipient.key_path).public

    def seal(self, text: str) -> bytes:
        return seal(
            text,
            sender=self._sender,
            signing_key=self._signing_key,
            recipient=self._name,
            encryption_key=self._encryption_key,
            binding=Binding.new(self._name, int(time.time())),
        )

    def publish(self, *texts: str) -> None:
        for payload in map(self.seal, texts):
            self._client.publish(self._recipient, payload)


def test_workers_have_no_database_of_the_receiver_in_memory(lab: Lab) -> None:
    def mapped(number: int) -> str:
        return Path(f"/proc/{number}/maps").read_text()

    with lab.published_device("willa").with_settings(RECEIVER_WORKERS="1").receiver() as receiver:
        assert "sqlite" in mapped(receiver.pid)
        for number in wait_for_workers(receiver, 1):
            assert "_rust.abi3" in mapped(number)
            assert "sqlite" not in mapped(number)
        assert receiver.stop() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Start receivers that end with the test."""
    started: list[Program] = []

    def begin(device: Device, workers: int | str, program: Path = RECEIVER) -> Program:
        started.append(device.with_settings(RECEIVER_WORKERS=str(workers)).start(program))
        started[-1].wait_for_log(SUBSCRIBED)
        return started[-1]

    yield begin
    for program in started:
        program.close()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_with_any_number_of_workers_messages_are_printed_in_order_and_nothing_stays(
    number: int, lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device(f"with-{number}-workers")
    receiver = start(device, number)
    processes = wait_for_workers(receiver, number)
    texts = [f"number {index}" for index in range(100)]
    crowd = Crowd(alice, device, anybody)
    crowd.publish(*texts[:50])
    anybody.publish(device, b"junk")
    crowd.publish(*texts[50:])
    receiver.wait_for("last message", lambda: len(receiver.stdout) >= 100)
    assert lines_of(receiver) == [f"{alice.name} says: {text}" for text in texts]
    receiver.wait_for_refusal("outer-malformed")
    receiver.wait_for_log(" workers=")
    assert receiver.stop(10) == ExitStatus.OK
    assert not any(map(is_running, processes))
    assert not any("dead" in line for line in receiver.stderr)


def test_workers_killed_at_random_lose_nothing_and_repeat_nothing(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("killed-workers")
    receiver = start(device, 2)
    texts = [f"number {index}." for index in range(600)]
    crowd = Crowd(alice, device, anybody)
    crowd.publish("first")
    receiver.wait_for_message("first")
    receiver.signal(signal.SIGSTOP)
    crowd.publish(*texts)
    receiver.signal(signal.SIGCONT)
    kills = 0
    while len(receiver.stdout) <= len(texts):
        workers = descendants(receiver.pid)[1:]
        if workers:
            os.kill(CHOICES.choice(workers), signal.SIGKILL)
            kills += 1
        receiver.wait_for_news(0.02)
        time.sleep(0.15)
    assert kills >= 2
    assert lines_of(receiver)[1:] == [f"{alice.name} says: {text}" for text in texts]
    receiver.wait_for_log("A worker process is replaced: it was ended by signal 9")
    assert receiver.stop(10) == ExitStatus.OK
    assert "printed=601 refused=0" in receiver.stderr[-1]


def test_an_idle_worker_that_was_killed_is_replaced(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("killed-idle")
    receiver = start(device, 1)
    _, worker = wait_for_workers(receiver, 1)
    os.kill(worker, signal.SIGKILL)
    Crowd(alice, device, anybody).publish("after the kill")
    receiver.wait_for_message("after the kill")
    _, other = descendants(receiver.pid)
    assert other != worker
    os.kill(other, signal.SIGKILL)
    # Without a message, too.
    receiver.wait_for(
        "replacement", lambda: sum("A worker process is replaced" in line for line in receiver.stderr) == 2, 20
    )
    wait_for_workers(receiver, 1)


def test_a_receiver_killed_under_load_leaves_no_process_and_repeats_at_most_one_group(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("killed-receiver")
    receiver = start(device, 2)
    processes = wait_for_workers(receiver, 2)
    texts = [f"number {index}." for index in range(400)]
    crowd = Crowd(alice, device, anybody)
    receiver.signal(signal.SIGSTOP)
    crowd.publish(*texts)
    receiver.signal(signal.SIGCONT)
    receiver.wait_for("some lines", lambda: len(receiver.stdout) >= 50)
    receiver.kill()
    wait_until(lambda: not any(map(is_running, processes)), "the end of all processes")
    again = start(device, 2)
    printed = list(receiver.stdout)
    again.wait_for("all messages", lambda: len({*printed, *again.stdout}) == len(texts))
    repeated = sum((Counter(printed) + Counter(again.stdout)).values()) - len(texts)
    assert 0 <= repeated <= GROUP


def test_a_message_that_crashes_workers_is_refused_and_named(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("poisoned")
    receiver = start(device, 2, FRAGILE)
    crowd = Crowd(alice, device, anybody)
    receiver.signal(signal.SIGSTOP)
    crowd.publish(*(f"before {index}" for index in range(10)), "poison", *(f"after {index}" for index in range(10)))
    receiver.signal(signal.SIGCONT)
    receiver.wait_for_message("after 9")
    refusal = receiver.wait_for_refusal("internal-error")
    assert re.search(r"the message of \d+ bytes with the SHA-256 digest [0-9a-f]{16}… ends each worker", refusal)
    receiver.wait_for_log("A worker process is replaced: it was ended by signal 11")
    assert lines_of(receiver) == [f"{alice.name} says: {when} {i}" for when in ("before", "after") for i in range(10)]
    assert receiver.stop(10) == ExitStatus.OK
    assert "refused=1 refused_internal-error=1" in receiver.stderr[-1]


def test_a_worker_that_is_stuck_is_killed_and_replaced(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("stuck")
    receiver = start(device, 1, FRAGILE)
    crowd = Crowd(alice, device, anybody)
    crowd.publish("before", "sleeping pill", "after")
    receiver.wait_for_message("after")
    receiver.wait_for_refusal("internal-error")
    receiver.wait_for_log("A worker process is replaced: it did not answer in time")
    # A worker that a signal has stopped is replaced as well.
    os.kill(descendants(receiver.pid)[1], signal.SIGSTOP)
    crowd.publish("at last")
    receiver.wait_for_message("at last")


def test_workers_follow_a_change_of_the_key_and_drop_a_destroyed_one(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("changing")
    receiver = start(device, 1)
    before = Crowd(alice, device, anybody)
    before.publish("to the first key")
    receiver.wait_for_message("to the first key")
    assert device.run(CREATE_SELFSIGNED_ID, "--force").status == 0
    lab.knot.add_tlsa(device.name, device.tlsa_record())
    receiver.wait_for("new key", lambda: sum("Reading" in line for line in receiver.stderr) >= 3)
    before.publish("to the previous key")
    Crowd(alice, device, anybody).publish("to the new key")
    receiver.wait_for_message("to the previous key")
    receiver.wait_for_message("to the new key")
    previous_key_paths(device.crypto_path, IdentityName(device.name))[0].unlink()
    deadline = time.monotonic() + KEY_SECONDS
    while not any("refused reason=decryption-failed" in line for line in receiver.stderr):
        assert time.monotonic() < deadline
        before.publish("to the destroyed key")
        time.sleep(0.5)
    assert not any("A worker process is replaced" in line for line in receiver.stderr)


def test_without_the_process_that_starts_workers_the_receiver_ends_and_loses_nothing(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("without-a-spawner")
    receiver = start(device, 1)
    spawner, worker = wait_for_workers(receiver, 1)
    for number in (spawner, worker):
        os.kill(number, signal.SIGKILL)
    Crowd(alice, device, anybody).publish("not lost")
    receiver.wait_for_log("Thread Decryption is dead: the process that starts worker processes has ended")
    assert receiver.wait_for_end() == ExitStatus.THREAD_DIED
    assert receiver.stdout == []
    start(device, 1).wait_for_message("not lost")


def test_ctrl_c_in_a_terminal_ends_all_processes_once(
    lab: Lab, alice: Device, anybody: BrokerClient, start: Callable[..., Program]
) -> None:
    device = lab.published_device("interrupted")
    receiver = start(device, 2)
    processes = wait_for_workers(receiver, 2)
    for number in processes:
        os.kill(number, signal.SIGINT)
    Crowd(alice, device, anybody).publish("still there")
    receiver.wait_for_message("still there")
    receiver.signal(signal.SIGINT)
    assert receiver.wait_for_end(10) == ExitStatus.OK
    assert not any(map(is_running, processes))
    assert not any("replaced:" in line or "Traceback" in line for line in receiver.stderr)
