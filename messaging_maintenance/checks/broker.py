"""The broker: reachable, with TLS, what it grants, whether it keeps sessions, and whether a probe comes back.

Nothing here uses the receiver's client id, so its session is left as it is. The probe is a receipt from this device to
itself: a running receiver refuses it with `refused reason=receipt`, as it refuses each receipt, and prints nothing.
"""

import contextlib
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, seal_receipt
from idlib.errors import ConfigurationError, IdlibError, KeyFileError, TransportError
from idlib.names import IdentityName
from idlib.settings import MqttVersion, Settings
from idlib.transport import Broker, new_client_id_at
from idlib.transport.connection import QOS_AT_LEAST_ONCE
from idlib.transport.inquiry import Inquiry, end_session
from idlib.transport.publisher import Publisher
from idlib.transport.session import Grant
from idlib.transport.session_owner import Owner, OwnerCheck
from messaging_maintenance.checks.catalogue import BROKER_IDS
from messaging_maintenance.checks.result import Item, Status, fail, ok, skip, warn
from messaging_maintenance.checks.running import Once

_SECONDS: Final = 4.0
_PROBE_LIFETIME_SECONDS: Final = 60
_MAX_HEARD: Final = 65536
_DAY: Final = 86400
# What should be left of a certificate's period when it is renewed.
_LEAST_SHARE: Final = 0.1
_OWN_CLIENT_IDS: Final = (
    "let the broker tell clients apart by their client ids (Mosquitto: turn off use_username_as_clientid), or give each"
    " program a user name of its own"
)


def check_broker(settings: Settings, own_key: Once[PrivateKey]) -> list[Item]:
    """Return what there is to say about the broker.

    Args:
        settings: From the environment, with the variables of MQTT.
        own_key: This device's private key, which signs the probe.

    """
    try:
        broker = Broker.from_settings(settings)
    except ConfigurationError as error:
        wrong = [fail("broker.reachable", problem, "correct the settings") for problem in error.problems]
        return [*wrong, *_skipped(wrong, "the settings of the broker cannot be used")]
    client_id = new_client_id_at(broker)
    first = _Attempt(broker, client_id)
    items = first.items
    if first.grant is None:
        return [*items, *_skipped(items, "the broker does not accept a connection")]
    client_ids = _client_id_item(broker, first.grant)
    items += [_grant_item(first.grant), client_ids]
    if client_ids.status is Status.FAIL:
        if not first.grant.is_kept:
            _end(broker, client_id)
        return [*items, *_skipped(items, "the broker gives one session to several programs")]
    absence = _Absence(broker, client_id, settings.identity_name, own_key)
    return [*items, absence.session_item(), absence.probe_item]


class _Attempt:
    """A connection under a new client id, which is left without ending its session.

    Args:
        broker: Which.
        client_id: The session's name.
    """

    def __init__(self, broker: Broker, client_id: str) -> None:
        self.items: list[Item] = []
        self.grant: Grant | None = None
        try:
            with Inquiry(broker, client_id, _SECONDS) as inquiry:
                inquiry.ask()
                self.grant = inquiry.grant
                self.items += [_reachable_item(broker), _tls_item(broker, inquiry)]
                if self.grant is None:
                    end = inquiry.end_of_connection()
                    self.items.append(fail("broker.accepts", f"{broker}: {end.fact}", end.hint))
                else:
                    self.items.append(ok("broker.accepts", f"{broker} accepts this device"))
        except TransportError as error:
            self.items = [_unreachable_item(error)]
            if isinstance(error.__cause__, ssl.SSLError):
                self.items = [
                    _reachable_item(broker),
                    fail("broker.tls", error.fact, error.hint),
                ]


def _reachable_item(broker: Broker) -> Item:
    way = "" if broker.proxy is None else f" through the proxy {broker.proxy}"
    return ok("broker.reachable", f"{broker} accepts connections{way}")


def _unreachable_item(error: TransportError) -> Item:
    return fail("broker.reachable", error.fact, error.hint or "start the broker, or check its address")


def _skipped(items: list[Item], why: str) -> list[Item]:
    done = {item.id for item in items}
    return [skip(identifier, why) for identifier in BROKER_IDS if identifier not in done]


def _tls_item(broker: Broker, inquiry: Inquiry) -> Item:
    identifier = "broker.tls"
    if broker.tls is None:
        return ok(identifier, "TLS is off: the network sees who receives messages, but not what they say")
    connection = inquiry.client.socket()
    connection = getattr(connection, "connection", connection)
    certificate = connection.getpeercert() if isinstance(connection, ssl.SSLSocket) else None
    if not certificate:
        return skip(identifier, "the connection ended before the broker's certificate could be read")
    since = ssl.cert_time_to_seconds(str(certificate["notBefore"]))
    until = ssl.cert_time_to_seconds(str(certificate["notAfter"]))
    left = until - time.time()
    date = f"{datetime.fromtimestamp(until, UTC):%Y-%m-%d}"
    evidence = f"TLS works; the broker's certificate expires in {left / _DAY:.1f} days, on {date}"
    if left < (until - since) * _LEAST_SHARE:
        return warn(identifier, evidence, "have the broker's certificate renewed")
    return ok(identifier, evidence)


def _grant_item(grant: Grant) -> Item:
    identifier = "broker.grant"
    if grant.maximum_qos < QOS_AT_LEAST_ONCE:
        hint = "use another broker, or configure this one to accept QoS 1"
        return fail(identifier, "the broker does not accept QoS 1, and so acknowledges no messages", hint)
    if grant.is_short:
        hint = "raise the broker's limit (Mosquitto: persistent_client_expiration), or expect losses beyond that time"
        return warn(identifier, str(grant), hint)
    return ok(identifier, str(grant))


def _client_id_item(broker: Broker, grant: Grant) -> Item:
    identifier = "broker.client-id"
    if grant.assigned_client_id is not None:
        evidence = f"the broker replaces client ids, by {grant.assigned_client_id!a}"
        return fail(identifier, evidence, _OWN_CLIENT_IDS)
    # A session of ours is at the broker now, which another client id must not get.
    if grant.is_kept or OwnerCheck(broker).find(_SECONDS) is Owner.ANOTHER:
        evidence = "the broker gives a session to a client with another client id, so programs disconnect each other"
        return fail(identifier, evidence, _OWN_CLIENT_IDS)
    return ok(identifier, "the broker tells clients apart by their client ids")


def _end(broker: Broker, client_id: str) -> None:
    """End the session that this program has created."""
    with contextlib.suppress(TransportError), Inquiry(broker, client_id, _SECONDS) as inquiry:
        inquiry.ask()
        inquiry.end()


class _Absence:
    """A session that is left and continued: whether the broker keeps it, and the probe that is sent meanwhile.

    Args:
        broker: Which.
        client_id: The name of the session, which is ended.
        name: The name of this device, to whose topic the session is subscribed. Some brokers, such as RabbitMQ, keep no
            session without a subscription.
        own_key: Signs the probe.
    """

    def __init__(self, broker: Broker, client_id: str, name: IdentityName, own_key: Once[PrivateKey]) -> None:
        self._broker = broker
        self._client_id = client_id
        self._is_kept: bool | None = None
        self._has_probe = False
        self._granted: Grant | None = None
        self._error: TransportError | None = None
        with self._noting_an_error(), Inquiry(broker, client_id, _SECONDS) as inquiry:
            if inquiry.ask() is not None:
                inquiry.subscribe(broker.topics.of(name))
        self.probe_item = _probe_item(broker, name, own_key)
        with self._noting_an_error():
            self._return()

    def _return(self) -> None:
        with Inquiry(self._broker, self._client_id, _SECONDS) as inquiry:
            self._is_kept, self._granted = inquiry.ask(), inquiry.grant
            self._has_probe = bool(self._is_kept) and self._is_probe_sent and inquiry.hears()
            inquiry.end()
        if self._broker.version is MqttVersion.V311:
            end_session(self._broker, self._client_id, _SECONDS)

    @property
    def _is_probe_sent(self) -> bool:
        return self.probe_item.status is Status.OK

    @contextlib.contextmanager
    def _noting_an_error(self) -> Iterator[None]:
        try:
            yield
        except TransportError as error:
            self._error = self._error or error

    def session_item(self) -> Item:
        """Return what there is to say about the session."""
        identifier = "broker.session"
        if self._error is not None:
            return skip(identifier, self._error.fact, self._error.hint)
        if self._is_kept is None:
            return skip(identifier, "the broker did not answer when the session was continued")
        if not self._is_kept:
            hint = "allow persistent sessions at the broker: messages are lost while the receiver is disconnected"
            return fail(identifier, "the broker did not keep a session between two connections", hint)
        if self._is_probe_sent and not self._has_probe:
            hint = (
                "let the broker keep messages for sessions without a connection: they are lost while the receiver is"
                " disconnected (amqtt keeps them only for clients with a login)"
            )
            return fail(identifier, "the broker kept a session between two connections, but no message in it", hint)
        if self._broker.version is MqttVersion.V311 or self._granted is None:
            return ok(identifier, "a session was kept between two connections; MQTT 3.1.1 does not say for how long")
        promised = self._granted.expiry
        return ok(identifier, f"a session was kept between two connections; the broker promises {promised} s")


def _probe_item(broker: Broker, name: IdentityName, own_key: Once[PrivateKey]) -> Item:
    identifier = "broker.probe"
    try:
        probe = _probe(name, own_key.get())
    except KeyFileError as error:
        return skip(identifier, f"there is no key to sign a probe with: {error.fact}")
    returned = threading.Event()
    topic = broker.topics.of(name)

    def hear(payload: bytes) -> None:
        if payload == probe:
            returned.set()

    try:
        with Publisher(broker, _SECONDS, _MAX_HEARD) as publisher:
            publisher.listen(topic, hear)
            publisher.wait(publisher.publish(topic, probe, _PROBE_LIFETIME_SECONDS))
            if returned.wait(_SECONDS):
                return ok(identifier, f"a message to {name} came back")
    except IdlibError as error:
        return fail(identifier, error.fact, error.hint or "check this device's permissions on the broker")
    hint = f"let this device publish and subscribe to the topic {topic} at the broker"
    return fail(identifier, f"the broker acknowledged a message to {name}, but did not deliver it", hint)


def _probe(name: IdentityName, key: PrivateKey) -> bytes:
    binding = Binding.new(name, max(0, int(time.time())), _PROBE_LIFETIME_SECONDS)
    return seal_receipt(
        secrets.token_urlsafe(16), sender=name, signing_key=key, encryption_key=key.public, binding=binding
    )
