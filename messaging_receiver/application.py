"""Receives messages over MQTT, opens and authenticates them, and prints each as one line."""

import argparse
import contextlib
import functools
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from idlib.algorithms import PrivateKey
from idlib.discovery import Discovery
from idlib.envelope import parse
from idlib.errors import (
    DiscoveryError,
    ExitStatus,
    IdlibError,
    Refusal,
    StoreError,
    TransportError,
)
from idlib.metrics import Metrics, open_metrics
from idlib.names import IdentityName, NamePatterns
from idlib.program.environment import read_environment
from idlib.settings import RECEIVER_READS, Settings, Switch
from idlib.settings.local_settings import check_unused
from idlib.system.service_manager import ServiceManager
from idlib.transport import Broker, Delivery, ReceivedPacket, Subscription
from idlib.trust import Moment, PolicySource
from idlib.verdict import AskAgain, Print, Refuse, Renewal, Wait, authenticate
from messaging_receiver.authentication_stage import AuthenticationStage, message_authentication_thread
from messaging_receiver.bounded_queue import BoundedQueue
from messaging_receiver.clock_upkeep import ClockUpkeep
from messaging_receiver.context import Context
from messaging_receiver.counters import pairs
from messaging_receiver.decryption import decryption_work
from messaging_receiver.ending import Ending
from messaging_receiver.epoch_holding import HeldMessages
from messaging_receiver.epoch_threads import epoch_work
from messaging_receiver.forwarding import message_printer
from messaging_receiver.metrics import Receiving, Starting
from messaging_receiver.opening import LocalOpener, Opener
from messaging_receiver.own_epochs import OwnEpochs, own_epochs_of, wait_for_epoch_keys
from messaging_receiver.own_identity import OwnKeys, wait_for_own_key
from messaging_receiver.own_record import OwnRecord
from messaging_receiver.queue_items import AuthenticatedMessage, DecryptedMessage, LookupResult, SettledMessage, size_of
from messaging_receiver.receipt_requests import ReceiptRequest
from messaging_receiver.receipts import Receipts
from messaging_receiver.service_notices import Notices
from messaging_receiver.sinks import Sink
from messaging_receiver.sinks.creation import check_surroundings, sink_from
from messaging_receiver.stage import Stage
from messaging_receiver.stores import WAITING_FOR_RECORD, Opened, open_stores
from messaging_receiver.supervision import Supervision
from messaging_receiver.workers.pool import WorkerPool
from messaging_receiver.workers.spawner import Spawner, SpawnerError

if TYPE_CHECKING:
    from idlib.local_broker.place import LocalBroker
    from messaging_receiver.epoch_group import EpochGroup
    from messaging_receiver.group.participation import Participation
    from messaging_receiver.local_broker.bridge import LocalBridge

__all__ = [
    "AUTHENTICATED_MESSAGES",
    "DECRYPTED_MESSAGES",
    "ENCRYPTED_MESSAGES",
    "get_config",
    "message_is_authentic",
    "message_printer",
    "receive",
]

_LOG = logging.getLogger("messaging_receiver")

QUEUE_SIZE: Final = 1024
QUEUE_BYTES: Final = 4 * 1024 * 1024
ENCRYPTED_MESSAGES: "BoundedQueue[Delivery]" = BoundedQueue(QUEUE_SIZE, QUEUE_BYTES, size_of)
DECRYPTED_MESSAGES: "BoundedQueue[DecryptedMessage | LookupResult]" = BoundedQueue(QUEUE_SIZE, QUEUE_BYTES, size_of)
AUTHENTICATED_MESSAGES: "BoundedQueue[AuthenticatedMessage | SettledMessage]" = BoundedQueue(
    QUEUE_SIZE, QUEUE_BYTES, size_of
)

# Of the time that `Ending` gives to all steps together.
_PRINTER_GRACE_SECONDS: Final = 2.0
_INGEST_GRACE_SECONDS: Final = 2.0
# After it has left its group, which takes up to two seconds.
_PRINTER_IN_GROUP_SECONDS: Final = 1.5
_INGEST_IN_GROUP_SECONDS: Final = 0.5
_LOCAL_GRACE_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Observers:
    """What tells others how the receiver is.

    Args:
        notices: Tells the service manager.
        metrics: Answers at METRICS_ADDRESS.
        starting: What the metrics are before the receiver has started.
    """

    notices: Notices
    metrics: Metrics
    starting: Starting


@dataclass(frozen=True, slots=True)
class _Run:
    """What the command line wants of this run.

    Args:
        sink: Delivers the messages.
        wanted: The senders whose messages are delivered; none means all.
        ending: Ends the run.
        bridge: The local broker; None if there is none.
    """

    sink: Sink
    wanted: NamePatterns
    ending: Ending
    bridge: "LocalBridge | None"


def receive(
    arguments: argparse.Namespace, settings: Settings, manager: ServiceManager, workers: tuple[Spawner | None, int]
) -> int:
    """Run the receiver until it is stopped; return its exit status.

    Args:
        arguments: The command line.
        settings: The settings from the environment.
        manager: The service manager to notify.
        workers: What starts worker processes, and how many there are to be; None if there are none.
    """
    stopping = threading.Event()
    ending = Ending(stopping, arguments.count, arguments.seconds)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: ending.interrupt(number))
    check_surroundings(arguments, settings)
    # Checked now, so that wrong settings are reported before the receiver waits for its own record.
    broker = Broker.from_settings(settings)
    local = _local_broker(settings, broker)
    return ending.run(functools.partial(_run, arguments, settings, ending, (broker, local), manager, workers))


def _run(
    arguments: argparse.Namespace,
    settings: Settings,
    ending: Ending,
    brokers: "tuple[Broker, LocalBroker | None]",
    manager: ServiceManager,
    workers: tuple[Spawner | None, int],
) -> int:
    (broker, local), stopping = brokers, ending.stopping
    with contextlib.ExitStack() as stack:
        # After the workers' process was forked, because it may start a thread.
        notices = Notices(manager, stopping)
        opened = open_stores(settings, broker, ending, notices, stack)
        if opened is None:
            return ending.status_at_start()
        context = opened.context
        own_record = OwnRecord(settings, context.discovery)
        epochs = own_epochs_of(settings, context.timekeeper, functools.partial(_epoch_group, opened, stack))
        opened.health.problem = lambda: own_record.problem or epochs.problem or WAITING_FOR_RECORD
        starting = Starting(context, own_record, epochs)
        metrics = Metrics("receiver", starting.readings)
        open_metrics(settings.metrics_address, metrics)
        upkeep = ClockUpkeep(context, epochs.destroy_overdue)
        # Before anything is waited for, because it may stop the receiver: its reader may end.
        bridge = None if local is None else _bridge(local, broker, context)
        sink = sink_from(arguments, context, ending, bridge)
        key = wait_for_own_key(settings, own_record, stopping, upkeep.keep)
        if key is None or not wait_for_epoch_keys(epochs, stopping, upkeep.keep):
            return ending.status_at_start()
        observers = _Observers(notices, metrics, starting)
        run = _Run(sink, _wanted(arguments), ending, bridge)
        return _receive(opened, broker, own_record, key, observers, workers, epochs, run)


def _epoch_group(opened: Opened, stack: contextlib.ExitStack) -> "EpochGroup | None":
    if opened.membership is None:
        return None
    from messaging_receiver.group.shared_epochs import open_sharing

    return stack.enter_context(open_sharing(opened.context.settings, opened.membership.leases.holder))


def get_config() -> Settings:
    """Return the settings from the environment, and start to log to stderr.

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    return read_environment(RECEIVER_READS)


def message_is_authentic(content: str) -> str:
    """Return the text of an authentic message to this device, or "" for any other message; does not detect replays.

    Content that is not UTF-8 has no text.

    The message counts as encrypted to the identity key: REQUIRE_FORWARD_SECRECY refuses it if it matches its sender.

    Args:
        content: A decrypted message (a JWS).

    Raises:
        ConfigurationError: Environment variables are missing or have bad values.
    """
    settings = get_config()
    policy, discovery = PolicySource(settings).current(), Discovery.from_settings(settings)
    try:
        message = parse(content)
        policy.lists.check(message.sender)
        found = discovery.find(message.sender)
    except (Refusal, DiscoveryError) as error:
        _LOG.warning("%s", error)
        return ""
    verdict = authenticate(message, bytes(32), found, Moment(time.time()), policy, lambda _: None, Renewal.DONE)
    match verdict:
        case Print():
            if verdict.text is not None:
                return verdict.text
            _LOG.warning("%s", f"the content of a message from {message.sender} is not a text: {verdict.content_type}")
        case Wait():
            _LOG.warning("%s", verdict.why)
        case Refuse():
            _LOG.warning("%s", verdict.fact)
        case AskAgain():
            _LOG.warning("%s", f"no key of {message.sender} in DNS verifies the message")
    return ""


def _receive(
    opened: Opened,
    broker: Broker,
    own_record: OwnRecord,
    key: PrivateKey,
    observers: _Observers,
    workers: tuple[Spawner | None, int],
    epochs: OwnEpochs,
    run: _Run,
) -> int:
    context = opened.context
    settings, stopping = context.settings, context.stopping
    own_keys = OwnKeys(
        settings.crypto_path, settings.identity_name, key, context.memory, context.timekeeper.trusted_time
    )
    # Before anything connects: what is overdue is destroyed.
    epochs.keep(own_keys.present)
    receipts = Receipts(
        broker,
        settings.identity_name,
        lambda: own_keys.present,
        context.discovery,
        context.standings.is_surely_trusted,
        context.discovery.zone_of,
        context.policies.requires_forward_secrecy,
        context.refusals.note_no_receipt,
    )
    receipts.start()
    subscription = Subscription(
        broker,
        opened.session.client_id,
        opened.session.topic_filter,
        settings.mqtt_session_expiry,
        settings.max_message_size,
        lambda delivery: _ingest(reception, delivery),
        opened.session.memory,
    )
    spawner, number = workers
    pool = None
    if spawner is not None:
        pool = WorkerPool(
            spawner, number, lambda: own_keys.fingerprints, stopping, context.movements.note, lambda: epochs.ids
        )
    openers: Sequence[Opener] = (LocalOpener(),) if pool is None else pool.openers
    reception = Stage(context, ENCRYPTED_MESSAGES, AUTHENTICATED_MESSAGES)
    authentication = AuthenticationStage(
        context,
        DECRYPTED_MESSAGES,
        AUTHENTICATED_MESSAGES,
        _ignore if pool is None else pool.senders.learn,
        run.wanted,
    )
    printing = Stage(context, AUTHENTICATED_MESSAGES, AUTHENTICATED_MESSAGES)
    disconnecting = threading.Event()
    ingest = _thread("MQTT-Ingest", stopping, lambda: _subscribe(subscription, disconnecting, run.ending))
    group = _participation(opened, broker, subscription, lambda delivery: _ingest(reception, delivery), run.ending)
    settle = subscription.settle if group is None else group.settle
    printer = _thread("Forwarder", stopping, lambda: _forward(printing, run.sink, settle, receipts.ask, run.ending))
    held = HeldMessages(epochs)
    decryption = decryption_work(reception, DECRYPTED_MESSAGES, lambda: own_keys.keys, openers, epochs, held.hold)
    threads = [
        ingest,
        *_threads(decryption, stopping),
        _thread("Authentication", stopping, lambda: message_authentication_thread(authentication)),
        printer,
    ]
    local_threads = [] if run.bridge is None else _threads(run.bridge.threads(), stopping)
    threads += local_threads
    if group is not None:
        threads += _threads(group.threads(), stopping)
    for thread in threads:
        thread.start()
    supervision = Supervision(
        *(context, authentication, run.sink, run.ending, subscription, threads, own_keys, own_record, _queue_sizes),
        *(pool, epochs),
        notices=observers.notices,
        membership=opened.membership,
    )
    opened.health.problem = supervision.problem
    membership = opened.membership
    if membership is not None:
        opened.health.extra = lambda: membership.state
        membership.is_subscribed = lambda: subscription.is_active
        membership.note_lapse = authentication.note_lapse
    observers.metrics.read = Receiving(
        observers.starting, authentication, supervision, _queue_sizes, pool, run.bridge, membership
    ).readings
    if run.bridge is not None:
        run.bridge.show(supervision.last_problem, lambda: authentication.number_waiting, context.counters.read)
    # In threads of their own, because this thread must not wait for DNS, a slow disk or a database.
    _thread("Own-Record", stopping, supervision.watch_record).start()
    epoch_threads = _threads(epoch_work(reception, DECRYPTED_MESSAGES, own_keys, epochs, held), stopping)
    for thread in epoch_threads:
        thread.start()
    died = supervision.run()
    stopping.set()
    for one in (ENCRYPTED_MESSAGES, DECRYPTED_MESSAGES, AUTHENTICATED_MESSAGES):
        one.close()
    left = run.ending.left
    printer.join(left(_PRINTER_GRACE_SECONDS if group is None else _PRINTER_IN_GROUP_SECONDS))
    if run.bridge is not None:
        run.bridge.disconnect()
    disconnecting.set()
    subscription.wake()
    ingest.join(left(_INGEST_GRACE_SECONDS if group is None else _INGEST_IN_GROUP_SECONDS))
    for thread in (*local_threads, *epoch_threads):
        thread.join(left(_LOCAL_GRACE_SECONDS))
    context.refusals.finish()
    members = {"waiting": authentication.number_waiting, **context.counters.read().members()}
    _LOG.info("Stopped: %s", pairs(members), extra={"members": members})
    return ExitStatus.THREAD_DIED if died else run.ending.status()


def _local_broker(settings: Settings, public: Broker) -> "LocalBroker | None":
    if settings.local_mqtt_url is None:
        check_unused(settings)
        return None
    from idlib.local_broker.place import LocalBroker

    return LocalBroker.from_settings(settings, public)


def _bridge(local: "LocalBroker", public: Broker, context: Context) -> "LocalBridge":
    from messaging_receiver.local_broker.bridge import LocalBridge

    return LocalBridge(local, public, context)


def _threads(work: Mapping[str, Callable[[], None]], stopping: threading.Event) -> list[threading.Thread]:
    return [_thread(name, stopping, run) for name, run in work.items()]


def _participation(
    opened: Opened,
    broker: Broker,
    subscription: Subscription,
    deliver: Callable[[Delivery], None],
    ending: Ending,
) -> "Participation | None":
    if opened.membership is None or opened.context.settings.receiver_group is Switch.OFF:
        return None
    from messaging_receiver.group.participation import Participation

    topic_filter = opened.session.topic_filter
    return Participation(opened.context, opened.membership, broker, topic_filter, subscription, deliver, ending)


def _subscribe(subscription: Subscription, disconnecting: threading.Event, ending: Ending) -> None:
    """Run the subscription, and end the receiver if the broker does not have what it subscribes to."""
    try:
        subscription.run(disconnecting)
    except TransportError as error:
        ending.fail(error)


def _forward(
    stage: Stage[AuthenticatedMessage | SettledMessage],
    sink: Sink,
    settle: Callable[[Sequence[ReceivedPacket]], None],
    confirm: Callable[[ReceiptRequest], None],
    ending: Ending,
) -> None:
    """Deliver messages, and end the receiver if its sink can deliver no more."""
    try:
        message_printer(stage, sink, settle, confirm, ending)
    except StoreError:
        raise
    except IdlibError as error:
        ending.fail(error)


def _wanted(arguments: argparse.Namespace) -> NamePatterns:
    return NamePatterns(tuple(arguments.senders)) if arguments.senders else NamePatterns.all()


def _ignore(_sender: IdentityName, _keys: tuple[bytes, ...]) -> None:
    """Do nothing with a sender's keys: there are no workers that need them."""


def _ingest(reception: Stage[Delivery], delivery: Delivery) -> None:
    reception.context.counters.count_received()
    reception.hand_on(delivery, ENCRYPTED_MESSAGES)
    reception.context.movements.rest()


def _queue_sizes() -> dict[str, int]:
    return {
        "encrypted": ENCRYPTED_MESSAGES.qsize(),
        "decrypted": DECRYPTED_MESSAGES.qsize(),
        "authenticated": AUTHENTICATED_MESSAGES.qsize(),
    }


def _thread(name: str, stopping: threading.Event, target: Callable[[], None]) -> threading.Thread:
    def logged() -> None:
        try:
            target()
        except IdlibError as error:
            # A stage that was waiting for the disk when the receiver was stopped ends with a StoreError.
            # A Decryption thread loses its worker.
            if not (isinstance(error, StoreError | SpawnerError) and stopping.is_set()):
                _LOG.error("Thread %s is dead: %s", name, error)
        except Exception:  # noqa: BLE001  # logged here, and noticed by the supervisor
            _LOG.exception("Thread %s is dead", name)

    return threading.Thread(target=logged, name=name, daemon=True)
