"""The broker: reachable, with TLS, what it grants, whether it keeps sessions, and whether a probe comes back.

Nothing here uses the receiver's client id, so its session is left as it is. The probe is a receipt from this device to
itself: a running receiver refuses it with `refused reason=receipt`, as it refuses each receipt, and prints nothing.
"""

import contextlib
import secrets
import ssl
import threading
import time
from datetime import UTC, datetime
from typing import Final

from idlib.algorithms import PrivateKey
from idlib.envelope import Binding, seal_receipt
from idlib.errors import IdlibError, KeyFileError, TransportError
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

    Raises:
        ConfigurationError: The settings exclude each other, or a file that they name cannot be used.
    """
    broker = Broker.from_settings(settings)
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
    items.append(_session_item(broker, client_id, first.grant, broker.topics.of(settings.identity_name)))
    items.append(_probe_item(broker, settings.identity_name, own_key))
    return items


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
                self.items += [ok("broker.reachable", f"{broker} accepts connections"), _tls_item(broker, inquiry)]
                if self.grant is None:
                    end = inquiry.end_of_connection()
                    self.items.append(fail("broker.accepts", f"{broker}: {end.fact}", end.hint))
                else:
                    self.items.append(ok("broker.accepts", f"{broker} accepts this device"))
        except TransportError as error:
            self.items = [_unreachable_item(error)]
            if isinstance(error.__cause__, ssl.SSLError):
                self.items = [
                    ok("broker.reachable", f"{broker} accepts connections"),
                    fail("broker.tls", error.fact, error.hint),
                ]


def _unreachable_item(error: TransportError) -> Item:
    return fail("broker.reachable", error.fact, error.hint or "start the broker, or check MQTT_HOST and MQTT_PORT")


def _skipped(items: list[Item], why: str) -> list[Item]:
    done = {item.id for item in items}
    return [skip(identifier, why) for identifier in BROKER_IDS if identifier not in done]


def _tls_item(broker: Broker, inquiry: Inquiry) -> Item:
    identifier = "broker.tls"
    if broker.tls is None:
        return ok(identifier, "MQTT_TLS is off: the network sees who receives messages, but not what they say")
    connection = inquiry.client.socket()
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


def _session_item(broker: Broker, client_id: str, grant: Grant, topic: str) -> Item:
    """Connect again under the same client id, see whether the session was kept, and end it."""
    identifier = "broker.session"
    try:
        with Inquiry(broker, client_id, _SECONDS) as inquiry:
            is_kept = inquiry.ask()
            if is_kept is False:
                # Some brokers, such as RabbitMQ, keep only a session that has a subscription.
                inquiry.subscribe(topic)
            else:
                inquiry.end()
        if is_kept is False:
            with Inquiry(broker, client_id, _SECONDS) as inquiry:
                is_kept = inquiry.ask()
                inquiry.end()
        if broker.version is MqttVersion.V311:
            end_session(broker, client_id, _SECONDS)
    except TransportError as error:
        return skip(identifier, error.fact, error.hint)
    if is_kept is None:
        return skip(identifier, "the broker did not answer when the session was continued")
    if not is_kept:
        hint = "allow persistent sessions at the broker: messages are lost while the receiver is disconnected"
        return fail(identifier, "the broker did not keep a session between two connections", hint)
    if broker.version is MqttVersion.V311:
        return ok(identifier, "a session was kept between two connections; MQTT 3.1.1 does not say for how long")
    return ok(identifier, f"a session was kept between two connections; the broker promises {grant.expiry} s")


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
