#!/usr/bin/env -S sh -c 'p=$(realpath "$0");p=${p%/*/*/*/*}/.venv/bin/python;[ -x "$p" ]||p=python3;exec "$p" "$0" "$@"'
"""Receives messages over MQTT, opens and authenticates them, and prints each as one line."""

if __name__ == "__main__":
    try:
        # Before what takes long to import.
        from idlib.interruption import end_when_interrupted
    except ModuleNotFoundError:
        raise SystemExit("Run make setup in the checkout, then start this program without python3 in front.") from None

    end_when_interrupted()

import sys

if __name__ == "__main__" and sys.argv[1:] == ["--health"]:
    # Before the rest is imported: a container is asked for its health every minute, for as long as it lives.
    from health import main as answer_for_health

    sys.exit(answer_for_health())

import logging
import math
import operator
import queue
import signal
import threading
import time
from collections.abc import Callable
from typing import Final

from authentication import message_authentication_thread
from bounded_queue import BoundedQueue
from decryption import message_decryption_thread
from forwarding import message_printer
from health import HealthService
from messages import Answer, AuthenticatedMessage, DecryptedMessage, SettledMessage, octets_of
from own_identity import OwnKeys, wait_for_own_key
from pipeline import Pipeline
from receipts import Receipts

from idlib import clock
from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.envelope import parse, verify
from idlib.errors import DiscoveryError, ExitStatus, IdlibError, OutputError, Refusal, StoreError
from idlib.program import parser, read_settings, run
from idlib.settings import Settings
from idlib.store import Store
from idlib.transport import Broker, Delivery, Subscription, new_client_id
from idlib.trust import Policy, ReplayGuard, clock_is_credible, clock_is_doubtful

_LOG = logging.getLogger("messaging_receiver")

QUEUE_SIZE: Final = 1024
QUEUE_OCTETS: Final = 8 * 1024 * 1024
ENCRYPTED_MESSAGES: "queue.Queue[Delivery]" = BoundedQueue(QUEUE_SIZE, QUEUE_OCTETS, octets_of)
DECRYPTED_MESSAGES: "queue.Queue[DecryptedMessage | Answer]" = BoundedQueue(QUEUE_SIZE, QUEUE_OCTETS, octets_of)
AUTHENTICATED_MESSAGES: "queue.Queue[AuthenticatedMessage | SettledMessage]" = BoundedQueue(
    QUEUE_SIZE, QUEUE_OCTETS, octets_of
)

STATUS_SECONDS: Final = 60.0
_PRUNE_SECONDS: Final = 600.0
_PRUNE_AGAIN_SECONDS: Final = 10.0
_STILL_SECONDS: Final = 30.0
_KEY_SECONDS: Final = 3.0
# Together below the five seconds in which the receiver promises to end.
_PRINTER_GRACE_SECONDS: Final = 2.0
_INGEST_GRACE_SECONDS: Final = 2.0


def main() -> int:
    """Run the receiver until it is told to stop; return its exit status."""
    command_line = parser(
        "Receive messages for IDENTITY_NAME and print each authenticated one as a line on stdout."
        " Settings come from environment variables.",
        "IDENTITY_NAME=alice._device.example.com ./application.py",
    )
    command_line.add_argument("--health", action="store_true", help="say whether the running receiver is well, and end")
    command_line.parse_args()
    settings = get_config()
    if sys.stdout is None:
        # Python has found it closed, and the next file that is opened would get its number and the messages.
        raise OutputError("stdout is closed", "start the receiver with something that reads what it prints")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with Store(settings.data_path) as store:
        health = HealthService(settings.data_path, lambda: "own record is not in DNS yet")
        key = wait_for_own_key(settings, stopping)
        return ExitStatus.OK if key is None else _receive(settings, store, key, health, stopping)


def get_config() -> Settings:
    """Return the settings of the environment, and log to stderr from now on.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    return read_settings()


def message_is_authentic(content: str) -> str:
    """Return the text of an authentic message to us, or an empty one for any other; whether it is new is not asked.

    Args:
        content: A decrypted message, a JWS.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    settings = get_config()
    try:
        message = parse(content)
        Policy.from_settings(settings).check(message, time.time())
        found = Discovery.from_settings(settings).find(message.sender)
        return verify(message, (record.public_key for record in found.records))
    except (Refusal, DiscoveryError) as error:
        _LOG.warning("%s", error)
        return ""


def _receive(
    settings: Settings, store: Store, key: PrivateKey, health: HealthService, stopping: threading.Event
) -> int:
    broker, discovery = Broker.from_settings(settings), Discovery.from_settings(settings)
    own_keys = OwnKeys(settings.crypto_path, settings.identity_name, key)
    receipts = Receipts(broker, settings.identity_name, lambda: own_keys.present, discovery)
    receipts.start()
    subscription = Subscription(
        broker,
        store.fact("client_id", new_client_id()),
        str(settings.identity_name),
        settings.mqtt_session_expiry,
        lambda delivery: _ingest(pipeline, delivery),
    )
    pipeline = Pipeline(
        settings,
        store,
        Policy.from_settings(settings),
        ReplayGuard(store, settings.allowed_senders),
        discovery,
        ENCRYPTED_MESSAGES,
        DECRYPTED_MESSAGES,
        AUTHENTICATED_MESSAGES,
        subscription.settle,
        receipts.ask,
        stopping=stopping,
    )
    disconnecting = threading.Event()
    ingest = _thread("MQTT-Ingest", stopping, lambda: subscription.run(disconnecting))
    printer = _thread("Forwarder", stopping, lambda: message_printer(pipeline))
    threads = [
        ingest,
        _thread("Decryption", stopping, lambda: message_decryption_thread(pipeline, lambda: own_keys.keys)),
        _thread("Authentication", stopping, lambda: message_authentication_thread(pipeline)),
        printer,
    ]
    for thread in threads:
        thread.start()
    health.ailment = lambda: _ailment(pipeline, subscription, threads, own_keys)
    died = _supervise(pipeline, subscription, threads, own_keys)
    stopping.set()
    printer.join(_PRINTER_GRACE_SECONDS)
    disconnecting.set()
    ingest.join(_INGEST_GRACE_SECONDS)
    _LOG.info("Stopped: %s", pipeline.counters)
    return ExitStatus.THREAD_DIED if died else ExitStatus.OK


def _ingest(pipeline: Pipeline, delivery: Delivery) -> None:
    pipeline.counters.count_received()
    pipeline.hand_on(delivery, pipeline.encrypted)


def _thread(name: str, stopping: threading.Event, target: Callable[[], None]) -> threading.Thread:
    def logged() -> None:
        try:
            target()
        except IdlibError as error:
            # A stage that waits for the disk ends so where the receiver is told to stop.
            if not (isinstance(error, StoreError) and stopping.is_set()):
                _LOG.error("Thread %s is dead: %s", name, error)
        except Exception:  # noqa: BLE001  # logged here, and noticed by the supervisor
            _LOG.exception("Thread %s is dead", name)

    return threading.Thread(target=logged, name=name, daemon=True)


def _supervise(
    pipeline: Pipeline, subscription: Subscription, threads: list[threading.Thread], own_keys: OwnKeys
) -> bool:
    """Watch the threads until the receiver is told to stop, or one of them ends unasked: return whether one did."""
    next_status = next_pruning = time.monotonic()
    next_look = next_status + _KEY_SECONDS
    while not pipeline.stopping.wait(1.0):
        now = time.monotonic()
        if now >= next_status:
            next_status = now + STATUS_SECONDS
            _LOG.info("%s", _status(pipeline, subscription, threads))
        if now >= next_look:
            next_look = now + _KEY_SECONDS
            own_keys.refresh()
        if now >= next_pruning:
            is_kept = _keep_store(pipeline)
            next_pruning = now + (_PRUNE_SECONDS if is_kept else _PRUNE_AGAIN_SECONDS)
        if not all(thread.is_alive() for thread in threads):
            # A signal may have come in between, and then threads end as they should.
            return not pipeline.stopping.is_set()
    return False


def _keep_store(pipeline: Pipeline) -> bool:
    """Note the time and forget what is past, unless the clock may be wrong; return whether the store could be used."""
    now, store = int(time.time()), pipeline.store
    if not clock_is_credible(now, store.latest_time) or clock_is_doubtful(now, store.latest_time):
        return True
    try:
        if not pipeline.clock_may_be_late():
            store.believe_clock_since(clock.boot())
        store.note_time(now)
        store.forget_printed(now)
    except StoreError as error:
        pipeline.upkeep_outage.begin(str(error))
        return False
    pipeline.upkeep_outage.end()
    return True


def _ailment(
    pipeline: Pipeline, subscription: Subscription, threads: list[threading.Thread], own_keys: OwnKeys
) -> str | None:
    """Return what is wrong with the receiver, or None."""
    for thread in threads:
        if not thread.is_alive():
            return f"thread {thread.name} is dead"
    if pipeline.stdout.is_blocked:
        return "nobody reads stdout"
    disk = pipeline.store_outage.cause or pipeline.upkeep_outage.cause
    if disk is not None:
        return f"disk: {disk}"
    name, moved_at = min(pipeline.moved_at.copy().items(), key=operator.itemgetter(1), default=("", math.inf))
    if time.monotonic() - moved_at > _STILL_SECONDS:
        return f"thread {name} has not moved for {time.monotonic() - moved_at:.0f} s"
    if subscription.ailment is not None:
        return f"not subscribed: {subscription.ailment}"
    try:
        found = pipeline.discovery.find(pipeline.settings.identity_name)
    except DiscoveryError as error:
        return f"own record: {error.fact}"
    if all(record.public_key.native != own_keys.present.public.native for record in found.records):
        return "own record in DNS does not hold our key"
    return None


def _status(pipeline: Pipeline, subscription: Subscription, threads: list[threading.Thread]) -> str:
    health = " ".join(f"{thread.name}={'alive' if thread.is_alive() else 'dead'}" for thread in threads)
    return (
        f"status subscribed={'yes' if subscription.is_active else 'no'}"
        f" encrypted={ENCRYPTED_MESSAGES.qsize()} decrypted={DECRYPTED_MESSAGES.qsize()}"
        f" authenticated={AUTHENTICATED_MESSAGES.qsize()} {health} {pipeline.counters}"
    )


if __name__ == "__main__":
    run(main)
